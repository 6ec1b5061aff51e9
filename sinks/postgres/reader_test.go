package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

func (d *database) reader(change ...func(*postgres.ReaderOptions)) *postgres.Reader {
	d.t.Helper()
	o := postgres.ReaderOptions{URL: d.url(postgres.RoleReader), Codec: schemas.NewCodec(nil)}
	for _, c := range change {
		c(&o)
	}
	r, err := postgres.NewReader(d.t.Context(), o)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(r.Close)
	return r
}

// ev is an event as the reader's tests vary it.
type ev struct {
	tenant, id, action, outcome, category, user, name, object, aggregate, ip string
	at                                                                       int // seconds behind 2026-11-01
}

func (e ev) record(n int) ledger.Record {
	when := time.Date(2026, 11, 1, 0, 0, e.at, 0, time.UTC)
	obj := map[string]any{
		"@timestamp": when.Format(time.RFC3339), "event": map[string]any{"id": e.id, "action": e.action, "outcome": e.outcome, "category": []string{e.category, "web"}},
		"user": map[string]any{"id": e.user, "name": e.name}, "source": map[string]any{"ip": e.ip}, "audit": map[string]any{"object": map[string]any{"id": e.object}},
		"aggregate": map[string]any{"id": e.aggregate},
	}
	v, err := json.Marshal(obj)
	if err != nil {
		panic(err)
	}
	r := ledger.Record{Value: v, TimeMs: sinktest.BaseTimeMs + int64(n)}
	if e.tenant != "" {
		r.Headers = []ledger.Header{{Name: "ce_tenant", Value: []byte(e.tenant)}}
	}
	return r
}

// library is a database with many events in several ledgers, and what it holds.
type library struct {
	*database
	all []stored
}

type stored struct {
	ev
	ledger ledger.ID
	seq    uint64
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	l := &library{database: newDatabase(t)}
	s, rng := l.sink(), rand.New(rand.NewPCG(7, 7))
	pick := func(prefix string, n int) string { return fmt.Sprint(prefix, rng.IntN(n)) }
	for p := range int32(3) {
		src := sinktest.NewSource(t, sinktest.Topic, p)
		recs := []sinks.Record{src.First()}
		for i := range 60 {
			e := ev{tenant: pick("t", 3), id: fmt.Sprint("id-", p, "-", i), action: pick("a", 4), outcome: pick("o", 2), category: pick("c", 3),
				user: pick("u", 5), name: pick("n", 5), object: pick("x", 6), aggregate: pick("g", 6), ip: pick("10.0.0.", 4), at: rng.IntN(40)}
			rs := src.Seal(e.record(i))
			l.all = append(l.all, stored{e, src.ID, rs[0].Statement.Seq})
			recs = append(recs, rs...)
		}
		recs = append(recs, src.Close())
		write(t, s, src.Batch(recs))
	}
	return l
}

// expect is what a query must give, by brute force.
func (l *library) expect(q sinks.Query) (keys []string) {
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var hits []stored
	for _, s := range l.all {
		at := day.Add(time.Duration(s.at) * time.Second)
		ok := func(want string, have ...string) bool { return want == "" || slices.Contains(have, want) }
		if ok(q.Tenant, s.tenant) && ok(q.Action, s.action) && ok(q.Outcome, s.outcome) && ok(q.Category, s.category, "web") && ok(q.Actor, s.user, s.name) &&
			ok(q.Object, s.object, s.aggregate) && ok(q.Source, s.ip) && (q.Ledger == nil || *q.Ledger == s.ledger) &&
			(q.From.IsZero() || !at.Before(q.From)) && (q.To.IsZero() || at.Before(q.To)) {
			hits = append(hits, s)
		}
	}
	slices.SortFunc(hits, func(a, b stored) int {
		place := strings.Compare(string(a.ledger[:]), string(b.ledger[:]))
		if place == 0 {
			place = int(a.seq) - int(b.seq)
		}
		if q.Order == sinks.OrderLedger {
			return place
		}
		if a.at != b.at {
			return b.at - a.at
		}
		return -place
	})
	for _, s := range hits {
		keys = append(keys, fmt.Sprintf("%s/%d", s.ledger, s.seq))
	}
	return keys
}

