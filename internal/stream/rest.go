package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/processors"
)

// failing is what is known of an input topic that cannot be recovered.
type failing struct {
	since time.Time
	tryAt time.Time // zero until its partitions rest
}

// impatient says whether a topic has failed for so long, in whichever sessions, that
// the others must not wait for it any more.
func (r *foldRunner) impatient(topic string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.failing[topic]
	if !ok {
		f = &failing{since: time.Now()}
		r.failing[topic] = f
	}
	return time.Since(f.since) > r.StallAfter
}

// recovered forgets what was known against a topic.
func (r *foldRunner) recovered(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.failing, topic)
}

// retryResting says whether partitions that rest are due for another try.
func (r *foldRunner) retryResting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.failing {
		if !f.tryAt.IsZero() && time.Now().After(f.tryAt) {
			f.tryAt = time.Time{}
			return true
		}
	}
	return false
}

// rest stops partitions that could not be recovered, so that others go on. Nothing is
// decided about them: they are tried again, and lose nothing that their source keeps.
func (s *session) rest(ctx context.Context, topic string, offsets map[int32]kgo.Offset, failed map[int32]error) {
	s.r.mu.Lock()
	if f := s.r.failing[topic]; f != nil {
		f.tryAt = time.Now().Add(s.r.StallAfter)
	}
	s.r.mu.Unlock()
	for id, err := range failed {
		tp := topicPartition{topic, id}
		p := &part{id: tp, out: s.r.Pairs[topic], first: -1, last: -1, expect: -1}
		p.done = p.promise(s)
		s.mu.Lock()
		s.parts[tp] = p
		s.mu.Unlock()
		s.halt(p, &processors.Doubt{Kind: processors.DoubtUnread, Detail: fmt.Sprintf(
			"it could not be recovered for %v and is tried again every %v; other partitions go on: %v", s.r.StallAfter, s.r.StallAfter, err)})
		offsets[id] = kgo.NewOffset().At(max(offsets[id].EpochOffset().Offset, 0)).WithEpoch(-1)
		s.r.Log.ErrorContext(ctx, "partition rests: it cannot be recovered", "topic", topic, "partition", id, "err", err)
	}
}

// recoverPatiently recovers a topic, again and again; when it has failed for too long,
// the partitions that fail rest.
func (s *session) recoverPatiently(ctx context.Context, topic string, offsets map[int32]kgo.Offset) error {
	for attempt := 0; ; attempt++ {
		failed := s.recoverTopic(ctx, topic, offsets)
		if len(failed) == 0 {
			s.r.recovered(topic)
			return nil
		}
		var errs []error
		for _, err := range failed {
			errs = append(errs, err)
		}
		err := errors.Join(errs...)
		s.r.Log.WarnContext(ctx, "recovery failed, trying again", "topic", topic, "err", err)
		if ctx.Err() == nil && s.r.impatient(topic) {
			s.rest(ctx, topic, offsets, failed)
			return nil
		}
		if perr := pause(ctx, backoff(attempt)); perr != nil {
			return fmt.Errorf("recover %s: %w", topic, errors.Join(err, perr))
		}
	}
}
