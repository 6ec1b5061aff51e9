package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// The roles that can run in a process of their own.
const (
	roleSeal = "seal"
	roleSink = "sink-postgres"
)

// cases is the table of everything that is broken.
func cases() []faultCase {
	return []faultCase{
		{"up-kill", "kill -9 of everything under load, at random moments and while it starts", 120 * time.Second, onUp, killUp},
		{"up-term", "SIGTERM under load: it drains and stops within its deadline, and starts again", 90 * time.Second, onUp, terminateUp},
		{"ingest-kill", "kill -9 of everything, or of ingest, in the middle of an ingest that is then run again", 120 * time.Second, onUp, killIngest},
		{"seal-kill", "kill -9 of a seal of its own at random moments", 90 * time.Second, anywhere, killSeal},
		{"seal-members", "a second seal joins, leaves and takes over", 120 * time.Second, anywhere, members(roleSeal, schemas.GroupSeal)},
		{"seal-sleep", "a seal sleeps past its session, another takes over, the sleeper wakes", 90 * time.Second, anywhere, sleeper(roleSeal, schemas.GroupSeal)},
		{"sink-kill", "kill -9 of a sink of its own: at random moments, inside its transaction, at its commit, and between its commit and its offset commit", 120 * time.Second, anywhere, killSink},
		{"sink-members", "a second sink joins, leaves and takes over", 120 * time.Second, anywhere, members(roleSink, schemas.GroupPostgres)},
		{"sink-sleep", "a sink sleeps past its session, outside and inside its transaction, another takes over, the sleeper wakes", 120 * time.Second, anywhere, sleepSink},
		{"pg-crash", "the PostgreSQL that up runs stops at once, or is killed; up brings it back", 90 * time.Second, onUp, crashPostgres},
		{"pg-stop", "PostgreSQL stops at once and stays away for 8 s", 90 * time.Second, anywhere, stopPostgres},
		{"pg-full", "the disk of PostgreSQL's tables is full for a while", 90 * time.Second, onUp, fillPostgres},
		{"pg-full-log", "the disk of PostgreSQL's log of changes is full for a while", 120 * time.Second, onUp, fillPostgresLog},
		{"poison", "records that the table refuses: one, two side by side, first and last of a batch, a whole batch", 90 * time.Second, anywhere, poison},
		{"start-twice", "a data directory that is in use, and a port that is in use", 60 * time.Second, onUp, startTwice},
		{"pg-revoked", "the sink's rights in PostgreSQL are taken away under load, then its login, and given back", 90 * time.Second, anywhere, revokePostgres},
		{"start-alone", "broker, registry and database that are not there at the start", 90 * time.Second, onUp, startAlone},
		{"registry-down", "the registry is away while a sink starts, and when a schema nobody has seen comes", 90 * time.Second, onKafka, stopRegistry},
		{"net-postgres", "the way to PostgreSQL: 2 s late, 64 KB/s, connections reset, answers cut off at the commit, packets lost without an end", 120 * time.Second, onKafka, netPostgres},
		{"net-kafka", "the way to Kafka: the same, and answers to the end of a transaction cut off", 150 * time.Second, onKafka, netKafka},
		{"broker-kill", "kill -9 of the only broker, alone and together with seal and sink", 120 * time.Second, onMortal, killBroker},
		{"broker-full", "the disk of the broker is full: it falls, and starts again when there is room", 120 * time.Second, onMortal, fillBroker},
		{"leader-kill", "kill -9 of a broker that leads, of three, under acks=all", 150 * time.Second, onThree, killLeader},
		{"broker-roll", "three brokers are stopped and started one after the other", 150 * time.Second, onThree, rollBrokers},
		{"coordinators", "the coordinators of groups and transactions move to other brokers", 120 * time.Second, onThree, moveCoordinators},
	}
}

// killed begins the name of every fault that was a SIGKILL.
const killed = "kill -9 of "

