package stream

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/processors"
)

// refusedFor is how long a partition rests whose output refuses a record.
const refusedFor = time.Minute

type refusal struct {
	doubt *processors.Doubt
	until time.Time
}

func (r *foldRunner) refuse(tp topicPartition, d *processors.Doubt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[tp] = refusal{d, time.Now().Add(refusedFor)}
}

func (r *foldRunner) refusedNow(tp topicPartition) *processors.Doubt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.refused[tp]; ok && time.Now().Before(f.until) {
		return f.doubt
	}
	return nil
}

// retryRefused says whether some refused partition has rested long enough.
func (r *foldRunner) retryRefused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	due := false
	for tp, f := range r.refused {
		if time.Now().After(f.until) {
			delete(r.refused, tp)
			due = true
		}
	}
	return due
}

// watchOrders reads the control topic itself, not its sealed copy, so that an order
// is found even while the control topic's own ledger is stopped. It only reads
// while something is stopped; orders are few, so all of them are kept.
func (r *foldRunner) watchOrders(ctx context.Context, restart chan<- struct{}) {
	if r.ControlTopic == "" || r.ParseOrder == nil {
		return
	}
	for ctx.Err() == nil {
		if !r.anyStopped() {
			_ = pause(ctx, 200*time.Millisecond)
			continue
		}
		if err := r.readOrders(ctx, restart); err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "cannot read orders, trying again", "topic", r.ControlTopic, "err", err)
			_ = pause(ctx, time.Second)
		}
	}
}

func (r *foldRunner) anyStopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.stopped) > 0
}

// readOrders consumes the control topic from its start until nothing is stopped.
func (r *foldRunner) readOrders(ctx context.Context, restart chan<- struct{}) error {
	cl, err := kgo.NewClient(append(r.Kafka.Opts(),
		kgo.ConsumeTopics(r.ControlTopic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200*time.Millisecond),
		kgo.RetryBackoffFn(backoff))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	r.mu.Lock()
	clear(r.orders) // everything is read again
	r.mu.Unlock()
	for ctx.Err() == nil && r.anyStopped() {
		pctx, cancel := context.WithTimeout(ctx, time.Second)
		fs := cl.PollRecords(pctx, 10_000)
		cancel()
		for _, fe := range fs.Errors() {
			if !errors.Is(fe.Err, context.DeadlineExceeded) && !errors.Is(fe.Err, context.Canceled) {
				return fe.Err
			}
		}
		hit := false
		fs.EachRecord(func(k *kgo.Record) {
			if o, ok := r.ParseOrder(fromKgo(k)); ok {
				hit = r.note(ctx, o) || hit
			}
		})
		if hit {
			select {
			case restart <- struct{}{}:
			default:
			}
		}
	}
	return nil
}

// note keeps an order and says whether it fits a stopped partition.
func (r *foldRunner) note(ctx context.Context, o processors.Order) bool {
	tp := topicPartition{o.Source, o.Partition}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.orders[tp] = append(r.orders[tp], o)
	st, ok := r.stopped[tp]
	if !ok {
		return false
	}
	fit := o.OutputID == st.outputID.String() && o.End == st.end
	if !fit {
		r.Log.InfoContext(ctx, "an order does not fit the stopped partition", "topic", tp.topic, "partition", tp.id,
			"order", o.ID, "order_end", o.End, "end", st.end)
	}
	return fit
}

// assigned runs before the offsets of a new assignment are fetched.
func (s *session) assigned(ctx context.Context, _ *kgo.Client, m map[string][]int32) {
	n := 0
	for topic, ps := range m {
		n += len(ps)
		if out, ok := s.r.Pairs[topic]; ok {
			s.fence(ctx, out, ps)
		}
	}
	if n == 0 {
		s.healthy()
		return
	}
	s.stall.Reset(s.r.patience())
}

// revoked forgets partitions; records of them still in hand are ignored, and the
// transaction at hand is aborted by the client.
func (s *session) revoked(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, ps := range m {
		for _, p := range ps {
			tp := topicPartition{topic, p}
			delete(s.parts, tp)
			if !s.closing.Load() {
				s.r.disown(tp)
			}
		}
	}
}

// disownOthers drops what the last session said about partitions that this one was
// not given.
func (r *foldRunner) disownOthers(mine map[string]map[int32]kgo.Offset) {
	r.mu.Lock()
	var gone []topicPartition
	for tp := range r.stopped {
		if _, ok := mine[tp.topic][tp.id]; !ok {
			gone = append(gone, tp)
		}
	}
	r.mu.Unlock()
	for _, tp := range gone {
		r.disown(tp)
	}
}

// disown drops what this member says about a partition that another now owns. What its
// input lost stays: nobody else knows of it, and it is as true as before.
func (r *foldRunner) disown(tp topicPartition) {
	r.mu.Lock()
	st, stopped := r.stopped[tp]
	delete(r.stopped, tp)
	r.mu.Unlock()
	if stopped {
		r.Alarms.Clear(r.Stage, tp.String(), string(st.kind))
	}
}
