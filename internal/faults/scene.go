package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// scene is one case at work: an installation of its own, the load on it, the watch
// over it, and what is to be reported.
type scene struct {
	o    *Options
	name string
	long bool
	rnd  *rand.Rand
	bed  *testbed.Bed
	out  io.Writer

	place  place           // where broker, registry and database are
	kafka  *testbed.Kafka  // a cluster that may be broken; nil on others
	given  *testbed.Given  // the installation on it
	via    detour          // what stands before the servers
	base   []*testbed.Proc // the roles that the case does not run itself
	where  []string        // arguments by which commands find them
	prefix string          // of topics, groups and slots
	data   string
	upArgs []string // more arguments of `up`
	roles  []string // what `up` leaves to processes of their own
	up     *testbed.Up

	load  *load
	feed  *feed
	api   *apiFeed
	watch *watch
	coll  *collector

	feeding   sync.WaitGroup
	stopFeeds context.CancelFunc

	want Expected
	kind takeover // what the next recovery is from
	hit  string   // and whose end
	res  Result
}

// place is where the servers are.
type place struct {
	kafka    []string
	registry string
	postgres string // superuser URL
}

// topics are fed by the load. ledger.control gets what the API writes.
func (s *scene) topics() []string {
	return []string{s.prefix + schemas.TopicAudit, s.prefix + schemas.TopicDomain}
}

// alone says whether a role runs in processes that the case starts.
func (s *scene) alone(role string) bool { return slices.Contains(s.roles, role) }

// rate is the load in events a second: enough that every transaction and every batch
// holds something, and little enough for two cores shared with others.
const rate = 1200

func (s *scene) logf(format string, args ...any) {
	fmt.Fprintf(s.out, "%s %s: %s\n", time.Now().Format("15:04:05.000"), s.name, fmt.Sprintf(format, args...))
}

// n picks the number of rounds by the form.
func (s *scene) n(short, long int) int {
	if s.long {
		return long
	}
	return short
}

// long2 is the number of rounds of a long form on real Kafka, where the most is asked.
func (s *scene) long2(embedded, real int) int {
	if s.o.Real {
		return real
	}
	return embedded
}

// between is a random duration.
func (s *scene) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.rnd.Int64N(int64(to-from)+1))
}

// struck counts a fault that took effect, by what it is.
func (s *scene) struck(what string) {
	s.res.Fired++
	s.res.Faults = append(s.res.Faults, what)
}

// note adds a detail to the report.
func (s *scene) note(format string, args ...any) {
	s.res.Notes = append(s.res.Notes, fmt.Sprintf(format, args...))
}

// timed adds a measurement to the report.
func (s *scene) timed(what string, since time.Time) {
	s.res.Times = append(s.res.Times, Timing{what, time.Since(since)})
}

// open starts an installation, without the given roles in `up`, and the watch on it.
func (s *scene) open(ctx context.Context, without ...string) error {
	s.roles = without
	start := s.startPlace
	if len(s.o.Kafka) > 0 || s.kafka != nil {
		start = s.startGiven
	}
	if err := start(ctx); err != nil {
		return err
	}
	return s.observe(ctx)
}

// startPlace makes the data directory and starts `up` in it.
func (s *scene) startPlace(ctx context.Context) error {
	var err error
	if s.data, err = s.bed.MakeDir("data"); err != nil {
		return err
	}
	s.where = []string{"--data", s.data}
	if err := s.startUp(ctx); err != nil {
		return err
	}
	s.place = place{kafka: s.up.Ready.Kafka, registry: s.up.Ready.Registry, postgres: s.up.Ready.Postgres}
	return nil
}

func (s *scene) upOptions() testbed.UpOptions {
	return testbed.UpOptions{Data: s.data, Without: s.roles, Args: s.upArgs}
}