// page reads a listing to its end.
func page(t *testing.T, r *postgres.Reader, q sinks.Query) (keys []string) {
	t.Helper()
	for {
		events, next, err := r.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) > q.Limit {
			t.Fatalf("%d events on a page of %d", len(events), q.Limit)
		}
		for _, e := range events {
			keys = append(keys, fmt.Sprintf("%s/%d", e.Ledger, e.Seq))
		}
		if next == nil {
			return keys
		}
		if len(events) != q.Limit {
			t.Fatalf("%d events on a page of %d that has a next one", len(events), q.Limit)
		}
		q.After = next
	}
}

func TestEventsFilters(t *testing.T) {
	l := newLibrary(t)
	r := l.reader()
	day := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	id := l.all[100].ledger
	hits := 0
	for _, order := range []sinks.Order{sinks.OrderTime, sinks.OrderLedger, ""} {
		for name, q := range map[string]sinks.Query{
			"all": {}, "tenant": {Tenant: "t1"}, "unknown tenant": {Tenant: "nobody"}, "action": {Action: "a2"}, "outcome": {Outcome: "o1"}, "category": {Category: "c0"},
			"category of all": {Category: "web"}, "actor by id": {Actor: "u3"}, "actor by name": {Actor: "n3"}, "object": {Object: "x2"}, "aggregate": {Object: "g2"},
			"source": {Source: "10.0.0.1"}, "ledger": {Ledger: &id}, "from": {From: day.Add(20 * time.Second)}, "to": {To: day.Add(20 * time.Second)},
			"from and to": {From: day.Add(10 * time.Second), To: day.Add(11 * time.Second)}, "everything": {Tenant: "t0", Action: "a0", Outcome: "o0", Ledger: &id, From: day, To: day.Add(time.Hour)},
			"no injection": {Action: "a0' OR '1'='1"},
		} {
			q.Order = order
			for _, limit := range []int{1, 7, 1000} {
				q.Limit = limit
				want := l.expect(q)
				if limit == 1 && len(want) > 20 {
					continue // many round trips that show nothing new
				}
				hits += len(want)
				if diff := cmp.Diff(want, page(t, r, q)); diff != "" {
					t.Errorf("%s, order %q, pages of %d (-want +got):\n%s", name, order, limit, diff)
				}
			}
		}
	}
	if hits < 1000 {
		t.Errorf("the queries hit %d events together: the test has little to go by", hits)
	}
}

