package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/ledger"
)

// fetchMaxBytes is large on purpose: the embedded broker forgets to name aborted
// transactions of a partition whose answer it cuts at the request's limit, so only
// the partition's limit may cut.
const fetchMaxBytes = 1 << 30

// topicLog reads one topic's partitions by position, committed records only,
// without a consumer: recovery and verification need to know where the stable end
// is, which polling cannot tell.
type topicLog struct {
	cl    *kgo.Client
	adm   *kadm.Client
	topic string
}

func newTopicLog(cl *kgo.Client, topic string) *topicLog {
	return &topicLog{cl: cl, adm: kadm.NewClient(cl), topic: topic}
}

// span is a partition's log at one moment: [start, stable) can be read, end is
// where the next record goes. stable == end means that nothing is undecided.
type span struct{ start, stable, end int64 }

// spans asks for all partitions at once: stable ends first, then ends, so that
// equality proves that no transaction was open in between.
func (l *topicLog) spans(ctx context.Context) (map[int32]span, error) {
	starts, err := l.adm.ListStartOffsets(ctx, l.topic)
	if err != nil {
		return nil, fmt.Errorf("list start offsets of %s: %w", l.topic, err)
	}
	stable, err := l.adm.ListCommittedOffsets(ctx, l.topic)
	if err != nil {
		return nil, fmt.Errorf("list stable offsets of %s: %w", l.topic, err)
	}
	ends, err := l.adm.ListEndOffsets(ctx, l.topic)
	if err != nil {
		return nil, fmt.Errorf("list end offsets of %s: %w", l.topic, err)
	}
	out := map[int32]span{}
	for p, e := range ends[l.topic] {
		s, _ := starts.Lookup(l.topic, p)
		c, ok := stable.Lookup(l.topic, p)
		if err := errors.Join(s.Err, c.Err, e.Err); err != nil || !ok {
			return nil, fmt.Errorf("list offsets of %s/%d: %w", l.topic, p, err)
		}
		out[p] = span{start: s.Offset, stable: c.Offset, end: e.Offset}
	}
	return out, nil
}

// describe returns the topic's id and the leader of each partition.
func (l *topicLog) describe(ctx context.Context) (kadm.TopicDetail, string, error) {
	topics, cluster, err := metadata(ctx, l.cl, l.topic)
	if err != nil {
		return kadm.TopicDetail{}, "", fmt.Errorf("describe %s: %w", l.topic, err)
	}
	td, ok := topics[l.topic]
	if !ok {
		return kadm.TopicDetail{}, "", fmt.Errorf("describe %s: %w", l.topic, kerr.UnknownTopicOrPartition)
	}
	if td.Err != nil {
		return kadm.TopicDetail{}, "", fmt.Errorf("describe %s: %w", l.topic, td.Err)
	}
	return td, cluster, nil
}

// partitionLog is one partition, with its leader known.
type partitionLog struct {
	*topicLog
	id     int32
	leader int32
	tid    [16]byte
	decomp kgo.Decompressor
}

func (l *topicLog) partition(td kadm.TopicDetail, p int32) (*partitionLog, error) {
	pd, ok := td.Partitions[p]
	if !ok {
		return nil, fmt.Errorf("%s/%d: %w", l.topic, p, kerr.UnknownTopicOrPartition)
	}
	if pd.Err != nil {
		return nil, fmt.Errorf("%s/%d: %w", l.topic, p, pd.Err)
	}
	return &partitionLog{topicLog: l, id: p, leader: pd.Leader, tid: td.ID, decomp: kgo.DefaultDecompressor()}, nil
}

// fetch reads committed records from off, at most about maxBytes, and returns the
// offset to go on at. next == off means that nothing stable is there. Transaction
// markers and aborted records are passed silently, so next may move without records.
func (l *partitionLog) fetch(ctx context.Context, off int64, maxBytes int32) (recs []*kgo.Record, next int64, err error) {
	return l.fetchAs(ctx, off, maxBytes, true)
}

