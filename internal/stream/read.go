package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
)

// Reader reads partitions from beginning to a stable end, committed records only.
type Reader struct{ cl *kgo.Client }

// NewReader makes a reader.
func NewReader(c Config) (*Reader, error) {
	cl, err := kgo.NewClient(append(append(c.Opts(), quickRetries()...), kgo.BrokerMaxReadBytes(bigBatchBytes))...)
	if err != nil {
		return nil, fmt.Errorf("make reader: %w", err)
	}
	return &Reader{cl: cl}, nil
}

// Close ends the reader.
func (r *Reader) Close() { r.cl.Close() }

// Partition is one partition to read: [Start, Stable).
type Partition struct {
	Topic         string
	TopicID       ledger.TopicID
	ID            int32
	Start, Stable int64
}

// Partitions describes all partitions of a topic now, in order, and the cluster id.
func (r *Reader) Partitions(ctx context.Context, topic string) ([]Partition, string, error) {
	log := newTopicLog(r.cl, topic)
	td, cluster, err := log.describe(ctx)
	if err != nil {
		return nil, "", err
	}
	spans, err := log.spans(ctx)
	if err != nil {
		return nil, "", err
	}
	out := make([]Partition, 0, len(spans))
	for id, s := range spans {
		out = append(out, Partition{Topic: topic, TopicID: ledger.TopicID(td.ID), ID: id, Start: s.start, Stable: s.stable})
	}
	slices.SortFunc(out, func(a, b Partition) int { return int(a.ID - b.ID) })
	return out, cluster, nil
}

// readBytes is the size of one fetch; a larger one gains nothing and holds memory.
const readBytes = 4 << 20

// Read calls fn with runs of records from p.Start on, in order, until p.Stable. The
// slice is reused; what it points to is not. fn may return ErrStop.
func (r *Reader) Read(ctx context.Context, p Partition, fn func([]ledger.Record) error) error {
	log := newTopicLog(r.cl, p.Topic)
	td, _, err := log.describe(ctx)
	if err != nil {
		return err
	}
	if ledger.TopicID(td.ID) != p.TopicID {
		return fmt.Errorf("read %s: the topic was made anew meanwhile", p.Topic)
	}
	pl, err := log.partition(td, p.ID)
	if err != nil {
		return err
	}
	var buf []ledger.Record
	for off := p.Start; off < p.Stable; {
		ks, next, err := pl.fetch(ctx, off, readBytes)
		if err != nil {
			return err
		}
		buf = fromFetch(buf[:0], ks)
		for len(buf) > 0 && buf[len(buf)-1].Offset >= p.Stable {
			buf = buf[:len(buf)-1]
		}
		if len(buf) > 0 {
			if err := fn(buf); errors.Is(err, ErrStop) {
				return nil
			} else if err != nil {
				return err
			}
		}
		if next <= off {
			return fmt.Errorf("read %s/%d: nothing readable at %d although %d is stable", p.Topic, p.ID, off, p.Stable)
		}
		off = next
	}
	return nil
}

// ErrStop ends a [Reader.Read] early without an error.
var ErrStop = errors.New("stop reading")
