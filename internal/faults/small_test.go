package faults

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/schemas"
)

func TestSummaryOfIngestIsRead(t *testing.T) {
	for out, want := range map[string]ingestSummary{
		"ingested 5 events, 2 refused\n":                                         {ingested: 5, refused: 2},
		"note\ningested 0 events, 0 refused, 12 already there":                   {already: 12},
		"ingested 1 events, 0 refused, 2 doubled by a retry: a b":                {ingested: 1, doubled: 2},
		"ingested 1 events, 0 refused, 3 already there, 1 doubled by a retry: x": {ingested: 1, already: 3, doubled: 1},
	} {
		got, err := parseSummary(out)
		got.line = ""
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v", out, got, err)
		}
	}
	for _, out := range []string{"", "ingested", "ingested 5 events, 2 refused\nstopped"} {
		if _, err := parseSummary(out); err == nil {
			t.Errorf("%q was taken for a summary", out)
		}
	}
}

func TestNumbersComeBackFromIDs(t *testing.T) {
	l, other := &load{run: 0xabc}, &load{run: 0xabd}
	n, id := l.nextID()
	if l.number(id) != n || n != 1 {
		t.Errorf("event %d has id %s, which is read as %d", n, id, l.number(id))
	}
	if other.number(id) != 0 || l.number("") != 0 || l.number(id+"z") != 0 {
		t.Error("an id of another load has a number here")
	}
}

// The load must be made of events that the product takes as valid.
func TestLoadIsValid(t *testing.T) {
	l := &load{run: 1}
	l.avro.Store(7)
	c := schemas.NewCodec(resolver{7: schemas.AuditSchema()})
	avro := 0
	for range 8 {
		for _, topic := range (&scene{}).topics() {
			r := l.record(topic, -1, actionLoad)
			if r.Value[0] == 0 {
				avro++
			}
			var f schemas.Fields
			if err := c.Project(t.Context(), r.Value, &f); err != nil {
				t.Fatal(err)
			}
			var err error
			if topic == schemas.TopicAudit {
				var e *schemas.AuditEvent
				if e, err = c.Audit(t.Context(), r.Value); err == nil {
					err = schemas.ValidateAudit(e, time.Now())
				}
			} else {
				var e *schemas.DomainEvent
				if e, err = c.Domain(t.Context(), r.Value); err == nil {
					err = schemas.ValidateDomain(e, time.Now())
				}
			}
			if err != nil {
				t.Errorf("%s: %v", topic, err)
			}
		}
	}
	if avro == 0 {
		t.Error("none of the load is Avro")
	}
}

type resolver map[uint32]string

func (r resolver) Schema(_ context.Context, id uint32) (string, error) { return r[id], nil }

func TestChosenPartitionWins(t *testing.T) {
	p := choosing{kgo.StickyKeyPartitioner(nil)}.ForTopic("t")
	if got := p.Partition(&kgo.Record{Partition: 5, Key: []byte("a")}, 12); got != 5 {
		t.Errorf("partition %d, want 5", got)
	}
	want := kgo.StickyKeyPartitioner(nil).ForTopic("t").Partition(&kgo.Record{Key: []byte("a")}, 12)
	if got := p.Partition(&kgo.Record{Partition: -1, Key: []byte("a")}, 12); got != want {
		t.Errorf("partition %d, want the key's %d", got, want)
	}
}

func TestRunNeedsACase(t *testing.T) {
	o := Options{Run: regexp.MustCompile("^none of them$"), Out: &bytes.Buffer{}}
	if _, err := Run(t.Context(), o); err == nil {
		t.Error("a run without cases is no error")
	}
	if len(Names()) != len(cases()) {
		t.Error("not every case has a name")
	}
}

// A case whose program cannot even start fails, and says why.
func TestCaseWithoutAProgramFails(t *testing.T) {
	o := Options{Binary: "/nowhere/sealstream", Run: regexp.MustCompile("^seal-kill$"), TmpDir: t.TempDir(), Out: &bytes.Buffer{}}
	rs, err := Run(t.Context(), o)
	if err == nil || len(rs) != 1 || rs[0].Err == nil {
		t.Fatalf("got %+v, %v", rs, err)
	}
	var out bytes.Buffer
	Report(&out, o, rs)
	if !strings.Contains(out.String(), "FAILED") || !strings.Contains(out.String(), "seal-kill") {
		t.Errorf("the report says\n%s", out.String())
	}
}

func TestSpread(t *testing.T) {
	rs := []Recovery{{Sealed: time.Second, SealedAll: 4 * time.Second}, {Sealed: 2 * time.Second, SealedAll: 3 * time.Second}, {Sealed: 3 * time.Second, SealedAll: 3 * time.Second}}
	got := spread(rs, func(r Recovery) (time.Duration, time.Duration) { return r.Sealed, r.SealedAll })
	if got != "2.00 3.00 4.00s" {
		t.Errorf("got %q", got)
	}
}

func TestDetailsCountWhatRepeats(t *testing.T) {
	r := Result{Notes: []string{"a", "b", "a"}, Times: []Timing{{"x", time.Second}, {"y", time.Second}, {"x", 3 * time.Second}}}
	want := []string{"a (2 times)", "b", "x after 3.00 s median, 3.00 s p90, 3.00 s max of 2", "y after 1.00 s"}
	if got := r.details(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
