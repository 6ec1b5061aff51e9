package generate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/sealstream/sealstream/schemas"
)

// registry knows the two schemas of the tests.
type registry struct{}

func (registry) Schema(_ context.Context, id uint32) (string, error) {
	switch id {
	case 7:
		return schemas.AuditSchema(), nil
	case 8:
		return schemas.DomainSchema(), nil
	}
	return "", schemas.ErrUnknownSchema
}

func newGenerator(t testing.TB, o Options) *Generator {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func options(f Format) Options {
	return Options{Seed: 1, Format: f, AuditSchemaID: 7, DomainSchemaID: 8}
}

// TestEveryEventIsValid: whatever is made passes our own door, in both forms, and says
// in its headers what it says in its value.
func TestEveryEventIsValid(t *testing.T) {
	codec := schemas.NewCodec(registry{})
	for _, f := range []Format{JSON, Avro, Mixed} {
		g := newGenerator(t, options(f))
		var m Message
		var fields schemas.Fields
		framed := 0
		for i := range 800 {
			g.Next(&m)
			at := time.UnixMilli(m.TimeMs)
			var err error
			switch m.Stream {
			case schemas.TopicAudit:
				var e *schemas.AuditEvent
				if e, err = codec.Audit(t.Context(), m.Value); err == nil {
					err = schemas.ValidateAudit(e, at)
				}
			case schemas.TopicDomain:
				var e *schemas.DomainEvent
				if e, err = codec.Domain(t.Context(), m.Value); err == nil {
					err = schemas.ValidateDomain(e, at)
				}
				if err == nil && string(m.Key) != e.Aggregate.ID {
					t.Errorf("key %s of %s", m.Key, e.Aggregate.ID)
				}
			default:
				t.Fatalf("stream %q", m.Stream)
			}
			if err != nil {
				t.Fatalf("event %d: %v\n%s", i, err, m.Value)
			}
			if err := codec.Project(t.Context(), m.Value, &fields); err != nil {
				t.Fatalf("event %d: %v", i, err)
			}
			if strings.Contains(string(m.Value), "mark-") || strings.Contains(string(m.Value), markCents) {
				t.Fatalf("a mark is left: %s", m.Value)
			}
			want := map[string]string{
				"ce_id": text(fields, "event_id"), "ce_type": text(fields, "event_action"), "ce_tenant": text(fields, "organization_id"),
				"ce_specversion": "1.0", "ce_source": "sealstream/generate", "content-type": "application/json",
				"ce_time": time.UnixMilli(fields.Time).UTC().Format("2006-01-02T15:04:05.000Z"),
			}
			if m.Value[0] == 0 {
				framed++
				want["content-type"] = "application/vnd.confluent.avro"
			}
			got := map[string]string{}
			for _, h := range m.Headers {
				got[h.Name] = string(h.Value)
			}
			if d := cmp.Diff(want, got); d != "" || m.ID() != want["ce_id"] || m.Tenant != want["ce_tenant"] || m.TimeMs != fields.Time {
				t.Fatalf("event %d: %s", i, d)
			}
		}
		if f == JSON && framed != 0 || f == Avro && framed != 800 || f == Mixed && (framed < 200 || framed > 340) {
			t.Errorf("format %d: %d framed of 800", f, framed)
		}
	}
}

func text(f schemas.Fields, name string) string {
	for i, c := range schemas.Columns(schemas.ProjectionVersion) {
		if c.Name == name {
			return f.Values[i].Text
		}
	}
	return "no column " + name
}

// TestSameSeedSameBytes: two generators of the same options agree on every byte.
func TestSameSeedSameBytes(t *testing.T) {
	sum := func(o Options) string {
		g, h := newGenerator(t, o), sha256.New()
		var m Message
		for range 2000 {
			g.Next(&m)
			fmt.Fprintf(h, "%s|%s|%s|%v|%d\n", m.Stream, m.Key, m.Value, m.Headers, m.TimeMs)
		}
		return hex.EncodeToString(h.Sum(nil)[:8])
	}
	o := options(Mixed)
	o.Mistakes = Mistakes{Malformed: 0.05, Duplicates: 0.05}
	first := sum(o)
	if second := sum(o); second != first {
		t.Errorf("%s, then %s", first, second)
	}
	o.Seed = 2
	if other := sum(o); other == first {
		t.Error("the seed changes nothing")
	}
}

// TestLooksLikeWork counts a week.
func TestLooksLikeWork(t *testing.T) {
	o := Options{Seed: 3, Rate: 0.06, Start: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}
	g := newGenerator(t, o)
	var m Message
	var size, total, audit, failed, weekend, office int
	actors, tenants, actions := map[string]int{}, map[string]int{}, map[string]int{}
	end := o.Start.AddDate(0, 0, 7)
	var fields schemas.Fields
	codec := schemas.NewCodec(nil)
	for ids := map[string]bool{}; ; {
		g.Next(&m)
		at := time.UnixMilli(m.TimeMs).UTC()
		if at.After(end) {
			break
		}
		if ids[m.ID()] {
			t.Fatalf("%s twice", m.ID())
		}
		id, err := uuid.Parse(m.ID())
		if sec, nsec := id.Time().UnixTime(); err != nil || id.Version() != 7 || id.Variant() != uuid.RFC4122 || time.Unix(sec, nsec).UnixMilli() != m.TimeMs {
			t.Fatalf("%s is no UUID of version 7 for its time: %v", m.ID(), err)
		}
		ids[m.ID()] = true
		total++
		size += len(m.Value)
		if err := codec.Project(t.Context(), m.Value, &fields); err != nil {
			t.Fatal(err)
		}
		actors[text(fields, "user_id")]++
		tenants[m.Tenant]++
		actions[text(fields, "event_action")]++
		if text(fields, "event_outcome") == "failure" {
			failed++
		}
		if m.Stream == schemas.TopicAudit {
			audit++
		}
		switch {
		case at.Weekday() == time.Saturday || at.Weekday() == time.Sunday:
			weekend++
		case at.Hour() >= dayBegins && at.Hour() < dayEnds:
			office++
		}
	}
	busiest := 0
	for _, n := range actors {
		busiest = max(busiest, n)
	}
	// 55 office hours and 113 others at a tenth of 0.06 a second: about 14,300.
	if total < 13_500 || total > 15_500 {
		t.Errorf("%d events in a week", total)
	}
	if mean := size / total; mean < 380 || mean > 460 {
		t.Errorf("mean size %d bytes", mean)
	}
	if share := float64(audit) / float64(total); share < 0.68 || share > 0.76 {
		t.Errorf("%.2f of the events are audit events", share)
	}
	if share := float64(office) / float64(total); share < 0.75 || share > 0.9 {
		t.Errorf("%.2f in office hours", share)
	}
	if weekend == 0 || failed < total/100 || failed > total/8 {
		t.Errorf("%d at the weekend, %d failures of %d", weekend, failed, total)
	}
	if len(actors) < 180 || busiest < 10*total/len(actors) || len(tenants) != 3 {
		t.Errorf("%d actors, the busiest with %d of %d; tenants %v", len(actors), busiest, total, tenants)
	}
	for _, want := range []string{"user.login", "role.grant", "record.export", "order.placed", "order.delivered", "order.returned", "secret.read"} {
		if actions[want] == 0 {
			t.Errorf("no %s in %v", want, actions)
		}
	}
}

// TestOrdersGoTheirWay: versions of an order are dense and its steps follow.
func TestOrdersGoTheirWay(t *testing.T) {
	o := options(JSON)
	o.DomainShare, o.NoNights = 1, true
	g := newGenerator(t, o)
	versions, last := map[string]int64{}, map[string]string{}
	may := map[string]string{
		"order.placed": "", "order.paid": "order.placed", "order.cancelled": "order.placed", "order.shipped": "order.paid",
		"order.delivered": "order.shipped", "order.returned": "order.shipped",
	}
	var m Message
	for range 5000 {
		g.Next(&m)
		var e schemas.DomainEvent
		if err := e.UnmarshalJSON(m.Value); err != nil {
			t.Fatal(err)
		}
		id, action := *e.Organization.ID+"/"+e.Aggregate.ID, *e.Event.Action
		if e.Aggregate.Version != versions[id]+1 || last[id] != may[action] {
			t.Fatalf("%s: %s as version %d behind %s", id, action, e.Aggregate.Version, last[id])
		}
		versions[id], last[id] = e.Aggregate.Version, action
	}
}

func TestMistakesOnlyWhenAsked(t *testing.T) {
	codec := schemas.NewCodec(registry{})
	for _, f := range []Format{JSON, Avro} {
		o := options(f)
		o.Mistakes = Mistakes{Malformed: 0.1, Duplicates: 0.2}
		g := newGenerator(t, o)
		var m, before Message
		var malformed, duplicates int
		var fields schemas.Fields
		for range 2000 {
			g.Next(&m)
			if m.Duplicate {
				duplicates++
				same := m.Clone()
				same.Duplicate = before.Duplicate
				if d := cmp.Diff(before, same, cmp.AllowUnexported(Message{})); d != "" {
					t.Fatalf("not the same again: %s", d)
				}
			}
			if m.Malformed && !m.Duplicate {
				malformed++
			}
			err := codec.Project(t.Context(), m.Value, &fields)
			var bad *schemas.DecodeError
			if m.Malformed != errors.As(err, &bad) {
				t.Fatalf("malformed %v, but %v: %q", m.Malformed, err, m.Value)
			}
			before = m.Clone()
		}
		if malformed < 110 || malformed > 210 || duplicates < 320 || duplicates > 480 {
			t.Errorf("%d malformed, %d duplicates of 2,000", malformed, duplicates)
		}
	}
}

func TestKeys(t *testing.T) {
	o := options(JSON)
	o.DomainShare = -1
	o.Key = func(tenant, actor string) []byte { return []byte(tenant + "/hash of " + actor) }
	g := newGenerator(t, o)
	var m Message
	for range 100 {
		g.Next(&m)
		var e schemas.AuditEvent
		if err := e.UnmarshalJSON(m.Value); err != nil {
			t.Fatal(err)
		}
		if want := m.Tenant + "/hash of " + *e.User.ID; string(m.Key) != want {
			t.Errorf("key %s, want %s", m.Key, want)
		}
	}
	o.Key = nil
	g = newGenerator(t, o)
	for range 100 {
		g.Next(&m)
		var e schemas.AuditEvent
		if err := e.UnmarshalJSON(m.Value); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(m.Key), *e.User.Name) {
			t.Errorf("key %s names %s", m.Key, *e.User.Name)
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	for want, o := range map[string]Options{
		"start":        {Start: time.Unix(0, 0)},
		"rate":         {Rate: -1},
		"domain share": {DomainShare: 1.1},
		"tenants":      {Tenants: 21},
		"actors":       {Tenants: 5, Actors: 4},
		"mistakes":     {Mistakes: Mistakes{Malformed: 2}},
		"format":       {Format: 3},
		"avro":         {Format: Avro, AuditSchemaID: 1},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestSample(t *testing.T) {
	end := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC) // a Saturday night
	msgs, err := Sample(end, nil)
	if err != nil {
		t.Fatal(err)
	}
	streams, ids := map[string]int{}, map[string]bool{}
	for _, m := range msgs {
		streams[m.Stream]++
		ids[m.ID()] = true
		if at := time.UnixMilli(m.TimeMs); at.After(end) || at.Before(end.Add(-2*time.Hour)) {
			t.Errorf("an event at %s", at)
		}
	}
	if len(msgs) != SampleSize || len(ids) != SampleSize || streams[schemas.TopicAudit] < 30 || streams[schemas.TopicDomain] < 10 {
		t.Errorf("%d messages, %v", len(msgs), streams)
	}
}

func BenchmarkNext(b *testing.B) {
	for name, f := range map[string]Format{"json": JSON, "avro": Avro} {
		b.Run(name, func(b *testing.B) {
			g := newGenerator(b, options(f))
			var m Message
			size, n := 0, 0
			for range 50_000 {
				g.Next(&m)
			}
			b.ReportAllocs()
			for b.Loop() {
				g.Next(&m)
				size += len(m.Value)
				n++
			}
			b.ReportMetric(float64(size)/float64(n), "bytes/event")
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
