package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// flipSeal flips one bit of a sealed record's seal.
func flipSeal(r *Record, at int) {
	r.Headers[len(r.Headers)-1].Value[at] ^= 1
}

// TestVerifierStaysWatchful: after a finding about one record, the next alteration is
// still seen, however the ledger went on.
func TestVerifierStaysWatchful(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		g, genesis := foreignGenesis(t, f, f.a.Partition)
		foreign := forge(t, &genesis, g, f.keys)
		for i := 2; i < 12; i++ {
			name := func(j int) string { return f.name(t, j) }
			for _, c := range []struct {
				what   string
				change func(records []Record) []Record
				want   []string
			}{
				{"a copy, then a broken link", func(r []Record) []Record {
					flipSeal(&r[i], atPrev)
					return slices.Insert(r, i, cloneRecord(r[i-1]))
				}, []string{"FORK " + name(i-1), "ALTERED " + name(i)}},
				{"an old copy, then a broken link", func(r []Record) []Record {
					flipSeal(&r[i], atPrev)
					return slices.Insert(r, i, cloneRecord(r[1]))
				}, []string{"FORK " + name(1), "ALTERED " + name(i)}},
				{"a copy, then one unreadable", func(r []Record) []Record {
					r[i].Headers = nil
					return slices.Insert(r, i, cloneRecord(r[1]))
				}, []string{"FORK " + name(1), "ALTERED " + name(i)}},
				{"a stranger, then one unreadable", func(r []Record) []Record {
					r[i].Headers = nil
					return slices.Insert(r, i, foreign)
				}, []string{"EXTRA ?1", "ALTERED " + name(i)}},
				{"a stranger, then a broken link", func(r []Record) []Record {
					flipSeal(&r[i], atPrev)
					return slices.Insert(r, i, foreign)
				}, []string{"EXTRA ?1", "ALTERED " + name(i)}},
				{"a stranger, then another ledger id", func(r []Record) []Record {
					flipSeal(&r[i+1], atLedger)
					return slices.Insert(r, i, foreign)
				}, []string{"EXTRA ?1", "ALTERED " + name(i+1)}},
				{"one unreadable, then one missing", func(r []Record) []Record {
					r[i].Headers = nil
					return slices.Delete(r, i+1, i+2)
				}, []string{"ALTERED " + name(i), "GAP " + name(i+1)}},
				{"one surplus unreadable, later one missing", func(r []Record) []Record {
					r = slices.Delete(r, i+1, i+2)
					return slices.Insert(r, i, Record{})
				}, []string{"ALTERED " + name(i), "GAP " + name(i+1)}},
				{"a gap, then a broken link", func(r []Record) []Record {
					flipSeal(&r[i+2], atPrev)
					return slices.Delete(r, i, i+1)
				}, []string{"GAP " + name(i), "ALTERED " + name(i+2)}},
				{"an epoch, decided by one of altered seq", func(r []Record) []Record {
					flipSeal(&r[i-1], atEpoch)
					flipSeal(&r[i+1], atSeq)
					return r
				}, []string{"ALTERED " + name(i-1), "ALTERED " + name(i+1)}},
				{"an epoch, then an old copy", func(r []Record) []Record {
					flipSeal(&r[i-1], atEpoch)
					return slices.Insert(r, i, cloneRecord(f.records[0]))
				}, []string{"FORK A0", "ALTERED " + name(i-1)}},
				{"an epoch undecided, then two old copies", func(r []Record) []Record {
					flipSeal(&r[i-1], atEpoch)
					return slices.Insert(r, i+1, cloneRecord(f.records[0]), cloneRecord(f.records[0]))
				}, []string{"FORK A0", "FORK A0", "ALTERED " + name(i)}},
				{"two unreadable", func(r []Record) []Record {
					r[i].Headers, r[i+1].Headers = nil, nil
					return r
				}, []string{"ALTERED " + name(i), "ALTERED " + name(i+1)}},
				{"a higher offset, then a gap", func(r []Record) []Record {
					flipSeal(&r[i-1], atOffset+2)
					return slices.Delete(r, i, i+1)
				}, []string{"GAP " + name(i), "ALTERED " + name(i-1)}},
				{"a higher offset, then one unreadable", func(r []Record) []Record {
					flipSeal(&r[i-1], atOffset+2)
					r[i].Headers = nil
					return r
				}, []string{"ALTERED " + name(i), "ALTERED " + name(i-1)}},
			} {
				f.check(t, fmt.Sprintf("%s at %d", c.what, i), f.options(), c.change(f.clone()), c.want...)
			}
			// Two altered epochs apart from each other, with an unreadable record where the
			// first would be decided: the finding says that it may be the one before.
			records := f.clone()
			flipSeal(&records[i-1], atEpoch)
			records[i+1].Headers = nil
			findings, _ := verify(f.options(), records)
			if got, want := f.shorts(findings), []string{"ALTERED " + name(i+1), "ALTERED " + name(i)}; !slices.Equal(got, want) ||
				!strings.HasSuffix(findings[1].Detail, "no later record tells which") {
				t.Errorf("undecided at %d: %v, want %q", i, findings, want)
			}
		}
	})
}

