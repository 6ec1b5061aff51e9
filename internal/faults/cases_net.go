package faults

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// badness is one thing that is wrong with a way for a while, and what shows that it was.
type badness struct {
	name   string
	toxics []toxic
	hold   time.Duration
	felt   func(context.Context) error // called at the end of the hold
}

// netKafka makes the way from the roles and the load to Kafka bad.
func netKafka(ctx context.Context, s *scene) error {
	w, cut, err := s.wayToKafka()
	if err != nil {
		return err
	}
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	for range s.n(1, 2) {
		for _, b := range s.badnesses(s.nothingSealed, s.sealedLate) {
			if err := s.hold(ctx, w, b, "to Kafka"); err != nil {
				return err
			}
		}
	}
	for range s.n(3, 20) {
		if err := s.cutCommit(ctx, cut); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// wayToKafka puts a proxy for toxics and behind it one that cuts off answers before
// the broker.
func (s *scene) wayToKafka() (*way, *cutter, error) {
	ports, err := s.bed.FreePorts(1)
	if err != nil {
		return nil, nil, err
	}
	p, between := s.kafka.Proxies[0], fmt.Sprintf("127.0.0.1:%d", ports[0])
	cut, err := newCutter(between, p.Upstream, endTxn)
	if err != nil {
		return nil, nil, err
	}
	s.bed.AtClose(cut.close)
	w, err := s.openWay([2]string{p.Listen, between})
	s.via.kafka = []string{p.Listen}
	return w, cut, err
}

// cutCommit has the answer to a commit of the seal cut off. The transaction is
// committed, and nobody alive knows it.
func (s *scene) cutCommit(ctx context.Context, cut *cutter) error {
	if err := pass(ctx, s.between(0, 500*time.Millisecond)); err != nil {
		return err
	}
	before := cut.cut.Load()
	cut.arm(1)
	cctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	err := until(cctx, func() (bool, error) { return cut.cut.Load() > before, nil })
	cancel()
	if err != nil {
		return fmt.Errorf("no transaction ended, so no answer could be cut off: %w", err)
	}
	s.begin(wayMended, "") // the connection is cut, and the next one is good
	s.struck("answer to the end of a transaction cut off")
	return errors.Join(s.back(ctx, slowest), s.stands())
}

// netPostgres makes the way from the sink to PostgreSQL bad.
func netPostgres(ctx context.Context, s *scene) error {
	ports, err := s.bed.FreePorts(1)
	if err != nil {
		return err
	}
	s.via.postgres = fmt.Sprintf("127.0.0.1:%d", ports[0])
	var w *way
	s.via.open = func(g *testbed.Given) error {
		u, err := url.Parse(g.Postgres)
		if err != nil {
			return errors.New("the superuser URL is none")
		}
		w, err = s.openWay([2]string{s.via.postgres, u.Host})
		return err
	}
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	for range s.n(1, 2) {
		for _, b := range s.badnesses(s.nothingStored, s.storedLate) {
			if err := s.hold(ctx, w, b, "to PostgreSQL"); err != nil {
				return err
			}
		}
		if err := s.cutDatabaseCommit(ctx, w); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// badnesses are the ways in which a network is bad, in an order that depends on the
// seed. stopped shows that nothing got through, late that all was late.
func (s *scene) badnesses(stopped, late func(context.Context) error) []badness {
	out := []badness{
		{"2 s late", lateBy2s(), 5 * time.Second, late},
		{"64 KB/s", narrow(), 5 * time.Second, late},
		{"connections reset in mid-request", reset(s.rnd.IntN(60)), 2 * time.Second, stopped},
		{"answers cut off", cutOff(s.rnd.IntN(40)), 2 * time.Second, stopped},
		{"black hole without an end", blackHole(), session + 2*time.Second, stopped},
	}
	s.rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// hold makes a way bad, keeps it so, sees that it was felt, and waits until all flows
// again on the good way.
func (s *scene) hold(ctx context.Context, w *way, b badness, where string) error {
	if err := pass(ctx, s.between(0, 700*time.Millisecond)); err != nil {
		return err
	}
	what := b.name + ", on the way " + where
	s.logf("%s", what)
	if err := w.spoil(b.toxics); err != nil {
		return err
	}
	// What was under way when it began still gets through.
	if err := pass(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	s.watch.begin()
	if err := pass(ctx, b.hold); err != nil {
		return err
	}
	err := b.felt(ctx)
	s.begin(wayMended, "")
	w.mend(ctx)
	if err != nil {
		return fmt.Errorf("%s: the fault did not strike: %w", what, err)
	}
	s.struck(what)
	if err := errors.Join(s.back(ctx, slowest), s.stands()); err != nil {
		return fmt.Errorf("%s, now mended: %w", what, err)
	}
	return nil
}

func (s *scene) nothingSealed(context.Context) error {
	if sealed, _ := s.watch.progress(); sealed > 0 {
		return fmt.Errorf("%d partitions sealed events meanwhile", sealed)
	}
	return nil
}

func (s *scene) nothingStored(context.Context) error {
	if _, stored := s.watch.progress(); stored > 0 {
		return fmt.Errorf("%d partitions stored events meanwhile", stored)
	}
	return nil
}

// The first event of a partition was sealed or stored a second late or more, or not yet.
func (s *scene) sealedLate(context.Context) error {
	return s.watch.late(func(m *mark) []time.Time {
		var at []time.Time
		for _, st := range m.sealed {
			at = append(at, st.at)
		}
		return at
	})
}

func (s *scene) storedLate(context.Context) error {
	return s.watch.late(func(m *mark) []time.Time {
		var at []time.Time
		for _, t := range m.stored {
			at = append(at, t)
		}
		return at
	})
}

// cutDatabaseCommit cuts the answer to a COMMIT off: the rows are there, and the sink
// cannot know.
func (s *scene) cutDatabaseCommit(ctx context.Context, w *way) error {
	g, err := s.closeGate(ctx, gateCommit)
	if err != nil {
		return err
	}
	before, err := s.storedNow(ctx)
	if err == nil {
		err = w.spoil(cutOff(0))
	}
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
	moved := false
	for p, next := range after {
		moved = moved || next > before[p]
	}
	s.begin(wayMended, "")
	w.mend(ctx)
	if !moved {
		return errors.New("nothing was committed while the answers were cut off: the fault did not strike")
	}
	s.struck("answer to a COMMIT of PostgreSQL cut off")
	return errors.Join(s.back(ctx, slowest), s.stands())
}

// stopRegistry takes the schema registry away while a sink starts that has seen no
// schema, and then while a schema comes that nobody has seen.
func stopRegistry(ctx context.Context, s *scene) error {
	direct, err := s.bed.ServeRegistry(s.bed.Path("registry"))
	if err != nil {
		return err
	}
	ports, err := s.bed.FreePorts(1)
	if err != nil {
		return err
	}
	at := fmt.Sprintf("127.0.0.1:%d", ports[0])
	w, err := s.openWay([2]string{at, strings.TrimPrefix(direct, "http://")})
	if err != nil {
		return err
	}
	s.via.registry = "http://" + at
	p, err := s.openAlone(ctx, roleSink)
	if err != nil {
		return err
	}
	for i := range s.n(2, 4) {
		w.shut()
		name := "registry away when a sink starts"
		if i%2 == 0 {
			if err := s.strike(p); err != nil {
				return err
			}
			if p, err = s.role(roleSink, "a"); err != nil {
				return err
			}
		} else {
			name = "registry away when a new schema comes"
			id, err := register(ctx, direct, auditVariant(i))
			if err != nil {
				return err
			}
			if s.load.avro.Swap(id) == id {
				return errors.New("the registry has given the new schema an old id")
			}
		}
		if err := s.waitsForSchemas(ctx, name); err != nil {
			return err
		}
		s.begin(registryBack, "")
		if err := w.reopen(); err != nil {
			return err
		}
		if err := errors.Join(s.back(ctx, slowest), alive(p)); err != nil {
			return fmt.Errorf("%s, and is back: %w", name, err)
		}
	}
	return s.settle(ctx)
}

// auditVariant is the audit schema with another comment: the same fields, and an id of
// its own in every registry.
func auditVariant(n int) string {
	return strings.Replace(schemas.AuditSchema(), "AuditEvent says", fmt.Sprintf("Variant %d. AuditEvent says", n), 1)
}

// waitsForSchemas says that events which need the registry pile up, sealed and not stored.
func (s *scene) waitsForSchemas(ctx context.Context, name string) error {
	if err := s.sealsOn(ctx); err != nil {
		return fmt.Errorf("%s: sealing must go on: %w", name, err)
	}
	audit := s.prefix + schemas.TopicAudit
	fctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	// Each partition is stored up to the first event that needs the registry.
	enough := int64(rate)
	if err := until(fctx, func() (bool, error) { return s.watch.lag(audit) >= enough, nil }); err != nil {
		return fmt.Errorf("%s: the fault did not strike: %d events wait: %w", name, s.watch.lag(audit), err)
	}
	s.struck(name)
	return nil
}
