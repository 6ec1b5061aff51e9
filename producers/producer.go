package producers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/sealstream/sealstream/ledger"
)

// Defaults of [Options].
const (
	DefaultMaxMessageBytes = 1_048_588 // Kafka's own default of max.message.bytes
	DefaultLinger          = 2 * time.Millisecond
	DefaultDeliveryTimeout = 20 * time.Second
	DefaultBufferBytes     = 64 << 20
)

// Options says how to produce. Zero fields take the defaults above.
type Options struct {
	// MaxMessageBytes is the limit of each topic by name (max.message.bytes, batch
	// overhead included). Topics not named have DefaultMaxMessageBytes.
	MaxMessageBytes map[string]int

	// Linger is how long a record waits for company in its batch.
	Linger time.Duration

	// DeliveryTimeout bounds how long a record is tried, also when the caller's
	// context has no deadline; at least a second.
	DeliveryTimeout time.Duration

	// BufferBytes bounds the memory that unacknowledged records hold. Enqueue waits
	// when it is used up.
	BufferBytes int64

	// Barrier, when set, is called after the acknowledgements and returns when what
	// was acknowledged before the call is on disk (the embedded broker's group fsync).
	Barrier func(context.Context) error

	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
}

// Message is one record to write.
type Message struct {
	Topic      string // with its prefix
	Key, Value []byte // nil is null
	Headers    []ledger.Header
	TimeMs     int64 // record timestamp in milliseconds since 1970; 0 is now
}

// Result says where a message went, or why it did not.
type Result struct {
	Partition int32
	Offset    int64 // -1 when the message was not acknowledged
	Err       error // nil, *TooLargeError, *UnknownTopicError, *UnreachableError or another refusal of the broker
}

// Producer writes to Kafka. Its methods are safe for concurrent use.
type Producer struct {
	client  *kgo.Client
	opts    Options
	buffer  *semaphore.Weighted
	metrics *metrics
	dial    dialHook
}

// New makes a Producer; kopts say how to reach the cluster. It does not connect: a
// broker that is not there shows at the first Send, or by [Producer.Ping].
func New(opts Options, kopts ...kgo.Opt) (*Producer, error) {
	if opts.Linger == 0 {
		opts.Linger = DefaultLinger
	}
	if opts.DeliveryTimeout == 0 {
		opts.DeliveryTimeout = DefaultDeliveryTimeout
	}
	if opts.BufferBytes == 0 {
		opts.BufferBytes = DefaultBufferBytes
	}
	for topic, n := range opts.MaxMessageBytes {
		if n < 512 || n > 1<<30 {
			return nil, fmt.Errorf("max message bytes of topic %s is %d: want 512 to %d", topic, n, 1<<30)
		}
	}
	p := &Producer{opts: opts, buffer: semaphore.NewWeighted(opts.BufferBytes), metrics: newMetrics(opts.Registerer)}
	all := append([]kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()), // idempotent by default
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		kgo.ProducerLinger(opts.Linger),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 { return int32(p.limit(topic)) }),
		// murmur2 over the key as Java's default partitioner has it, so that producers
		// of other languages agree on where a key lives.
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		// Our own semaphore bounds the buffer, under the caller's context. The client's
		// bound would need that context too, and its end would fail the neighbours.
		kgo.MaxBufferedRecords(1 << 30),
		// Not kgo.RecordDeliveryTimeout: it counts from the record's timestamp, which is
		// the caller's and may be years ago. Enqueue sets a context of its own instead.
		// Without the next option a record in flight to a dead broker is kept for ever, and with it
		// the buffer. With it a late answer is lost, which MaybeStored says.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.ProduceRequestTimeout(min(opts.DeliveryTimeout, 10*time.Second)),
		kgo.RequestTimeoutOverhead(min(opts.DeliveryTimeout, 5*time.Second)),
		kgo.UnknownTopicRetries(2),
		kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(50*time.Millisecond<<min(tries, 4), 500*time.Millisecond)
		}),
		kgo.MetadataMinAge(250 * time.Millisecond),
		// A broker that is killed while it greets a new connection is no reason to fail
		// every record at once, although the client takes it for missing TLS.
		kgo.AlwaysRetryEOF(),
		kgo.WithHooks(&p.dial),
	}, kopts...)
	client, err := kgo.NewClient(all...)
	if err != nil {
		return nil, fmt.Errorf("producer options: %w", err)
	}
	p.client = client
	return p, nil
}

// Ping asks whether a broker answers.
func (p *Producer) Ping(ctx context.Context) error { return p.client.Ping(ctx) }

// Disconnects counts the connections to brokers that ended since the start. If it has
// not risen around a Send, no record of that Send was sent twice. If it has, a broker
// that lost its memory of producers in between (the embedded one does when it is
// killed) may have written a record twice.
func (p *Producer) Disconnects() int64 { return p.dial.lost.Load() }

// Close ends the producer at once. Messages that were not waited for are lost.
func (p *Producer) Close() { p.client.Close() }

// Send writes msgs and returns when each is acknowledged (and on disk, with a
// Barrier) or has failed. When ctx ends first, what is left fails with an
// *UnreachableError.
func (p *Producer) Send(ctx context.Context, msgs []Message) []Result {
	return p.Enqueue(ctx, msgs).Wait(ctx)
}

