package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
	"github.com/sealstream/sealstream/processors/seal"
)

func keys(t interface{ Fatal(...any) }, ids ...uint32) *ledger.Keyring {
	m := map[uint32][]byte{}
	for _, id := range ids {
		m[id] = bytes.Repeat([]byte{byte(id)}, 32)
	}
	k, err := ledger.NewKeyring(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func otherKeys(t interface{ Fatal(...any) }) *ledger.Keyring {
	k, err := ledger.NewKeyring(map[uint32][]byte{1: bytes.Repeat([]byte{0xee}, 32)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const name = "audit.example.com/log"

var topicID = ledger.TopicID{1, 2, 3}

func input(n int) processors.Input {
	src := source(n)
	return processors.Input{Cluster: "c1", Topic: "audit.events", TopicID: topicID, Committed: -1,
		At: func(off int64) (*ledger.Record, error) {
			if off < 0 || off >= int64(len(src)) {
				return nil, nil
			}
			return &src[off], nil
		}}
}

func source(n int) []ledger.Record {
	out := make([]ledger.Record, n)
	for i := range out {
		out[i] = ledger.Record{Key: []byte("k"), Value: fmt.Appendf(nil, "v%d", i), Offset: int64(i), TimeMs: int64(1000 + i)}
	}
	return out
}

func outputOf(recs []ledger.Record) processors.Output {
	return processors.Output{Topic: "audit.events.sealed", ID: ledger.TopicID{9}, End: int64(len(recs)), Tail: recs,
		First: func(match func(*ledger.Record) bool) (*ledger.Record, error) {
			for i := range recs {
				if match(&recs[i]) {
					return &recs[i], nil
				}
			}
			return nil, nil
		}}
}

// sealed returns what a seal writes for the first n source records.
func sealed(t interface{ Fatal(...any) }, p *seal.Processor, n int) []ledger.Record {
	f, err := p.Restore(input(n), outputOf(nil))
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.Append(append([]ledger.Record{}, f.Pending()...), source(n))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRestoreDecides(t *testing.T) {
	p := seal.New(seal.Options{Name: name, Keys: keys(t, 1)})
	recs := sealed(t, p, 5)
	with := func(change func(*processors.Input, *processors.Output)) (processors.Input, processors.Output) {
		in, out := input(5), outputOf(append([]ledger.Record{}, recs...))
		in.Committed = 5
		if change != nil {
			change(&in, &out)
		}
		return in, out
	}
	for _, c := range []struct {
		name   string
		p      *seal.Processor
		change func(*processors.Input, *processors.Output)
		doubt  processors.DoubtKind // "" = goes on
		next   int64
	}{
		{name: "normal", next: 5},
		{name: "group offset lost", change: func(in *processors.Input, _ *processors.Output) { in.Committed = -1 }, next: 5},
		{name: "half commit: output ahead, the source explains it", change: func(in *processors.Input, _ *processors.Output) { in.Committed = 3 }, next: 5},
		{name: "output ahead, the source says otherwise", change: func(in *processors.Input, _ *processors.Output) {
			in.Committed = 3
			in.At = func(int64) (*ledger.Record, error) { return &ledger.Record{Value: []byte("other")}, nil }
		}, doubt: processors.DoubtFork},
		{name: "output ahead, the source has nothing there", change: func(in *processors.Input, _ *processors.Output) {
			in.Committed = 3
			in.At = func(int64) (*ledger.Record, error) { return nil, nil }
		}, doubt: processors.DoubtFork},
		{name: "new partition", change: func(in *processors.Input, out *processors.Output) { in.Committed, out.Tail = -1, nil }, next: 0},
		{name: "new partition of an old source", change: func(in *processors.Input, out *processors.Output) {
			in.Committed, in.Start, out.Tail = -1, 3, nil
		}, next: 3},
		{name: "source lost what was not sealed", change: func(in *processors.Input, _ *processors.Output) { in.Start = 9 }, next: 9},
		{name: "empty output, committed group", change: func(_ *processors.Input, out *processors.Output) { out.Tail = nil }, doubt: processors.DoubtShort},
		{name: "cut tail", change: func(_ *processors.Input, out *processors.Output) { out.Tail = out.Tail[:3] }, doubt: processors.DoubtShort},
		{name: "trimmed head", change: func(_ *processors.Input, out *processors.Output) { out.Tail, out.Trimmed = nil, true }, doubt: processors.DoubtTrimmed},
		{name: "seq doubled", change: func(_ *processors.Input, out *processors.Output) { out.Tail = append(out.Tail, out.Tail[5]) }, doubt: processors.DoubtFork},
		{name: "seq missing", change: func(_ *processors.Input, out *processors.Output) {
			out.Tail = append(out.Tail[:2:2], out.Tail[3:]...)
		}, doubt: processors.DoubtMalformed},
		{name: "not a sealed record", change: func(_ *processors.Input, out *processors.Output) {
			out.Tail = append(out.Tail, ledger.Record{Value: []byte("x")})
		}, doubt: processors.DoubtMalformed},
		{name: "source made anew", change: func(in *processors.Input, _ *processors.Output) { in.TopicID = ledger.TopicID{7} }, doubt: processors.DoubtTopicID},
		{name: "no topic id", change: func(in *processors.Input, _ *processors.Output) { in.TopicID = ledger.TopicID{} }, doubt: processors.DoubtTopicID},
		{name: "another cluster", change: func(in *processors.Input, _ *processors.Output) { in.Cluster = "c2" }, doubt: processors.DoubtIdentity},
		{name: "another name", p: seal.New(seal.Options{Name: "other.example.com/log", Keys: keys(t, 1)}), doubt: processors.DoubtIdentity},
		{name: "master missing", p: seal.New(seal.Options{Name: name}), doubt: processors.DoubtSaltKey},
		{name: "another master of that number", p: seal.New(seal.Options{Name: name, Keys: otherKeys(t)}), doubt: processors.DoubtSaltKey},
		{name: "newer master", p: seal.New(seal.Options{Name: name, Keys: keys(t, 1, 2)}), next: 5},
		{name: "genesis purged", change: func(_ *processors.Input, out *processors.Output) {
			tail := out.Tail[2:]
			*out = outputOf(tail)
		}, next: 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, out := with(c.change)
			use := c.p
			if use == nil {
				use = p
			}
			f, err := use.Restore(in, out)
			var d *processors.Doubt
			switch {
			case c.doubt == "" && err != nil:
				t.Fatalf("stopped: %v", err)
			case c.doubt == "" && f.Next() != c.next:
				t.Fatalf("goes on at %d, want %d", f.Next(), c.next)
			case c.doubt != "" && !errors.As(err, &d):
				t.Fatalf("goes on (%v), want %s", err, c.doubt)
			case c.doubt != "" && d.Kind != c.doubt:
				t.Fatalf("stopped for %s, want %s", d.Kind, c.doubt)
			}
		})
	}
}

// I9: the same source gives the same bytes, however it is cut into batches, and
// whatever is aborted and done again in between.
func TestSealIsAFunctionOfItsInput(t *testing.T) {
	p := seal.New(seal.Options{Name: name, Keys: keys(t, 1)})
	const n = 30
	want := sealed(t, p, n)
	rapid.Check(t, func(rt *rapid.T) {
		f, err := p.Restore(input(n), outputOf(nil))
		if err != nil {
			rt.Fatal(err)
		}
		src := source(n)
		var log []ledger.Record
		for f.Next() < n || f.Pending() != nil {
			out := append([]ledger.Record{}, f.Pending()...)
			// Begin below Next too: a rewound consumer brings old records again.
			from := rapid.IntRange(max(0, int(f.Next())-3), int(f.Next())).Draw(rt, "from")
			to := rapid.IntRange(int(f.Next()), n).Draw(rt, "to")
			out, err := f.Append(out, src[from:to])
			if err != nil {
				rt.Fatal(err)
			}
			switch rapid.IntRange(0, 3).Draw(rt, "end") {
			case 0:
				f.Abort()
			case 1: // crash after the commit: another process restores from the log
				log = append(log, out...)
				in := input(n)
				in.Committed = f.Next()
				if f, err = p.Restore(in, outputOf(log)); err != nil {
					rt.Fatal(err)
				}
			default:
				f.Commit()
				log = append(log, out...)
			}
		}
		if d := cmp.Diff(want, log); d != "" {
			rt.Fatalf("another history: %s", d)
		}
	})
}

func TestResumeTakesOnlyTheOrderForThisState(t *testing.T) {
	p := seal.New(seal.Options{Name: name, Keys: keys(t, 1)})
	recs := sealed(t, p, 5)
	head, err := ledger.Open(&recs[5])
	if err != nil {
		t.Fatal(err)
	}
	leaf := head.Leaf().String()
	in := input(5)
	in.TopicID, in.Committed = ledger.TopicID{7}, 5
	out := outputOf(recs)

	for _, o := range []processors.Order{
		{Leaf: processors.NoneReadable, Previous: "none"},
		{Leaf: "00"},
		{},
	} {
		if _, err := p.Resume(in, out, o); err == nil {
			t.Errorf("order %+v was applied", o)
		}
	}
	f, err := p.Resume(in, out, processors.Order{Leaf: leaf})
	if err != nil {
		t.Fatal(err)
	}
	pend := f.Pending()
	if len(pend) != 2 {
		t.Fatalf("%d pending records, want close and genesis", len(pend))
	}
	after := append(append([]ledger.Record{}, recs...), pend...)
	v := ledger.NewVerifier(ledger.VerifierOptions{Topic: "t"})
	for i := range after {
		after[i].Offset = int64(i)
		if fs := v.Next(&after[i]); len(fs) > 0 {
			t.Fatalf("record %d: %v", i, fs)
		}
	}
	// Applied, the same order fits no more.
	in2 := in
	in2.Committed = 0
	if _, err := p.Resume(in2, outputOf(after), processors.Order{Leaf: leaf}); err == nil {
		t.Error("the order was applied a second time")
	}
	if _, err := p.Restore(in2, outputOf(after)); err != nil {
		t.Errorf("the successor is not continued: %v", err)
	}
}

func TestResumeWithNothingReadableTakesPreviousFromTheOrder(t *testing.T) {
	p := seal.New(seal.Options{Name: name, Keys: keys(t, 1)})
	in := input(5)
	in.Committed = 5
	out := outputOf(nil)
	out.Trimmed = true
	prev := ledger.Previous{Ledger: ledger.ID{1}, Size: 6, Leaf: ledger.Hash{2}}
	f, err := p.Resume(in, out, processors.Order{Leaf: processors.NoneReadable, Previous: prev.String()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ledger.Open(&f.Pending()[0])
	if err != nil {
		t.Fatal(err)
	}
	g, err := ledger.ParseGenesis(s.GenesisBody())
	if err != nil || g.Previous == nil || *g.Previous != prev || f.Next() != 0 {
		t.Fatalf("genesis %+v at %d, %v", g, f.Next(), err)
	}
	if _, err := p.Resume(in, out, processors.Order{Leaf: processors.NoneReadable, Previous: "none"}); err == nil {
		t.Error("an order that does not name the lost ledger was taken: the new one would get its id")
	}
	if _, err := p.Resume(in, out, processors.Order{Leaf: processors.NoneReadable, Previous: "something"}); err == nil {
		t.Error("a malformed previous was taken")
	}
	if _, err := p.Resume(in, out, processors.Order{Leaf: "aa", Previous: "none"}); err == nil {
		t.Error("an order that expects a leaf was taken")
	}
}

func BenchmarkFoldAppend(b *testing.B) {
	p := seal.New(seal.Options{Name: name, Keys: keys(b, 1)})
	const n = 1000
	src := make([]ledger.Record, n)
	for i := range src {
		src[i] = ledger.Record{Key: []byte("tenant/user"), Value: bytes.Repeat([]byte("v"), 400)}
	}
	f, err := p.Restore(input(0), outputOf(nil))
	if err != nil {
		b.Fatal(err)
	}
	var out []ledger.Record
	off := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		for i := range src {
			src[i].Offset = off
			off++
		}
		if out, err = f.Append(out[:0], src); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/rec")
}

// What the source lost before it was sealed shows in the ledger, without an order.
func TestWhatTheSourceLostIsClosedOver(t *testing.T) {
	p := seal.New(seal.Options{Name: name, Keys: keys(t, 1)})
	recs := sealed(t, p, 10)
	in := input(40)
	in.Start, in.Committed = 25, 10
	before, err := p.Restore(input(0), outputOf(recs))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		seen int64
		lost bool
	}{{0, true}, {24, true}, {25, false}, {26, false}} {
		if in.Kept = ""; c.seen > 0 {
			in.Kept = before.Keep(c.seen)
		}
		f, err := p.Restore(in, outputOf(recs))
		if err != nil {
			t.Fatal(err)
		}
		if lost := f.Lost(); (lost != nil) != c.lost || c.lost && (lost.From != max(10, c.seen) || lost.To != 25) {
			t.Errorf("seen %d: lost %v", c.seen, lost)
		}
		if got := len(f.Pending()); got != map[bool]int{true: 2, false: 0}[c.lost] {
			t.Errorf("seen %d: %d records pending", c.seen, got)
		}
		if want := map[bool]int64{true: 25, false: 10}[c.lost]; f.Next() != want {
			t.Errorf("seen %d: goes on at %d", c.seen, f.Next())
		}
		out, err := f.Append(append([]ledger.Record{}, f.Pending()...), source(40)[25:])
		if err != nil {
			t.Fatal(err)
		}
		all := append(append([]ledger.Record{}, recs...), out...)
		v := ledger.NewVerifier(ledger.VerifierOptions{Topic: "audit.events.sealed", Keys: keys(t, 1)})
		var found []ledger.Finding
		for i := range all {
			all[i].Offset = int64(i)
			found = append(found, v.Next(&all[i])...)
		}
		found = append(found, v.Finish()...)
		if c.lost && (len(found) != 1 || found[0].Verdict != ledger.Gap) || !c.lost && len(found) != 0 {
			t.Errorf("seen %d: %+v", c.seen, found)
		}
	}
}
