package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func mustStart(t testing.TB, g Genesis, k *Keyring) (*Chain, Record) {
	t.Helper()
	c, r, err := Start(g, k)
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

func mustAppend(t testing.TB, c *Chain, src Record) Record {
	t.Helper()
	seal, _, err := c.Append(&src, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sealedRecord(&src, seal)
}

func mustOpen(t testing.TB, r *Record) Sealed {
	t.Helper()
	s, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAppendRefusesFallingOffset(t *testing.T) {
	g := testGenesis()
	g.Start = 10
	c, _ := mustStart(t, g, nil)
	before := c.Mark()
	for _, offset := range []int64{9, 0, -1} {
		if _, _, err := c.Append(&Record{Offset: offset}, nil); err == nil {
			t.Errorf("offset %d before the start was taken", offset)
		}
	}
	if c.Mark() != before {
		t.Error("a refused record changed the chain")
	}
	mustAppend(t, c, Record{Offset: 10})
	mustAppend(t, c, Record{Offset: 12})
	if _, _, err := c.Append(&Record{Offset: math.MaxInt64}, nil); err == nil {
		t.Error("the last offset there is was taken: the next one would be negative")
	}
	for _, offset := range []int64{12, 11} {
		if _, _, err := c.Append(&Record{Offset: offset}, nil); err == nil || !strings.Contains(err.Error(), "13") {
			t.Errorf("offset %d: error %v does not say where it goes on", offset, err)
		}
	}
	if c.Next() != 13 || c.Seq() != 2 {
		t.Errorf("next %d seq %d", c.Next(), c.Seq())
	}
}

// TestResetForgets: what an aborted transaction sealed is sealed again, to the same bytes.
func TestResetForgets(t *testing.T) {
	c, _ := mustStart(t, testGenesis(), testKeys(t, 1))
	mustAppend(t, c, sourceEvent(0))
	mark := c.Mark()
	first := mustAppend(t, c, sourceEvent(1))
	if _, err := c.Close(Genesis{}); err == nil {
		t.Error("closed for a successor that names nothing")
	}
	g := testGenesis()
	g.Previous = new(c.Previous())
	if _, err := c.Close(g); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Append(new(sourceEvent(2)), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("append behind the close: %v", err)
	}
	if _, err := c.Close(g); !errors.Is(err, ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	c.Reset(mark)
	if c.Seq() != 1 || c.Next() != mark.next || c.Head() != mark.head {
		t.Errorf("after reset: seq %d next %d", c.Seq(), c.Next())
	}
	if again := mustAppend(t, c, sourceEvent(1)); !cmp.Equal(first, again) {
		t.Errorf("sealed again, it differs: %s", cmp.Diff(first, again))
	}
}

// TestResumeIsTheSameChain: a chain lost at any point and made again from head and
// genesis seals the same bytes (invariant I9).
func TestResumeIsTheSameChain(t *testing.T) {
	for _, k := range []*Keyring{nil, testKeys(t, 1, 2)} {
		g := testGenesis()
		g.EventIDs = true
		c, r := mustStart(t, g, k)
		for i := range 20 {
			head := mustOpen(t, &r)
			again, err := Resume(&head, g, k)
			if err != nil {
				t.Fatal(err)
			}
			purged, err := Continue(&head, k)
			if err != nil {
				t.Fatal(err)
			}
			if other := mustAppend(t, purged, sourceEvent(i)); !cmp.Equal(other, mustAppend(t, again, sourceEvent(i))) {
				t.Fatalf("event %d: continued without the genesis, it differs", i)
			}
			again.Reset(c.Mark())
			if again.Next() != c.Next() || again.Seq() != c.Seq() || again.Head() != c.Head() || again.ID() != c.ID() || again.Previous() != c.Previous() {
				t.Fatalf("resumed behind seq %d: %+v, want %+v", i, again.at, c.at)
			}
			r = mustAppend(t, c, sourceEvent(i))
			if other := mustAppend(t, again, sourceEvent(i)); !cmp.Equal(r, other) {
				t.Fatalf("event %d: %s", i, cmp.Diff(r, other))
			}
		}
	}
}

func TestResumeRefuses(t *testing.T) {
	g := testGenesis()
	g.Start = 4
	c, genesis := mustStart(t, g, testKeys(t, 1, 2))
	event := mustAppend(t, c, Record{Offset: 5})
	next := g
	next.Previous = new(c.Previous())
	closing, err := c.Close(next)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		head *Record
		g    Genesis
		k    *Keyring
		ok   bool
		key  uint32 // of the KeyError
		err  error
	}{
		"event":                      {head: &event, g: g, k: testKeys(t, 1, 2), ok: true},
		"higher active key":          {head: &event, g: g, k: testKeys(t, 2, 3), ok: true},
		"head's key destroyed since": {head: &event, g: g, k: testKeys(t, 3), ok: true},
		"genesis":                    {head: &genesis, g: g, k: nil, ok: true},
		"close":                      {head: &closing, g: g, k: testKeys(t, 1, 2), err: ErrClosed},
		"another genesis":            {head: &event, g: next, k: testKeys(t, 1, 2)},
		"no keys":                    {head: &event, g: g, key: 2},
		"only a lower key":           {head: &event, g: g, k: testKeys(t, 1), key: 2},
		"genesis that cannot be one": {head: &event, g: Genesis{}, k: testKeys(t, 1, 2)},
	} {
		head := mustOpen(t, tc.head)
		_, err := Resume(&head, tc.g, tc.k)
		var missing *KeyError
		switch {
		case (err == nil) != tc.ok:
			t.Errorf("%s: error %v", name, err)
		case tc.err != nil && !errors.Is(err, tc.err):
			t.Errorf("%s: error %v, want %v", name, err, tc.err)
		case errors.As(err, &missing) != (tc.key != 0) || (tc.key != 0 && missing.ID != tc.key):
			t.Errorf("%s: error %v, want a KeyError for %d", name, err, tc.key)
		}
	}
	for name, change := range map[string]func(st *Statement){
		"an offset before the start": func(st *Statement) { st.Offset = 3 },
		"another partition":          func(st *Statement) { st.Partition++ },
		"another topic id":           func(st *Statement) { st.Topic[0]++ },
		"the last offset there is":   func(st *Statement) { st.Offset = math.MaxInt64 },
		"other flags":                func(st *Statement) { st.Flags = FlagEventID },
	} {
		head := mustOpen(t, &event)
		change(&head.Statement)
		if _, err := Resume(&head, g, testKeys(t, 2)); err == nil {
			t.Errorf("resumed behind a head with %s", name)
		}
	}
}

// TestSaltKeyNeverFalls: a member whose active key is lower than the head's goes on with
// the head's, if it holds it.
func TestSaltKeyNeverFalls(t *testing.T) {
	c, _ := mustStart(t, testGenesis(), testKeys(t, 1, 2, 3))
	event := mustAppend(t, c, Record{})
	head := mustOpen(t, &event)
	if head.Statement.SaltKey != 3 {
		t.Fatalf("sealed with key %d, want the highest", head.Statement.SaltKey)
	}
	staged, err := NewKeyring(map[uint32][]byte{1: make([]byte, 32), 3: bytes.Repeat([]byte{3}, 32)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err = Resume(&head, testGenesis(), staged)
	if err != nil {
		t.Fatal(err)
	}
	event = mustAppend(t, c, Record{Offset: 1})
	if key := mustOpen(t, &event).Statement.SaltKey; key != 3 {
		t.Errorf("sealed with key %d behind key 3", key)
	}
}

// TestClosingOnlyCloses: whoever holds no master can close a salted ledger, to the same
// bytes, and nothing else.
func TestClosingOnlyCloses(t *testing.T) {
	c, _ := mustStart(t, testGenesis(), testKeys(t, 1))
	event := mustAppend(t, c, sourceEvent(0))
	head := mustOpen(t, &event)
	other, err := Closing(&head)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Append(new(sourceEvent(1)), nil); err == nil {
		t.Error("an unsalted event was sealed behind a salted one")
	}
	g := testGenesis()
	g.Previous = new(c.Previous())
	want, err := c.Close(g)
	if err != nil {
		t.Fatal(err)
	}
	got, err := other.Close(g)
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v: %s", err, cmp.Diff(got, want))
	}
	head = mustOpen(t, &got)
	if _, err := Closing(&head); !errors.Is(err, ErrClosed) {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := Continue(&head, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("continued behind a close: %v", err)
	}
}

func TestCloseRefuses(t *testing.T) {
	c, _ := mustStart(t, testGenesis(), nil)
	good := testGenesis()
	good.Previous = new(c.Previous())
	for name, change := range map[string]func(g *Genesis){
		"no previous":       func(g *Genesis) { g.Previous = nil },
		"another size":      func(g *Genesis) { g.Previous = &Previous{Ledger: c.ID(), Size: 2, Leaf: c.Head()} },
		"another leaf":      func(g *Genesis) { g.Previous = &Previous{Ledger: c.ID(), Size: 1} },
		"another ledger":    func(g *Genesis) { g.Previous = &Previous{Size: 1, Leaf: c.Head()} },
		"another partition": func(g *Genesis) { g.Partition++ },
		"a bad name":        func(g *Genesis) { g.Name = "Log" },
	} {
		g := good
		change(&g)
		if _, err := c.Close(g); err == nil {
			t.Errorf("%s: closed", name)
		}
	}
	if _, err := c.Close(good); err != nil {
		t.Error(err)
	}
}

// TestAppendAllocatesNothing with a slab that is used again.
func TestAppendAllocatesNothing(t *testing.T) {
	c, _ := mustStart(t, testGenesis(), testKeys(t, 1))
	slab := make([]byte, 0, slabSize)
	sources := []Record{benchRecord(0), benchRecord(4), {}, {Value: make([]byte, 1<<20)}}
	var n int64
	got := testing.AllocsPerRun(1000, func() {
		src := sources[n%4]
		src.Offset = n
		n++
		if cap(slab)-len(slab) < StatementSize+saltSize {
			slab = slab[:0]
		}
		var err error
		if _, slab, err = c.Append(&src, slab); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations per event", got)
	}
}

// TestAppendCarvesSeals: seals of one slab do not run into each other, and stay what
// they are when the slab is full and a new one is begun.
func TestAppendCarvesSeals(t *testing.T) {
	c, _ := mustStart(t, testGenesis(), testKeys(t, 1))
	again, _ := mustStart(t, testGenesis(), testKeys(t, 1))
	slab := make([]byte, 0, 3*(StatementSize+saltSize)+5)
	var seals [][]byte
	for i := range 10 {
		seal, rest, err := c.Append(new(sourceEvent(i)), slab)
		if err != nil {
			t.Fatal(err)
		}
		slab = rest
		seals = append(seals, append(seal, 0xff)[:len(seal)]) // a caller's append must not reach the next
	}
	slab = nil
	for i := range 1000 { // more than one slab holds
		var err error
		if _, slab, err = c.Append(&Record{Offset: int64(1000 + i)}, slab); err != nil {
			t.Fatal(err)
		}
		if cap(slab) != slabSize {
			t.Fatalf("slab of %d bytes after %d events, want %d", cap(slab), i+1, slabSize)
		}
	}
	for i, seal := range seals {
		want, _, err := again.Append(new(sourceEvent(i)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(seal, want) {
			t.Errorf("seal %d was overwritten", i)
		}
	}
}

func TestTimestampsAreKeptOrMarked(t *testing.T) {
	c, _ := mustStart(t, testGenesis(), nil)
	for i, tc := range []struct{ in, want int64 }{
		{-1, -1}, {0, 0}, {-5000, -5000}, {MaxTimeMs, MaxTimeMs}, {-MaxTimeMs, -MaxTimeMs},
		{MaxTimeMs + 1, TimeOutOfRange}, {-MaxTimeMs - 1, TimeOutOfRange}, {253402300799999, TimeOutOfRange}, {TimeOutOfRange, TimeOutOfRange},
	} {
		r := mustAppend(t, c, Record{TimeMs: tc.in, Offset: int64(i)})
		if s := mustOpen(t, &r); s.Statement.TimeMs != tc.want {
			t.Errorf("timestamp %d sealed as %d, want %d", tc.in, s.Statement.TimeMs, tc.want)
		}
	}
}

// TestSealedStaysTheSourceRecord: what Open gives back is the source record, whatever
// it holds (invariant I3).
func TestSealedStaysTheSourceRecord(t *testing.T) {
	c, _ := mustStart(t, testGenesis(), testKeys(t, 1))
	for i := range 21 {
		src := sourceEvent(i)
		r := mustAppend(t, c, src)
		s := mustOpen(t, &r)
		if src.TimeMs == TimeOutOfRange {
			src.TimeMs = -1
		}
		if len(src.Headers) == 0 {
			src.Headers, s.Source.Headers = nil, s.Source.Headers[:0:0]
			s.Source.Headers = nil
		}
		if !cmp.Equal(s.Source, src) || !s.CheckCommitment() {
			t.Errorf("event %d: %s", i, cmp.Diff(s.Source, src))
		}
		if s.GenesisBody() != nil || s.CloseBody() != nil {
			t.Errorf("event %d has a body", i)
		}
	}
}

// TestEventsMayLookLikeAnything: a client that writes the product's own headers seals
// like any other, and is not taken for a genesis or close.
func TestEventsMayLookLikeAnything(t *testing.T) {
	g := testGenesis()
	c, genesis := mustStart(t, g, nil)
	body, err := g.Body()
	if err != nil {
		t.Fatal(err)
	}
	records := []Record{genesis}
	for i, h := range []string{GenesisHeader, CloseHeader, SealHeader} {
		records = append(records, mustAppend(t, c, Record{Headers: []Header{{Name: h, Value: body}}, TimeMs: -1, LeaderEpoch: -1, Offset: int64(i)}))
	}
	if findings, _ := verify(VerifierOptions{Partition: 3}, records); findings != nil {
		t.Errorf("findings %v", findings)
	}
}

func drawRecord(t *rapid.T) Record {
	maybe := func(name string) []byte {
		if rapid.Bool().Draw(t, name+" null") {
			return nil
		}
		return append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, name)...)
	}
	r := Record{Key: maybe("key"), Value: maybe("value")}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		r.Headers = append(r.Headers, Header{Name: string(rapid.SliceOfN(rapid.Byte(), 0, 6).Draw(t, "name")), Value: maybe("header")})
	}
	return r
}

// TestFrameIsInjective: a frame gives back the record it came from, so two records
// never share one, and every way to the commitment is the same.
func TestFrameIsInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRecord(t), drawRecord(t)
		fa, fb := AppendFrame(nil, &a), AppendFrame([]byte("x"), &b)[1:]
		if bytes.Equal(fa, fb) != cmp.Equal(a, b) {
			t.Fatalf("frames %x and %x", fa, fb)
		}
		back, err := ParseFrame(fa)
		if err != nil || !cmp.Equal(back, a) {
			t.Fatalf("%v: %s", err, cmp.Diff(back, a))
		}
		salt := Salt(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "salt"))
		c := newCommitter()
		copy(c.salt(), salt[:])
		s := Sealed{Source: a, Salt: salt, Statement: Statement{Commitment: Commit(&salt, fa)}}
		for range 2 { // the second time the buffer is used again
			if c.commit(&a) != s.Statement.Commitment || !s.CheckCommitment() {
				t.Fatal("three ways to a commitment differ")
			}
		}
	})
}

func TestParseFrameRefuses(t *testing.T) {
	good := AppendFrame(nil, &Record{Key: []byte("k"), Headers: []Header{{Name: "h", Value: []byte("v")}}, Value: []byte("x")})
	for n := range good {
		if _, err := ParseFrame(good[:n]); err == nil {
			t.Errorf("frame cut to %d bytes was taken", n)
		}
	}
	if _, err := ParseFrame(append(good, 0)); err == nil {
		t.Error("frame with a byte behind it was taken")
	}
	if _, err := ParseFrame([]byte("\xff\xff\xff\xff\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")); err == nil {
		t.Error("null header name was taken")
	}
	if _, err := ParseFrame([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")); err == nil {
		t.Error("4 billion headers were taken")
	}
}

func TestKeyring(t *testing.T) {
	secret := bytes.Repeat([]byte{0xa5}, 32)
	for name, tc := range map[string]struct {
		masters map[uint32][]byte
		active  uint32
		want    uint32 // active
		err     string
	}{
		"none":              {},
		"highest":           {masters: map[uint32][]byte{1: secret, 7: secret, 3: secret}, want: 7},
		"chosen":            {masters: map[uint32][]byte{1: secret, 7: secret}, active: 1, want: 1},
		"id 0":              {masters: map[uint32][]byte{0: secret}, err: "salt key id 0"},
		"31 bytes":          {masters: map[uint32][]byte{4: secret[:31]}, err: "salt key 4 has 31 bytes"},
		"33 bytes":          {masters: map[uint32][]byte{4: append(secret, 1)}, err: "salt key 4 has 33 bytes"},
		"active not held":   {masters: map[uint32][]byte{1: secret}, active: 2, err: "salt key 2"},
		"active, none held": {active: 2, err: "salt key 2"},
	} {
		k, err := NewKeyring(tc.masters, tc.active)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: error %v, want %q", name, err, tc.err)
			}
			if strings.Contains(fmt.Sprint(err), "a5a5") || strings.Contains(fmt.Sprint(err), "165 165") {
				t.Errorf("%s: the error shows a key: %v", name, err)
			}
			continue
		}
		if err != nil || k.Active() != tc.want {
			t.Errorf("%s: active %d, %v", name, k.Active(), err)
		}
	}
	k, err := NewKeyring(map[uint32][]byte{1: secret}, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := k.Salter(ID{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, out := range []string{fmt.Sprintf(verb, k), fmt.Sprintf(verb, s)} {
			if strings.Contains(out, "a5") || strings.Contains(out, "165") || !strings.Contains(out, "salt") {
				t.Errorf("%s prints %q", verb, out)
			}
		}
	}
	var none *Keyring
	if none.Active() != 0 || none.Has(1) || fmt.Sprint(none) == "" {
		t.Error("a nil keyring holds something")
	}
	var missing *KeyError
	if _, err := none.Salter(ID{}, 5); !errors.As(err, &missing) || missing.ID != 5 {
		t.Errorf("salter of nothing: %v", err)
	}
	secret[0] = 0 // the keyring has its own copy
	if again, err := k.Salter(ID{1}, 1); err != nil || again.Salt(9) != s.Salt(9) {
		t.Error("the keyring changed with the caller's bytes")
	}
	if other, err := k.Salter(ID{2}, 1); err != nil || other.Salt(9) == s.Salt(9) || s.Salt(8) == s.Salt(9) {
		t.Error("two ledgers or two seqs share a salt")
	}
}
