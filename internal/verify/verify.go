// Package verify answers one question about an installation as it stands: is
// everything as it was sealed? It reads the sealed topics from beginning to a stable
// end, judges every statement, salt and link with [ledger.Verifier], and compares
// the rows of a sink with the ledger, one by one.
//
// It trusts no stage that wrote what it reads and changes nothing of it. What it cannot
// check it says: without signed heads nobody can see a tail that was cut off from topic
// and table alike.
//
// [Run] is the engine; `sealstream verify` is a call of it. [Runner] works off jobs that
// somebody asked for by the API, with the same engine: a [Keeper] remembers the plan and
// each partition that is done, so that a job whose process died goes on elsewhere. All
// state of a job is in its [JobStore].
package verify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// Partition is one partition to read: [Start, Stable).
type Partition struct {
	Topic         string
	TopicID       ledger.TopicID
	ID            int32
	Start, Stable int64
}

// Log reads partitions, committed records only.
type Log interface {
	// Partitions describes all partitions of a topic now.
	Partitions(ctx context.Context, topic string) ([]Partition, error)
	// Read calls fn with runs of records, in order. fn must not keep the slice.
	Read(ctx context.Context, p Partition, fn func([]ledger.Record) error) error
}

// Rows is a sink whose rows can be compared with the ledger.
type Rows interface {
	// Positions returns the stored offset of each partition.
	Positions(ctx context.Context, ps []sinks.Partition) (map[sinks.Partition]int64, error)
	// Compare takes a snapshot of the rows of one ledger; ctx lasts until its end.
	Compare(ctx context.Context, c Comparing) (Comparison, error)
	// Ledgers lists the ledgers that have rows.
	Ledgers(ctx context.Context) ([]ledger.ID, error)
}

// Comparing says what is compared.
type Comparing struct {
	Ledger    ledger.ID
	Partition sinks.Partition         // zero for a ledger that no topic has
	Stored    int64                   // records at or above it without a row are lag
	Rejected  func(offset int64) bool // whether the record at an offset was set aside
}

// A Comparison goes through one ledger in order of seq.
type Comparison interface {
	// Next compares the row of one record, and reports rows before it that have none.
	Next(offset int64, s *ledger.Sealed) ([]ledger.Finding, error)
	// Pass goes by a record whose row is not to be judged, and reports rows before it
	// that no record has.
	Pass(s *ledger.Sealed) ([]ledger.Finding, error)
	// Finish reports rows behind the last record, and closes.
	Finish() ([]ledger.Finding, Counts, error)
	Close()
}

// Counts are what a comparison saw beside its findings.
type Counts struct{ Rows, Lag, Rejected uint64 }

// Options say what is verified.
type Options struct {
	Sources      []string // source topics with prefix; their sealed topics are read
	SealedName   func(source string) string
	RejectsTopic string
	SinkName     string // whose rejects excuse a missing row
	Log          Log
	Rows         Rows            // nil: rows are not compared
	Keys         *ledger.Keyring // nil: salts are checked only against their commitment
	Workers      int             // partitions at a time; default 2
	MaxFindings  int             // kept in the report; default 10,000, the rest is counted
	Progress     func(done, total uint64)

	// Partitions, when not nil, are the source partitions to look at; else all are. Partial
	// says that Sources are not all there are. With either, a ledger that has rows and was
	// not met may be elsewhere.
	Partitions []sinks.Partition
	Partial    bool
	// Ledgers must be found in what is read, or the report is incomplete.
	Ledgers []ledger.ID
	// From and To limit the comparison of rows to records whose sealed timestamp lies in
	// [From, To); zero: no limit. Chains are followed whole whatever they say, because a
	// link is worth as much as the links before it.
	From, To time.Time
	Rate     int    // records a second at most; 0: as fast as possible
	Keeper   Keeper // nil: nothing is kept
}

// Result is the one word a script looks at.
type Result string

// The results. Incomplete means that something could not be read, so that its being
// clean is not known.
const (
	ResultOK         Result = "ok"
	ResultFindings   Result = "findings"
	ResultIncomplete Result = "incomplete"
)

