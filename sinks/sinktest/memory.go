package sinktest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// Row is a stored record as a test reads it back.
type Row struct {
	Ledger    ledger.ID
	Seq       uint64
	Partition sinks.Partition
	Offset    int64
	Statement string // bytes; strings compare fast
	Salt      string // empty when unsalted
	Frame     string
}

// RowOf is the row that must be stored for r.
func RowOf(p sinks.Partition, r *sinks.Record) Row {
	row := Row{Ledger: r.Statement.Ledger, Seq: r.Statement.Seq, Partition: p, Offset: r.Offset,
		Statement: string(r.Raw[:]), Frame: string(ledger.AppendFrame(nil, &r.Source))}
	if r.Statement.SaltKey != 0 {
		row.Salt = string(r.Salt[:])
	}
	return row
}

// Ref names a record.
type Ref struct {
	Ledger ledger.ID
	Seq    uint64
}

// RefOf names r.
func RefOf(r *sinks.Record) Ref { return Ref{r.Statement.Ledger, r.Statement.Seq} }

// Fault is what happens to one call of Write instead of what should.
type Fault struct {
	Err   error // the answer; nil: hang until the call's context ends
	Apply bool  // the batches are stored all the same
}

// Memory is a destination in memory. It is spiteful: misuse fails the test, and it
// does on command whatever a real one does on a bad day.
type Memory struct {
	t testing.TB

	mu      sync.Mutex
	rows    []Row
	taken   map[Ref]bool
	at      map[sinks.Partition]int64
	bound   map[string]bound
	busy    map[underWay]bool
	faults  []Fault
	down    error
	refused map[Ref]bool
	denied  bool // refuse to store offsets without rows too
	writes  int
	probes  int
	mustAsk bool // the next call must be a Probe
}

// bound is what a topic's offsets are about.
type bound struct {
	from sinks.Origin
	id   ledger.TopicID
}

// underWay is a write that runs. One handle never has two of one partition.
type underWay struct {
	handle    any
	partition sinks.Partition
}

// NewMemory returns an empty destination that is well.
func NewMemory(t testing.TB) *Memory {
	return &Memory{t: t, taken: map[Ref]bool{}, at: map[sinks.Partition]int64{}, bound: map[string]bound{}, busy: map[underWay]bool{}, refused: map[Ref]bool{}}
}

var _ sinks.Sink = (*Memory)(nil)

// Fail plans what happens to the next calls of Write, one fault each.
func (m *Memory) Fail(fs ...Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, fs...)
}

// Unfired is how many planned faults have not happened: a test that ends with some
// tested less than it says.
func (m *Memory) Unfired() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.faults)
}

// Down makes every call fail with err until it is called with nil.
func (m *Memory) Down(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

// Refuse makes these records poison.
func (m *Memory) Refuse(refs ...Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range refs {
		m.refused[r] = true
	}
}

// Deny makes every write a *sinks.Rejected, those without records too.
func (m *Memory) Deny(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.denied = on
}

// AskFirst makes a Write before the next Probe a mistake.
func (m *Memory) AskFirst() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mustAsk = true
}

// Calls returns how often Write and Probe were called.
func (m *Memory) Calls() (writes, probes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes, m.probes
}

// Rows returns everything stored, in order of arrival.
func (m *Memory) Rows() []Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Row(nil), m.rows...)
}

// At returns a stored offset.
func (m *Memory) At(p sinks.Partition) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[p]
}

// Move sets a stored offset, as another owner would.
func (m *Memory) Move(p sinks.Partition, to int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at[p] = to
}

// Probe implements sinks.Sink.
func (m *Memory) Probe(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.probes++
	m.mustAsk = false
	return errors.Join(m.down, ctx.Err())
}

