package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

var (
	source0 = sinks.Partition{Topic: "audit.events", ID: 0}
	source1 = sinks.Partition{Topic: "audit.events", ID: 1}
	sealed0 = sinks.Partition{Topic: "audit.events.sealed", ID: 0}
	sealed1 = sinks.Partition{Topic: "audit.events.sealed", ID: 1}
	topicID = ledger.TopicID{1}
)

const perPartition = 10

// history is what two partitions of one topic look like after an ordinary run: a
// genesis and ten events each, all stored, one set aside.
type history struct {
	Evidence
	records map[sinks.Partition][]ledger.Record // the sealed topics, as records
}

func honest(t *testing.T) *history {
	t.Helper()
	h := &history{records: map[sinks.Partition][]ledger.Record{}, Evidence: Evidence{
		SourceIDs: map[string]ledger.TopicID{"audit.events": topicID},
		Sources:   map[sinks.Partition][]Event{}, Sealed: map[sinks.Partition][]Statement{},
		Rows: map[sinks.Partition][]Row{}, Stored: map[sinks.Partition]int64{}, Rejects: map[sinks.Partition][]Reject{},
	}}
	keys, err := ledger.NewKeyring(map[uint32][]byte{1: make([]byte, 32)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []sinks.Partition{source0, source1} {
		h.addPartition(t, p, keys)
	}
	h.Rejects[sealed1] = []Reject{reject(h.Sources[source1][2], 4)}
	h.Rows[sealed1] = slices.DeleteFunc(h.Rows[sealed1], func(r Row) bool { return r.Offset == 4 })
	h.reread()
	return h
}

func reject(e Event, sealedOffset int64) Reject {
	return Reject{Offset: sealedOffset, Reason: "check", Detail: "constraint c", Frame: e.Frame}
}

func (h *history) addPartition(t *testing.T, p sinks.Partition, keys *ledger.Keyring) {
	t.Helper()
	sealed := sinks.Partition{Topic: schemas.SealedName(p.Topic), ID: p.ID}
	chain, genesis, err := ledger.Start(ledger.Genesis{Name: "log.test", Cluster: "c", Source: p.Topic, SourceID: topicID, Partition: p.ID}, keys)
	if err != nil {
		t.Fatal(err)
	}
	h.records[sealed] = append(h.records[sealed], genesis)
	for i := range int64(perPartition) {
		id := fmt.Sprintf("%s-%d", p, i)
		src := ledger.Record{Key: []byte("k"), Value: []byte(id), TimeMs: 1_700_000_000_000 + i, Offset: i,
			Headers: []ledger.Header{{Name: "ce_id", Value: []byte(id)}}}
		seal, _, err := chain.Append(&src, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.Sources[p] = append(h.Sources[p], eventOf(&src))
		h.Acked = append(h.Acked, Ack{ID: id, Partition: p, Offset: i})
		out := src
		out.Headers = append(slices.Clone(src.Headers), ledger.Header{Name: ledger.SealHeader, Value: seal})
		out.Offset = 2 + i // behind the genesis and the marker of its transaction
		h.records[sealed] = append(h.records[sealed], out)
	}
	h.Stored[sealed] = 2 + perPartition
	for i := range h.records[sealed] {
		s, err := ledger.Open(&h.records[sealed][i])
		if err != nil {
			t.Fatal(err)
		}
		h.Rows[sealed] = append(h.Rows[sealed], Row{Ledger: s.Statement.Ledger, Seq: s.Statement.Seq, Offset: h.records[sealed][i].Offset, Leaf: s.Leaf()})
	}
	h.Sightings = append(h.Sightings,
		Sighting{At: time.UnixMilli(0), Partition: sealed, Next: 0, Rows: 0, Last: -1},
		Sighting{At: time.UnixMilli(0), Partition: sealed, Next: 4, Rows: 3, Last: 3})
}

// reread makes what the oracle sees out of the records.
func (h *history) reread() {
	h.Links = nil
	for p, recs := range h.records {
		r := newSealedReader(p)
		for i := range recs {
			r.add(&recs[i])
		}
		r.finish()
		h.Sealed[p], h.Links = r.statements, append(h.Links, r.findings...)
	}
}

func expected() Expected { return Expected{Rejects: 1, Reason: "check", Constraint: "c"} }

func TestOracleFindsNothingInAnHonestHistory(t *testing.T) {
	v := Judge(&honest(t).Evidence)
	if fs := v.Faults(expected()); len(fs) > 0 {
		t.Errorf("found %q", fs)
	}
	if v.Acked != 20 || v.Source != 20 || v.Sealed != 20 || v.Rows != 21 || v.Sightings != 4 {
		t.Errorf("judged %+v, want 20 acked, 20 in the source, 20 sealed, 21 rows (two of genesis, one reject) and 4 sightings", v)
	}
}

// Each fault is made in an otherwise honest history. The oracle must name it, and
// count no more than what was broken.
func TestOracleFindsEachFault(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*history)
		want  map[Charge]int
	}{
		{"an acknowledged event is nowhere", func(h *history) {
			h.Acked = append(h.Acked, Ack{ID: "gone", Partition: source0, Offset: 3})
		}, map[Charge]int{Lost: 1}},
		{"an event that was acknowledged without a place is nowhere", func(h *history) {
			h.Acked[3].Offset = -1
			h.Acked = append(h.Acked, Ack{ID: "gone", Offset: -1})
		}, map[Charge]int{Lost: 1}},
		{"a read is not written down", func(h *history) {
			h.Sources[source0][3].Read = true
			h.Answered = 2
		}, map[Charge]int{Unrecorded: 1}},
		{"an acknowledged event is elsewhere", func(h *history) { h.Acked[3].Offset = 4 }, map[Charge]int{Moved: 1}},
		{"a source record is doubled", func(h *history) { h.Sources[source0][5].ID = h.Sources[source0][2].ID }, map[Charge]int{Doubled: 1, Lost: 1}},
		{"a record is not sealed", func(h *history) {
			h.Sources[source0] = append(h.Sources[source0], Event{Offset: 10, ID: "late"})
		}, map[Charge]int{Unsealed: 1}},
		{"a record is sealed twice", func(h *history) {
			again := h.Sealed[sealed0][3]
			again.Offset, again.Seq = 12, 11
			h.Sealed[sealed0] = append(h.Sealed[sealed0], again)
			h.Rows[sealed0] = append(h.Rows[sealed0], Row{again.Ledger, again.Seq, again.Offset, again.Leaf})
			h.Stored[sealed0] = 13
		}, map[Charge]int{SealedTwice: 1}},
		{"two records are sealed in the wrong order", func(h *history) {
			s := h.Sealed[sealed0]
			s[3].Source, s[4].Source = s[4].Source, s[3].Source
			s[3].Frame, s[4].Frame = s[4].Frame, s[3].Frame
			s[3].TimeMs, s[4].TimeMs = s[4].TimeMs, s[3].TimeMs
		}, map[Charge]int{OutOfOrder: 1}},
		{"a statement about nothing", func(h *history) { h.Sources[source0] = h.Sources[source0][:9]; h.Acked = slices.Delete(h.Acked, 9, 10) }, map[Charge]int{Strange: 1}},
		{"a statement about another topic", func(h *history) { h.Sealed[sealed0][4].Topic = ledger.TopicID{9} }, map[Charge]int{Strange: 1}},
		{"a sealed topic without a source", func(h *history) {
			p := sinks.Partition{Topic: "other.sealed"}
			h.Sealed[p] = []Statement{{Kind: ledger.KindEvent}}
			h.Rows[p], h.Stored[p] = []Row{{}}, 1
		}, map[Charge]int{Strange: 1}},
		{"a sealed partition without a source", func(h *history) { delete(h.Sources, source1); h.Acked = h.Acked[:10] }, map[Charge]int{Strange: perPartition}},
		{"a source without a sealed partition", func(h *history) {
			delete(h.Sealed, sealed0)
			delete(h.Rows, sealed0)
			h.Sightings = h.Sightings[2:]
		}, map[Charge]int{Unsealed: perPartition}},
		{"sealed with another value", func(h *history) { h.Sources[source1][7].Frame[0] ^= 1 }, map[Charge]int{Altered: 1}},
		{"sealed with another time", func(h *history) { h.Sources[source1][7].TimeMs++ }, map[Charge]int{Altered: 1}},
		{"a sealed value is changed", func(h *history) {
			r := &h.records[sealed0][4]
			r.Value = append(slices.Clone(r.Value), 'x')
			h.reread()
		}, map[Charge]int{BadLink: 1, Altered: 1}},
		{"a sealed record is gone", func(h *history) {
			h.records[sealed0] = slices.Delete(h.records[sealed0], 4, 5)
			h.reread()
		}, map[Charge]int{BadLink: 1, Unsealed: 1, StoredWrong: 1, RowAhead: 0}},
		{"a sealed record is there twice", func(h *history) {
			again := h.records[sealed0][10]
			again.Offset = 13
			h.records[sealed0] = append(h.records[sealed0], again)
			h.Stored[sealed0] = 14
			h.reread()
		}, map[Charge]int{BadLink: 1, SealedTwice: 1, OffsetAhead: 1}},
		{"the stored offset is ahead of the rows", func(h *history) { h.Rows[sealed0] = h.Rows[sealed0][:10] }, map[Charge]int{OffsetAhead: 1}},
		{"a row is above the stored offset", func(h *history) { h.Stored[sealed0]-- }, map[Charge]int{RowAhead: 1}},
		{"the sink has not caught up", func(h *history) {
			h.Stored[sealed0]--
			h.Rows[sealed0] = h.Rows[sealed0][:10]
		}, map[Charge]int{NotStored: 1}},
		{"a row is there twice", func(h *history) { h.Rows[sealed0] = append(h.Rows[sealed0], h.Rows[sealed0][2]) }, map[Charge]int{StoredTwice: 1}},
		{"one seq has two rows", func(h *history) {
			r := h.Rows[sealed0][2]
			r.Offset = 1
			h.Rows[sealed0] = append(h.Rows[sealed0], r)
		}, map[Charge]int{StoredTwice: 1}},
		{"a row has another leaf", func(h *history) { h.Rows[sealed0][2].Leaf[0] ^= 1 }, map[Charge]int{StoredWrong: 1}},
		{"a row of no record", func(h *history) { h.Rows[sealed0] = append(h.Rows[sealed0], Row{Seq: 99, Offset: 1}) }, map[Charge]int{StoredWrong: 1}},
		{"rows of no topic", func(h *history) { h.Rows[sinks.Partition{Topic: "x"}] = []Row{{Seq: 1}} }, map[Charge]int{StoredWrong: 1}},
		{"more is set aside", func(h *history) {
			h.Rejects[sealed1] = append(h.Rejects[sealed1], reject(h.Sources[source1][3], 5))
			h.Rows[sealed1] = slices.DeleteFunc(h.Rows[sealed1], func(r Row) bool { return r.Offset == 5 })
		}, map[Charge]int{Rejected: 1}},
		{"set aside with other bytes", func(h *history) { h.Rejects[sealed1][0].Frame[0] ^= 1 }, map[Charge]int{Altered: 1}},
		{"set aside, and no record", func(h *history) { h.Rejects[sealed0] = []Reject{reject(h.Sources[source0][3], 99)} }, map[Charge]int{Strange: 1}},
		{"set aside and stored", func(h *history) { h.Rejects[sealed0] = []Reject{reject(h.Sources[source0][3], 5)} }, map[Charge]int{Rejected: 1, RejectedFor: 1}},
		{"the offset was ahead once", func(h *history) { h.Sightings[1].Next++ }, map[Charge]int{OffsetAhead: 1}},
		{"a row was ahead once", func(h *history) { h.Sightings[1].Rows, h.Sightings[1].Last = 4, 4 }, map[Charge]int{RowAhead: 1}},
		{"a row was ahead once, and one below was missing", func(h *history) { h.Sightings[1].Last = 4 }, map[Charge]int{RowAhead: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := honest(t)
			c.spoil(h)
			v := Judge(&h.Evidence)
			c.want[Rejected]++ // the honest one
			for _, charge := range partitionsOfCharges(v, c.want) {
				if v.Counts[charge] != c.want[charge] {
					t.Errorf("%s: %d, want %d (%q)", charge, v.Counts[charge], c.want[charge], v.samples[charge])
				}
			}
			if fs := v.Faults(expected()); len(fs) == 0 {
				t.Error("no fault reported")
			}
		})
	}
}

func partitionsOfCharges(v *Verdict, want map[Charge]int) []Charge {
	var out []Charge
	for c := range v.Counts {
		out = append(out, c)
	}
	for c := range want {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}

func TestOracleNeedsSomethingToJudge(t *testing.T) {
	h := honest(t)
	h.Acked = nil
	if fs := Judge(&h.Evidence).Faults(expected()); len(fs) != 1 || !strings.Contains(fs[0], "no producer") {
		t.Errorf("found %q in a history without acknowledgements", fs)
	}
	if fs := Judge(&Evidence{Acked: []Ack{{}}}).Faults(Expected{}); !slices.ContainsFunc(fs, func(s string) bool { return strings.Contains(s, "the source log is empty") }) {
		t.Errorf("found %q in a history without a source", fs)
	}
}

// Doubled source records are counted always and a fault only where the broker lived.
func TestDoubledIsAFaultUnlessTheBrokerDied(t *testing.T) {
	h := honest(t)
	h.Sources[source0][5].ID = h.Sources[source0][2].ID
	h.Acked = slices.Delete(h.Acked, 5, 6)
	v := Judge(&h.Evidence)
	mayDouble := expected()
	mayDouble.MayDouble = true
	if fs := v.Faults(mayDouble); len(fs) > 0 {
		t.Errorf("found %q although it was expected", fs)
	}
	if fs := v.Faults(expected()); len(fs) != 1 {
		t.Errorf("found %q, want one fault", fs)
	}
	if n := len(v.Doubles()); n != 1 || v.Counts[Doubled] != 1 {
		t.Errorf("%d doubles named, %d counted, want 1", n, v.Counts[Doubled])
	}
}

func TestWrongReasonsAreFaults(t *testing.T) {
	for _, spoil := range []func(*Reject){func(r *Reject) { r.Reason = "null" }, func(r *Reject) { r.Detail = "column x" }} {
		h := honest(t)
		spoil(&h.Rejects[sealed1][0])
		if fs := Judge(&h.Evidence).Faults(expected()); len(fs) != 1 || !strings.Contains(fs[0], "1 set aside for") {
			t.Errorf("found %q, want one fault about the reason", fs)
		}
	}
}
