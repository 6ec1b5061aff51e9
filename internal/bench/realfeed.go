package bench

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/schemas"
)

// sealedBytes is the size of a fed record, key and value.
const sealedBytes = 363

// feeder produces events straight into a source topic, faster than ingest can: what is
// measured is what comes behind.
type feeder struct {
	cl     *kgo.Client
	topic  string
	keys   [][]byte
	values [][]byte
	n      int
	mu     sync.Mutex
	err    error // the first
}

func newFeeder(brokers []string, topic string) (*feeder, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(5*time.Millisecond), kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		return nil, fmt.Errorf("make a producer: %w", err)
	}
	f := &feeder{cl: cl, topic: topic}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 8192 {
		key := fmt.Appendf(nil, "acme/%08x", random.Uint32())
		f.keys = append(f.keys, key)
		f.values = append(f.values, madeUp(random, i, sealedBytes-len(key)))
	}
	return f, nil
}

// madeUp is a JSON event of so many bytes that differs from others in what real ones
// differ in: codecs get it down to some 60 percent.
func madeUp(r *rand.Rand, i, size int) []byte {
	var id [24]byte
	for j := range id {
		id[j] = byte(r.Uint32())
	}
	b := fmt.Appendf(nil, `{"@timestamp":"2026-11-24T10:%02d:%02d.%03dZ","event":{"id":"%s","kind":"event","category":["iam"],"action":"update-user","outcome":"success"},"user":{"id":"u-%d"},"source":{"ip":"10.1.%d.%d"},"audit":{"object":{"type":"record","id":"o-%d"}},"message":"`,
		i/60000%60, i/1000%60, i%1000, hex.EncodeToString(id[:16]), r.IntN(5000), r.IntN(256), r.IntN(256), r.IntN(100000))
	for len(b) < size-2 {
		b = append(b, "abcdefghijklmnopqrstuvwxyz0123456789"[r.IntN(36)])
	}
	return append(b[:size-2], `"}`...)
}

// produce hands n records over; flush waits for them.
func (f *feeder) produce(ctx context.Context, n int) {
	for range n {
		i := f.n
		f.n++
		rec := &kgo.Record{Topic: f.topic, Partition: int32(i % schemas.HotPartitions), Key: f.keys[i%len(f.keys)], Value: f.values[i%len(f.values)]}
		f.cl.Produce(ctx, rec, func(_ *kgo.Record, err error) {
			if err != nil {
				f.mu.Lock()
				defer f.mu.Unlock()
				if f.err == nil {
					f.err = fmt.Errorf("produce to %s: %w", f.topic, err)
				}
			}
		})
	}
}

// flush waits until all that was produced is acknowledged.
func (f *feeder) flush(ctx context.Context) error {
	if err := f.cl.Flush(ctx); err != nil {
		return fmt.Errorf("produce to %s: %w", f.topic, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// fed produces n records and waits for them.
func (f *feeder) fed(ctx context.Context, n int64) error {
	f.produce(ctx, int(n))
	return f.flush(ctx)
}

// steadily produces at a rate for a while.
func (f *feeder) steadily(ctx context.Context, rate int, long time.Duration) error {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	began, done := time.Now(), 0
	for time.Since(began) < long {
		due := int(time.Since(began).Seconds() * float64(rate))
		f.produce(ctx, due-done)
		done = due
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.flush(ctx)
}
