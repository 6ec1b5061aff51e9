package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// forge seals a record that was never in the source, as whoever may write the sealed
// topic and knows everything but the past could.
func forge(t testing.TB, head *Record, g Genesis, k *Keyring) Record {
	t.Helper()
	s, err := Open(head)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Resume(&s, g, k)
	if err != nil {
		t.Fatal(err)
	}
	src := Record{Key: []byte("k"), Value: []byte("forged"), Offset: c.Next(), TimeMs: 1}
	seal, _, err := c.Append(&src, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sealedRecord(&src, seal)
}

func foreignGenesis(t testing.TB, f *fixture, partition int32) (Genesis, Record) {
	t.Helper()
	g := f.a
	g.Name, g.Partition = "other.example.com/log", partition
	_, r, err := Start(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g, r
}

// TestVerifierFindsForeignRecords puts well-formed records of another ledger at each place.
func TestVerifierFindsForeignRecords(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		g, genesis := foreignGenesis(t, f, f.a.Partition)
		event := forge(t, &genesis, g, f.keys)
		third := forge(t, &event, g, f.keys)
		otherG, otherPartition := foreignGenesis(t, f, 7)
		otherEvent := forge(t, &otherPartition, otherG, nil)
		for at := 1; at <= len(f.records); at++ {
			what := fmt.Sprintf("at %d", at)
			missing := []string(nil)
			if at == 15 && at == len(f.records) {
				missing = []string{"MISSING B0"}
			}
			f.check(t, "genesis "+what, f.options(), slices.Insert(f.clone(), at, genesis), append([]string{"EXTRA ?0"}, missing...)...)
			f.check(t, "event "+what, f.options(), slices.Insert(f.clone(), at, event), "EXTRA ?1")
			f.check(t, "third "+what, f.options(), slices.Insert(f.clone(), at, third), "EXTRA ?2")
			f.check(t, "a run "+what, f.options(), slices.Insert(f.clone(), at, genesis, event, third), "EXTRA ?0")
			f.check(t, "a run cut short "+what, f.options(), slices.Insert(f.clone(), at, event, third), "EXTRA ?1")
			f.check(t, "another partition "+what, f.options(), slices.Insert(f.clone(), at, otherPartition, otherEvent), "EXTRA ?0")
		}
		v := f.check(t, "genesis in A", f.options(), slices.Insert(f.clone(), 5, genesis, event), "EXTRA ?0")
		if states := v.Ledgers(); len(states) != 3 || states[0].Extra || !states[1].Extra || states[1].Size != 2 || states[2].Extra {
			t.Errorf("states %+v", states)
		}
		bad := cloneRecord(genesis)
		bad.Headers[0].Value[len("sealstream/genesis/v1\nname ")] ^= 1
		f.check(t, "altered genesis in B", f.options(), slices.Insert(f.clone(), 20, bad), "EXTRA ?0")
		// At the start there is nothing to tell the stranger by, unless the caller says
		// what to expect: the genuine genesis is then the second.
		o := f.options()
		f.check(t, "genesis at 0", o, slices.Insert(f.clone(), 0, genesis), "EXTRA A0")
		o.Source = &f.a
		v = f.check(t, "genesis at 0, name known", o, slices.Insert(f.clone(), 0, genesis, event), "EXTRA ?0")
		if states := v.Ledgers(); len(states) != 3 || !states[0].Extra || states[1].Extra || states[2].Extra {
			t.Errorf("states %+v", states)
		}
		o.Source = &Genesis{Source: "domain.events"}
		other := f.options()
		other.Partition++
		f.check(t, "another partition", other, f.records, "EXTRA A0", "EXTRA B0")
		if findings, _ := verify(other, f.records); findings[0].Detail != "the genesis of another log: partition is not what this partition must have" {
			t.Errorf("another partition: %v", findings)
		}
		f.check(t, "another source", o, f.records, "EXTRA A0", "EXTRA B0")
	})
}