// startUp starts `up` on the scene's data directory, for the first time or again.
func (s *scene) startUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	up, err := s.bed.Up(ctx, s.o.Binary, s.upOptions())
	if err != nil {
		return err
	}
	s.up = up
	s.res.Starts = append(s.res.Starts, up.Took)
	if s.api != nil {
		s.api.moved(up.Ready)
	}
	return nil
}

// observe begins to look at the installation.
func (s *scene) observe(ctx context.Context) error {
	s.load = &load{run: s.rnd.Uint32()}
	opts := []kgo.Opt{kgo.SeedBrokers(s.place.kafka...), kgo.ClientID("faults")}
	s.coll = &collector{kafka: opts, postgres: s.place.postgres, rejects: s.prefix + schemas.TopicRejects}
	for _, src := range schemas.DefaultSources() {
		s.coll.sources = append(s.coll.sources, s.prefix+src.Name)
	}
	schema, err := register(ctx, s.place.registry, schemas.AuditSchema())
	if err != nil {
		return err
	}
	s.load.avro.Store(schema)
	if s.watch, err = newWatch(ctx, s.load, s.coll); err != nil {
		return err
	}
	if s.via.kafka != nil {
		opts = []kgo.Opt{kgo.SeedBrokers(s.via.kafka...), kgo.ClientID("faults-load")}
	}
	s.feed, err = newFeed(s.load, opts)
	return err
}

// role starts a role in a process of its own.
func (s *scene) role(role, slot string) (*testbed.Proc, error) {
	return s.bed.Start(role+"-"+slot, s.o.Binary, append([]string{"run", role, "--slot", slot}, s.where...)...)
}

// openAlone opens the scene with a role in a process of its own, and lets the load flow.
func (s *scene) openAlone(ctx context.Context, role string) (*testbed.Proc, error) {
	if err := s.open(ctx, role); err != nil {
		return nil, err
	}
	p, err := s.role(role, "a")
	if err != nil {
		return nil, err
	}
	s.startLoad(ctx)
	return p, s.flowing(ctx)
}

// startLoad feeds events until the load is stopped.
func (s *scene) startLoad(ctx context.Context) {
	lctx, stop := context.WithCancel(ctx)
	s.stopFeeds = stop
	s.feeding.Go(func() { s.feed.run(lctx, rate, s.topics()...) })
	if s.api != nil {
		s.feeding.Go(func() { s.api.post(lctx) })
		s.feeding.Go(func() { s.api.read(lctx) })
	}
}

// stopLoad ends the load and waits for what is under way.
func (s *scene) stopLoad() {
	if s.stopFeeds != nil {
		s.stopFeeds()
	}
	s.feeding.Wait()
}

// flowing waits until the load has been acknowledged, sealed and stored anew in every
// partition: only then does a fault strike something that works.
func (s *scene) flowing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	s.watch.begin()
	_, err := s.watch.recovered(ctx, s.topics())
	return err
}