// Pending is a batch on its way.
type Pending struct {
	p       *Producer
	topics  []string
	started time.Time
	stop    context.CancelFunc // frees the timer of the delivery time-out
	done    chan struct{}      // closed when left is 0

	mu      sync.Mutex // guards all below
	results []Result
	settled []bool
	left    int
	over    bool // Wait gave up: late answers are dropped
}

// Enqueue hands msgs to the client in order and returns without waiting for
// acknowledgements; it waits only while the buffer is full. Batches enqueued one
// after the other keep their order per key. Keys, values and headers must not be
// changed before Wait has returned.
func (p *Producer) Enqueue(ctx context.Context, msgs []Message) *Pending {
	n := len(msgs)
	b := &Pending{
		p: p, topics: make([]string, n), started: time.Now(), done: make(chan struct{}),
		results: make([]Result, n), settled: make([]bool, n), left: n,
	}
	if n == 0 {
		close(b.done)
		return b
	}
	// Not ctx: a record whose context ends takes its whole partition buffer with it,
	// other callers' records too. The delivery time-out may: the neighbours in that
	// buffer wait for the same dead broker, and order forbids to pass one over.
	var sendCtx context.Context
	sendCtx, b.stop = context.WithTimeout(context.WithoutCancel(ctx), p.opts.DeliveryTimeout)
	records := make([]kgo.Record, n)
	total := 0
	for i := range msgs {
		total += len(msgs[i].Headers)
	}
	headers := make([]kgo.RecordHeader, 0, total)
	for i := range msgs {
		m := &msgs[i]
		b.topics[i] = m.Topic
		size, limit := batchBytes(m), p.limit(m.Topic)
		if size > limit {
			b.settle(i, Result{Offset: -1, Err: &TooLargeError{Topic: m.Topic, Size: size, Limit: limit}})
			continue
		}
		weight := min(int64(size), p.opts.BufferBytes)
		if err := p.buffer.Acquire(ctx, weight); err != nil {
			b.settle(i, Result{Offset: -1, Err: &UnreachableError{Topic: m.Topic, Waited: time.Since(b.started), Err: p.dial.why(context.Cause(ctx))}})
			continue
		}
		from := len(headers)
		for _, h := range m.Headers {
			headers = append(headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		r := &records[i]
		r.Topic, r.Key, r.Value, r.Headers = m.Topic, m.Key, m.Value, headers[from:len(headers):len(headers)]
		if m.TimeMs != 0 {
			r.Timestamp = time.UnixMilli(m.TimeMs)
		}
		p.metrics.buffered.Add(float64(weight))
		p.client.Produce(sendCtx, r, func(r *kgo.Record, err error) {
			p.buffer.Release(weight)
			p.metrics.buffered.Sub(float64(weight))
			b.settle(i, p.result(r, size, err, b.started))
		})
	}
	return b
}

// Wait returns the results in the order of the messages. It may be called once.
func (b *Pending) Wait(ctx context.Context) []Result {
	select {
	case <-b.done:
	case <-ctx.Done():
		b.giveUp(ctx)
	}
	acked := 0
	for i := range b.results {
		if b.results[i].Err == nil {
			acked++
		}
	}
	if acked > 0 && b.p.opts.Barrier != nil {
		b.confirm(ctx)
	}
	b.p.metrics.count(b.topics, b.results)
	b.p.metrics.seconds.Observe(time.Since(b.started).Seconds())
	return b.results
}

// confirm waits for the disk. A crash before it returns may lose records that the
// broker acknowledged, so nobody may be told before.
func (b *Pending) confirm(ctx context.Context) {
	err := b.p.opts.Barrier(ctx)
	if err == nil {
		return
	}
	for i := range b.results {
		if b.results[i].Err == nil {
			b.results[i].Err = &UnreachableError{
				Topic: b.topics[i], Waited: time.Since(b.started), MaybeStored: true,
				Err: fmt.Errorf("wait for the disk: %w", err),
			}
		}
	}
}

func (b *Pending) giveUp(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	for i := range b.results {
		if !b.settled[i] {
			b.results[i] = Result{Offset: -1, Err: &UnreachableError{
				Topic: b.topics[i], Waited: time.Since(b.started), MaybeStored: true, Err: b.p.dial.why(context.Cause(ctx)),
			}}
		}
	}
}

func (b *Pending) settle(i int, r Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over { // else the caller has the results already
		b.results[i], b.settled[i] = r, true
	}
	if b.left--; b.left == 0 {
		b.stop()
		close(b.done)
	}
}

func (p *Producer) result(r *kgo.Record, size int, err error, started time.Time) Result {
	if err != nil {
		return Result{Offset: -1, Err: p.explain(r.Topic, size, time.Since(started), err)}
	}
	return Result{Partition: r.Partition, Offset: r.Offset}
}

func (p *Producer) limit(topic string) int {
	if n, ok := p.opts.MaxMessageBytes[topic]; ok {
		return n
	}
	return DefaultMaxMessageBytes
}