// fetchAs is fetch; without committed it returns what is undecided or aborted, too.
func (l *partitionLog) fetchAs(ctx context.Context, off int64, maxBytes int32, committed bool) (recs []*kgo.Record, next int64, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 0, 0, fetchMaxBytes
	level := kgo.ReadUncommitted()
	if committed {
		req.IsolationLevel, level = 1, kgo.ReadCommitted()
	}
	req.SessionEpoch = -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = l.topic, l.tid
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.CurrentLeaderEpoch = l.id, -1
	rp.FetchOffset, rp.PartitionMaxBytes = off, maxBytes
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)

	resp, err := l.cl.Broker(int(l.leader)).RetriableRequest(ctx, req)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch %s/%d@%d: %w", l.topic, l.id, off, err)
	}
	fr := resp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(fr.ErrorCode); err != nil {
		return nil, 0, fmt.Errorf("fetch %s/%d@%d: %w", l.topic, l.id, off, err)
	}
	if len(fr.Topics) != 1 || len(fr.Topics[0].Partitions) != 1 {
		return nil, 0, fmt.Errorf("fetch %s/%d@%d: answer does not name the partition", l.topic, l.id, off)
	}
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: off, IsolationLevel: level, Topic: l.topic, Partition: l.id,
	}, &fr.Topics[0].Partitions[0], l.decomp, nil)
	if fp.Err != nil {
		return nil, 0, fmt.Errorf("fetch %s/%d@%d: %w", l.topic, l.id, off, fp.Err)
	}
	return fp.Records, next, nil
}

// first returns the first data record in [from, to), or nil. All of that must be known to
// be stable.
func (l *partitionLog) first(ctx context.Context, from, to int64) (*kgo.Record, error) {
	for off := from; off < to; {
		recs, next, err := l.fetch(ctx, off, 64<<10)
		if err != nil {
			return nil, err
		}
		if len(recs) > 0 {
			if recs[0].Offset < to {
				return recs[0], nil
			}
			return nil, nil
		}
		if next <= off {
			return nil, l.lagging(off, to)
		}
		off = next
	}
	return nil, nil
}

// lagging is what a walk ends with that finds nothing at off, although the log is known
// to be stable up to end: a leader that has just become one may not know yet how far its
// log is stable. To take that for the end would hide what is there.
func (l *partitionLog) lagging(off, end int64) error {
	return fmt.Errorf("read %s/%d: nothing readable at %d although %d is stable", l.topic, l.id, off, end)
}

// search finds the first record in [from, to) for which match is true, by halving:
// match is false for a first part of the log and true for the rest.
func (l *partitionLog) search(ctx context.Context, from, to int64, match func(*ledger.Record) bool) (*ledger.Record, error) {
	var found *ledger.Record
	lo, hi := from, to // records below lo do not match; those at or above hi do, or are the end
	for lo < hi {
		mid := lo + (hi-lo)/2
		r, err := l.first(ctx, mid, hi)
		if err != nil {
			return nil, err
		}
		if r == nil { // nothing but markers in [mid, hi)
			hi = mid
			continue
		}
		rec := fromKgo(r)
		if match(&rec) {
			found = &rec
			hi = mid
			continue
		}
		lo = r.Offset + 1
	}
	return found, nil
}

// tailBytes bounds one fetch while looking for the tail of an output partition. A
// broker returns at least one whole batch, however large.
const tailBytes = 4 << 20

// tail returns the last committed data records of [start, stable), oldest first: at
// least one if there is one. It looks at the last 64 offsets, then further back in
// growing steps, because markers and aborted data occupy offsets too.
func (l *partitionLog) tail(ctx context.Context, s span) ([]ledger.Record, error) {
	hi := s.stable
	for step := int64(64); hi > s.start; step *= 4 {
		lo := max(s.start, hi-step)
		var got []ledger.Record
		for off := lo; off < hi; {
			recs, next, err := l.fetch(ctx, off, tailBytes)
			if err != nil {
				return nil, err
			}
			for _, r := range recs {
				if r.Offset < s.stable {
					got = append(got, fromKgo(r))
				}
			}
			if len(got) > 256 { // keep a window, not the partition
				got = append(got[:0:0], got[len(got)-256:]...)
			}
			if next <= off {
				return nil, l.lagging(off, hi)
			}
			off = next
		}
		if len(got) > 0 {
			return got, nil
		}
		hi = lo
	}
	return nil, nil
}

// decided waits until no transaction is undecided on any of the partitions, then
// returns their spans. It is bounded by ctx and by the transaction time-out of
// whoever has one open.
func (l *topicLog) decided(ctx context.Context, ps []int32) (map[int32]span, error) {
	for {
		all, err := l.spans(ctx)
		if err != nil {
			return nil, err
		}
		open := false
		for _, p := range ps {
			s, ok := all[p]
			if !ok {
				return nil, fmt.Errorf("%s/%d: %w", l.topic, p, kerr.UnknownTopicOrPartition)
			}
			open = open || s.stable != s.end
		}
		if !open {
			return all, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for open transactions on %s: %w", l.topic, err)
		}
	}
}

// await waits for ready or the end of ctx.
func await(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
