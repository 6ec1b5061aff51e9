package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealstream/sealstream/internal/verify"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// store is one job in memory, with the rules of a JobStore.
type store struct {
	mu       sync.Mutex
	job      sinks.VerificationClaim
	leased   bool
	cancel   bool
	plan     []byte
	parts    [][]byte
	findings []ledger.Finding
	why      string
	partErr  error         // of SavePart
	saved    chan struct{} // gets a value for each part, if not nil
}

func newStore(r sinks.VerificationRequest) *store {
	s := &store{}
	s.job.ID, s.job.State, s.job.Request = "job", sinks.VerificationQueued, r
	return s
}

func (s *store) Claim(context.Context, time.Duration) (*sinks.VerificationClaim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leased || s.job.State != sinks.VerificationQueued && s.job.State != sinks.VerificationRunning {
		return nil, nil
	}
	s.leased, s.job.State = true, sinks.VerificationRunning
	s.job.Fence++
	s.job.Idle++
	c := s.job
	return &c, nil
}

// own is called with the lock held.
func (s *store) own(c *sinks.VerificationClaim) error {
	if c.Fence != s.job.Fence || s.job.State != sinks.VerificationRunning {
		return sinks.ErrVerificationLost
	}
	return nil
}

func (s *store) Renew(_ context.Context, c *sinks.VerificationClaim, p sinks.VerificationProgress, _ time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.job.Progress = p
	return s.cancel, s.own(c)
}

func (s *store) Release(_ context.Context, c *sinks.VerificationClaim, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.own(c); err != nil {
		return err
	}
	s.leased, s.job.Idle, s.why = false, 0, why
	return nil
}

func (s *store) Finish(_ context.Context, c *sinks.VerificationClaim, end sinks.Verification) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.own(c); err != nil {
		return err
	}
	s.leased = false
	s.job.State, s.job.Progress, s.job.Report, s.job.Error = end.State, end.Progress, end.Report, end.Error
	return nil
}

func (s *store) Load(context.Context, *sinks.VerificationClaim) ([]byte, [][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan, slices.Clone(s.parts), nil
}

func (s *store) SavePlan(_ context.Context, c *sinks.VerificationClaim, plan []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = plan
	return s.own(c)
}

func (s *store) SavePart(_ context.Context, c *sinks.VerificationClaim, _ sinks.Partition, part []byte, fs []ledger.Finding) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.own(c), s.partErr); err != nil {
		return err
	}
	s.parts, s.findings, s.job.Idle = append(s.parts, part), append(s.findings, fs...), 0
	if s.saved != nil {
		s.saved <- struct{}{}
	}
	return nil
}

func (s *store) state() sinks.VerificationClaim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.job
}

// steal lets another process take the job, as after a lease that ran out.
func (s *store) steal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leased = false
}

// many is a log of several source topics, each as world makes it. A topic named in hang
// is read only once something comes from its channel.
type many struct {
	*log
	hang map[string]chan struct{}
}

func (m *many) Read(ctx context.Context, p verify.Partition, fn func([]ledger.Record) error) error {
	if wait := m.hang[p.Topic]; wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			m.mu.Lock()
			m.ended[p.Topic]++
			m.mu.Unlock()
			return ctx.Err()
		}
	}
	return m.log.Read(ctx, p, fn)
}

// place makes an installation of n sources with three events each; the second topic has an
// altered record, and a row is missing in it.
func place(t *testing.T, n int) (*many, *rows, []string) {
	t.Helper()
	m := &many{hang: map[string]chan struct{}{}}
	var all *rows
	var names []string
	for i := range n {
		l, r := worldOf(t, fmt.Sprintf("source-%d", i), 3)
		name := fmt.Sprintf("s%d", i)
		names = append(names, name)
		if m.log == nil {
			m.log, all = l, r
			m.topics[name+".sealed"] = l.topics[sealed]
			delete(m.topics, sealed)
			continue
		}
		recs := l.topics[sealed]
		for id, table := range r.table {
			if i == 1 {
				delete(table, 2)
			}
			all.table[id] = table
		}
		if i == 1 {
			recs[1].Value = []byte("other")
		}
		m.topics[name+".sealed"] = recs
	}
	return m, all, names
}

func open(l verify.Log, r verify.Rows, names []string) func(context.Context, sinks.VerificationRequest) (verify.Options, func(), error) {
	return func(context.Context, sinks.VerificationRequest) (verify.Options, func(), error) {
		return verify.Options{Sources: names, SealedName: func(s string) string { return s + ".sealed" }, RejectsTopic: rejects, SinkName: "pg", Log: l, Rows: r}, func() {}, nil
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within 10 s", what)
		case <-tick.C:
		}
	}
}

