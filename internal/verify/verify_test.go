package verify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealstream/sealstream/internal/verify"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

const (
	source  = "audit.events"
	sealed  = "audit.events.sealed"
	rejects = "rejects"
)

// log is topics in memory. later replaces a topic's records at its second read.
type log struct {
	topics map[string][]ledger.Record
	later  map[string][]ledger.Record
	broken string // topic whose reads fail

	mu    sync.Mutex
	reads map[string]int // that went through
	ended map[string]int // by the context
}

func (l *log) Partitions(_ context.Context, topic string) ([]verify.Partition, error) {
	return []verify.Partition{{Topic: topic, Start: 0, Stable: int64(len(l.topics[topic])) + 1}}, nil
}

func (l *log) Read(_ context.Context, p verify.Partition, fn func([]ledger.Record) error) error {
	if p.Topic == l.broken {
		return errors.New("broker gone")
	}
	l.mu.Lock()
	l.reads[p.Topic]++
	nth := l.reads[p.Topic]
	l.mu.Unlock()
	recs := l.topics[p.Topic]
	if again, ok := l.later[p.Topic]; ok && nth > 1 {
		recs = again
	}
	for run := range slices.Chunk(recs, 3) {
		if err := fn(run); err != nil {
			return err
		}
	}
	return nil
}

// rows is a table in memory: leaf hashes by ledger and seq.
type rows struct {
	table  map[ledger.ID]map[uint64]ledger.Hash
	stored int64
	open   atomic.Int32
}

func (r *rows) Positions(_ context.Context, ps []sinks.Partition) (map[sinks.Partition]int64, error) {
	out := map[sinks.Partition]int64{}
	for _, p := range ps {
		out[p] = r.stored
	}
	return out, nil
}

func (r *rows) Ledgers(context.Context) ([]ledger.ID, error) {
	var out []ledger.ID
	for id := range r.table {
		out = append(out, id)
	}
	return out, nil
}

func (r *rows) Compare(_ context.Context, c verify.Comparing) (verify.Comparison, error) {
	r.open.Add(1)
	left := map[uint64]ledger.Hash{}
	for seq, h := range r.table[c.Ledger] {
		left[seq] = h
	}
	return &comparison{r: r, c: c, left: left}, nil
}

type comparison struct {
	r    *rows
	c    verify.Comparing
	left map[uint64]ledger.Hash
	n    verify.Counts
}

func (c *comparison) find(v ledger.Verdict, seq uint64) ledger.Finding {
	return ledger.Finding{Verdict: v, Ledger: c.c.Ledger, Seq: seq, Where: "rows"}
}

func (c *comparison) Next(offset int64, s *ledger.Sealed) ([]ledger.Finding, error) {
	h, ok := c.left[s.Statement.Seq]
	delete(c.left, s.Statement.Seq)
	switch {
	case ok && h == s.Leaf():
		c.n.Rows++
	case ok:
		return []ledger.Finding{c.find(ledger.Altered, s.Statement.Seq)}, nil
	case offset >= c.c.Stored:
		c.n.Lag++
	case c.c.Rejected(offset):
		c.n.Rejected++
	default:
		return []ledger.Finding{c.find(ledger.Missing, s.Statement.Seq)}, nil
	}
	return nil, nil
}

func (c *comparison) Pass(s *ledger.Sealed) ([]ledger.Finding, error) {
	if _, ok := c.left[s.Statement.Seq]; ok {
		c.n.Rows++
	}
	delete(c.left, s.Statement.Seq)
	return nil, nil
}

func (c *comparison) Finish() (fs []ledger.Finding, n verify.Counts, err error) {
	for seq := range c.left {
		fs = append(fs, c.find(ledger.Extra, seq))
	}
	return fs, c.n, nil
}

func (c *comparison) Close() { c.r.open.Add(-1) }

// world is a sealed partition of n events with a row for each.
func world(t *testing.T, n int) (*log, *rows) {
	t.Helper()
	return worldOf(t, source, n)
}

