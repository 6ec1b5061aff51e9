package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
)

// txn is the transaction at hand.
type txn struct {
	s       *session
	began   time.Time
	records int
	bytes   int
}

func (t *txn) full() bool {
	return t.records >= t.s.r.TxnRecords || t.bytes >= t.s.r.TxnBytes || t.s.big && t.bytes >= defaultBatchBytes
}

// openPending produces what must stand before any event of a partition.
func (t *txn) openPending() error {
	for _, p := range t.s.owned() {
		if err := t.openPart(p); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) openPart(p *part) error {
	if p.fold == nil || p.opened {
		return nil
	}
	p.opened = true
	if recs := p.fold.Pending(); len(recs) > 0 {
		return t.produce(p, nil, recs)
	}
	return nil
}

// fold runs the fetched records of each partition, two partitions at a time.
func (t *txn) fold(fs kgo.Fetches) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		sem  = make(chan struct{}, 2)
	)
	fs.EachPartition(func(fp kgo.FetchTopicPartition) {
		if len(fp.Records) == 0 {
			return
		}
		p := t.s.lookup(topicPartition{fp.Topic, fp.Partition})
		if p == nil || p.fold == nil {
			return // revoked meanwhile, so End aborts; or stopped, so it is not consumed
		}
		wg.Add(1)
		sem <- struct{}{}
		go func() {
			defer func() { <-sem; wg.Done() }()
			last := fp.Records[len(fp.Records)-1].Offset
			t.s.r.Metrics.lag.WithLabelValues(fp.Topic, strconv.Itoa(int(fp.Partition))).Set(float64(max(0, fp.HighWatermark-last-1)))
			if err := t.foldPart(p, fp.Records); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		}()
	})
	wg.Wait()
	t.tally()
	return errors.Join(errs...)
}

// tally sums what the transaction holds.
func (t *txn) tally() {
	t.records, t.bytes = 0, 0
	for _, p := range t.s.owned() {
		if p.touched {
			t.records += p.count
			t.bytes += p.bytes
		}
	}
}

func (t *txn) foldPart(p *part, recs []*kgo.Record) error {
	if err := t.openPart(p); err != nil {
		return err
	}
	p.in = fromFetch(p.in[:0], recs)
	out, err := p.fold.Append(p.produced[:0], p.in)
	p.produced = out
	if err != nil {
		var d *processors.Doubt
		if errors.As(err, &d) {
			t.s.halt(p, d)
		}
		return fmt.Errorf("fold %s: %w", p.id, err)
	}
	if n := len(p.in); n > 0 {
		p.newestMs = p.in[n-1].TimeMs
	}
	err = t.produce(p, recs, out)
	clear(p.in) // do not keep payloads alive between polls
	clear(p.produced)
	return err
}

// errNeedsBig ends a normal session at a record above the client's batch limit.
var errNeedsBig = plannedRestart("a record is larger than a normal session takes")

// produce hands records to the client. recs, if any, is memory to reuse.
func (t *txn) produce(p *part, recs []*kgo.Record, out []ledger.Record) error {
	p.touched = true
	if !t.s.big {
		for i := range out {
			if recordBytes(&out[i]) > normalRecordBytes {
				t.s.r.wantBig()
				return errNeedsBig
			}
		}
	}
	for _, k := range toKgo(recs, out, p.out, p.id.id) {
		size := len(k.Key) + len(k.Value)
		if t.s.big && p.sinceFlush > 0 && p.sinceFlush+size > defaultBatchBytes {
			// The client would put records into one batch up to its limit, which a
			// large-record session has lifted; the broker's limit is another.
			if err := t.s.gts.Client().Flush(context.Background()); err != nil {
				return fmt.Errorf("flush %s/%d: %w", p.out, p.id.id, err)
			}
			p.sinceFlush = 0
		}
		if t.s.big && size > normalRecordBytes {
			t.s.r.wantBig()
		}
		p.sinceFlush += size
		p.bytes += size
		p.count++
		t.s.gts.Produce(context.Background(), k, p.done)
	}
	return nil
}

// normalRecordBytes leaves room for the batch's own header.
const normalRecordBytes = defaultBatchBytes - 1024

func recordBytes(r *ledger.Record) int {
	n := len(r.Key) + len(r.Value) + 64
	for i := range r.Headers {
		n += len(r.Headers[i].Name) + len(r.Headers[i].Value) + 16
	}
	return n
}