// back waits until everything flows again after the mark that was set at the fault,
// and keeps how long that took.
func (s *scene) back(ctx context.Context, within time.Duration) error {
	if s.kind == "" {
		return errors.New("the case waits for a take-over and has not begun one")
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r, err := s.watch.recovered(ctx, s.topics())
	if err != nil {
		return err
	}
	r.Kind, r.Role = s.kind, s.hit
	s.kind, s.hit = "", ""
	s.res.Recoveries = append(s.res.Recoveries, r)
	s.logf("back: sealed after %v (all partitions %v), stored after %v (%v)", ms(r.Sealed), ms(r.SealedAll), ms(r.Stored), ms(r.StoredAll))
	return nil
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// settle ends the load, waits until every stage has caught up, and has the oracle and
// `sealstream verify` judge.
func (s *scene) settle(ctx context.Context) error {
	s.stopLoad()
	fctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	if err := s.feed.close(fctx); err != nil {
		return err
	}
	s.feed = nil
	if err := s.watch.drained(fctx); err != nil {
		return err
	}
	if err := s.watch.sight(fctx); err != nil {
		return fmt.Errorf("last look: %w", err)
	}
	if err := s.watch.broken(); err != nil {
		return err
	}
	e, err := s.coll.collect(ctx)
	if err != nil {
		return err
	}
	e.Acked, e.Answered, e.Sightings = s.load.acks, s.load.reads, s.watch.sightings
	v := Judge(e)
	s.res.Verdict = v
	if s.load.failed > 0 {
		s.note("%d events were never acknowledged", s.load.failed)
	}
	for _, d := range v.Doubles() {
		s.logf("doubled by the producer's retry: %s", d)
	}
	var errs []error
	for _, f := range v.Faults(s.want) {
		errs = append(errs, errors.New(f))
	}
	return errors.Join(append(errs, s.verify(ctx, v))...)
}

// autopsy judges what is there after a case has failed before it could settle. What is
// only late is no charge then.
func (s *scene) autopsy() error {
	if s.watch == nil {
		return nil
	}
	s.stopLoad()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	e, err := s.coll.collect(ctx)
	if err != nil {
		return fmt.Errorf("nothing can be judged: %w", err)
	}
	s.load.mu.Lock()
	e.Acked = slices.Clone(s.load.acks)
	s.load.mu.Unlock()
	s.watch.mu.Lock()
	e.Sightings = slices.Clone(s.watch.sightings)
	s.watch.mu.Unlock()
	v := Judge(e)
	s.res.Verdict = v
	for _, late := range []Charge{Unsealed, NotStored, Rejected} {
		delete(v.Counts, late)
	}
	var errs []error
	for _, f := range v.Faults(Expected{MayDouble: s.want.MayDouble, Reason: s.want.Reason, Constraint: s.want.Constraint}) {
		errs = append(errs, fmt.Errorf("found afterwards: %s", f))
	}
	return errors.Join(errs...)
}

// verify runs `sealstream verify`, which must agree with the oracle.
func (s *scene) verify(ctx context.Context, v *Verdict) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	r, err := s.bed.Run(ctx, s.o.Binary, append([]string{"verify", "--json"}, s.where...)...)
	if err != nil {
		return err
	}
	var rep struct {
		Result   string            `json:"result"`
		Records  int               `json:"records"`
		Rejected int               `json:"rejected"`
		Findings []json.RawMessage `json:"findings"`
	}
	if err := json.Unmarshal([]byte(r.Stdout), &rep); err != nil {
		return fmt.Errorf("verify: exit code %d, and its answer cannot be read: %w\n%s%s", r.Exit, err, r.Stdout, r.Stderr)
	}
	switch {
	case rep.Result != "ok" || r.Exit != 0 || len(rep.Findings) > 0:
		return fmt.Errorf("verify: result %s, exit code %d, findings %s\n%s", rep.Result, r.Exit, rep.Findings, r.Stderr)
	case rep.Records < v.Sealed:
		return fmt.Errorf("verify: saw %d records, the oracle %d sealed events", rep.Records, v.Sealed)
	case rep.Rejected != v.Counts[Rejected]:
		return fmt.Errorf("verify: counts %d rejected records, the oracle %d", rep.Rejected, v.Counts[Rejected])
	}
	return nil
}

// close ends everything of the scene; the logs stay when it failed.
func (s *scene) close(keep bool) error {
	s.stopLoad()
	if s.feed != nil {
		s.feed.cl.Close()
	}
	if s.watch != nil {
		s.watch.close()
	}
	return s.bed.Close(keep)
}

// sql runs statements in the installation's database as the superuser.
func (s *scene) sql(ctx context.Context, statements ...string) error {
	conn, err := pgx.Connect(ctx, s.place.postgres)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, q := range statements {
		if _, err := conn.Exec(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", strings.Fields(q)[0], err)
		}
	}
	return nil
}