func worldOf(t *testing.T, source string, n int) (*log, *rows) {
	t.Helper()
	keys, err := ledger.NewKeyring(map[uint32][]byte{1: make([]byte, 32)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	chain, genesis, err := ledger.Start(ledger.Genesis{Name: "a.example/log", Cluster: "c", Source: source, SourceID: ledger.TopicID{1}}, keys)
	if err != nil {
		t.Fatal(err)
	}
	recs := []ledger.Record{genesis}
	for i := range n {
		src := ledger.Record{Value: fmt.Appendf(nil, "v%d", i), Offset: int64(i), TimeMs: 1}
		seal, _, err := chain.Append(&src, nil)
		if err != nil {
			t.Fatal(err)
		}
		src.Headers = []ledger.Header{{Name: ledger.SealHeader, Value: seal}}
		recs = append(recs, src)
	}
	r := &rows{table: map[ledger.ID]map[uint64]ledger.Hash{chain.ID(): {}}, stored: int64(len(recs))}
	for i := range recs {
		recs[i].Offset = int64(i)
		s, err := ledger.Open(&recs[i])
		if err != nil {
			t.Fatal(err)
		}
		r.table[chain.ID()][s.Statement.Seq] = s.Leaf()
	}
	return &log{topics: map[string][]ledger.Record{sealed: recs}, later: map[string][]ledger.Record{}, reads: map[string]int{}, ended: map[string]int{}}, r
}

// setAside is the rejects record of a sealed one.
func setAside(t *testing.T, rec ledger.Record, sink string) ledger.Record {
	t.Helper()
	s, err := ledger.Open(&rec)
	if err != nil {
		t.Fatal(err)
	}
	rej := sinks.Rejection{Sink: sink, Partition: sinks.Partition{Topic: sealed}, Record: sinks.Record{Offset: rec.Offset, Sealed: s}, Reason: "test", Attempts: 1}
	return ledger.Record{Key: rec.Key, Value: rec.Value, Headers: rej.Headers()}
}

func TestRun(t *testing.T) {
	var only ledger.ID
	for _, c := range []struct {
		name   string
		change func(t *testing.T, l *log, r *rows, o *verify.Options)
		result verify.Result
		finds  string // verdict:seq, in order
		check  func(t *testing.T, rep *verify.Report)
	}{
		{name: "clean", result: verify.ResultOK, check: func(t *testing.T, rep *verify.Report) {
			if rep.Records != 11 || rep.Rows != 11 || len(rep.Ledgers) != 1 || rep.Ledgers[0].Size != 11 {
				t.Errorf("%d records, %d rows, ledgers %v", rep.Records, rep.Rows, rep.Ledgers)
			}
		}},
		{name: "record altered", result: verify.ResultFindings, finds: "ALTERED:4", change: func(_ *testing.T, l *log, _ *rows, _ *verify.Options) {
			l.topics[sealed][4].Value = []byte("other")
		}},
		{name: "row altered", result: verify.ResultFindings, finds: "ALTERED:3", change: func(_ *testing.T, _ *log, r *rows, _ *verify.Options) {
			r.table[only][3] = ledger.Hash{}
		}},
		{name: "row gone", result: verify.ResultFindings, finds: "MISSING:5", change: func(_ *testing.T, _ *log, r *rows, _ *verify.Options) {
			delete(r.table[only], 5)
		}},
		{name: "row too many", result: verify.ResultFindings, finds: "EXTRA:99", change: func(_ *testing.T, _ *log, r *rows, _ *verify.Options) {
			r.table[only][99] = ledger.Hash{}
		}},
		{name: "rows of a ledger no topic has", result: verify.ResultFindings, finds: "EXTRA:0", change: func(_ *testing.T, _ *log, r *rows, _ *verify.Options) {
			r.table[ledger.ID{9}] = map[uint64]ledger.Hash{0: {}}
		}},
		{name: "not stored yet", result: verify.ResultOK, change: func(_ *testing.T, _ *log, r *rows, _ *verify.Options) {
			r.stored = 9
			delete(r.table[only], 9)
			delete(r.table[only], 10)
		}, check: func(t *testing.T, rep *verify.Report) {
			if rep.Lag != 2 {
				t.Errorf("lag %d, want 2", rep.Lag)
			}
		}},
		{name: "set aside", result: verify.ResultOK, change: func(t *testing.T, l *log, r *rows, _ *verify.Options) {
			delete(r.table[only], 5)
			l.topics[rejects] = []ledger.Record{setAside(t, l.topics[sealed][5], "pg")}
		}, check: func(t *testing.T, rep *verify.Report) {
			if rep.Rejected != 1 {
				t.Errorf("rejected %d, want 1", rep.Rejected)
			}
		}},
		{name: "set aside by another sink is no excuse", result: verify.ResultFindings, finds: "MISSING:5", change: func(t *testing.T, l *log, r *rows, _ *verify.Options) {
			delete(r.table[only], 5)
			l.topics[rejects] = []ledger.Record{setAside(t, l.topics[sealed][5], "other")}
		}},
		{name: "set aside while we read", result: verify.ResultOK, change: func(t *testing.T, l *log, r *rows, _ *verify.Options) {
			delete(r.table[only], 5)
			l.later[rejects] = []ledger.Record{setAside(t, l.topics[sealed][5], "pg")}
		}, check: func(t *testing.T, rep *verify.Report) {
			if rep.Rejected != 1 {
				t.Errorf("rejected %d, want 1", rep.Rejected)
			}
		}},
		{name: "topic cannot be read", result: verify.ResultIncomplete, change: func(_ *testing.T, l *log, r *rows, _ *verify.Options) {
			l.broken, r.table = sealed, nil
		}},
		{name: "more findings than are kept", result: verify.ResultFindings, finds: "MISSING:2 MISSING:3" /* the first two wait for the second look at the rejects */, change: func(_ *testing.T, _ *log, r *rows, o *verify.Options) {
			r.table, o.MaxFindings = nil, 2
		}, check: func(t *testing.T, rep *verify.Report) {
			if rep.FindingsTotal != 11 {
				t.Errorf("%d findings in all, want 11", rep.FindingsTotal)
			}
		}},
		{name: "rows not asked for", result: verify.ResultOK, change: func(_ *testing.T, _ *log, r *rows, o *verify.Options) {
			o.Rows, r.table = nil, nil
		}, check: func(t *testing.T, rep *verify.Report) {
			if !slices.Contains(rep.NotChecked, "rows not compared") {
				t.Errorf("not checked: %v", rep.NotChecked)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, r := world(t, 10)
			for id := range r.table {
				only = id
			}
			o := verify.Options{Sources: []string{source}, SealedName: func(s string) string { return s + ".sealed" },
				RejectsTopic: rejects, SinkName: "pg", Log: l, Rows: r}
			if c.change != nil {
				c.change(t, l, r, &o)
			}
			rep, err := verify.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range rep.Findings {
				got = append(got, fmt.Sprintf("%s:%d", f.Verdict, f.Seq))
			}
			if rep.Result != c.result || strings.Join(got, " ") != c.finds {
				t.Fatalf("%s with %v (%v), want %s with %q", rep.Result, got, rep.Errors, c.result, c.finds)
			}
			if c.check != nil {
				c.check(t, rep)
			}
			if n := r.open.Load(); n != 0 {
				t.Errorf("%d comparisons left open", n)
			}
		})
	}
}
