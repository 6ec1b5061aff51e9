package faults

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/schemas"
)

// poisonConstraint is what the table gets to refuse poison with.
const poisonConstraint = "faults_refuses"

// pattern says which of the records of one partition, sent in one go, are poison.
type pattern struct {
	name    string
	records int
	poison  func(i int) bool
}

// patterns are one per partition of audit.events, from 0 on. The sink finds each as
// the whole of what is new in its partition, so the first is first in its batch.
func patterns() []pattern {
	const n = 60
	return []pattern{
		{"one", n, func(i int) bool { return i == n/2 }},
		{"two side by side", n, func(i int) bool { return i == 20 || i == 21 }},
		{"first and last of a batch", n, func(i int) bool { return i == 0 || i == n-1 }},
		{"a whole batch", 25, func(int) bool { return true }},
		{"every third", n, func(i int) bool { return i%3 == 0 }},
		{"none", n, func(int) bool { return false }},
	}
}

// poison has the table refuse some records for good. Their neighbours must be stored,
// they themselves set aside with the reason, and nothing more.
func poison(ctx context.Context, s *scene) error {
	if err := s.open(ctx, roleSink); err != nil {
		return err
	}
	p, err := s.role(roleSink, "a")
	if err != nil {
		return err
	}
	s.startLoad(ctx)
	if err := s.flowing(ctx); err != nil {
		return err
	}
	s.stopLoad()
	if err := s.watch.drained(ctx); err != nil {
		return err
	}
	tctx, cancel := context.WithTimeout(ctx, stopDeadline)
	defer cancel()
	if code, err := p.Terminate(tctx); err != nil || code != 0 {
		return fmt.Errorf("stop the sink: exit code %d, %w", code, err)
	}
	if err := s.sql(ctx, fmt.Sprintf("ALTER TABLE public.events ADD CONSTRAINT %s CHECK (event_action IS DISTINCT FROM '%s') NOT VALID", poisonConstraint, actionPoison)); err != nil {
		return err
	}
	if err := s.sendPatterns(ctx); err != nil {
		return err
	}
	s.watch.begin()
	if p, err = s.role(roleSink, "a"); err != nil {
		return err
	}
	if err := s.watch.drained(ctx); err != nil {
		return errors.Join(err, alive(p))
	}
	// Under load, and with the sink killed while it looks for the poison: what it has
	// set aside already it may set aside once more.
	s.feed.poison.Store(151)
	s.startLoad(ctx)
	for range s.n(2, 10) {
		if err := s.flowing(ctx); err != nil {
			return err
		}
		if err := pass(ctx, s.between(0, 400*time.Millisecond)); err != nil {
			return err
		}
		if err := s.strike(p); err != nil {
			return err
		}
		if p, err = s.sinkBack(ctx); err != nil {
			return err
		}
	}
	s.stopLoad()
	if err := s.feed.cl.Flush(ctx); err != nil {
		return err
	}
	s.want.Rejects = int(s.feed.poisoned.Load())
	s.want.Reason, s.want.Constraint = "check", poisonConstraint
	return s.settle(ctx)
}

// sendPatterns sends each pattern to a partition of its own and waits until all is
// acknowledged.
func (s *scene) sendPatterns(ctx context.Context) error {
	var batch []*kgo.Record
	for id, pat := range patterns() {
		for i := range pat.records {
			action := actionLoad
			if pat.poison(i) {
				action = actionPoison
				s.struck("record that the table refuses")
			}
			batch = append(batch, s.load.record(s.prefix+schemas.TopicAudit, int32(id), action))
		}
		s.note("partition %d: %s", id, pat.name)
	}
	s.feed.send(ctx, batch...)
	if err := s.feed.cl.Flush(ctx); err != nil {
		return fmt.Errorf("send poison: %w", err)
	}
	return nil
}

// poisoner mixes poison into the load: one event in so many, none at 0.
type poisoner struct {
	poison   atomic.Int64
	poisoned atomic.Int64 // acknowledged
}

func (p *poisoner) action(n int64) string {
	if every := p.poison.Load(); every > 0 && n%every == 0 {
		return actionPoison
	}
	return actionLoad
}