// strike kills a process that must have been alive until now.
func (s *scene) strike(p *testbed.Proc) error {
	if p.Ended() {
		return fmt.Errorf("%s ended by itself with exit code %d; its log %s ends with:\n%s", p.Name, p.Exit(), p.LogPath, p.Tail())
	}
	if err := p.Kill(); err != nil {
		return err
	}
	if code := p.Exit(); code != -1 {
		return fmt.Errorf("%s ended with exit code %d before it could be killed", p.Name, code)
	}
	s.struck(killed + what(p))
	return nil
}

// what is a process by its role, without its slot.
func what(p *testbed.Proc) string {
	if i := strings.LastIndexByte(p.Name, '-'); i > 0 {
		return p.Name[:i]
	}
	return p.Name
}

// alive says that a process which must still run does.
func alive(p *testbed.Proc) error {
	if p.Ended() {
		return fmt.Errorf("%s ended with exit code %d; its log %s ends with:\n%s", p.Name, p.Exit(), p.LogPath, p.Tail())
	}
	return nil
}

// openWithAPI opens the scene and adds the API to the load.
func (s *scene) openWithAPI(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	s.api = newAPIFeed(s.load, s.up.Ready)
	return s.api.works(ctx)
}

func killUp(ctx context.Context, s *scene) error {
	s.want.MayDouble = true // the load's producer goes on over the kills
	if err := s.openWithAPI(ctx); err != nil {
		return err
	}
	s.startLoad(ctx)
	if err := s.flowing(ctx); err != nil {
		return err
	}
	early := 0
	for range s.n(5, 25) {
		if err := pass(ctx, s.between(0, 1500*time.Millisecond)); err != nil {
			return err
		}
		if err := s.strike(s.up.Proc); err != nil {
			return err
		}
		for s.rnd.IntN(3) == 0 { // again, while it starts
			up, err := s.bed.StartUp(s.o.Binary, s.upOptions())
			if err != nil {
				return err
			}
			if err := pass(ctx, s.between(20*time.Millisecond, 2*time.Second)); err != nil {
				return err
			}
			if err := s.strike(up.Proc); err != nil {
				return err
			}
			early++
		}
		s.begin(upAgain, "")
		if err := s.startUp(ctx); err != nil {
			return err
		}
		if err := s.back(ctx, slowest); err != nil {
			return err
		}
	}
	s.note("%d of the kills struck while it started", early)
	return s.settle(ctx)
}

