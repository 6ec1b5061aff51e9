package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
)

// recoverAssigned is the client's hook between the fetch of group offsets and the
// first fetch of records: it decides, from the output alone, where each assigned
// partition goes on. Its ctx ends when the assignment does.
//
// Errors are retried here, not returned: the client takes one as the end of the
// group session and says so only in a poll.
func (s *session) recoverAssigned(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	began := time.Now()
	if err := await(ctx, s.made); err != nil {
		return nil, err
	}
	s.firstOnce.Do(func() { s.r.disownOthers(offsets) })
	for topic, ps := range offsets {
		if err := s.recoverPatiently(ctx, topic, ps); err != nil {
			return nil, err
		}
	}
	s.healthy()
	s.r.Metrics.recoveries.Observe(time.Since(began).Seconds())
	s.wake() // a genesis may be pending
	return offsets, nil
}

// recoverTopic recovers what it can and returns why the rest could not be.
func (s *session) recoverTopic(ctx context.Context, topic string, offsets map[int32]kgo.Offset) map[int32]error {
	ids := slices.Sorted(maps.Keys(offsets))
	failed := map[int32]error{}
	all := func(err error) map[int32]error {
		for _, id := range ids {
			failed[id] = err
		}
		return failed
	}
	out := s.r.Pairs[topic]
	rec, err := newRecovery(ctx, s.adm, topic, out)
	if err != nil {
		return all(err)
	}
	if rec.kept, err = keptOf(ctx, s.adm, s.r.Kafka.Prefix+s.r.Stage, topic); err != nil {
		return all(err)
	}
	if err := rec.settle(ctx, ids); err != nil {
		return all(err)
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		from = make(map[int32]int64, len(ids))
		sem  = make(chan struct{}, 8)
	)
	for _, p := range ids {
		committed := offsets[p].EpochOffset().Offset
		wg.Add(1)
		sem <- struct{}{}
		go func() {
			defer func() { <-sem; wg.Done() }()
			next, err := s.recoverPart(ctx, rec, p, committed)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[p] = err
				return
			}
			from[p] = next
		}()
	}
	wg.Wait()
	for p, next := range from {
		// Absolute and without an epoch: with a symbolic offset the client would
		// rewind to 0, not to our start, when the first transaction aborts.
		offsets[p] = kgo.NewOffset().At(next).WithEpoch(-1)
	}
	return failed
}

// recoverPart builds the part and returns the offset to consume from.
func (s *session) recoverPart(ctx context.Context, rec *recovery, id int32, committed int64) (int64, error) {
	tp := topicPartition{rec.in.topic, id}
	in, out, err := rec.read(ctx, id, committed)
	p := &part{id: tp, out: rec.out.topic, input: in, output: out, kept: in.Kept, first: -1, last: -1, expect: out.End, behind: out.End}
	if err == nil {
		p.fold, err = s.r.restore(ctx, p)
	}
	var doubt *processors.Doubt
	if err != nil && !errors.As(err, &doubt) {
		return 0, fmt.Errorf("restore %s: %w", tp, err)
	}
	p.narrow = doubt != nil && doubt.Kind == processors.DoubtNarrow
	p.done = p.promise(s)
	s.mu.Lock()
	// Overwrite: the client may have skipped our revoke callback for an earlier
	// assignment of the same partition.
	s.parts[tp] = p
	s.mu.Unlock()
	if doubt != nil {
		s.halt(p, doubt)
		return max(committed, in.Start), nil
	}
	s.r.resumed(p)
	s.gts.Client().ResumeFetchPartitions(map[string][]int32{tp.topic: {tp.id}})
	if next := p.fold.Next(); committed >= 0 && committed < next {
		s.r.Log.InfoContext(ctx, "group offset is behind the output, following the output",
			"topic", tp.topic, "partition", tp.id, "group_offset", committed, "next", next)
	}
	return max(p.fold.Next(), in.Start), nil
}

// restore asks the processor, and on doubt whether an operator's order fits.
func (r *foldRunner) restore(ctx context.Context, p *part) (processors.Fold, error) {
	if d := r.refusedNow(p.id); d != nil {
		return nil, d
	}
	fold, err := r.Processor.Restore(p.input, p.output)
	var doubt *processors.Doubt
	if err == nil || !errors.As(err, &doubt) {
		return fold, err
	}
	r.mu.Lock()
	orders := r.orders[p.id]
	r.mu.Unlock()
	for i := len(orders) - 1; i >= 0; i-- {
		if !fits(orders[i], p.output) {
			continue
		}
		fold, rerr := r.Processor.Resume(p.input, p.output, orders[i])
		if rerr == nil {
			r.Log.WarnContext(ctx, "operator's order applied", "topic", p.id.topic, "partition", p.id.id,
				"order", orders[i].ID, "by", orders[i].By, "doubt", string(doubt.Kind))
			return fold, nil
		}
		doubt = &processors.Doubt{Kind: doubt.Kind, Detail: fmt.Sprintf("%s; order %s does not fit: %v", doubt.Detail, orders[i].ID, rerr)}
	}
	return nil, doubt
}

