package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func eachFixture(t *testing.T, run func(t *testing.T, f *fixture)) {
	for name, f := range fixtures(t) {
		t.Run(name, func(t *testing.T) { run(t, f) })
	}
}

// check compares findings with "VERDICT ledger+seq" lines.
func (f *fixture) check(t *testing.T, what string, o VerifierOptions, records []Record, want ...string) *Verifier {
	t.Helper()
	findings, v := verify(o, records)
	if got := f.shorts(findings); !slices.Equal(got, want) {
		t.Errorf("%s: findings %q, want %q\n%v", what, got, want, findings)
	}
	return v
}

func TestVerifierCleanPartition(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for _, keys := range []*Keyring{f.keys, nil} {
			o := f.options()
			o.Keys = keys
			o.Source = &f.a
			v := f.check(t, "as sealed", o, f.records)
			states := v.Ledgers()
			if len(states) != 2 {
				t.Fatalf("ledgers %+v", states)
			}
			for i, want := range []struct {
				id     ID
				last   int
				g      Genesis
				closed bool
			}{{f.idA, 14, f.a, true}, {f.idB, 23, f.b, false}} {
				body, _ := want.g.Body()
				head := f.open(t, want.last)
				got := states[i]
				if got.ID != want.id || got.Genesis != string(body) || got.Size != head.Statement.Seq+1 || got.Records != got.Size ||
					got.Head != head.Leaf() || got.Closed != want.closed || got.Extra {
					t.Errorf("ledger %d: %+v", i, got)
				}
				if unchecked := got.SaltsUnchecked > 0; unchecked != (f.salted && keys == nil) {
					t.Errorf("ledger %d: %d salts unchecked", i, got.SaltsUnchecked)
				}
			}
		}
	})
}

// target is one byte string of a record that the flip test goes through.
type target struct {
	name string
	get  func(r *Record) []byte
	set  func(r *Record, b []byte)
}

func targets(r *Record) []target {
	list := []target{
		{"key", func(r *Record) []byte { return r.Key }, func(r *Record, b []byte) { r.Key = b }},
		{"value", func(r *Record) []byte { return r.Value }, func(r *Record, b []byte) { r.Value = b }},
	}
	for i := range r.Headers {
		list = append(list,
			target{fmt.Sprintf("header %d name", i), func(r *Record) []byte { return []byte(r.Headers[i].Name) }, func(r *Record, b []byte) { r.Headers[i].Name = string(b) }},
			target{fmt.Sprintf("header %d value", i), func(r *Record) []byte { return r.Headers[i].Value }, func(r *Record, b []byte) { r.Headers[i].Value = b }})
	}
	return list
}

// blind says whether a flip in a seal changes only what the chain cannot judge in a
// record that no other stands behind: flags bit 0, epoch, source offset, and a salt key
// id whose master is not at hand.
func blind(seal []byte, at, bit int) bool {
	return (at == atFlags+1 && bit == 0) || (at >= atEpoch && at < atEpoch+4) || (at >= atOffset && at < atOffset+8) ||
		(at >= atSaltKey && at < atSaltKey+4 && len(seal) > StatementSize)
}

// TestVerifierFindsEveryBit flips bits of each record, one at a time: in every byte of
// key, value, header names and values, statement and salt; all eight where there is
// most in a record. One finding, ALTERED, on that record. The exceptions are those the format cannot have otherwise: the newest record,
// and the choice between the newest two.
func TestVerifierFindsEveryBit(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		last := len(f.records) - 1
		for i := range f.records {
			records := f.clone()
			for _, tg := range targets(&records[i]) {
				b := tg.get(&records[i])
				for at := range b {
					for bit := range 8 {
						if !(f.salted && f.eventIDs) && bit != (i+at)%8 {
							continue
						}
						b[at] ^= 1 << bit
						tg.set(&records[i], b)
						what := fmt.Sprintf("record %d (%s) %s byte %d bit %d", i, f.name(t, i), tg.name, at, bit)
						inSeal := tg.name == fmt.Sprintf("header %d value", len(records[i].Headers)-1)
						f.checkFlip(t, what, records, i, last, inSeal && blind(b, at, bit), inSeal && at >= atPrev && at < atPrev+32)
						b[at] ^= 1 << bit
						tg.set(&records[i], b)
					}
				}
			}
		}
	})
}