// TestVerifierFindsForgedNext puts a perfect next event, and a perfect close, before
// each record. The forger cannot be told from the seal, but two records of one seq can
// be seen. At the tail nothing can: that is what heads are for.
func TestVerifierFindsForgedNext(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for i := 1; i <= len(f.records); i++ {
			s := f.open(t, i-1)
			if s.Statement.Kind == KindClose {
				continue
			}
			g := f.a
			if s.Statement.Ledger == f.idB {
				g = f.b
			}
			event := forge(t, &f.records[i-1], g, f.keys)
			c, err := Resume(&s, g, f.keys)
			if err != nil {
				t.Fatal(err)
			}
			successor := g
			successor.Cluster, successor.Previous = "forged", new(c.Previous())
			closing, err := c.Close(successor)
			if err != nil {
				t.Fatal(err)
			}
			if i == len(f.records) {
				f.check(t, "event at the tail", f.options(), append(f.clone(), event))
				f.check(t, "close at the tail", f.options(), append(f.clone(), closing), "MISSING ?0")
				continue
			}
			want := "FORK " + f.name(t, i)
			f.check(t, fmt.Sprintf("event before %d", i), f.options(), slices.Insert(f.clone(), i, event), want)
			f.check(t, fmt.Sprintf("close before %d", i), f.options(), slices.Insert(f.clone(), i, closing), want)
		}
	})
}

// TestVerifierFindsRecordsBehindClose appends to ledger A after its close.
func TestVerifierFindsRecordsBehindClose(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		event := forge(t, &f.records[13], f.a, f.keys)
		reseal(t, &event, nil, func(st *Statement, _ *Record) {
			s := f.open(t, 14)
			st.Seq, st.Prev = 15, s.Leaf()
		})
		for at := 15; at <= len(f.records); at++ {
			f.check(t, fmt.Sprintf("at %d", at), f.options(), slices.Insert(f.clone(), at, event), "EXTRA A15")
		}
		// A successor that the close does not announce.
		g := f.b
		g.Start++
		_, r, err := Start(g, f.keys)
		if err != nil {
			t.Fatal(err)
		}
		records := slices.Insert(f.clone(), 15, r)
		f.check(t, "another successor", f.options(), records, "EXTRA ?0")
		records[16] = cloneRecord(f.records[16])
		f.check(t, "another successor instead", f.options(), slices.Delete(records[:16:16], 14, 14), "EXTRA ?0", "MISSING B0")
	})
}

// reseal changes the statement of a sealed record, and its record, and computes salt
// and commitment again, so that the record is right by itself.
func reseal(t testing.TB, r *Record, k *Keyring, change func(*Statement, *Record)) Hash {
	t.Helper()
	s, err := Open(r)
	if err != nil {
		t.Fatal(err)
	}
	*r = cloneRecord(*r)
	r.Headers = r.Headers[:len(r.Headers)-1]
	change(&s.Statement, r)
	if k != nil && s.Statement.SaltKey != 0 {
		salter, err := k.Salter(s.Statement.Ledger, s.Statement.SaltKey)
		if err != nil {
			t.Fatal(err)
		}
		s.Salt = salter.Salt(s.Statement.Seq)
	}
	if s.Statement.SaltKey == 0 {
		s.Salt = Salt{}
	}
	s.Statement.Commitment = Commit(&s.Salt, AppendFrame(nil, r))
	s.Statement.Put(&s.Raw)
	seal := s.Raw[:]
	if s.Statement.SaltKey != 0 {
		seal = append(seal, s.Salt[:]...)
	}
	r.Headers = append(r.Headers, Header{Name: SealHeader, Value: seal})
	return s.Leaf()
}

// rewrite changes record i and links everything behind it anew: what only the one who
// seals can do. It ends before the close.
func (f *fixture) rewrite(t testing.TB, i int, change func(*Statement, *Record)) []Record {
	t.Helper()
	records := f.clone()[:14]
	leaf := reseal(t, &records[i], f.keys, change)
	for j := i + 1; j < len(records); j++ {
		leaf = reseal(t, &records[j], f.keys, func(st *Statement, _ *Record) { st.Prev = leaf })
	}
	return records
}

