package ledger

import (
	"fmt"
	"slices"
	"testing"
)

// TestVerifierWithoutGenesis: where the beginning was purged, the statements of the
// ledger say what is constant in it, and still one altered record is one finding.
func TestVerifierWithoutGenesis(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=true"]
	o := f.options()
	o.Partial = true
	for name, at := range map[string]int{"source topic id": atTopic, "source partition": atPartition + 3, "flags bit 1": atFlags + 1} {
		for i := 4; i < 13; i++ {
			records := f.clone()[4:14]
			seal := records[i-4].Headers[len(records[i-4].Headers)-1].Value
			seal[at] ^= 2
			if name == "flags bit 1" { // the slot goes with it, or the statement is unreadable
				clear(seal[atEventID : atEventID+16])
			}
			want := "ALTERED A" + fmt.Sprint(i)
			findings, _ := verify(o, records)
			if got := f.shorts(findings); !slices.Equal(got, []string{want}) {
				if i == 12 && slices.Equal(got, []string{"ALTERED A13"}) && name != "source partition" {
					continue // the newest two: no later record tells which
				}
				t.Errorf("%s of record %d: findings %v", name, i, findings)
			}
		}
	}
}

// TestVerifierLinkedRunBehindClose: what is linked behind a record that does not belong
// is counted with it.
func TestVerifierLinkedRunBehindClose(t *testing.T) {
	f := fixtures(t)["salted=false,eventids=false"]
	records := f.clone()
	s := f.open(t, 14)
	leaf, seq := s.Leaf(), uint64(15)
	var run []Record
	for range 5 {
		r := cloneRecord(f.records[13])
		leaf = reseal(t, &r, nil, func(st *Statement, _ *Record) { st.Seq, st.Prev, st.Offset = seq, leaf, st.Offset+seq })
		seq++
		run = append(run, r)
	}
	v := f.check(t, "run behind the close", f.options(), slices.Insert(records, 15, run...), "EXTRA A15")
	if states := v.Ledgers(); states[0].Size != 15 || states[0].Head != s.Leaf() || states[0].Records != 20 {
		t.Errorf("the run moved the head: %+v", states[0])
	}
	f.check(t, "and one that is not linked", f.options(), slices.Insert(f.clone(), 15, run[0], run[1], run[3]), "EXTRA A15", "EXTRA A18")
}

