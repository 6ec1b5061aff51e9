package ledger

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// fixture is a small sealed partition: ledger A with its close, then its successor B.
type fixture struct {
	salted, eventIDs bool
	keys             *Keyring
	a, b             Genesis
	idA, idB         ID
	records          []Record // as committed, sealed offsets not dense
}

// fixtures are the shapes that the exhaustive tests go through.
func fixtures(t testing.TB) map[string]*fixture {
	t.Helper()
	all := map[string]*fixture{}
	for _, salted := range []bool{false, true} {
		for _, eventIDs := range []bool{false, true} {
			f := &fixture{salted: salted, eventIDs: eventIDs}
			f.build(t, 13, 8)
			all[fmt.Sprintf("salted=%t,eventids=%t", salted, eventIDs)] = f
		}
	}
	return all
}

// sourceEvent is source record i of a partition, as odd as records get.
func sourceEvent(i int) Record {
	r := Record{
		Key: []byte(fmt.Sprintf("k%d", i)), Value: []byte(fmt.Sprintf(`{"i":%d}`, i)),
		TimeMs: 1_795_430_954_000 + int64(i), Offset: int64(3*i + i/4), LeaderEpoch: int32(i / 5),
	}
	switch i % 7 {
	case 1:
		r.Key, r.Value = nil, nil
	case 2:
		r.Key, r.TimeMs = []byte{}, -5000
		r.Headers = []Header{{Name: "h", Value: nil}, {Name: "h", Value: []byte{}}}
	case 3:
		r.Headers = []Header{{Name: SealHeader, Value: bytes.Repeat([]byte{7}, StatementSize)}}
		r.LogAppendTime = true
	case 4:
		r.TimeMs = TimeOutOfRange
	case 5:
		r.Headers = []Header{{Name: "ce_id", Value: []byte("0190c8f2-7a3b-7c11-9a55-0123456789ab")}, {Name: "ce_type", Value: []byte("t")}}
	}
	return r
}

func (f *fixture) build(t testing.TB, eventsA, eventsB int) {
	t.Helper()
	if f.salted {
		f.keys = testKeys(t, 1, 2)
	}
	f.a = testGenesis()
	f.a.EventIDs = f.eventIDs
	c, r, err := Start(f.a, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	f.idA = c.ID()
	f.add(r)
	for i := range eventsA {
		f.seal(t, c, sourceEvent(i))
	}
	f.b = f.a
	f.b.SourceID[0]++
	f.b.Start = 5
	f.b.Previous = new(c.Previous())
	if r, err = c.Close(f.b); err != nil {
		t.Fatal(err)
	}
	f.add(r)
	if c, r, err = Start(f.b, f.keys); err != nil {
		t.Fatal(err)
	}
	f.idB = c.ID()
	f.add(r)
	for i := range eventsB {
		f.seal(t, c, sourceEvent(i+2))
	}
}

func (f *fixture) seal(t testing.TB, c *Chain, src Record) {
	t.Helper()
	seal, _, err := c.Append(&src, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.add(sealedRecord(&src, seal))
}

// add gives the record the next sealed offset; every third is a transaction marker's.
func (f *fixture) add(r Record) {
	n := len(f.records)
	r.Offset = int64(n + n/2)
	f.records = append(f.records, r)
}

func (f *fixture) options() VerifierOptions {
	return VerifierOptions{Topic: "audit.events.sealed", Partition: f.a.Partition, Keys: f.keys}
}

// clone is a deep copy, so that a test may flip bits in it.
func (f *fixture) clone() []Record {
	out := slices.Clone(f.records)
	for i := range out {
		out[i] = cloneRecord(out[i])
	}
	return out
}

func cloneRecord(r Record) Record {
	r.Key, r.Value, r.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), slices.Clone(r.Headers)
	for i := range r.Headers {
		r.Headers[i].Value = bytes.Clone(r.Headers[i].Value)
	}
	return r
}

// open is the record taken apart, for its ledger, seq and kind.
func (f *fixture) open(t testing.TB, i int) Sealed {
	t.Helper()
	s, err := Open(&f.records[i])
	if err != nil {
		t.Fatalf("record %d: %v", i, err)
	}
	return s
}

func (f *fixture) where(i int) string {
	return fmt.Sprintf("audit.events.sealed/%d@%d", f.a.Partition, f.records[i].Offset)
}

func verify(o VerifierOptions, records []Record) ([]Finding, *Verifier) {
	v := NewVerifier(o)
	var all []Finding
	for i := range records {
		all = append(all, v.Next(&records[i])...)
	}
	return append(all, v.Finish()...), v
}

// short is a finding as the tables of the tests write it.
func short(f Finding, ids map[ID]string) string {
	name, ok := ids[f.Ledger]
	if !ok {
		name = "?"
	}
	return fmt.Sprintf("%s %s%d", f.Verdict, name, f.Seq)
}

func (f *fixture) shorts(findings []Finding) []string {
	var out []string
	for _, x := range findings {
		out = append(out, short(x, map[ID]string{f.idA: "A", f.idB: "B"}))
	}
	return out
}

// name is the record as the tables write it: its ledger and seq.
func (f *fixture) name(t testing.TB, i int) string {
	s := f.open(t, i)
	return short(Finding{Ledger: s.Statement.Ledger, Seq: s.Statement.Seq}, map[ID]string{f.idA: "A", f.idB: "B"})[1:]
}