func terminateUp(ctx context.Context, s *scene) error {
	s.want.MayDouble = true // a producer that is cut off retries, and so may double
	if err := s.openWithAPI(ctx); err != nil {
		return err
	}
	s.startLoad(ctx)
	if err := s.flowing(ctx); err != nil {
		return err
	}
	for range s.n(2, 8) {
		if err := pass(ctx, s.between(0, time.Second)); err != nil {
			return err
		}
		if err := alive(s.up.Proc); err != nil {
			return err
		}
		began := time.Now()
		tctx, cancel := context.WithTimeout(ctx, stopDeadline)
		code, err := s.up.Terminate(tctx)
		cancel()
		if err != nil {
			return fmt.Errorf("SIGTERM under load: %w", err)
		}
		if code != 0 {
			return fmt.Errorf("SIGTERM under load: exit code %d; its log ends with:\n%s", code, s.up.Tail())
		}
		s.timed("stopped", began)
		s.struck("SIGTERM of up")
		s.begin(upAgain, "")
		if err := s.startUp(ctx); err != nil {
			return err
		}
		if err := s.back(ctx, slowest); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// stopDeadline is how long `up` may take to stop: its own limit of 20 s, and a little.
const stopDeadline = 25 * time.Second

func killSeal(ctx context.Context, s *scene) error {
	p, err := s.openAlone(ctx, roleSeal)
	if err != nil {
		return err
	}
	open := 0
	for range s.n(8, s.long2(40, 130)) {
		if err := pass(ctx, s.between(0, 700*time.Millisecond)); err != nil {
			return err
		}
		if err := s.strike(p); err != nil {
			return err
		}
		is, err := s.openTransactions(ctx)
		if err != nil {
			return err
		}
		if is {
			open++
		}
		if err := s.killEarly(ctx, roleSeal, "a"); err != nil {
			return err
		}
		s.begin(restarted, roleSeal)
		if p, err = s.role(roleSeal, "a"); err != nil {
			return err
		}
		if err := s.back(ctx, slowest); err != nil {
			return err
		}
	}
	s.note("%d kills struck inside a transaction", open)
	return s.settle(ctx)
}

// killEarly kills a role while it starts: not at all, once, or a few times in a row.
func (s *scene) killEarly(ctx context.Context, role, slot string) error {
	for s.rnd.IntN(3) == 0 {
		p, err := s.role(role, slot)
		if err != nil {
			return err
		}
		if err := pass(ctx, s.between(10*time.Millisecond, 600*time.Millisecond)); err != nil {
			return err
		}
		if err := s.strike(p); err != nil {
			return err
		}
	}
	return nil
}

// members has a second member of a role join and leave, be killed, and take over.
func members(role, group string) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		if err := s.open(ctx, role); err != nil {
			return err
		}
		a, err := s.role(role, "a")
		if err != nil {
			return err
		}
		s.startLoad(ctx)
		if err := s.flowing(ctx); err != nil {
			return err
		}
		for range s.n(1, 3) {
			b, err := s.join(ctx, role, group, "b")
			if err != nil {
				return err
			}
			if err := s.leave(ctx, b); err != nil {
				return err
			}
			if b, err = s.join(ctx, role, group, "b"); err != nil {
				return err
			}
			if err := s.strike(a); err != nil {
				return err
			}
			s.begin(goneForGood, role)
			if err := s.back(ctx, slowest); err != nil {
				return fmt.Errorf("%s a was killed, b must take over: %w", role, err)
			}
			if a, err = s.join(ctx, role, group, "a"); err != nil {
				return err
			}
			if err := s.leave(ctx, b); err != nil {
				return err
			}
			if err := alive(a); err != nil {
				return err
			}
		}
		return s.settle(ctx)
	}
}

// join starts one more member and waits until it owns partitions, and then until all
// flows: until it owns some, the others may still do all the work.
func (s *scene) join(ctx context.Context, role, group, slot string) (*testbed.Proc, error) {
	began := time.Now()
	p, err := s.role(role, slot)
	if err != nil {
		return nil, err
	}
	if err := s.shared(ctx, group, slot); err != nil {
		return nil, errors.Join(err, alive(p))
	}
	s.begin(joined, role)
	s.timed("from its start until a new member owns partitions", began)
	s.struck("a " + role + " joins")
	return p, errors.Join(s.back(ctx, slowest), alive(p))
}

// leave stops a member with SIGTERM and waits until the others have its partitions.
func (s *scene) leave(ctx context.Context, p *testbed.Proc) error {
	tctx, cancel := context.WithTimeout(ctx, stopDeadline)
	defer cancel()
	code, err := p.Terminate(tctx)
	if err != nil {
		return err
	}
	s.begin(left, what(p)) // not before: until its end it drains
	if code != 0 {
		return fmt.Errorf("%s: SIGTERM, exit code %d; its log ends with:\n%s", p.Name, code, p.Tail())
	}
	s.struck("SIGTERM of " + what(p))
	if err := s.back(ctx, slowest); err != nil {
		return fmt.Errorf("%s has left, others must take over: %w", p.Name, err)
	}
	return nil
}

// session is the group session of our roles; a member that is not heard of for so long
// loses its partitions.
const session = 6 * time.Second

