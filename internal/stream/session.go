package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
)

// session is one transactional client and the partitions it owns.
type session struct {
	r    *foldRunner
	adm  *kgo.Client // for everything but the transaction
	gts  *kgo.GroupTransactSession
	txID string
	boot string
	big  bool // takes records of any size, slowly

	made   chan struct{} // closed once gts is set: the client calls its hooks before that
	dead   chan error    // a reason to throw the client away
	wakeCh chan struct{} // ends an idle poll
	stall  *time.Timer

	closing   atomic.Bool           // partitions given up now are taken back by the next session
	firstOnce sync.Once             // of the first assignment
	unwritten atomic.Pointer[error] // why a record of the transaction at hand was not written
	looked    time.Time             // when outputs that lack a partition were last asked for it
	sawAt     time.Time             // when inputs were last looked at behind the heads

	mu    sync.Mutex
	parts map[topicPartition]*part
}

// part is one owned input partition. Only the loop touches it once it is in the map,
// but for the promise, which runs before End returns.
type part struct {
	id     topicPartition
	out    string
	input  processors.Input
	output processors.Output
	fold   processors.Fold // nil while the partition is stopped
	narrow bool            // stopped because the output lacks the partition
	seen   int64           // below it this member has read the input, and found nothing behind the head
	kept   string          // what stands beside the group offset

	done     func(*kgo.Record, error)
	in       []ledger.Record // reused between polls
	produced []ledger.Record

	// Within the transaction at hand:
	touched    bool
	opened     bool // its pending records are produced
	first      int64
	last       int64
	count      int
	bytes      int
	newestMs   int64
	sinceFlush int

	// expect is the output offset that our next record must get if nobody else
	// wrote: behind our last record and its commit marker. -1 when not known.
	// behind is the first offset that was not read or written by us.
	expect, behind int64
}

func (s *session) close() {
	s.closing.Store(true)
	s.stall.Stop()
	if s.gts != nil {
		s.gts.Close()
	}
	s.adm.Close()
}

// die notes the first reason to end the session.
func (s *session) die(err error) {
	select {
	case s.dead <- err:
	default:
	}
	s.wake()
}

func (s *session) wake() {
	select {
	case s.wakeCh <- struct{}{}:
	default:
	}
}

func (s *session) stalled() {
	s.r.Alarms.Raise(Alarm{Stage: s.r.Stage, Key: s.r.Slot, Kind: "nothing_recovered",
		Detail: fmt.Sprintf("no partition was recovered for %v: the group does not settle, or a transaction on the output stays open", s.r.StallAfter)})
}

// patience is how long nothing may still be recovered before the alarm. It goes on over
// sessions and assignments: members that disturb each other have many of them.
func (r *foldRunner) patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sick.IsZero() {
		r.sick = time.Now()
	}
	return max(0, r.StallAfter-time.Since(r.sick))
}

func (s *session) healthy() {
	s.r.mu.Lock()
	s.r.sick = time.Time{}
	s.r.mu.Unlock()
	s.stall.Stop()
	s.r.Alarms.Clear(s.r.Stage, s.r.Slot, "nothing_recovered")
}

// owned returns the parts in hand.
func (s *session) owned() []*part {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*part, 0, len(s.parts))
	for _, p := range s.parts {
		out = append(out, p)
	}
	return out
}

func (s *session) lookup(tp topicPartition) *part {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parts[tp]
}

// pending says whether some partition has records to write before any event.
func (s *session) pending() bool {
	for _, p := range s.owned() {
		if p.fold != nil && len(p.fold.Pending()) > 0 {
			return true
		}
	}
	return false
}

// poll waits for records at most d, less when woken.
func (s *session) poll(d time.Duration) kgo.Fetches {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.wakeCh:
			cancel()
		case <-done:
		}
	}()
	return s.gts.PollRecords(ctx, 20_000)
}

