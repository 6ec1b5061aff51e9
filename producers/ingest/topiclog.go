package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
)

// Patience of a [TopicLog] with a broker that does not answer.
const (
	askTimeout  = 8 * time.Second
	readTimeout = 15 * time.Second // without any progress
)

// TopicLog reads one topic, records of open transactions included: a record that was
// sent must be found, whoever else has a transaction open.
type TopicLog struct {
	topic string
	kopts []kgo.Opt
	cl    *kgo.Client
}

// NewTopicLog reads topic (with its prefix) of the cluster that kopts lead to.
func NewTopicLog(topic string, kopts ...kgo.Opt) (*TopicLog, error) {
	kopts = append(slices.Clone(kopts), kgo.AlwaysRetryEOF(), kgo.MetadataMinAge(100*time.Millisecond))
	cl, err := kgo.NewClient(append(slices.Clone(kopts), kgo.RetryTimeout(askTimeout))...)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return &TopicLog{topic: topic, kopts: kopts, cl: cl}, nil
}

// Close ends the client.
func (l *TopicLog) Close() { l.cl.Close() }

// Identity returns cluster id and topic id.
func (l *TopicLog) Identity(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	md, err := kadm.NewClient(l.cl).Metadata(ctx, l.topic)
	if err != nil {
		return "", err
	}
	t, ok := md.Topics[l.topic]
	if !ok || t.Err != nil {
		return "", fmt.Errorf("topic %s: %w", l.topic, t.Err)
	}
	return fmt.Sprintf("%s/%s/%x", md.Cluster, l.topic, [16]byte(t.ID)), nil
}

// Ends returns the high watermarks.
func (l *TopicLog) Ends(ctx context.Context) (map[int32]int64, error) {
	return l.offsets(ctx, kadm.NewClient(l.cl).ListEndOffsets)
}

func (l *TopicLog) offsets(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error)) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for {
		os, err := list(ctx, l.topic)
		if err = errors.Join(err, os.Error()); err == nil {
			m := map[int32]int64{}
			os.Each(func(o kadm.ListedOffset) { m[o.Partition] = o.Offset })
			return m, nil
		}
		// A broker that comes back cuts connections and moves leaders.
		if refused(err) || !pause(ctx) {
			return nil, fmt.Errorf("list offsets of %s: %w", l.topic, err)
		}
	}
}

// refused says that the broker answered, and will answer the same again.
func refused(err error) bool {
	var code *kerr.Error
	return errors.As(err, &code) && !code.Retriable
}

// pause waits a little; false when ctx has ended.
func pause(ctx context.Context) bool {
	t := time.NewTimer(200 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Scan implements [Log].
func (l *TopicLog) Scan(ctx context.Context, from, to map[int32]int64, fn func(Place, *ledger.Record)) (gone int64, err error) {
	starts, err := l.offsets(ctx, kadm.NewClient(l.cl).ListStartOffsets)
	if err != nil {
		return 0, err
	}
	at, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for p, end := range to {
		begin := max(from[p], starts[p])
		gone += begin - from[p]
		if begin < end {
			at[p], left[p] = kgo.NewOffset().At(begin), end
		}
	}
	if len(at) == 0 {
		return gone, nil
	}
	cl, err := kgo.NewClient(append(slices.Clone(l.kopts), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: at}),
		// With these every offset up to the end is seen, so the end is too.
		kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500*time.Millisecond))...)
	if err != nil {
		return gone, fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	for len(left) > 0 {
		if err := l.poll(ctx, cl, left, fn); err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// poll passes on one fetch and takes out of left what has reached its end.
func (l *TopicLog) poll(ctx context.Context, cl *kgo.Client, left map[int32]int64, fn func(Place, *ledger.Record)) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	fs := cl.PollFetches(ctx)
	if err := fs.Err(); err != nil {
		return fmt.Errorf("read %s: %w", l.topic, err)
	}
	var rec ledger.Record
	fs.EachRecord(func(k *kgo.Record) {
		end, ok := left[k.Partition]
		if !ok {
			return
		}
		if k.Offset < end && !k.Attrs.IsControl() {
			rec.Headers = rec.Headers[:0]
			for _, h := range k.Headers {
				rec.Headers = append(rec.Headers, ledger.Header{Name: h.Key, Value: h.Value})
			}
			rec.Key, rec.Value, rec.Offset, rec.TimeMs = k.Key, k.Value, k.Offset, k.Timestamp.UnixMilli()
			fn(Place{l.topic, k.Partition, k.Offset}, &rec)
		}
		if k.Offset >= end-1 {
			delete(left, k.Partition)
			cl.PauseFetchPartitions(map[string][]int32{l.topic: {k.Partition}})
		}
	})
	return nil
}
