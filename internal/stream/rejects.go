package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// Rejects writes records that a sink will never take to the rejects topic.
type Rejects struct {
	cl    *kgo.Client
	topic string
}

var _ sinks.Rejecter = (*Rejects)(nil)

// NewRejects makes the producer.
func NewRejects(c Config, topic string) (*Rejects, error) {
	cl, err := kgo.NewClient(append(append(c.Opts(), quickRetries()...),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0),
		// One record at a time: a large one must be refused by the broker, not by us.
		kgo.ProducerBatchMaxBytes(bigBatchBytes), kgo.BrokerMaxWriteBytes(bigBatchBytes+1<<20),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()),
	)...)
	if err != nil {
		return nil, fmt.Errorf("make rejects producer: %w", err)
	}
	return &Rejects{cl: cl, topic: topic}, nil
}

// Close ends the producer; everything acknowledged is in the topic.
func (r *Rejects) Close() { r.cl.Close() }

// Reject writes rs and returns nil when all are acknowledged. The record is the
// sealed one, byte for byte, its key included, so that it still verifies against its
// seal; headers behind that say why it is here.
func (r *Rejects) Reject(ctx context.Context, rs []sinks.Rejection) error {
	for _, rej := range rs {
		src := &rej.Record.Source
		k := &kgo.Record{
			Topic: r.topic, Key: src.Key, Value: src.Value, Timestamp: time.UnixMilli(src.TimeMs),
		}
		if src.TimeMs == ledger.TimeOutOfRange {
			k.Timestamp = time.UnixMilli(-1)
		}
		for _, h := range rej.Headers() {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		if err := r.cl.ProduceSync(ctx, k).FirstErr(); err != nil {
			return fmt.Errorf("set aside %s@%d: %w", rej.Partition, rej.Record.Offset, err)
		}
	}
	return nil
}
