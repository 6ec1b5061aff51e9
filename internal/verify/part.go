package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// Plan is what a run reads, settled once at its beginning.
type Plan struct {
	Partitions []Planned   `json:"partitions"`
	WithRows   []ledger.ID `json:"with_rows"`
}

// Planned is a partition and how far its rows were stored.
type Planned struct {
	Partition
	Stored int64
}

// Records is how many offsets there are to read; transactions take some of them.
func (p *Plan) Records() (n uint64) {
	for _, q := range p.Partitions {
		n += uint64(max(0, q.Stable-q.Start))
	}
	return n
}

// Part is the outcome of one partition, or of the end of a run, which is no partition.
type Part struct {
	Topic    string                    `json:"topic"`
	ID       int32                     `json:"partition"`
	Records  uint64                    `json:"records"`
	Rows     uint64                    `json:"rows"`
	Lag      uint64                    `json:"lag"`
	Rejected uint64                    `json:"rejected"`
	Verdicts map[ledger.Verdict]uint64 `json:"verdicts"` // of all findings, kept or not
	Ledgers  []Ledger                  `json:"ledgers"`
	Held     []Held                    `json:"held,omitempty"`
	Kept     int                       `json:"kept"` // of the findings

	Findings []ledger.Finding `json:"-"` // a keeper keeps them by themselves
	Errors   []string         `json:"-"` // a part with errors is not kept
}

// endPart stands for the end of a run.
func endPart() sinks.Partition { return sinks.Partition{ID: -1} }

// Held is a finding that a record set aside meanwhile would excuse.
type Held struct {
	Offset  int64          `json:"offset"`
	Finding ledger.Finding `json:"finding"`
}

// Keeper remembers a run, so that one that was cut off goes on. It is called by several
// goroutines.
type Keeper interface {
	// Load returns what was kept; a nil plan when nothing was. The parts' findings need
	// not come back.
	Load(ctx context.Context) (*Plan, []Part, error)
	SavePlan(ctx context.Context, p Plan) error
	// SavePart keeps a part and its findings, both or none.
	SavePart(ctx context.Context, p Part) error
}

// forgetful keeps nothing.
type forgetful struct{}

func (forgetful) Load(context.Context) (*Plan, []Part, error) { return nil, nil, nil }
func (forgetful) SavePlan(context.Context, Plan) error        { return nil }
func (forgetful) SavePart(context.Context, Part) error        { return nil }

// tally collects one part. One goroutine uses it.
type tally struct {
	run  *run
	part Part
}

// report counts findings, and keeps as many as the whole run may.
func (t *tally) report(fs ...ledger.Finding) {
	if len(fs) == 0 {
		return
	}
	if t.part.Verdicts == nil {
		t.part.Verdicts = map[ledger.Verdict]uint64{}
	}
	t.run.mu.Lock()
	defer t.run.mu.Unlock()
	for _, f := range fs {
		t.part.Verdicts[f.Verdict]++
		if t.run.kept < t.run.o.MaxFindings {
			t.run.kept++
			t.part.Kept++
			t.part.Findings = append(t.part.Findings, f)
		}
	}
}

// hold keeps a finding until the rejects are read again, and says whether it did.
func (t *tally) hold(h Held) bool {
	t.run.mu.Lock()
	defer t.run.mu.Unlock()
	if t.run.wait >= t.run.o.MaxFindings {
		return false
	}
	t.run.wait++
	t.part.Held = append(t.part.Held, h)
	return true
}

func (t *tally) fail(format string, args ...any) {
	t.part.Errors = append(t.part.Errors, fmt.Sprintf(format, args...))
}

// partition verifies one sealed partition and the rows of its ledgers.
func (r *run) partition(ctx context.Context, p Planned) Part {
	t := &tally{run: r, part: Part{Topic: p.Topic, ID: p.Partition.ID}}
	v := ledger.NewVerifier(ledger.VerifierOptions{Topic: p.Topic, Partition: p.Partition.ID, Keys: r.o.Keys, Partial: p.Start > 0})
	c := &comparer{tally: t, at: p}
	defer c.abandon()
	err := r.o.Log.Read(ctx, p.Partition, func(recs []ledger.Record) error {
		for i := range recs {
			t.report(v.Next(&recs[i])...)
			if err := c.next(ctx, &recs[i]); err != nil {
				return err
			}
		}
		t.part.Records += uint64(len(recs))
		return r.advance(ctx, len(recs))
	})
	t.report(v.Finish()...)
	for _, l := range v.Ledgers() {
		t.part.Ledgers = append(t.part.Ledgers, Ledger{ID: l.ID, Topic: p.Topic, Partition: p.Partition.ID, Size: l.Size, Head: l.Head, Closed: l.Closed})
	}
	if err = errors.Join(err, c.finish()); err != nil {
		t.fail("%s/%d: %v", p.Topic, p.Partition.ID, err)
	}
	return t.part
}

// comparer walks one partition's ledgers through the rows.
type comparer struct {
	tally *tally
	at    Planned
	id    ledger.ID
	cur   Comparison
}

func (c *comparer) next(ctx context.Context, rec *ledger.Record) error {
	if c.tally.run.o.Rows == nil {
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
	if !c.tally.run.o.judges(s.Statement.TimeMs) {
		fs, err := c.cur.Pass(&s)
		c.tally.report(fs...)
		return err
	}
	fs, err := c.cur.Next(rec.Offset, &s)
	for _, f := range fs {
		if f.Verdict != ledger.Missing || f.Seq != s.Statement.Seq || !c.tally.hold(Held{rec.Offset, f}) {
			c.tally.report(f)
		}
	}
	return err
}

// judges says whether rows of records with this timestamp are compared. A record
// without a time of its own is in every range, so that it is in one.
func (o *Options) judges(ms int64) bool {
	if ms < 0 || ms == ledger.TimeOutOfRange {
		return true
	}
	t := time.UnixMilli(ms)
	return (o.From.IsZero() || !t.Before(o.From)) && (o.To.IsZero() || t.Before(o.To))
}

func (c *comparer) begin(ctx context.Context, id ledger.ID) (err error) {
	if err := c.finish(); err != nil {
		return err
	}
	r := c.tally.run
	part := sinks.Partition{Topic: c.at.Topic, ID: c.at.Partition.ID}
	rejected := r.rejected[part]
	c.cur, err = r.o.Rows.Compare(ctx, Comparing{Ledger: id, Partition: part, Stored: c.at.Stored, Rejected: func(off int64) bool { return rejected[off] }})
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
	c.tally.report(fs...)
	c.tally.part.Rows += n.Rows
	c.tally.part.Lag += n.Lag
	c.tally.part.Rejected += n.Rejected
	return err
}

// abandon frees a comparison; one that an error left open has no more to say.
func (c *comparer) abandon() {
	if c.cur != nil {
		c.cur.Close()
		c.cur = nil
	}
}
