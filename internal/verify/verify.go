// Package verify answers one question about an installation as it stands: is
// everything as it was sealed? It reads the sealed topics from beginning to a stable
// end, judges every statement, salt and link with [ledger.Verifier], and compares
// the rows of a sink with the ledger, one by one.
//
// It trusts no stage that wrote what it reads, keeps no state, and changes nothing.
// What it cannot check it says: without signed heads nobody can see a tail that was
// cut off from topic and table alike. It is used by `sealstream verify`.
package verify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

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
	rejected map[sinks.Partition]map[int64]bool
	stored   map[sinks.Partition]int64
	withRows []ledger.ID // listed before the topics were looked at: a ledger born later is no stranger

	mu    sync.Mutex
	rep   Report
	done  uint64
	total uint64
	seen  map[ledger.ID]bool
	held  []missing
}

// missing is a finding that a record set aside meanwhile would excuse.
type missing struct {
	part    sinks.Partition
	offset  int64
	finding ledger.Finding
}

// Run verifies. It returns an error only when nothing at all could be begun;
// whatever fails later makes the report incomplete.
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
	r := &run{o: o, seen: map[ledger.ID]bool{}, rejected: map[sinks.Partition]map[int64]bool{}}
	r.rep.Findings, r.rep.Ledgers = []ledger.Finding{}, []Ledger{}
	r.rep.NotChecked = []string{
		"rollback not checkable: no earlier head known",
		"split view not checkable: no signed heads",
	}
	ps, err := r.prepare(ctx)
	if err != nil {
		return nil, err
	}
	r.all(ctx, ps)
	r.excuse(ctx)
	r.strangers(ctx)
	return r.finish(), nil
}

// prepare takes the stored offsets before it looks how far the sealed topics reach:
// so everything below them is read, and everything without a row above them is lag.
func (r *run) prepare(ctx context.Context) ([]Partition, error) {
	if r.o.Rows != nil {
		ps, err := r.partitions(ctx)
		if err != nil {
			return nil, err
		}
		ids := make([]sinks.Partition, len(ps))
		for i, p := range ps {
			ids[i] = sinks.Partition{Topic: p.Topic, ID: p.ID}
		}
		if r.stored, err = r.o.Rows.Positions(ctx, ids); err != nil {
			return nil, fmt.Errorf("read stored offsets: %w", err)
		}
		if r.withRows, err = r.o.Rows.Ledgers(ctx); err != nil {
			return nil, fmt.Errorf("list ledgers that have rows: %w", err)
		}
		if err := r.readRejects(ctx); err != nil {
			return nil, err
		}
	}
	ps, err := r.partitions(ctx)
	for _, p := range ps {
		r.total += uint64(max(0, p.Stable-p.Start))
	}
	return ps, err
}

func (r *run) partitions(ctx context.Context) (ps []Partition, err error) {
	for _, src := range r.o.Sources {
		got, err := r.o.Log.Partitions(ctx, r.o.SealedName(src))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", r.o.SealedName(src), err)
		}
		ps = append(ps, got...)
	}
	return ps, nil
}