// TestVerifierFollowsBranches: a writer that took over with an old head writes a branch;
// each second record of a seq is a fork, and what goes on behind either is not.
func TestVerifierFollowsBranches(t *testing.T) {
	for _, name := range []string{"salted=false,eventids=false", "salted=true,eventids=true"} {
		f := fixtures(t)[name]
		head := f.open(t, 4)
		c, err := Resume(&head, f.a, f.keys)
		if err != nil {
			t.Fatal(err)
		}
		var branch []Record // seq 5 to 12
		for i := range 8 {
			src := sourceEvent(4 + i)
			src.Value = []byte("another")
			branch = append(branch, mustAppend(t, c, src))
		}
		forks := []string{"FORK A5", "FORK A6", "FORK A7", "FORK A8"}
		records := append(f.clone()[:9], branch...)
		v := f.check(t, "the branch goes on", f.options(), records, forks...)
		if got := v.Ledgers()[0]; got.Head != c.Head() || got.Size != 13 {
			t.Errorf("head is not the branch's: %+v", got)
		}
		records = slices.Insert(f.clone(), 9, branch[:4]...)
		f.check(t, "the ledger goes on", f.options(), records, forks...)
		// Both go on, in turn.
		records = append(f.clone()[:9], branch[:5]...)
		records = append(records, cloneRecord(f.records[9]), branch[5], cloneRecord(f.records[10]))
		f.check(t, "both go on", f.options(), records, append(forks, "FORK A9", "FORK A10")...)
		// A block out of its place, and the ledger behind it.
		records = f.clone()
		block := slices.Clone(records[5:8])
		records = slices.Insert(slices.Delete(records, 5, 8), 8, block...)
		v = f.check(t, "a block moved", f.options(), records, "GAP A5", "EXTRA A5")
		last := f.open(t, 14)
		if got := v.Ledgers()[0]; got.Size != 15 || got.Head != last.Leaf() || !got.Closed {
			t.Errorf("a block moved: %+v", got)
		}
		flipSeal(&records[9], atPrev) // within the block
		f.check(t, "a block moved and altered", f.options(), records, "GAP A5", "EXTRA A5", "ALTERED A6")
		flipSeal(&records[9], atPrev)
		flipSeal(&records[7], atEpoch) // in front of it, where the ledger goes on behind it
		f.check(t, "a block moved, one before it altered", f.options(), records, "GAP A5", "EXTRA A5", "ALTERED A10")
	}
}

