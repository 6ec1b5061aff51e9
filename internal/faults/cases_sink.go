package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

func killSink(ctx context.Context, s *scene) error {
	p, err := s.openAlone(ctx, roleSink)
	if err != nil {
		return err
	}
	for range s.n(4, s.long2(20, 45)) {
		if err := pass(ctx, s.between(0, 700*time.Millisecond)); err != nil {
			return err
		}
		if err := errors.Join(s.strike(p), s.killEarly(ctx, roleSink, "a")); err != nil {
			return err
		}
		if p, err = s.sinkBack(ctx); err != nil {
			return err
		}
	}
	for range s.n(1, 5) {
		for _, kill := range []func(context.Context, *testbed.Proc) error{s.killInside, s.killAtCommit, s.killBeforeOffset} {
			if err := kill(ctx, p); err != nil {
				return err
			}
			if p, err = s.sinkBack(ctx); err != nil {
				return err
			}
		}
	}
	return s.settle(ctx)
}

// sinkBack starts the sink again and waits until all flows.
func (s *scene) sinkBack(ctx context.Context) (*testbed.Proc, error) {
	s.begin(restarted, roleSink)
	p, err := s.role(roleSink, "a")
	if err != nil {
		return nil, err
	}
	return p, s.back(ctx, slowest)
}

// killInside kills the sink while its rows are in the table and not committed.
func (s *scene) killInside(ctx context.Context, p *testbed.Proc) error {
	g, err := s.closeGate(ctx, gateInside)
	if err != nil {
		return err
	}
	if err := s.strike(p); err != nil {
		return errors.Join(err, g.open(ctx))
	}
	if err := errors.Join(g.open(ctx), s.dropGate(ctx, gateInside)); err != nil {
		return err
	}
	s.note("killed %s", gateInside)
	return nil
}

// killAtCommit kills the sink when it has said COMMIT and not heard the answer, and
// then lets the database commit: nobody alive knows of it.
func (s *scene) killAtCommit(ctx context.Context, p *testbed.Proc) error {
	g, err := s.closeGate(ctx, gateCommit)
	if err != nil {
		return err
	}
	if err := s.strike(p); err != nil {
		return errors.Join(err, g.open(ctx))
	}
	before, err := s.storedNow(ctx)
	if err != nil {
		return errors.Join(err, g.open(ctx))
	}
	if err := errors.Join(g.open(ctx), s.dropGate(ctx, gateCommit)); err != nil {
		return err
	}
	after, err := s.storedNow(ctx)
	if err != nil {
		return err
	}
	if maps.Equal(before, after) {
		return errors.New("the sink was killed at its commit, and nothing was committed: the fault did not strike")
	}
	behind, err := s.groupBehind(ctx)
	if err != nil {
		return err
	}
	if !behind {
		return errors.New("a commit that the sink never heard of is in the group's offsets")
	}
	s.note("killed %s, which took place", gateCommit)
	return nil
}

// killBeforeOffset kills the sink when it has heard that its rows are committed and
// has not committed the group offset yet.
func (s *scene) killBeforeOffset(ctx context.Context, p *testbed.Proc) error {
	before, err := s.storedNow(ctx)
	if err != nil {
		return err
	}
	err = until(ctx, func() (bool, error) {
		now, err := s.storedNow(ctx)
		return !maps.Equal(before, now), err
	})
	if err != nil {
		return fmt.Errorf("wait for a commit of the sink: %w", err)
	}
	if err := s.strike(p); err != nil {
		return err
	}
	behind, err := s.groupBehind(ctx)
	if err != nil {
		return err
	}
	if !behind {
		return errors.New("the group offset had been committed already: the fault did not strike between the two")
	}
	s.note("killed between commit and offset commit")
	return nil
}

// storedNow has the watch ask the database now and returns the stored offsets.
func (s *scene) storedNow(ctx context.Context) (map[sinks.Partition]int64, error) {
	if err := s.watch.sight(ctx); err != nil {
		return nil, err
	}
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	return s.watch.stored, nil // replaced, never changed
}

func sleepSink(ctx context.Context, s *scene) error {
	pair, err := s.openPair(ctx, roleSink, schemas.GroupPostgres)
	if err != nil {
		return err
	}
	for range s.n(1, 4) {
		sleeping := pair[s.rnd.IntN(2)]
		if err := s.sleepPast(ctx, sleeping); err != nil {
			return err
		}
		if err := s.wake(ctx, sleeping, schemas.GroupPostgres); err != nil {
			return err
		}
		if err := s.sleepInside(ctx, pair); err != nil {
			return err
		}
	}
	if err := s.twin(ctx, roleSink, pair[0]); err != nil {
		return err
	}
	return s.settle(ctx)
}

// sleepInside puts a sink to sleep while its transaction is open, so that the database
// holds its locks. The other sink must get the partitions all the same.
func (s *scene) sleepInside(ctx context.Context, pair [2]*testbed.Proc) error {
	g, err := s.closeGate(ctx, gateInside)
	if err != nil {
		return err
	}
	// Both may stand before the gate; the one that sleeps certainly has its share.
	sleeping := pair[s.rnd.IntN(2)]
	if err := s.bothWait(ctx, g); err != nil {
		return errors.Join(err, g.open(ctx))
	}
	began := time.Now()
	if err := freeze(ctx, sleeping); err != nil {
		return errors.Join(err, g.open(ctx))
	}
	s.begin(asleepInside, roleSink)
	if err := g.open(ctx); err != nil {
		return err
	}
	if err := s.back(ctx, slowest); err != nil {
		return fmt.Errorf("%s sleeps inside its transaction, the other must take over: %w", sleeping.Name, err)
	}
	if err := pass(ctx, session+time.Second-time.Since(began)); err != nil {
		return err
	}
	s.struck("SIGSTOP of a sink inside its transaction")
	if err := s.wake(ctx, sleeping, schemas.GroupPostgres); err != nil {
		return err
	}
	return s.dropGate(ctx, gateInside)
}

// bothWait waits until every member has a transaction before the gate: each runs two
// writers, so three waiting transactions are of both.
func (s *scene) bothWait(ctx context.Context, g *gate) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := until(ctx, func() (bool, error) {
		var n int
		err := g.conn.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", gateKey).Scan(&n)
		return n >= 3, err
	})
	if err != nil {
		return fmt.Errorf("both sinks must stand before the gate: %w", err)
	}
	return nil
}