func TestEventsShowsWhatIsStored(t *testing.T) {
	d := newDatabase(t)
	src := sinktest.NewSource(t, sinktest.Topic, 0)
	value := `{"@timestamp":"2026-10-31T23:59:59.123Z","event":{"id":"e-1","category":["iam"],"action":"role.grant","severity":7,"created":"2026-10-31T23:59:58.5Z"},"user":{"id":"u-1"},"audit":{"actor":{"mfa":true}},"vendor":{"kept":[1,2]}}`
	r := ledger.Record{Value: []byte(value), TimeMs: sinktest.BaseTimeMs, Headers: []ledger.Header{{Name: "ce_tenant", Value: []byte("acme")}}}
	recs := append([]sinks.Record{src.First()}, src.Seal(r, ledger.Record{Value: []byte("hello"), TimeMs: -1}, ledger.Record{TimeMs: sinktest.BaseTimeMs})...)
	write(t, d.sink(), src.Batch(recs))
	events, next, err := d.reader().Events(t.Context(), sinks.Query{Order: sinks.OrderLedger, Limit: 10})
	if err != nil || next != nil || len(events) != 3 {
		t.Fatalf("%d events, next %v, %v", len(events), next, err)
	}
	want := sinks.Event{
		Ledger: src.ID, Seq: 1, LeafHash: recs[1].Leaf(), Time: time.Date(2026, 10, 31, 23, 59, 59, 123e6, time.UTC), RecordTime: time.UnixMilli(sinktest.BaseTimeMs).UTC(), Tenant: "acme",
		Fields: map[string]any{"event.id": "e-1", "event.category": []string{"iam"}, "event.action": "role.grant", "event.severity": int64(7), "event.created": "2026-10-31T23:59:58.500Z", "user.id": "u-1", "audit.actor.mfa": true},
		Value:  json.RawMessage(value),
	}
	if diff := cmp.Diff(want, events[0]); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if e := events[1]; e.Value != nil || e.DecodeError == "" || !e.RecordTime.IsZero() || !e.Time.Equal(time.UnixMilli(0)) {
		t.Errorf("an event that no schema explains: %+v", e)
	}

	got, err := d.reader().Event(t.Context(), src.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	evidence := sinks.Evidence{Event: want, Kind: ledger.KindEvent, Frame: ledger.AppendFrame(nil, &recs[1].Source), Statement: recs[1].Raw[:], Salt: recs[1].Salt[:]}
	if diff := cmp.Diff(evidence, got); diff != "" {
		t.Errorf("evidence (-want +got):\n%s", diff)
	}
	genesis, err := d.reader().Event(t.Context(), src.ID, 0)
	if err != nil || genesis.Kind != ledger.KindGenesis || genesis.Salt != nil || len(genesis.Fields) != 0 || genesis.Value != nil || genesis.DecodeError != "" {
		t.Errorf("genesis: %+v, %v", genesis, err)
	}
	if _, err := d.reader().Event(t.Context(), src.ID, 99); !errors.Is(err, sinks.ErrNotFound) {
		t.Errorf("a seq that is not there: %v, want ErrNotFound", err)
	}
	if _, err := d.reader().Event(t.Context(), ledger.ID{1}, 1); !errors.Is(err, sinks.ErrNotFound) {
		t.Errorf("a ledger that is not there: %v, want ErrNotFound", err)
	}
}

// The same id twice with different content: both are shown, the later one is marked.
func TestDuplicates(t *testing.T) {
	d := newDatabase(t)
	s := d.sink()
	a, b := sinktest.NewSource(t, sinktest.Topic, 0), sinktest.NewSource(t, sinktest.Topic, 1)
	copyOf := func(action, tenant string) ev { return ev{id: "same", action: action, tenant: tenant} }
	write(t, s, a.Batch(append([]sinks.Record{a.First()}, a.Seal(copyOf("first", "t").record(10), copyOf("second", "t").record(20), copyOf("other tenant", "u").record(5), ev{id: "alone", tenant: "t"}.record(30))...)))
	write(t, s, b.Batch(append([]sinks.Record{b.First()}, b.Seal(copyOf("earliest", "t").record(1))...)))
	events, _, err := d.reader().Events(t.Context(), sinks.Query{Order: sinks.OrderLedger, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range events {
		got[fmt.Sprint(e.Fields["event.action"])] = "no"
		if e.DuplicateOf != nil {
			got[fmt.Sprint(e.Fields["event.action"])] = fmt.Sprintf("%s/%d", e.DuplicateOf.Ledger, e.DuplicateOf.Seq)
		}
	}
	first := fmt.Sprintf("%s/1", b.ID)
	want := map[string]string{"earliest": "no", "first": first, "second": first, "other tenant": "no", "": "no"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("duplicate of (-want +got):\n%s", diff)
	}
	one, err := d.reader().Event(t.Context(), a.ID, 2)
	if err != nil || one.DuplicateOf == nil || one.DuplicateOf.Ledger != b.ID {
		t.Errorf("evidence of a duplicate: %+v, %v", one.DuplicateOf, err)
	}
}

func TestLedgers(t *testing.T) {
	d := newDatabase(t)
	if infos, err := d.reader().Ledgers(t.Context()); err != nil || len(infos) != 0 {
		t.Errorf("ledgers of an empty table: %v, %v", infos, err)
	}
	a, b := sinktest.NewSource(t, sinktest.Topic, 0), sinktest.NewSource(t, sinktest.Topic, 5)
	ra := append([]sinks.Record{a.First()}, a.Events(4)...)
	rb := []sinks.Record{b.First(), b.Close()}
	write(t, d.sink(), a.Batch(ra), b.Batch(rb))
	infos, err := d.reader().Ledgers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	body := func(s *sinktest.Source) string { g, _ := s.Genesis.Body(); return string(g) }
	want := []sinks.LedgerInfo{
		{ID: a.ID, Source: a.Genesis.Source, Partition: 0, Size: 5, Head: ra[4].Leaf(), Genesis: body(a)},
		{ID: b.ID, Source: b.Genesis.Source, Partition: 5, Size: 2, Head: rb[1].Leaf(), Closed: true, Genesis: body(b)},
	}
	slices.SortFunc(want, func(x, y sinks.LedgerInfo) int { return strings.Compare(string(x.ID[:]), string(y.ID[:])) })
	if diff := cmp.Diff(want, infos); diff != "" {
		t.Errorf("ledgers (-want +got):\n%s", diff)
	}
	// A ledger whose genesis row is gone is still listed.
	d.exec("DELETE FROM events WHERE ledger = $1 AND seq = 0", a.ID.UUID())
	infos, err = d.reader().Ledgers(t.Context())
	if err != nil || len(infos) != 2 {
		t.Fatalf("%d ledgers, %v, want 2", len(infos), err)
	}
	for _, info := range infos {
		if info.ID == a.ID && (info.Genesis != "" || info.Source != sinktest.Topic || info.Size != 5) {
			t.Errorf("a ledger without genesis row: %+v", info)
		}
	}
}

func TestStatementTimeout(t *testing.T) {
	l := newLibrary(t)
	r := l.reader(func(o *postgres.ReaderOptions) { o.Timeout = 50 * time.Millisecond })
	tx, err := l.super().Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "LOCK TABLE events IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Events(t.Context(), sinks.Query{Limit: 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a listing that waits for a lock: %v, want a time-out", err)
	}
	if _, err := r.Event(t.Context(), l.all[0].ledger, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an event that waits for a lock: %v, want a time-out", err)
	}
}

func TestReaderCannotWrite(t *testing.T) {
	d := newDatabase(t)
	r := d.reader()
	if err := r.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := r.Events(t.Context(), sinks.Query{}); err == nil {
		t.Error("a page of no size is taken")
	}
	if _, _, err := r.Events(t.Context(), sinks.Query{Limit: 1, Order: "random()"}); err == nil {
		t.Error("an unknown order is taken")
	}
	if _, err := postgres.NewReader(t.Context(), postgres.ReaderOptions{URL: "postgres://u:hunter22@host:port:1/x"}); err == nil || strings.Contains(err.Error(), "hunter22") {
		t.Errorf("bad URL: %v, want an error without the password", err)
	}
}

// Listings must not read the whole table: each touches about as many blocks as its page
// has rows, however many there are.
func TestListingsUseIndexes(t *testing.T) {
	d := newDatabase(t)
	src := sinktest.NewSource(t, sinktest.Topic, 0)
	rs := make([]ledger.Record, 20_000)
	for i := range rs {
		rs[i] = sinktest.Event(i)
		rs[i].Headers[0].Value = fmt.Append(nil, "t", i%3)
	}
	write(t, d.sink(), src.Batch(append([]sinks.Record{src.First()}, src.Seal(rs...)...)))
	d.exec("ANALYZE events")
	buffers := func(sql string, args ...any) (n int) {
		t.Helper()
		var plan string
		if err := d.super().QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, args...).Scan(&plan); err != nil {
			t.Fatal(err)
		}
		var out []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		if err := json.Unmarshal([]byte(plan), &out); err != nil {
			t.Fatal(err)
		}
		return out[0].Plan.Hit + out[0].Plan.Read
	}
	whole := buffers("SELECT sum(length(frame)) FROM events")
	middle := &sinks.Key{Time: time.Date(2026, 11, 23, 12, 0, 0, 500e6, time.UTC), Ledger: src.ID, Seq: 10_000}
	for name, q := range map[string]sinks.Query{
		"tenant": {Tenant: "t1"}, "tenant, from the middle": {Tenant: "t1", After: middle}, "all": {}, "all, from the middle": {After: middle},
		"ledger": {Order: sinks.OrderLedger, Ledger: &src.ID}, "ledger, from the middle": {Order: sinks.OrderLedger, After: middle}, "nobody's action": {Action: "unheard of"}, "nobody": {Actor: "unheard of"},
	} {
		q.Limit = 50
		sql, args := postgres.ListingSQL(q)
		if n := buffers(sql, args...); n > whole/5 {
			t.Errorf("%s: a page of 50 touches %d blocks, the whole table has %d", name, n, whole)
		}
	}
	if n := buffers(postgres.LedgersSQL()); n > 100 {
		t.Errorf("the list of ledgers touches %d blocks", n)
	}
}