// excuse looks at the rejects again: what was missing may have been set aside after
// they were first read.
func (r *run) excuse(ctx context.Context) {
	if len(r.held) == 0 {
		return
	}
	if err := r.readRejects(ctx); err != nil {
		r.fail("%v", err)
	}
	for _, m := range r.held {
		if r.rejected[m.part][m.offset] {
			r.rep.Rejected++
			continue
		}
		r.report(m.finding)
	}
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

// all verifies the partitions, some at a time.
func (r *run) all(ctx context.Context, ps []Partition) {
	var wg sync.WaitGroup
	sem := make(chan struct{}, r.o.Workers)
	for _, p := range ps {
		wg.Add(1)
		sem <- struct{}{}
		go func() {
			defer func() { <-sem; wg.Done() }()
			if err := r.partition(ctx, p); err != nil {
				r.fail("%s/%d: %v", p.Topic, p.ID, err)
			}
		}()
	}
	wg.Wait()
}

// partition verifies one sealed partition and the rows of its ledgers.
func (r *run) partition(ctx context.Context, p Partition) error {
	v := ledger.NewVerifier(ledger.VerifierOptions{Topic: p.Topic, Partition: p.ID, Keys: r.o.Keys, Partial: p.Start > 0})
	c := &comparer{run: r, part: sinks.Partition{Topic: p.Topic, ID: p.ID}}
	defer c.abandon()
	err := r.o.Log.Read(ctx, p, func(recs []ledger.Record) error {
		for i := range recs {
			r.report(v.Next(&recs[i])...)
			if err := c.next(ctx, &recs[i]); err != nil {
				return err
			}
		}
		r.advance(len(recs))
		return ctx.Err()
	})
	r.report(v.Finish()...)
	for _, l := range v.Ledgers() {
		r.mu.Lock()
		r.seen[l.ID] = true
		r.rep.Ledgers = append(r.rep.Ledgers, Ledger{ID: l.ID, Topic: p.Topic, Partition: p.ID, Size: l.Size, Head: l.Head, Closed: l.Closed})
		r.mu.Unlock()
	}
	return errors.Join(err, c.finish())
}

// comparer walks one partition's ledgers through the rows.
type comparer struct {
	run  *run
	part sinks.Partition
	id   ledger.ID
	cur  Comparison
}

func (c *comparer) next(ctx context.Context, rec *ledger.Record) error {
	if c.run.o.Rows == nil {
		return nil
	}
	s, err := ledger.Open(rec)
	if err != nil {
		return nil // the ledger's own finding; its row, if any, will be EXTRA
	}
	if c.cur == nil || c.id != s.Statement.Ledger {
		if err := c.begin(ctx, s.Statement.Ledger); err != nil {
			return err
		}
	}
	fs, err := c.cur.Next(rec.Offset, &s)
	for _, f := range fs {
		if f.Verdict != ledger.Missing || f.Seq != s.Statement.Seq || !c.run.hold(missing{c.part, rec.Offset, f}) {
			c.run.report(f)
		}
	}
	return err
}

func (c *comparer) begin(ctx context.Context, id ledger.ID) (err error) {
	if err := c.finish(); err != nil {
		return err
	}
	rejected := c.run.rejected[c.part]
	c.cur, err = c.run.o.Rows.Compare(ctx, Comparing{Ledger: id, Partition: c.part, Stored: c.run.stored[c.part], Rejected: func(off int64) bool { return rejected[off] }})
	if err != nil {
		return fmt.Errorf("compare rows of ledger %s: %w", id, err)
	}
	c.id = id
	return nil
}

func (c *comparer) finish() error {
	if c.cur == nil {
		return nil
	}
	defer c.abandon()
	fs, n, err := c.cur.Finish()
	c.run.report(fs...)
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	c.run.rep.Rows += n.Rows
	c.run.rep.Lag += n.Lag
	c.run.rep.Rejected += n.Rejected
	return err
}

// abandon frees a comparison; one that an error left open has no more to say.
func (c *comparer) abandon() {
	if c.cur != nil {
		c.cur.Close()
		c.cur = nil
	}
}

// strangers reports the rows of ledgers that no sealed topic has.
func (r *run) strangers(ctx context.Context) {
	if r.o.Rows == nil {
		r.rep.NotChecked = append(r.rep.NotChecked, "rows not compared")
		return
	}
	for _, id := range r.withRows {
		if r.seen[id] {
			continue
		}
		c := &comparer{run: r}
		if err := c.begin(ctx, id); err != nil {
			r.fail("%v", err)
			continue
		}
		if err := c.finish(); err != nil {
			r.fail("compare rows of ledger %s: %v", id, err)
		}
	}
}

// hold keeps a finding until the rejects are read again, and says whether it did.
func (r *run) hold(m missing) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.held) >= r.o.MaxFindings {
		return false
	}
	r.held = append(r.held, m)
	return true
}

func (r *run) report(fs ...ledger.Finding) {
	if len(fs) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range fs {
		r.rep.FindingsTotal++
		if len(r.rep.Findings) < r.o.MaxFindings {
			r.rep.Findings = append(r.rep.Findings, f)
		}
	}
}

func (r *run) fail(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Errors = append(r.rep.Errors, fmt.Sprintf(format, args...))
}

func (r *run) advance(records int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Records += uint64(records)
	r.done += uint64(records)
	r.o.Progress(r.done, r.total)
}

func (r *run) finish() *Report {
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