func start(t *testing.T, r *verify.Runner) (stop func()) {
	t.Helper()
	r.Log, r.Poll = slog.New(slog.DiscardHandler), time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// wholeRun is what the same engine says without a job around it.
func wholeRun(t *testing.T, m *many, r *rows, names []string) *verify.Report {
	t.Helper()
	o, _, _ := open(m, r, names)(t.Context(), sinks.VerificationRequest{})
	rep, err := verify.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// TestJobGoesOn cuts a job off behind each of its partitions in turn: what is done is
// not read again, and the verdicts are those of one run.
func TestJobGoesOn(t *testing.T) {
	const n = 4
	for cut := range n {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			m, r, names := place(t, n)
			want := wholeRun(t, m, r, names)
			clear(m.reads)
			at := fmt.Sprintf("s%d.sealed", cut)
			m.hang[at] = make(chan struct{})
			s := newStore(sinks.VerificationRequest{Rows: true})
			stop := start(t, &verify.Runner{Store: s, Open: open(m, r, names)})
			until(t, "partitions before the cut", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.parts) == cut && s.plan != nil })
			stop()
			if got := s.state(); got.State != sinks.VerificationRunning || s.leased {
				t.Fatalf("after the cut: %s, leased %v", got.State, s.leased)
			}
			// A ledger born meanwhile, in a partition that is done, is no stranger.
			r.table[ledger.ID{42}] = map[uint64]ledger.Hash{0: {}}
			close(m.hang[at])
			stop = start(t, &verify.Runner{Store: s, Open: open(m, r, names)})
			until(t, "end", func() bool { return s.state().State == sinks.VerificationDone })
			stop()
			for _, name := range names {
				if got := m.reads[name+".sealed"]; got != 1 {
					t.Errorf("%s was read %d times, want once", name, got)
				}
			}
			var rep verify.Report
			if err := json.Unmarshal(s.state().Report, &rep); err != nil {
				t.Fatal(err)
			}
			if rep.Result != want.Result || rep.FindingsTotal != want.FindingsTotal || rep.Records != want.Records || rep.Rows != want.Rows || len(rep.Ledgers) != len(want.Ledgers) || rep.FindingsTotal != 2 {
				t.Errorf("report %+v\nwant   %+v", rep, want)
			}
			got := slices.Clone(s.findings)
			for _, f := range want.Findings {
				i := slices.Index(got, f)
				if i < 0 {
					t.Fatalf("finding %v is not kept: %v", f, s.findings)
				}
				got = slices.Delete(got, i, i+1)
			}
			if p := s.state().Progress; len(got) != 0 || p.PartitionsDone != n || p.Partitions != n || p.Findings != 2 || p.Records != want.Records || p.Verdicts[ledger.Altered] != 1 {
				t.Errorf("too many findings %v, progress %+v", got, p)
			}
		})
	}
}

func TestJobThatWasTakenOverStops(t *testing.T) {
	m, r, names := place(t, 2)
	m.hang["s1.sealed"] = make(chan struct{})
	s := newStore(sinks.VerificationRequest{})
	stop := start(t, &verify.Runner{Store: s, Open: open(m, r, names), Lease: 5 * time.Millisecond})
	until(t, "first partition", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.parts) == 1 })
	s.steal()
	other, err := s.Claim(t.Context(), time.Minute)
	if err != nil || other == nil {
		t.Fatal(other, err)
	}
	// The first one hears of it, and leaves plan and parts alone.
	until(t, "the hanging read to end", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.ended["s1.sealed"] > 0 })
	stop()
	if s.leased != true || s.state().State != sinks.VerificationRunning || len(s.parts) != 1 {
		t.Errorf("leased %v, %s, %d parts", s.leased, s.state().State, len(s.parts))
	}
}

func TestJobIsCancelled(t *testing.T) {
	m, r, names := place(t, 2)
	m.hang["s1.sealed"] = make(chan struct{})
	s := newStore(sinks.VerificationRequest{})
	stop := start(t, &verify.Runner{Store: s, Open: open(m, r, names), Lease: 50 * time.Millisecond})
	until(t, "first partition", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.parts) == 1 })
	s.mu.Lock()
	s.cancel = true
	s.mu.Unlock()
	until(t, "cancelled", func() bool { return s.state().State == sinks.VerificationCancelled })
	stop()
	if p := s.state().Progress; p.PartitionsDone != 1 || s.state().Report != nil {
		t.Errorf("progress %+v, report %s", p, s.state().Report)
	}
}

// TestJobWaitsForWhatIsAway: an outage interrupts, and does not fail, a job.
func TestJobWaitsForWhatIsAway(t *testing.T) {
	m, r, names := place(t, 1)
	s := newStore(sinks.VerificationRequest{})
	s.partErr = errors.New("database gone")
	tries := 0
	stop := start(t, &verify.Runner{Store: s, Open: func(ctx context.Context, q sinks.VerificationRequest) (verify.Options, func(), error) {
		if tries++; tries < 4 {
			return verify.Options{}, nil, errors.New("brokers gone")
		}
		return open(m, r, names)(ctx, q)
	}})
	until(t, "what interrupts it is said", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.why == "keep what was found in s0.sealed/0: database gone"
	})
	s.mu.Lock()
	s.partErr = nil
	s.mu.Unlock()
	until(t, "end", func() bool { return s.state().State == sinks.VerificationDone })
	stop()
}

