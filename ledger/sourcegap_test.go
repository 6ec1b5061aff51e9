package ledger

import (
	"strings"
	"testing"
)

// closedOver returns a partition of two ledgers of one source topic: the first is closed
// behind offset 9, the second begins at start.
func closedOver(t *testing.T, topic TopicID, start int64) []Record {
	t.Helper()
	g := Genesis{Name: "audit.example.com/log", Cluster: "c1", Source: "audit.events", SourceID: TopicID{1}, Partition: 0}
	first, genesis, err := Start(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{records: []Record{genesis}}
	for i := range 10 {
		f.seal(t, first, Record{Offset: int64(i), Value: []byte("v")})
	}
	next := g
	next.SourceID, next.Start, next.Previous = topic, start, new(first.Previous())
	closing, err := first.Close(next)
	if err != nil {
		t.Fatal(err)
	}
	second, begun, err := Start(next, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.add(closing)
	f.add(begun)
	f.seal(t, second, Record{Offset: start, Value: []byte("v")})
	for i := range f.records {
		f.records[i].Offset = int64(i)
	}
	return f.records
}

func TestVerifierFindsWhatTheSourceLost(t *testing.T) {
	for _, c := range []struct {
		what  string
		topic TopicID
		start int64
		want  string
	}{
		{"nothing lost", TopicID{1}, 10, ""},
		{"sealed again from below, as an order may have it", TopicID{1}, 4, ""},
		{"another topic, with offsets of its own", TopicID{2}, 90, ""},
		{"one", TopicID{1}, 11, "source offsets 10 to 10 are in no ledger"},
		{"many", TopicID{1}, 40, "source offsets 10 to 39 are in no ledger: the source had lost them before they were sealed; at most 30 records"},
	} {
		recs := closedOver(t, c.topic, c.start)
		got, v := verify(VerifierOptions{Topic: "t", Partition: 0}, recs)
		if c.want == "" {
			if len(got) != 0 {
				t.Errorf("%s: %v", c.what, got)
			}
			continue
		}
		if len(got) != 1 || got[0].Verdict != Gap || got[0].Seq != 0 || !strings.HasPrefix(got[0].Detail, c.want) ||
			got[0].Ledger != v.Ledgers()[1].ID || got[0].Where != "t/0@11" {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

// A close whose own place was altered says nothing about the source.
func TestAlteredCloseIsNoSourceGap(t *testing.T) {
	recs := closedOver(t, TopicID{1}, 40)
	seal := &recs[11].Headers[len(recs[11].Headers)-1]
	seal.Value = append([]byte{}, seal.Value...)
	seal.Value[atOffset+7]--
	got, _ := verify(VerifierOptions{Topic: "t", Partition: 0}, recs)
	for _, f := range got {
		if f.Verdict == Gap {
			t.Errorf("%+v", f)
		}
	}
	if len(got) != 1 || got[0].Verdict != Altered {
		t.Errorf("%+v", got)
	}
}