func (f *fixture) checkFlip(t *testing.T, what string, records []Record, i, last int, isBlind, isPrev bool) {
	t.Helper()
	findings, v := verify(f.options(), records)
	if i == last && isBlind && len(findings) == 0 {
		want := f.open(t, last)
		states := v.Ledgers()
		if states[len(states)-1].Head == want.Leaf() {
			t.Errorf("%s: not found, and the head does not show it", what)
		}
		return
	}
	if len(findings) != 1 {
		t.Errorf("%s: %d findings: %v", what, len(findings), findings)
		return
	}
	got, s := findings[0], f.open(t, i)
	if (i == last-1 && isBlind && got.Where != f.where(i)) || (i == last && isPrev) {
		// The last link is broken, and nothing behind it says on which side.
		if got.Where != f.where(last) || !strings.Contains(got.Detail, "no later record tells which") {
			t.Errorf("%s: %+v", what, got)
		}
		return
	}
	unnamed := i == 0 && got.Ledger == ID{} // an unreadable genesis at the start has no id to go by
	if got.Verdict != Altered || got.Where != f.where(i) || got.Seq != s.Statement.Seq || (got.Ledger != s.Statement.Ledger && !unnamed) {
		t.Errorf("%s: %+v", what, got)
	}
}

// TestVerifierFindsEveryTimestampBit flips each bit of each record timestamp.
func TestVerifierFindsEveryTimestampBit(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for i := range f.records {
			records := f.clone()
			s := f.open(t, i)
			for bit := range 64 {
				records[i].TimeMs ^= 1 << bit
				if s.Statement.TimeMs == TimeOutOfRange {
					f.check(t, "timestamp out of range is not compared", f.options(), records)
				} else {
					f.check(t, fmt.Sprintf("record %d timestamp bit %d", i, bit), f.options(), records, "ALTERED "+f.name(t, i))
				}
				records[i].TimeMs ^= 1 << bit
			}
		}
	})
}

// TestVerifierFindsReshapedRecords changes what no bit flip does: null and empty,
// header order and number, length of the seal.
func TestVerifierFindsReshapedRecords(t *testing.T) {
	swapNull := func(b []byte) []byte {
		if b == nil {
			return []byte{}
		}
		return nil
	}
	seal := func(r *Record) *Header { return &r.Headers[len(r.Headers)-1] }
	for name, change := range map[string]func(r *Record){
		"key null/empty":        func(r *Record) { r.Key = swapNull(r.Key) },
		"value null/empty":      func(r *Record) { r.Value = swapNull(r.Value) },
		"header in front":       func(r *Record) { r.Headers = slices.Insert(r.Headers, 0, Header{Name: "x"}) },
		"header behind":         func(r *Record) { r.Headers = append(r.Headers, Header{Name: "x"}) },
		"second seal behind":    func(r *Record) { r.Headers = append(r.Headers, Header{Name: SealHeader}) },
		"seal gone":             func(r *Record) { r.Headers = r.Headers[:len(r.Headers)-1] },
		"no headers":            func(r *Record) { r.Headers = nil },
		"seal null":             func(r *Record) { seal(r).Value = nil },
		"seal one byte shorter": func(r *Record) { seal(r).Value = seal(r).Value[:len(seal(r).Value)-1] },
		"seal one byte longer":  func(r *Record) { seal(r).Value = append(seal(r).Value, 0) },
		"seal without/with salt": func(r *Record) {
			if b := seal(r).Value; len(b) > StatementSize {
				seal(r).Value = b[:StatementSize]
			} else {
				seal(r).Value = append(b, make([]byte, saltSize)...)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachFixture(t, func(t *testing.T, f *fixture) {
				for i := range f.records {
					records := f.clone()
					change(&records[i])
					want := "ALTERED " + f.name(t, i)
					findings, _ := verify(f.options(), records)
					got := f.shorts(findings)
					if i == 0 && len(got) == 1 {
						got[0] = strings.Replace(got[0], "?", "A", 1)
					}
					if !slices.Equal(got, []string{want}) {
						t.Errorf("record %d: findings %q, want %q\n%v", i, got, want, findings)
					}
				}
			})
		})
	}
}