// cycle is one transaction, if there is anything to write.
func (s *session) cycle(ctx context.Context) error {
	genesis := s.pending()
	var fs kgo.Fetches
	if !genesis {
		fs = s.poll(250 * time.Millisecond)
		if err := s.pollErrors(ctx, fs); err != nil {
			return err
		}
		if fs.NumRecords() == 0 {
			return s.noteSeen(ctx)
		}
	}
	if err := s.gts.Begin(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	s.unwritten.Store(nil)
	txn := &txn{s: s, began: time.Now()}
	err := txn.openPending()
	for err == nil {
		if err = txn.fold(fs); err != nil {
			break
		}
		left := s.r.Interval - time.Since(txn.began)
		if left <= 0 || ctx.Err() != nil || txn.full() {
			break
		}
		fs = s.poll(left)
		err = s.pollErrors(ctx, fs)
	}
	// The end must not be cut off by a stop signal: an unknown outcome costs a
	// recovery, a finished one nothing. It is bounded by the broker's own limit.
	ectx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	if err != nil {
		// A crash or error here leaves nothing: the transaction is aborted, or dies
		// with the client and is aborted by its successor's claim.
		_, aerr := s.gts.End(ectx, kgo.TryAbort)
		s.settle(false)
		return errors.Join(err, aerr)
	}
	return txn.end(ectx)
}

// pollErrors logs what a poll reports and returns what a new session must mend.
func (s *session) pollErrors(ctx context.Context, fs kgo.Fetches) error {
	var fatal error
	fs.EachError(func(topic string, p int32, err error) {
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		case errors.Is(err, kerr.FencedInstanceID):
			fatal = fmt.Errorf("another process runs as slot %s of stage %s: give each its own slot (--slot): %w", s.r.Slot, s.r.Stage, err)
		case errors.Is(err, kerr.OffsetOutOfRange), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.InconsistentTopicID),
			errors.Is(err, kgo.ErrClientClosed):
			fatal = fmt.Errorf("poll %s/%d: %w", topic, p, err)
		default:
			s.r.Log.WarnContext(ctx, "poll error", "topic", topic, "partition", p, "err", err)
			if ds, ok := errors.AsType[*kgo.ErrDataLoss](err); ok {
				s.r.Log.ErrorContext(ctx, "source log was truncated", "topic", ds.Topic, "partition", ds.Partition)
			}
		}
	})
	return s.reason(fatal)
}

// reason is why the session ends: what was noted elsewhere first, else err.
func (s *session) reason(err error) error {
	select {
	case first := <-s.dead:
		return first
	default:
		return err
	}
}

// settle ends the transaction for all touched parts.
func (s *session) settle(committed bool) {
	for _, p := range s.owned() {
		if !p.touched {
			continue
		}
		if p.fold != nil {
			if committed {
				p.fold.Commit()
			} else {
				p.fold.Abort()
			}
		}
		if committed {
			p.kept = p.keepText()
		}
		if committed && p.count > 0 {
			p.expect, p.behind = p.last+2, p.last+1
		} else if !committed {
			p.expect = -1
		}
		p.touched, p.opened, p.count, p.bytes, p.sinceFlush = false, false, 0, 0, 0
		p.first, p.last = -1, -1
	}
	if !committed {
		s.r.Metrics.aborts.Inc()
	}
}

// halt stops one partition on doubt: nothing of it is folded until an order fits.
func (s *session) halt(p *part, d *processors.Doubt) {
	p.fold = nil
	s.gts.Client().PauseFetchPartitions(map[string][]int32{p.id.topic: {p.id.id}})
	s.r.halt(p, d)
}

func (r *foldRunner) halt(p *part, d *processors.Doubt) {
	r.mu.Lock()
	before, again := r.stopped[p.id]
	r.stopped[p.id] = stoppedPartition{outputID: p.output.ID, end: p.output.End, kind: d.Kind}
	r.mu.Unlock()
	if again && before.kind != d.Kind {
		r.Alarms.Clear(r.Stage, p.id.String(), string(before.kind))
	}
	r.Alarms.Raise(Alarm{Stage: r.Stage, Key: p.id.String(), Kind: string(d.Kind), Detail: d.Detail, Facts: map[string]string{
		"source": p.id.topic, "partition": strconv.Itoa(int(p.id.id)),
		"output_id": p.output.ID.String(), "end": strconv.FormatInt(p.output.End, 10), "leaf": p.output.LastLeaf(),
	}})
}