// Report is the outcome. Its JSON form is part of what scripts rely on; fields are
// only ever added.
type Report struct {
	Result   Result           `json:"result"`
	Records  uint64           `json:"records"`
	Findings []ledger.Finding `json:"findings"`

	FindingsTotal uint64   `json:"findings_total"`
	Rows          uint64   `json:"rows"`
	Lag           uint64   `json:"lag"`
	Rejected      uint64   `json:"rejected"`
	Ledgers       []Ledger `json:"ledgers"`
	NotChecked    []string `json:"not_checked"`
	Errors        []string `json:"errors,omitempty"`

	Verdicts map[ledger.Verdict]uint64 `json:"verdicts"` // of all findings
}

// Ledger is what was read of one ledger.
type Ledger struct {
	ID        ledger.ID   `json:"id"`
	Topic     string      `json:"topic"`
	Partition int32       `json:"partition"`
	Size      uint64      `json:"size"`
	Head      ledger.Hash `json:"head"`
	Closed    bool        `json:"closed"`
}

// run is one verification under way.
type run struct {
	o        Options
	plan     Plan
	rejected map[sinks.Partition]map[int64]bool
	pace     *rate.Limiter // nil: none
	cut      context.CancelCauseFunc

	mu   sync.Mutex
	rep  Report
	done uint64
	seen map[ledger.ID]bool
	held map[sinks.Partition][]Held
	kept int // findings in the report
	wait int // findings held
}

// Run verifies. It returns an error when nothing at all could be begun, or when the
// keeper failed; whatever else fails later makes the report incomplete.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Workers <= 0 {
		o.Workers = 2
	}
	if o.MaxFindings <= 0 {
		o.MaxFindings = 10_000
	}
	if o.Progress == nil {
		o.Progress = func(uint64, uint64) {}
	}
	if o.Keeper == nil {
		o.Keeper = forgetful{}
	}
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	r := &run{o: o, cut: cut, seen: map[ledger.ID]bool{}, rejected: map[sinks.Partition]map[int64]bool{}, held: map[sinks.Partition][]Held{}}
	r.rep.Findings, r.rep.Ledgers, r.rep.Verdicts = []ledger.Finding{}, []Ledger{}, map[ledger.Verdict]uint64{}
	if o.Rate > 0 {
		r.pace = rate.NewLimiter(rate.Limit(o.Rate), o.Rate)
	}
	r.rep.NotChecked = r.notChecked()
	done, err := r.prepare(ctx)
	if err != nil {
		return nil, err
	}
	r.all(ctx, done)
	if !done[endPart()] {
		r.end(ctx)
	}
	// Without a keeper a run that was cut off still says what it has seen.
	if _, forgets := o.Keeper.(forgetful); ctx.Err() != nil && !forgets {
		return nil, context.Cause(ctx)
	}
	return r.finish(), nil
}

// notChecked is what no run, or this one, looks at.
func (r *run) notChecked() []string {
	out := []string{
		"rollback not checkable: no earlier head known",
		"split view not checkable: no signed heads",
	}
	if r.o.Keys == nil {
		out = append(out, "salts not derived again, only held against their commitments: no salt master is at hand")
	}
	switch {
	case r.o.Rows == nil:
		out = append(out, "rows not compared")
	default:
		if r.o.Partitions != nil || r.o.Partial {
			out = append(out, "rows of ledgers that no sealed topic has: not looked for, because not all partitions are read")
		}
		if !r.o.From.IsZero() || !r.o.To.IsZero() {
			out = append(out, "rows of records outside of the time range not compared")
		}
	}
	return out
}