func TestVerifierFindsDroppedRecords(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for i := range f.records {
			records := slices.Delete(f.clone(), i, i+1)
			if i == len(f.records)-1 {
				v := f.check(t, "newest record dropped", f.options(), records)
				states := v.Ledgers()
				if head := f.open(t, i); states[1].Size != head.Statement.Seq || states[1].Head != head.Statement.Prev {
					t.Errorf("state does not show the shorter ledger: %+v", states[1])
				}
				continue
			}
			f.check(t, fmt.Sprintf("record %d dropped", i), f.options(), records, "GAP "+f.name(t, i))
		}
	})
}

func TestVerifierCountsDroppedRuns(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=false"]
	for lo := range f.records {
		for hi := lo + 1; hi < len(f.records); hi++ {
			records := slices.Delete(f.clone(), lo, hi)
			var want []string
			switch {
			case lo == 0 && hi == 15: // exactly ledger A: its successor names it
				want = []string{"GAP A0"}
			case lo <= 14 && hi >= 16 && lo > 0: // B's genesis and A's close: nothing announces B
				want = []string{"EXTRA " + f.name(t, hi)}
			default:
				want = []string{"GAP " + f.name(t, lo)}
			}
			if lo == 0 && hi > 15 {
				want = []string{"GAP B0"}
			}
			if lo == 15 && hi == len(f.records) {
				want = []string{"MISSING B0"}
			}
			f.check(t, fmt.Sprintf("records [%d, %d) dropped", lo, hi), f.options(), records, want...)
		}
	}
}

func TestVerifierFindsSwappedRecords(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for i := range len(f.records) - 1 {
			records := f.clone()
			records[i], records[i+1] = records[i+1], records[i]
			f.check(t, fmt.Sprintf("records %d and %d swapped", i, i+1), f.options(), records, "GAP "+f.name(t, i), "EXTRA "+f.name(t, i))
		}
	})
}

// TestVerifierFindsCopies puts a copy of each record at each later place.
func TestVerifierFindsCopies(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for i := range f.records {
			for at := i + 1; at <= len(f.records); at++ {
				records := slices.Insert(f.clone(), at, cloneRecord(f.records[i]))
				f.check(t, fmt.Sprintf("copy of record %d at %d", i, at), f.options(), records, "FORK "+f.name(t, i))
			}
		}
	})
}

// TestVerifierFindsMovedRecords puts each record to each later place.
func TestVerifierFindsMovedRecords(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for i := range f.records {
			for at := i + 1; at < len(f.records); at++ {
				records := f.clone()
				r := records[i]
				records = slices.Insert(slices.Delete(records, i, i+1), at, r)
				f.check(t, fmt.Sprintf("record %d moved to %d", i, at), f.options(), records, "GAP "+f.name(t, i), "EXTRA "+f.name(t, i))
			}
		}
	})
}

func TestVerifierCutTail(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for n := range len(f.records) + 1 {
			var want []string
			if n == 15 { // between the close and the genesis it announces
				want = []string{"MISSING B0"}
			}
			v := f.check(t, fmt.Sprintf("first %d records", n), f.options(), f.clone()[:n], want...)
			if n == 0 {
				if got := v.Ledgers(); got != nil {
					t.Errorf("ledgers of nothing: %+v", got)
				}
				continue
			}
			states, head := v.Ledgers(), f.open(t, n-1)
			if got := states[len(states)-1]; got.Size != head.Statement.Seq+1 || got.Head != head.Leaf() {
				t.Errorf("first %d records: state %+v", n, got)
			}
		}
	})
}

func TestVerifierCutHead(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		for n := 1; n < len(f.records); n++ {
			want, count := "GAP A0", n
			if n > 15 {
				want, count = "GAP B0", n-15
			}
			o := f.options()
			f.check(t, fmt.Sprintf("without the first %d records", n), o, f.clone()[n:], want)
			findings, _ := verify(o, f.clone()[n:])
			if len(findings) == 1 && !strings.HasPrefix(findings[0].Detail, fmt.Sprintf("%d record", count)) {
				t.Errorf("without the first %d records: %q", n, findings[0].Detail)
			}
			o.Partial = true
			f.check(t, fmt.Sprintf("known to begin at record %d", n), o, f.clone()[n:])
		}
	})
}