// fits says whether an order was given for exactly this state of the output.
func fits(o processors.Order, out processors.Output) bool {
	return o.OutputID == out.ID.String() && o.End == out.End
}

// resumed clears what stopped a partition. What its input lost stays an alarm.
func (r *foldRunner) resumed(p *part) {
	r.mu.Lock()
	st, stopped := r.stopped[p.id]
	delete(r.stopped, p.id)
	r.mu.Unlock()
	if stopped {
		r.Alarms.Clear(r.Stage, p.id.String(), string(st.kind))
	}
	if lost := p.fold.Lost(); lost != nil {
		r.Alarms.Raise(Alarm{Stage: r.Stage, Key: p.id.String(), Kind: "source_lost_records", Detail: lost.String()})
	}
}

// recovery reads what input and output hold, for all partitions of one topic.
type recovery struct {
	in, out   *topicLog
	inDetail  kadm.TopicDetail
	outDetail kadm.TopicDetail
	cluster   string
	inSpans   map[int32]span
	outSpans  map[int32]span
	kept      map[int32]string
}

func newRecovery(ctx context.Context, cl *kgo.Client, in, out string) (*recovery, error) {
	r := &recovery{in: newTopicLog(cl, in), out: newTopicLog(cl, out)}
	var err error
	if r.inDetail, r.cluster, err = r.in.describe(ctx); err != nil {
		return nil, err
	}
	if r.outDetail, _, err = r.out.describe(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// settle waits until the outputs of ids are decided and notes all spans.
func (r *recovery) settle(ctx context.Context, ids []int32) (err error) {
	have := ids[:0:0]
	for _, p := range ids {
		if _, ok := r.outDetail.Partitions[p]; ok {
			have = append(have, p)
		}
	}
	if r.outSpans, err = r.out.decided(ctx, have); err != nil {
		return err
	}
	r.inSpans, err = r.in.spans(ctx)
	return err
}

// read describes one partition. committed is the group offset, negative when none.
func (r *recovery) read(ctx context.Context, id int32, committed int64) (processors.Input, processors.Output, error) {
	in := processors.Input{
		Cluster: r.cluster, Topic: r.in.topic, TopicID: ledger.TopicID(r.inDetail.ID), Partition: id,
		Start: r.inSpans[id].start, Committed: max(committed, -1), Kept: r.kept[id],
	}
	out := processors.Output{Topic: r.out.topic, ID: ledger.TopicID(r.outDetail.ID)}
	if _, ok := r.outDetail.Partitions[id]; !ok {
		return in, out, &processors.Doubt{Kind: processors.DoubtNarrow, Detail: fmt.Sprintf(
			"%s has %d partitions and %s has %d: run sealstream topics create; until then nothing of this partition is sealed, and nothing is lost that its source keeps",
			r.out.topic, len(r.outDetail.Partitions), r.in.topic, len(r.inDetail.Partitions))}
	}
	log, err := r.out.partition(r.outDetail, id)
	if err != nil {
		return in, out, err
	}
	src, err := r.in.partition(r.inDetail, id)
	if err != nil {
		return in, out, err
	}
	if _, ok := r.inSpans[id]; !ok {
		return in, out, fmt.Errorf("list offsets of %s/%d: %w", r.in.topic, id, kerr.UnknownTopicOrPartition)
	}
	in.At = func(offset int64) (*ledger.Record, error) {
		if offset >= r.inSpans[id].stable {
			return nil, nil // brokers answer for the end they know, so nothing was ever there
		}
		return src.at(ctx, offset)
	}
	s := r.outSpans[id]
	out.End = s.end
	if out.Tail, err = log.tail(ctx, s); err != nil {
		return in, out, err
	}
	// Aborted data and markers alone are no history: they happen to new partitions.
	out.Trimmed = len(out.Tail) == 0 && s.start > 0
	out.First = func(match func(*ledger.Record) bool) (*ledger.Record, error) {
		return log.search(ctx, s.start, s.stable, match)
	}
	return in, out, nil
}

// at returns the committed record at offset, nil if there is none to be read.
func (l *partitionLog) at(ctx context.Context, offset int64) (*ledger.Record, error) {
	r, err := l.first(ctx, offset, offset+1)
	if err != nil || r == nil {
		return nil, err
	}
	rec := fromKgo(r)
	return &rec, nil
}

// Inspect reads the state of one partition as a recovering stage would see it, for
// the command that writes an operator's order.
func Inspect(ctx context.Context, c Config, in, out string, partition int32) (processors.Input, processors.Output, error) {
	cl, err := kgo.NewClient(append(c.Opts(), quickRetries()...)...)
	if err != nil {
		return processors.Input{}, processors.Output{}, fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	r, err := newRecovery(ctx, cl, in, out)
	if err != nil {
		return processors.Input{}, processors.Output{}, err
	}
	if err := r.settle(ctx, []int32{partition}); err != nil {
		return processors.Input{}, processors.Output{}, err
	}
	i, o, err := r.read(ctx, partition, -1)
	i.At, o.First = nil, nil // they need the client that ends here
	return i, o, err
}