// TestVerifierDetails pins the texts that people read.
func TestVerifierDetails(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=false"]
	g, genesis := foreignGenesis(t, f, f.a.Partition)
	for _, c := range []struct {
		change func(r []Record) []Record
		want   string
	}{
		{func(r []Record) []Record { return slices.Insert(r, 7, cloneRecord(r[6])) }, "a second record of this seq, with the same statement"},
		{func(r []Record) []Record { return slices.Insert(r, 7, cloneRecord(r[3])) }, "a second record of this seq"},
		{func(r []Record) []Record {
			c := cloneRecord(r[6])
			flipSeal(&c, atEpoch)
			return slices.Insert(r, 7, c)
		}, "a second record of this seq"},
		{func(r []Record) []Record {
			c := cloneRecord(r[6])
			c.Value = []byte("x")
			return slices.Insert(r, 7, c)
		}, "a second record of this seq, with the same statement; differs in: commitment to key, headers and value"},
		{func(r []Record) []Record { return slices.Delete(r, 3, 4) }, "1 record missing: seq 3"},
		{func(r []Record) []Record { return slices.Delete(r, 3, 9) }, "6 records missing: seq 3 to 8"},
		{func(r []Record) []Record { return slices.Delete(r, 11, 15) }, "4 records missing: seq 11 to 14, the close among them"},
		{func(r []Record) []Record { return r[15:] }, "15 records missing: the whole ledger that the first genesis here follows, and its close"},
		{func(r []Record) []Record { return r[:15] }, "the close before it announces this ledger, and its genesis is not there"},
		{func(r []Record) []Record { return slices.Insert(r, 5, genesis) }, "a second genesis that no close announces; what follows on it is not counted again"},
		{func(r []Record) []Record { return slices.Insert(r, 5, forge(t, &genesis, g, nil)) }, "a record of a ledger that has no business here; what follows on it is not counted again"},
		{func(r []Record) []Record { r[5].Headers = nil; return r }, "unreadable: the last header is not seal"},
		{func(r []Record) []Record { flipSeal(&r[5], atPrev); return r }, "differs in: prev"},
		{func(r []Record) []Record { flipSeal(&r[5], atEpoch); return r }, "differs in: statement: seq 6 was sealed behind another one (prev)"},
		{func(r []Record) []Record { flipSeal(&r[5], atSeq+7); return r }, "differs in: seq"},
		{func(r []Record) []Record { flipSeal(&r[5], atLedger); return r }, "differs in: ledger id"},
		{func(r []Record) []Record { r[6].TimeMs++; r[6].Value = nil; return r }, "differs in: commitment to key, headers and value, record timestamp"},
		{func(r []Record) []Record { flipSeal(&r[14], atTopic); return r }, "differs in: source topic id"},
		{func(r []Record) []Record { flipSeal(&r[15], atPartition+3); return r }, "differs in: source partition"},
		{func(r []Record) []Record {
			flipSeal(&r[15], atPartition+3)
			flipSeal(&r[15], atTopic)
			return r
		}, "differs in: source partition, source topic id"},
	} {
		findings, _ := verify(f.options(), c.change(f.clone()))
		if len(findings) != 1 || findings[0].Detail != c.want {
			t.Errorf("findings %+v, want %q", findings, c.want)
		}
	}
}

// TestVerifierCountsAroundUnreadable: an unreadable record is not counted as missing.
func TestVerifierCountsAroundUnreadable(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=false"]
	records := slices.Delete(f.clone(), 6, 8)
	records[5].Headers = nil
	findings, _ := verify(f.options(), records)
	if len(findings) != 2 || findings[1].Verdict != Gap || findings[1].Detail != "2 records missing: seq 6 to 7" {
		t.Errorf("findings %+v", findings)
	}
	records = slices.Insert(slices.Delete(f.clone(), 1, 2), 0, Record{})
	f.check(t, "one unreadable before the genesis, one missing behind it", f.options(), records, "ALTERED ?0", "GAP A1")
	records = slices.Insert(f.clone()[3:], 0, Record{}, Record{})
	f.check(t, "two unreadable for three", f.options(), records, "ALTERED ?0", "ALTERED ?1", "GAP A2")
}

// TestVerifierAllocatesNothing on a partition without findings, with keys or without.
func TestVerifierAllocatesNothing(t *testing.T) {
	for _, keys := range []*Keyring{nil, testKeys(t, 1)} {
		c, genesis := mustStart(t, testGenesis(), testKeys(t, 1))
		v := NewVerifier(VerifierOptions{Partition: 3, Keys: keys})
		records := []Record{genesis}
		for i := range 1200 {
			src := benchRecord(i % 3)
			src.Offset = int64(i)
			records = append(records, mustAppend(t, c, src))
		}
		for i := range 2 {
			v.Next(&records[i])
		}
		n := 2
		if got := testing.AllocsPerRun(1000, func() {
			if f := v.Next(&records[n]); f != nil {
				t.Fatal(f)
			}
			n++
		}); got != 0 {
			t.Errorf("%v allocations per record", got)
		}
	}
}

// TestVerifierFinishTwice says nothing twice.
func TestVerifierFinishTwice(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=false"]
	records := f.clone()
	flipSeal(&records[len(records)-1], atPrev)
	findings, v := verify(f.options(), records)
	if len(findings) != 1 || len(v.Finish()) != 0 {
		t.Errorf("findings %v", findings)
	}
}