// TestVerifierGenesisContradictsLedger: with the close gone, the successor's genesis
// still tells what the last event must have been, and which ledger it follows.
func TestVerifierGenesisContradictsLedger(t *testing.T) {
	f := fixtures(t)["salted=false,eventids=false"]
	records := slices.Delete(f.clone(), 14, 15)
	records[13].Headers[len(records[13].Headers)-1].Value[atEpoch+3] ^= 4
	f.check(t, "last event altered, close dropped", f.options(), records, "ALTERED A13", "GAP A14")
	// Two successors of one ledger.
	g := f.b
	g.Start++
	_, second, err := Start(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.check(t, "second successor", f.options(), append(f.clone(), second), "EXTRA ?0")
	g.Previous = &Previous{Ledger: f.idA, Size: 3, Leaf: Hash{1}}
	if _, second, err = Start(g, nil); err != nil {
		t.Fatal(err)
	}
	f.check(t, "successor of what is no end", f.options(), slices.Insert(f.clone(), 9, second), "EXTRA ?0")
	// A forged successor behind an altered record is no less a stranger.
	g.Previous = &Previous{Ledger: f.idA, Size: 8, Leaf: Hash{1}}
	if _, second, err = Start(g, nil); err != nil {
		t.Fatal(err)
	}
	records = slices.Insert(f.clone(), 9, second)
	records[8].Value = []byte("x")
	f.check(t, "successor behind an altered record", f.options(), records, "ALTERED A8", "EXTRA ?0")
	// An unreadable close, and the true one later.
	records = f.clone()
	records[14].Headers = nil
	records = append(records, f.records[14])
	f.check(t, "second close", f.options(), records, "ALTERED A14", "FORK A14")
	// A close altered in two places, so that it reads as an event.
	records = f.clone()
	records[14].Headers[1].Value[atKind] = byte(KindEvent)
	findings, _ := verify(f.options(), records)
	if len(findings) != 1 || findings[0].Seq != 14 || findings[0].Where != f.where(14) || findings[0].Detail != "differs in: kind: the genesis behind it says that this is the close" {
		t.Errorf("close read as an event: %+v", findings)
	}
	records[14].Headers[0].Value[len("sealstream/genesis/v1\nname ")] ^= 1
	f.check(t, "close altered in two places", f.options(), records, "ALTERED A14")
	// An altered genesis body and ledger id where the announced genesis is due.
	records = f.clone()
	h := records[15].Headers
	h[1].Value[atLedger] ^= 1
	h[0].Value[len("sealstream/genesis/v1\nname ")] ^= 1
	f.check(t, "announced genesis altered in two places", f.options(), records, "ALTERED B0")
}

// TestVerifierMemoryIsBounded: a hostile partition takes findings, not memory.
func TestVerifierMemoryIsBounded(t *testing.T) {
	f := fixtures(t)["salted=false,eventids=false"]
	v := NewVerifier(f.options())
	v.Next(&f.records[0])
	r := cloneRecord(f.records[1])
	n := 3 * maxHoles
	for i := range n {
		reseal(t, &r, nil, func(st *Statement, _ *Record) { st.Seq, st.Offset, st.Prev = uint64(3*i+5), uint64(100+i), Hash{1} })
		if got := v.Next(&r); len(got) != 1 || got[0].Verdict != Gap {
			t.Fatalf("jump %d: %v", i, got)
		}
	}
	for i := range n {
		reseal(t, &r, nil, func(st *Statement, _ *Record) { st.Ledger, st.Seq, st.Prev = ID{1, byte(i), byte(i >> 8)}, 7, Hash{2} })
		if got := v.Next(&r); len(got) != 1 || got[0].Verdict != Extra {
			t.Fatalf("stranger %d: %v", i, got)
		}
	}
	if holes := len(v.tracks[f.idA].holes); holes > maxHoles || len(v.tracks) > maxExtras+2 {
		t.Errorf("%d holes, %d tracks", holes, len(v.tracks))
	}
	if got := v.Finish(); len(got) != 0 {
		t.Errorf("finish: %d findings, first %v", len(got), got[0])
	}
}

// TestVerifierFillsGaps: records of a dropped run that turn up later, in any order, are
// out of place, and no fork; a second copy is one.
func TestVerifierFillsGaps(t *testing.T) {
	f := fixtures(t)["salted=false,eventids=false"]
	late := f.clone()[4:10]
	records := slices.Delete(f.clone(), 4, 10)
	records = slices.Insert(records, 6, late[3], late[0], late[5], late[3], late[1])
	f.check(t, "late records", f.options(), records, "GAP A4", "EXTRA A7", "EXTRA A4", "EXTRA A9", "FORK A7", "EXTRA A5")
}

// TestVerifierHoldsRulesWithoutGenesis breaks one rule of a chain that is perfect
// otherwise, and whose beginning was purged.
func TestVerifierHoldsRulesWithoutGenesis(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=true"]
	o := f.options()
	o.Partial = true
	for field, change := range map[string]func(*Statement, *Record){
		"source topic id":  func(st *Statement, _ *Record) { st.Topic[3]++ },
		"source partition": func(st *Statement, _ *Record) { st.Partition++ },
		"flags bit 1":      func(st *Statement, _ *Record) { st.Flags, st.EventID = 0, [16]byte{} },
		"source offset":    func(st *Statement, _ *Record) { st.Offset = 2 },
	} {
		findings, _ := verify(o, f.rewrite(t, 6, change)[3:])
		if len(findings) != 1 || findings[0].Seq != 6 || findings[0].Detail != "differs in: "+field {
			t.Errorf("%s: findings %+v", field, findings)
		}
	}
}

// TestVerifierLateGenesis: a genesis out of its place still says what the ledger is.
func TestVerifierLateGenesis(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=true"]
	records := f.clone()[:14]
	records[0], records[1] = records[1], records[0]
	flipSeal(&records[8], atTopic)
	v := f.check(t, "genesis second", f.options(), records, "GAP A0", "EXTRA A0", "ALTERED A8")
	body, err := f.a.Body()
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Ledgers()[0]; got.Genesis != string(body) || got.Size != 14 {
		t.Errorf("state %+v", got)
	}
}