// promise notes where records landed. It runs on the client's goroutine, all calls
// before a flush returns.
func (p *part) promise(s *session) func(*kgo.Record, error) {
	return func(k *kgo.Record, err error) {
		if err != nil {
			if errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) {
				s.tooLarge(p, err)
			}
			s.unwritten.CompareAndSwap(nil, new(fmt.Errorf("write %s/%d: %w", p.out, p.id.id, err)))
			return
		}
		if p.first < 0 {
			p.first = k.Offset
		}
		p.last = k.Offset
	}
}

// tooLarge answers a broker that refuses a record which its source topic took.
func (s *session) tooLarge(p *part, err error) {
	if !s.big {
		s.r.wantBig()
		s.die(errNeedsBig)
		return
	}
	s.r.refuse(p.id, &processors.Doubt{Kind: processors.DoubtUnsealable,
		Detail: fmt.Sprintf("%s refuses a record for its size (%v): raise its max.message.bytes; it is tried again every %v", p.out, err, refusedFor)})
	s.die(plannedRestart("a partition is stopped: its output refuses a record for its size"))
}

// end commits, after checking that nobody else wrote to the outputs in between.
func (t *txn) end(ctx context.Context) error {
	s := t.s
	began := time.Now()
	if err := s.gts.Client().Flush(ctx); err != nil {
		s.settle(false)
		return fmt.Errorf("flush transaction: %w", err)
	}
	try := kgo.TryCommit
	intruder, err := t.intruder(ctx)
	if lost := s.unwritten.Load(); lost != nil {
		// Not every failure of a record fails the client's transaction: one that the
		// client could not place, or whose topic it may not write, does not.
		err = errors.Join(*lost, err)
	}
	if err != nil || intruder != "" {
		// Committing would make two records of one seq. The next session reads what
		// is there and asks the processor what it means.
		try = kgo.TryAbort
	}
	// A crash from here on leaves the outcome to the broker. Whatever it was, the
	// next session reads it from the log.
	committed, eerr := s.gts.End(kgo.PreTxnCommitFnContext(ctx, s.commitStarts), try)
	s.r.Metrics.end.Observe(time.Since(began).Seconds())
	if committed && eerr == nil {
		t.observe()
	}
	s.settle(committed && eerr == nil)
	switch {
	case eerr != nil:
		return fmt.Errorf("end transaction: %w", eerr)
	case err != nil:
		return s.reason(err)
	case intruder != "":
		return plannedRestart(intruder + " was written by someone else: reading back")
	}
	return s.reason(nil)
}

func (t *txn) observe() {
	m, total, now := t.s.r.Metrics, 0, time.Now()
	for _, p := range t.s.owned() {
		if !p.touched || p.count == 0 {
			continue
		}
		total += p.count
		m.records.WithLabelValues(p.out).Add(float64(p.count))
		m.bytes.WithLabelValues(p.out).Add(float64(p.bytes))
		if age := now.UnixMilli() - p.newestMs; p.newestMs > 0 && age >= 0 && age < 3_600_000 {
			m.latency.Observe(float64(age) / 1000)
		}
	}
	m.batch.Observe(float64(total))
}

// commitStarts puts the partitions that only wrote a genesis into the transaction's
// offset commit. Without an offset the broker would not check this member's
// generation, and a zombie could commit a second genesis.
func (s *session) commitStarts(req *kmsg.TxnOffsetCommitRequest) error {
	for _, p := range s.owned() {
		if !p.touched || p.fold == nil || committedIn(req, p.id) {
			continue
		}
		rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.Metadata = p.id.id, p.fold.Next(), nil
		if text := p.keepText(); text != "" {
			rp.Metadata = &text
		}
		i := topicIn(req, p.id.topic, p.input.TopicID)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
	}
	return nil
}

func committedIn(req *kmsg.TxnOffsetCommitRequest, tp topicPartition) bool {
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			if t.Topic == tp.topic && p.Partition == tp.id {
				return true
			}
		}
	}
	return false
}

func topicIn(req *kmsg.TxnOffsetCommitRequest, topic string, id [16]byte) int {
	for i := range req.Topics {
		if req.Topics[i].Topic == topic {
			return i
		}
	}
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	req.Topics = append(req.Topics, rt)
	return len(req.Topics) - 1
}