// TestJobThatKillsProcessesFails: each claim without a release is a process that died.
func TestJobThatKillsProcessesFails(t *testing.T) {
	m, r, names := place(t, 1)
	s := newStore(sinks.VerificationRequest{})
	for range 5 {
		if _, err := s.Claim(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		s.steal()
	}
	stop := start(t, &verify.Runner{Store: s, Open: open(m, r, names)})
	until(t, "failed", func() bool { return s.state().State == sinks.VerificationFailed })
	stop()
	if s.state().Error == "" || m.reads["s0.sealed"] != 0 {
		t.Errorf("error %q, %d reads", s.state().Error, m.reads["s0.sealed"])
	}
}

func TestJobOfAnotherFormatFails(t *testing.T) {
	m, r, names := place(t, 1)
	s := newStore(sinks.VerificationRequest{})
	s.plan, s.parts = []byte(`{}`), [][]byte{[]byte(`{"records": "many"}`)}
	stop := start(t, &verify.Runner{Store: s, Open: open(m, r, names)})
	until(t, "failed", func() bool { return s.state().State == sinks.VerificationFailed })
	stop()
}

// TestJobOverAnothersDatabaseFails: waiting does not mend it, so its author is told.
func TestJobOverAnothersDatabaseFails(t *testing.T) {
	m, _, _ := place(t, 1)
	s := newStore(sinks.VerificationRequest{})
	stop := start(t, &verify.Runner{Store: s, Open: func(context.Context, sinks.VerificationRequest) (verify.Options, func(), error) {
		return verify.Options{}, nil, fmt.Errorf("database x: %w: mend it", &sinks.OtherInstallation{Theirs: sinks.Origin{Cluster: "c1"}, Ours: sinks.Origin{Cluster: "c2"}})
	}})
	until(t, "failed", func() bool { return s.state().State == sinks.VerificationFailed })
	stop()
	if e := s.state().Error; !strings.Contains(e, "c1") || !strings.Contains(e, "c2") || !strings.Contains(e, "mend it") || m.reads["s0.sealed"] != 0 {
		t.Errorf("error %q", e)
	}
}

// TestSelection: which partitions are read, and what is said of the rest.
func TestSelection(t *testing.T) {
	m, r, names := place(t, 3)
	var second ledger.ID
	for _, l := range wholeRun(t, m, r, names).Ledgers {
		if l.Topic == "s1.sealed" {
			second = l.ID
		}
	}
	for _, c := range []struct {
		name   string
		change func(o *verify.Options)
		result verify.Result
		total  uint64
		topics int
	}{
		{"one partition", func(o *verify.Options) { o.Partitions = []sinks.Partition{{Topic: "s0"}} }, verify.ResultOK, 0, 1},
		{"the one with findings", func(o *verify.Options) { o.Partitions = []sinks.Partition{{Topic: "s1"}} }, verify.ResultFindings, 2, 1},
		{"a ledger that is not there", func(o *verify.Options) {
			o.Partitions, o.Ledgers = []sinks.Partition{{Topic: "s0"}}, []ledger.ID{second}
		}, verify.ResultIncomplete, 0, 1},
		{"none", func(o *verify.Options) { o.Partitions = []sinks.Partition{} }, verify.ResultOK, 0, 0},
		// The records are from millisecond 1 of 1970. A row that is missing does not show, a
		// record that was altered does: the chain is followed whatever the range.
		{"before the range", func(o *verify.Options) { o.From = time.UnixMilli(2) }, verify.ResultFindings, 1, 3},
		{"behind the range", func(o *verify.Options) { o.To = time.UnixMilli(1) }, verify.ResultFindings, 1, 3},
		{"in the range", func(o *verify.Options) { o.From, o.To = time.UnixMilli(1), time.UnixMilli(2) }, verify.ResultFindings, 2, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, _, _ := open(m, r, names)(t.Context(), sinks.VerificationRequest{})
			c.change(&o)
			rep, err := verify.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			topics := map[string]bool{}
			for _, l := range rep.Ledgers {
				topics[l.Topic] = true
			}
			if rep.Result != c.result || rep.FindingsTotal != c.total || len(topics) != c.topics || len(rep.NotChecked) < 4 {
				t.Errorf("%s, %d findings %v, topics %v, %q, %q", rep.Result, rep.FindingsTotal, rep.Findings, topics, rep.NotChecked, rep.Errors)
			}
		})
	}
}

// TestRate: 121 records at 100 a second, of which the first 100 come at once.
func TestRate(t *testing.T) {
	l, _ := world(t, 120)
	o := verify.Options{Sources: []string{source}, SealedName: func(s string) string { return s + ".sealed" }, Log: l, Rate: 100}
	began := time.Now()
	rep, err := verify.Run(t.Context(), o)
	if took := time.Since(began); err != nil || rep.Records != 121 || took < 150*time.Millisecond {
		t.Errorf("%d records in %v, %v, want 100 at once and the rest within 0.2 s", rep.Records, took, err)
	}
}