// sleeper freezes one of two members for longer than its session.
func sleeper(role, group string) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		pair, err := s.openPair(ctx, role, group)
		if err != nil {
			return err
		}
		for range s.n(1, 4) {
			sleeping := pair[s.rnd.IntN(2)]
			if err := pass(ctx, s.between(0, 500*time.Millisecond)); err != nil {
				return err
			}
			if err := s.sleepPast(ctx, sleeping); err != nil {
				return err
			}
			if err := s.wake(ctx, sleeping, group); err != nil {
				return err
			}
		}
		if err := s.twin(ctx, role, pair[0]); err != nil {
			return err
		}
		return s.settle(ctx)
	}
}

// twin puts a to sleep, starts another process under its identity, as whoever replaces
// a machine that does not answer, and then lets the sleeper wake up beside it. While both
// run they may take the partitions from each other, and must not harm the log. The first
// is then killed, as its replacer would see to.
func (s *scene) twin(ctx context.Context, role string, a *testbed.Proc) error {
	if err := alive(a); err != nil {
		return err
	}
	if err := freeze(ctx, a); err != nil {
		return err
	}
	s.begin(replaced, role)
	b, err := s.role(role, "a")
	if err != nil {
		return err
	}
	if err := s.back(ctx, slowest); err != nil {
		return fmt.Errorf("%s sleeps, another under its identity must take over: %w", a.Name, errors.Join(err, alive(b)))
	}
	s.struck("twin of a sleeping " + role)
	if err := a.Continue(); err != nil {
		return err
	}
	if err := pass(ctx, s.between(time.Second, 4*time.Second)); err != nil {
		return err
	}
	if err := errors.Join(a.Kill(), alive(b)); err != nil {
		return err
	}
	s.begin(replaced, role)
	if err := s.back(ctx, slowest); err != nil {
		return fmt.Errorf("the sleeper is dead, its twin must go on: %w", errors.Join(err, alive(b)))
	}
	return nil
}

// openPair opens the scene with two members of a role that share the partitions.
func (s *scene) openPair(ctx context.Context, role, group string) (pair [2]*testbed.Proc, err error) {
	if err := s.open(ctx, role); err != nil {
		return pair, err
	}
	for i, slot := range []string{"a", "b"} {
		if pair[i], err = s.role(role, slot); err != nil {
			return pair, err
		}
	}
	s.startLoad(ctx)
	if err := s.shared(ctx, group, "a", "b"); err != nil {
		return pair, errors.Join(err, alive(pair[0]), alive(pair[1]))
	}
	return pair, s.flowing(ctx)
}

// sleepPast freezes p until the others have taken over all it had, and at least until
// its session is over. That they have is what makes the sleeper a zombie.
func (s *scene) sleepPast(ctx context.Context, p *testbed.Proc) error {
	if err := alive(p); err != nil {
		return err
	}
	began := time.Now()
	if err := freeze(ctx, p); err != nil {
		return err
	}
	s.begin(goneForGood, what(p))
	if err := s.back(ctx, slowest); err != nil {
		return fmt.Errorf("%s sleeps, others must take over: %w", p.Name, err)
	}
	if err := pass(ctx, session+time.Second-time.Since(began)); err != nil {
		return err
	}
	s.struck("SIGSTOP of " + what(p) + " past its session")
	return nil
}

// freeze stops a process and waits until each of its threads has stopped: the signal
// alone lets what runs go on for a moment.
func freeze(ctx context.Context, p *testbed.Proc) error {
	if err := p.Stop(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := until(ctx, func() (bool, error) { return frozen(p.PID()) }); err != nil {
		return fmt.Errorf("%s got SIGSTOP and goes on: %w", p.Name, err)
	}
	return nil
}

// wake lets a sleeper go on: it must come to terms with having lost everything.
func (s *scene) wake(ctx context.Context, p *testbed.Proc, group string) error {
	if err := p.Continue(); err != nil {
		return err
	}
	if err := s.shared(ctx, group, "a", "b"); err != nil {
		return errors.Join(fmt.Errorf("%s woke up and must join again: %w", p.Name, err), alive(p))
	}
	s.begin(joined, what(p)) // not before: until it owns some, the other does all the work
	return errors.Join(s.back(ctx, slowest), alive(p))
}