// TestVerifierHoldsEachRule breaks one rule of a chain that is perfect otherwise.
func TestVerifierHoldsEachRule(t *testing.T) {
	all := fixtures(t)
	for _, c := range []struct {
		rule    string
		fixture string
		at      int
		change  func(*Statement, *Record)
		want    string // field in the detail; one ALTERED on that record
	}{
		{"offset stays", "salted=false,eventids=false", 6, func(st *Statement, _ *Record) { st.Offset = uint64(sourceEvent(4).Offset) }, "source offset"},
		{"offset falls", "salted=false,eventids=false", 6, func(st *Statement, _ *Record) { st.Offset = 1 }, "source offset"},
		{"salt key id falls", "salted=true,eventids=false", 6, func(st *Statement, _ *Record) { st.SaltKey = 1 }, "salt key id"},
		{"unsalted after salted", "salted=true,eventids=false", 6, func(st *Statement, _ *Record) { st.SaltKey = 0 }, "salt key id"},
		{"topic id changes", "salted=true,eventids=false", 6, func(st *Statement, _ *Record) { st.Topic[3]++ }, "source topic id"},
		{"partition changes", "salted=true,eventids=false", 6, func(st *Statement, _ *Record) { st.Partition++ }, "source partition"},
		{"flags bit 1 appears", "salted=true,eventids=false", 5, func(st *Statement, _ *Record) { st.Flags |= FlagEventID }, "flags bit 1"},
		{"flags bit 1 goes", "salted=true,eventids=true", 5, func(st *Statement, _ *Record) { st.Flags &^= FlagEventID }, "flags bit 1"},
		{"event id not in the slot", "salted=true,eventids=true", 6, func(st *Statement, _ *Record) { st.EventID = [16]byte{} }, "event-id slot"},
		{"another event id in the slot", "salted=true,eventids=true", 6, func(st *Statement, _ *Record) { st.EventID[0]++ }, "event-id slot"},
		{"event id without a header", "salted=true,eventids=true", 6, func(_ *Statement, r *Record) { r.Headers = r.Headers[1:] }, "event-id slot"},
		{"event id with two headers", "salted=true,eventids=true", 6, func(_ *Statement, r *Record) { r.Headers = append(r.Headers, r.Headers[0]) }, "event-id slot"},
		{"timestamp of another time", "salted=true,eventids=true", 6, func(st *Statement, _ *Record) { st.TimeMs++ }, "record timestamp"},
		{"timestamp none for some", "salted=true,eventids=true", 6, func(_ *Statement, r *Record) { r.TimeMs = -1 }, "record timestamp"},
		{"seq jumps", "salted=false,eventids=false", 6, func(st *Statement, _ *Record) { st.Seq += 2 }, "seq"},
		{"ledger id changes", "salted=false,eventids=false", 6, func(st *Statement, _ *Record) { st.Ledger[0]++ }, "ledger id"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			f := all[c.fixture]
			records := f.rewrite(t, c.at, c.change)
			findings, _ := verify(f.options(), records)
			if len(findings) != 1 || findings[0].Verdict != Altered || findings[0].Ledger != f.idA || findings[0].Seq != uint64(c.at) ||
				findings[0].Where != f.where(c.at) || findings[0].Detail != "differs in: "+c.want {
				t.Errorf("findings %+v", findings)
			}
		})
	}
}

// TestVerifierFollowsRenumbering: when everything behind a jump is renumbered or
// renamed, only the first record is a finding.
func TestVerifierFollowsRenumbering(t *testing.T) {
	f := fixtures(t)["salted=false,eventids=false"]
	for name, change := range map[string]func(st *Statement){
		"seq":       func(st *Statement) { st.Seq += 5 },
		"ledger id": func(st *Statement) { st.Ledger[2] ^= 1 },
	} {
		records := f.clone()[:14]
		s := f.open(t, 5)
		leaf := s.Leaf()
		for j := 6; j < len(records); j++ {
			leaf = reseal(t, &records[j], nil, func(st *Statement, _ *Record) { st.Prev = leaf; change(st) })
		}
		findings, _ := verify(f.options(), records)
		if len(findings) != 1 || findings[0].Detail != "differs in: "+name || findings[0].Seq != 6 {
			t.Errorf("%s: %+v", name, findings)
		}
	}
}