// prepare makes the plan, or takes up the one that was kept, and says what is done.
func (r *run) prepare(ctx context.Context) (map[sinks.Partition]bool, error) {
	plan, parts, err := r.o.Keeper.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("read what was kept: %w", err)
	}
	if plan == nil {
		if plan, err = r.makePlan(ctx); err != nil {
			return nil, err
		}
		if err := r.o.Keeper.SavePlan(ctx, *plan); err != nil {
			return nil, fmt.Errorf("keep the plan: %w", err)
		}
	}
	r.plan = *plan
	done := map[sinks.Partition]bool{}
	for _, p := range parts {
		done[sinks.Partition{Topic: p.Topic, ID: p.ID}] = true
		r.done += p.Records
		r.kept += p.Kept
		r.wait += len(p.Held)
		r.merge(p)
	}
	r.o.Progress(r.done, r.plan.Records())
	if r.o.Rows != nil {
		return done, r.readRejects(ctx)
	}
	return done, nil
}

// makePlan takes the stored offsets before it looks how far the sealed topics reach:
// so everything below them is read, and everything without a row above them is lag. The
// ledgers that have rows are listed before too: one born later is no stranger.
func (r *run) makePlan(ctx context.Context) (*Plan, error) {
	var plan Plan
	stored := map[sinks.Partition]int64{}
	if r.o.Rows != nil {
		ps, err := r.partitions(ctx)
		if err != nil {
			return nil, err
		}
		ids := make([]sinks.Partition, len(ps))
		for i, p := range ps {
			ids[i] = sinks.Partition{Topic: p.Topic, ID: p.ID}
		}
		if stored, err = r.o.Rows.Positions(ctx, ids); err != nil {
			return nil, fmt.Errorf("read stored offsets: %w", err)
		}
		if plan.WithRows, err = r.o.Rows.Ledgers(ctx); err != nil {
			return nil, fmt.Errorf("list ledgers that have rows: %w", err)
		}
	}
	ps, err := r.partitions(ctx)
	for _, p := range ps {
		plan.Partitions = append(plan.Partitions, Planned{p, stored[sinks.Partition{Topic: p.Topic, ID: p.ID}]})
	}
	return &plan, err
}

func (r *run) partitions(ctx context.Context) (ps []Partition, err error) {
	for _, src := range r.o.Sources {
		got, err := r.o.Log.Partitions(ctx, r.o.SealedName(src))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", r.o.SealedName(src), err)
		}
		for _, p := range got {
			if r.o.Partitions == nil || slices.Contains(r.o.Partitions, sinks.Partition{Topic: src, ID: p.ID}) {
				ps = append(ps, p)
			}
		}
	}
	return ps, nil
}