// Bind implements sinks.Sink.
func (m *Memory) Bind(_ context.Context, from sinks.Origin, topics map[string]ledger.TopicID) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	refused := map[string]string{}
	for _, was := range m.bound {
		if was.from == from {
			continue
		}
		for name := range topics {
			refused[name] = "everything here is of another installation"
		}
		return refused, nil
	}
	for name, id := range topics {
		now := bound{from, id}
		if was, ok := m.bound[name]; ok && was != now {
			refused[name] = "the offsets are of another topic"
			continue
		}
		m.bound[name] = now
	}
	return refused, nil
}

// Positions implements sinks.Sink.
func (m *Memory) Positions(ctx context.Context, ps []sinks.Partition) (map[sinks.Partition]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	at := map[sinks.Partition]int64{}
	for _, p := range ps {
		at[p] = m.at[p]
	}
	return at, nil
}

// Write implements sinks.Sink.
func (m *Memory) Write(ctx context.Context, batches []sinks.Batch) error {
	return m.write(ctx, m, batches)
}

// handle is another process's way to the same destination.
type handle struct{ *Memory }

func (h *handle) Write(ctx context.Context, batches []sinks.Batch) error {
	return h.write(ctx, h, batches)
}

// Handle returns a sink of its own that stores in the same destination, as a second
// process has it: a zombie, or the next owner.
func (m *Memory) Handle() sinks.Sink { return &handle{m} }

func (m *Memory) write(ctx context.Context, h any, batches []sinks.Batch) error {
	if err := sinks.Check(batches); err != nil {
		m.t.Errorf("misuse of a sink: %v", err)
		return err
	}
	fault, err := m.begin(h, batches)
	defer m.end(h, batches)
	switch {
	case err != nil:
		return err
	case fault != nil && fault.Err == nil:
		if fault.Apply {
			m.must(m.apply(batches))
		}
		<-ctx.Done()
		return ctx.Err()
	case fault != nil && fault.Apply:
		if err := m.apply(batches); err != nil {
			return err // what would have been refused is refused
		}
		return fault.Err
	case fault != nil:
		return fault.Err
	}
	return m.apply(batches)
}

func (m *Memory) must(err error) {
	if err != nil {
		m.t.Errorf("a planned fault met a write that cannot be stored: %v", err)
	}
}

// begin checks the call and takes the next fault.
func (m *Memory) begin(h any, batches []sinks.Batch) (*Fault, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if m.mustAsk {
		m.t.Errorf("misuse of a sink: write number %d comes before a probe", m.writes)
	}
	for _, b := range batches {
		if m.busy[underWay{h, b.Partition}] {
			m.t.Errorf("misuse of a sink: two writes of partition %s at one time", b.Partition)
		}
		m.busy[underWay{h, b.Partition}] = true
	}
	if m.down != nil {
		return nil, m.down
	}
	if len(m.faults) == 0 {
		return nil, nil
	}
	f := m.faults[0]
	m.faults = m.faults[1:]
	return &f, nil
}

func (m *Memory) end(h any, batches []sinks.Batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range batches {
		delete(m.busy, underWay{h, b.Partition})
	}
}

// apply stores all batches or none.
func (m *Memory) apply(batches []sinks.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range batches {
		if m.at[b.Partition] != b.From {
			return sinks.ErrMoved
		}
	}
	if m.denied {
		return &sinks.Rejected{Code: "denied", Reason: "test", Detail: "everything is refused"}
	}
	for _, b := range batches {
		for i := range b.Records {
			switch ref := RefOf(&b.Records[i]); {
			case m.refused[ref]:
				return &sinks.Rejected{Code: "poison", Reason: "test", Detail: "refused by the test"}
			case m.taken[ref]:
				m.t.Errorf("record %v was stored before: the stored offset was wrong", ref)
				return &sinks.Rejected{Code: "taken", Reason: sinks.ReasonConflict, Detail: "stored before"}
			}
		}
	}
	for _, b := range batches {
		for i := range b.Records {
			m.rows = append(m.rows, RowOf(b.Partition, &b.Records[i]))
			m.taken[RefOf(&b.Records[i])] = true
		}
		m.at[b.Partition] = b.Next
	}
	return nil
}