// TestVerifierChecksSaltWithKeys: a record with another salt that fits its commitment
// shows only to those who hold the master.
func TestVerifierChecksSaltWithKeys(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=false"]
	var leaf Hash
	records := f.clone()[:14]
	for j := 6; j < len(records); j++ {
		if j > 6 {
			leaf = reseal(t, &records[j], f.keys, func(st *Statement, _ *Record) { st.Prev = leaf })
			continue
		}
		seal := records[j].Headers[len(records[j].Headers)-1].Value
		seal[StatementSize] ^= 1 // kept by reseal without keys
		leaf = reseal(t, &records[j], nil, func(*Statement, *Record) {})
	}
	findings, _ := verify(f.options(), records)
	if len(findings) != 1 || findings[0].Verdict != Altered || findings[0].Seq != 6 || findings[0].Detail != "differs in: salt is not the derived one" {
		t.Errorf("with keys: %+v", findings)
	}
	for name, keys := range map[string]*Keyring{"no keys": nil, "another key": testKeys(t, 1)} {
		o := f.options()
		o.Keys = keys
		f.check(t, name, o, records)
	}
	// The salt in the record flipped, the commitment left: the derived one still fits.
	records = f.clone()
	records[6].Headers[len(records[6].Headers)-1].Value[StatementSize] ^= 1
	findings, _ = verify(f.options(), records)
	if len(findings) != 1 || findings[0].Detail != "differs in: salt is not the derived one" {
		t.Errorf("salt flipped: %+v", findings)
	}
	o := f.options()
	o.Keys = nil
	findings, _ = verify(o, records)
	if len(findings) != 1 || findings[0].Detail != "differs in: commitment to key, headers, value and salt" {
		t.Errorf("salt flipped, no keys: %+v", findings)
	}
}

// TestVerifierLostHead: an operator's order starts a ledger behind one whose head could
// not be read; its genesis names what was known of it, and no close stands between.
func TestVerifierLostHead(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=false"]
	s12 := f.open(t, 12)
	for _, c := range []struct {
		name string
		size uint64
		leaf Hash
		want []string
	}{
		{"names the unreadable one", 14, Hash{1}, []string{"ALTERED A13", "GAP A14"}},
		{"names the last readable one", 13, s12.Leaf(), []string{"ALTERED A13"}},
		{"names one before", 12, Hash{1}, []string{"ALTERED A13", "EXTRA ?0"}},
		{"names more than there was", 20, Hash{1}, []string{"ALTERED A13", "GAP A14"}},
	} {
		g := f.b
		g.Previous = &Previous{Ledger: f.idA, Size: c.size, Leaf: c.leaf}
		_, genesis, err := Start(g, f.keys)
		if err != nil {
			t.Fatal(err)
		}
		records := append(f.clone()[:14], genesis)
		records[13].Headers = nil
		f.check(t, c.name, f.options(), append(records, forge(t, &genesis, g, f.keys)), c.want...)
	}
}

// TestVerifierSeparatesTampering draws any number of independent alterations, at least
// three records apart, and wants exactly one right finding for each.
func TestVerifierSeparatesTampering(t *testing.T) {
	f := &fixture{salted: true, eventIDs: true}
	f.build(t, 40, 20)
	rapid.Check(t, func(rt *rapid.T) {
		records := f.clone()
		var want []string
		var out []Record
		next := 0
		for i := range records {
			out = append(out, records[i])
			r := &out[len(out)-1]
			if i < next || i >= len(records)-3 || !rapid.Bool().Draw(rt, "tamper") {
				continue
			}
			next = i + 3
			name := f.name(t, i)
			seal := r.Headers[len(r.Headers)-1].Value
			flip := func(at int) {
				seal[at] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
				want = append(want, "ALTERED "+name)
			}
			switch op := rapid.SampledFrom([]string{"drop", "copy", "statement", "blind", "prev", "value", "garbage"}).Draw(rt, "op"); op {
			case "drop":
				out = out[:len(out)-1]
				want = append(want, "GAP "+name)
			case "copy":
				out = append(out, cloneRecord(*r))
				want = append(want, "FORK "+name)
			case "statement":
				flip(rapid.IntRange(0, StatementSize-1).Draw(rt, "at"))
			case "blind":
				flip(rapid.IntRange(atEpoch, atEpoch+3).Draw(rt, "at"))
			case "prev":
				flip(rapid.IntRange(atPrev, atPrev+31).Draw(rt, "at"))
			case "value":
				r.Value = append(r.Value, 'x')
				want = append(want, "ALTERED "+name)
			case "garbage":
				r.Headers = nil
				want = append(want, "ALTERED "+name)
			}
		}
		findings, _ := verify(f.options(), out)
		got := f.shorts(findings)
		for i := range got {
			if strings.HasPrefix(got[i], "ALTERED ?") { // an unreadable genesis at the start
				got[i] = "ALTERED A0"
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			rt.Fatalf("findings\n%q, want\n%q\n%v", got, want, findings)
		}
	})
}