// readRejects notes which records the sink set aside.
func (r *run) readRejects(ctx context.Context) error {
	ps, err := r.o.Log.Partitions(ctx, r.o.RejectsTopic)
	if err != nil {
		return fmt.Errorf("read %s: %w", r.o.RejectsTopic, err)
	}
	for _, p := range ps {
		err := r.o.Log.Read(ctx, p, func(recs []ledger.Record) error {
			for i := range recs {
				rej, err := sinks.ParseRejection(recs[i].Headers)
				if err != nil {
					r.fail("%s/%d@%d: %v", p.Topic, p.ID, recs[i].Offset, err)
					continue
				}
				if rej.Sink != r.o.SinkName {
					continue
				}
				m := r.rejected[rej.Partition]
				if m == nil {
					m = map[int64]bool{}
					r.rejected[rej.Partition] = m
				}
				m[rej.Record.Offset] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// all verifies the partitions that are not done, some at a time.
func (r *run) all(ctx context.Context, done map[sinks.Partition]bool) {
	var wg sync.WaitGroup
	sem := make(chan struct{}, r.o.Workers)
	for _, p := range r.plan.Partitions {
		if done[sinks.Partition{Topic: p.Topic, ID: p.Partition.ID}] {
			continue
		}
		sem <- struct{}{}
		if ctx.Err() != nil {
			<-sem
			r.fail("%s/%d: %v", p.Topic, p.Partition.ID, ctx.Err())
			continue
		}
		wg.Add(1)
		go func() {
			defer func() { <-sem; wg.Done() }()
			r.settle(ctx, r.partition(ctx, p))
		}()
	}
	wg.Wait()
}

// settle keeps a part that is whole, and counts it in either way. One with an error is
// not kept, so that a job that is taken up tries it again.
func (r *run) settle(ctx context.Context, p Part) {
	if len(p.Errors) == 0 && ctx.Err() == nil {
		if err := r.o.Keeper.SavePart(ctx, p); err != nil {
			r.cut(fmt.Errorf("keep what was found in %s/%d: %w", p.Topic, p.ID, err))
		}
	}
	r.merge(p)
}

// end looks at what only shows when all partitions are read: records that were set
// aside meanwhile, and rows of ledgers that no sealed topic has.
func (r *run) end(ctx context.Context) {
	at := endPart()
	t := &tally{run: r, part: Part{Topic: at.Topic, ID: at.ID}}
	r.excuse(ctx, t)
	r.strangers(ctx, t)
	if len(r.rep.Errors) > 0 {
		r.merge(t.part) // a partition is still to be read, and may hold findings to excuse
		return
	}
	r.settle(ctx, t.part)
}

// excuse looks at the rejects again: what was missing may have been set aside after
// they were first read.
func (r *run) excuse(ctx context.Context, t *tally) {
	if len(r.held) == 0 {
		return
	}
	if err := r.readRejects(ctx); err != nil {
		t.fail("%v", err)
	}
	for part, all := range r.held {
		for _, m := range all {
			if r.rejected[part][m.Offset] {
				t.part.Rejected++
				continue
			}
			t.report(m.Finding)
		}
	}
}

// strangers reports the rows of ledgers that no sealed topic has.
func (r *run) strangers(ctx context.Context, t *tally) {
	if r.o.Rows == nil || r.o.Partitions != nil || r.o.Partial {
		return
	}
	for _, id := range r.plan.WithRows {
		if r.seen[id] {
			continue
		}
		c := &comparer{tally: t}
		if err := c.begin(ctx, id); err != nil {
			t.fail("%v", err)
			continue
		}
		if err := c.finish(); err != nil {
			t.fail("compare rows of ledger %s: %v", id, err)
		}
	}
}

// merge counts a part into the report.
func (r *run) merge(p Part) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Records += p.Records
	r.rep.Rows += p.Rows
	r.rep.Lag += p.Lag
	r.rep.Rejected += p.Rejected
	r.rep.Ledgers = append(r.rep.Ledgers, p.Ledgers...)
	r.rep.Findings = append(r.rep.Findings, p.Findings...)
	r.rep.Errors = append(r.rep.Errors, p.Errors...)
	for v, n := range p.Verdicts {
		r.rep.Verdicts[v] += n
		r.rep.FindingsTotal += n
	}
	for _, l := range p.Ledgers {
		r.seen[l.ID] = true
	}
	if len(p.Held) > 0 {
		r.held[sinks.Partition{Topic: p.Topic, ID: p.ID}] = p.Held
	}
}

func (r *run) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Errors = append(r.rep.Errors, fmt.Sprintf(format, args...))
}

// advance counts records as they are read, and waits where they come too fast.
func (r *run) advance(ctx context.Context, records int) error {
	r.mu.Lock()
	r.done += uint64(records)
	r.o.Progress(r.done, r.plan.Records())
	r.mu.Unlock()
	for records > 0 && r.pace != nil {
		n := min(records, r.pace.Burst())
		if err := r.pace.WaitN(ctx, n); err != nil {
			return err
		}
		records -= n
	}
	return ctx.Err()
}

func (r *run) finish() *Report {
	for _, id := range r.o.Ledgers {
		if !r.seen[id] {
			r.fail("ledger %s was asked for, and no partition that was read has it", id)
		}
	}
	slices.SortFunc(r.rep.Findings, func(a, b ledger.Finding) int {
		return cmp.Or(bytes.Compare(a.Ledger[:], b.Ledger[:]), cmp.Compare(a.Seq, b.Seq))
	})
	slices.SortFunc(r.rep.Ledgers, func(a, b Ledger) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	switch {
	case r.rep.FindingsTotal > 0:
		r.rep.Result = ResultFindings
	case len(r.rep.Errors) > 0:
		r.rep.Result = ResultIncomplete
	default:
		r.rep.Result = ResultOK
	}
	return &r.rep
}
