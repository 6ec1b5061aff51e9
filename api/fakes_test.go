package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealstream/sealstream/api/auth"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// rig is a handler with everything behind it faked. The fakes fail the test when
// the API breaks a promise it made to them.
type rig struct {
	t       *testing.T
	handler http.Handler
	issuer  *auth.LocalIssuer
	store   *fakeStore
	ingest  *fakeIngester
	access  *fakeAccess
	health  *fakeHealth
	jobs    *fakeJobs
	keys    *fakeAuth
	logs    *safeBuffer
	reg     *prometheus.Registry

	mu   sync.Mutex
	time time.Time
	ids  int
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.time
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.time = r.time.Add(d)
}

func newRig(t *testing.T, l Limits, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), logs: &safeBuffer{}, reg: prometheus.NewRegistry()}
	var err error
	if r.issuer, err = auth.OpenLocalIssuer(filepath.Join(t.TempDir(), "token.key"), r.now); err != nil {
		t.Fatal(err)
	}
	iss, err := r.issuer.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.NewVerifier(r.now, iss)
	if err != nil {
		t.Fatal(err)
	}
	r.keys = &fakeAuth{next: v}
	r.store, r.ingest, r.access, r.health = newFakeStore(t), &fakeIngester{t: t}, &fakeAccess{t: t}, &fakeHealth{}
	r.jobs = &fakeJobs{now: r.now}
	o := Options{
		Store: r.store, Ingester: r.ingest, AccessLog: r.access, Health: r.health, Auth: r.keys, Validate: fakeValidate, Verifications: r.jobs,
		Limits: l, Registry: r.reg, Now: r.now,
		Log: slog.New(slog.NewJSONHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		NewRequestID: func() string {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ids++
			return fmt.Sprintf("00000000-0000-7000-8000-%012d", r.ids)
		},
	}
	for _, c := range change {
		c(&o)
	}
	if r.handler, err = New(o); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) token(role auth.Role, tenant string) string {
	r.t.Helper()
	s, err := r.issuer.Mint(role, tenant, "subject-"+string(role), time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// fakeValidate wants an event.id, as the real one does among other things.
func fakeValidate(stream string, value []byte) (string, error) {
	var e struct {
		Event struct{ ID string }
	}
	if err := json.Unmarshal(value, &e); err != nil {
		return "", errors.New("event is not an object; make it one")
	}
	if e.Event.ID == "" {
		return "", fmt.Errorf("%s event: event.id is missing; give each event an id of its own", stream)
	}
	if e.Event.ID == "panic" {
		panic("payload of " + e.Event.ID)
	}
	return e.Event.ID, nil
}

// fakeAuth lets the keys of the issuer be out of reach.
type fakeAuth struct {
	next Authenticator
	mode string
}

func (f *fakeAuth) Authenticate(ctx context.Context, token string) (auth.Principal, error) {
	switch f.mode {
	case "":
		return f.next.Authenticate(ctx, token)
	case "conflict":
		return auth.Principal{}, &auth.Error{Reason: auth.ReasonSeparation, Detail: "roles auditor and ingest must be held by different people"}
	}
	return auth.Principal{}, &auth.Error{Reason: auth.ReasonUnavailable, Detail: "the keys of the token's issuer could not be read yet", Err: errors.New("dial tcp: refused")}
}

// fakeStore holds a few ledgers in memory and answers as the contract of Store says.
type fakeStore struct {
	t    *testing.T
	rows []sinks.Evidence
	mode string
	wait chan struct{} // closed or sent to when mode is "block"
	got  []sinks.Query
}

func ledgerOf(c byte) ledger.ID {
	var id ledger.ID
	for n := range id {
		id[n] = c
	}
	return id
}

func (f *fakeStore) add(c byte, seq uint64, tenant string, at time.Time, change func(*sinks.Evidence)) {
	e := sinks.Evidence{Kind: ledger.KindEvent, Frame: []byte{1, c, byte(seq)}, Statement: []byte{2, c, byte(seq)}, Salt: []byte{3, c, byte(seq)}}
	e.Ledger, e.Seq, e.Tenant, e.Time, e.RecordTime = ledgerOf(c), seq, tenant, at, at.Add(time.Second)
	e.LeafHash[0], e.LeafHash[31] = c, byte(seq)
	id := fmt.Sprintf("%s-%d", tenant, seq)
	e.Fields = map[string]any{"event.id": id, "event.action": "login", "organization.id": tenant}
	e.Value = json.RawMessage(fmt.Sprintf(`{"event":{"id":%q,"action":"<login>"}}`, id))
	if change != nil {
		change(&e)
	}
	f.rows = append(f.rows, e)
}

func newFakeStore(t *testing.T) *fakeStore {
	f := &fakeStore{t: t, wait: make(chan struct{})}
	base := time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)
	at := func(m int) time.Time { return base.Add(time.Duration(m) * time.Minute) }
	f.add(0xaa, 0, "", time.Time{}, func(e *sinks.Evidence) {
		e.Kind, e.Fields, e.Value, e.RecordTime, e.Salt = ledger.KindGenesis, nil, nil, time.Time{}, nil
	})
	f.add(0xaa, 1, "acme", at(1), nil)
	f.add(0xaa, 2, "globex", at(2), nil)
	f.add(0xaa, 3, "acme", at(3), func(e *sinks.Evidence) { e.DuplicateOf = &sinks.Key{Ledger: ledgerOf(0xaa), Seq: 1} })
	f.add(0xaa, 4, "acme", at(4), func(e *sinks.Evidence) { e.Fields["organization.id"] = "globex" })
	f.add(0xbb, 1, "acme", at(5), func(e *sinks.Evidence) {
		e.Fields, e.Value, e.DecodeError = nil, nil, "unknown schema id 9"
		e.RecordTime = time.Time{}
	})
	f.add(0xbb, 2, "acme", time.Date(22222, 1, 2, 3, 4, 5, 678_000, time.UTC), func(e *sinks.Evidence) { e.Value = json.RawMessage("{\"bad\":\"\xff\"}") })
	f.add(0xbb, 3, "acme", at(6), func(e *sinks.Evidence) { e.Value = json.RawMessage(`{"cut":`) })
	return f
}

func (f *fakeStore) fail(ctx context.Context) error {
	switch f.mode {
	case "down":
		return errors.New("dial tcp 10.0.0.1:5432: refused")
	case "slow":
		return fmt.Errorf("statement: %w", context.DeadlineExceeded)
	case "panic":
		panic(errors.New("secret row content"))
	case "block":
		select {
		case <-f.wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (f *fakeStore) Events(ctx context.Context, q sinks.Query) ([]sinks.Event, *sinks.Key, error) {
	f.got = append(f.got, q)
	if q.Limit < 1 || q.Limit > maxLimit || (q.Order != sinks.OrderTime && q.Order != sinks.OrderLedger) {
		f.t.Errorf("query out of its bounds: %+v", q)
	}
	if _, ok := ctx.Deadline(); !ok {
		f.t.Error("a query without a time limit")
	}
	if err := f.fail(ctx); err != nil {
		return nil, nil, err
	}
	var all []sinks.Event
	for _, r := range f.rows {
		if r.Kind == ledger.KindEvent && f.matches(r.Event, q) {
			all = append(all, r.Event)
		}
	}
	order := func(a, b sinks.Event) int {
		byPlace := cmp.Or(slices.Compare(a.Ledger[:], b.Ledger[:]), cmp.Compare(a.Seq, b.Seq))
		if q.Order == sinks.OrderLedger {
			return byPlace
		}
		return -cmp.Or(a.Time.Compare(b.Time), byPlace)
	}
	slices.SortFunc(all, order)
	if q.After != nil {
		after := sinks.Event{Time: q.After.Time, Ledger: q.After.Ledger, Seq: q.After.Seq}
		all = slices.DeleteFunc(all, func(e sinks.Event) bool { return order(e, after) <= 0 })
	}
	if len(all) > q.Limit {
		last := all[q.Limit-1]
		return all[:q.Limit], &sinks.Key{Time: last.Time, Ledger: last.Ledger, Seq: last.Seq}, nil
	}
	return all, nil, nil
}

func (f *fakeStore) matches(e sinks.Event, q sinks.Query) bool {
	field := func(name, want string) bool { return want == "" || e.Fields[name] == want }
	return (f.mode == "leak" || q.Tenant == "" || e.Tenant == q.Tenant) &&
		(q.Ledger == nil || e.Ledger == *q.Ledger) &&
		(q.From.IsZero() || !e.Time.Before(q.From)) && (q.To.IsZero() || e.Time.Before(q.To)) &&
		field("event.action", q.Action) && field("event.outcome", q.Outcome) && field("event.category", q.Category) &&
		field("user.id", q.Actor) && field("audit.object.id", q.Object) && field("source.ip", q.Source)
}

func (f *fakeStore) Event(ctx context.Context, id ledger.ID, seq uint64) (sinks.Evidence, error) {
	if err := f.fail(ctx); err != nil {
		return sinks.Evidence{}, err
	}
	for _, r := range f.rows {
		if r.Ledger == id && r.Seq == seq {
			return r, nil
		}
	}
	return sinks.Evidence{}, fmt.Errorf("ledger %s seq %d: %w", id, seq, sinks.ErrNotFound)
}

func (f *fakeStore) Ledgers(ctx context.Context) ([]sinks.LedgerInfo, error) {
	if err := f.fail(ctx); err != nil {
		return nil, err
	}
	return []sinks.LedgerInfo{{ID: ledgerOf(0xaa), Source: "audit.events", Partition: 3, Size: 5, Head: ledger.Hash{1}, Genesis: "sealstream genesis\n"}}, nil
}

// fakeIngester is durable at once, unless told otherwise.
type fakeIngester struct {
	t    *testing.T
	mode string
	wait chan struct{} // read from when mode is "block"
	busy chan struct{} // gets a value when a blocked call has begun
	mu   sync.Mutex
	got  []IngestRequest
}

func (f *fakeIngester) Ingest(ctx context.Context, r IngestRequest) ([]Placed, error) {
	if len(r.Items) == 0 || r.Tenant == "" || r.Tenant == auth.Global || r.Principal == "" || r.ReceivedMs == 0 {
		f.t.Errorf("ingest request is not complete: %+v", r)
	}
	if _, ok := ctx.Deadline(); !ok {
		f.t.Error("an ingest without a time limit")
	}
	if f.mode == "block" {
		f.busy <- struct{}{}
		<-f.wait
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	keep := r
	keep.Items = nil
	for _, b := range r.Items {
		keep.Items = append(keep.Items, slices.Clone(b))
	}
	f.got = append(f.got, keep)
	switch f.mode {
	case "down":
		return nil, errors.New("dial tcp 10.0.0.2:9092: refused")
	case "short":
		return make([]Placed, len(r.Items)-1), nil
	}
	out := make([]Placed, len(r.Items))
	for n := range out {
		id, _ := fakeValidate(r.Stream, r.Items[n])
		out[n] = Placed{ID: id, Topic: r.Stream + ".events", Partition: int32(n % 3), Offset: int64(100 + n)}
		switch {
		case f.mode == "none" || f.mode == "partly" && n%2 == 0:
			out[n] = Placed{Err: errors.New("not enough replicas at 10.0.0.2")}
		case f.mode == "refuse":
			out[n] = Placed{Err: &ItemError{"topic_full", "the topic takes no more; ask the operator"}}
		}
	}
	return out, nil
}

// fakeAccess remembers, or fails.
type fakeAccess struct {
	t    *testing.T
	mode string
	hook func() // called within Record
	got  []Access
}

func (f *fakeAccess) Record(ctx context.Context, a Access) error {
	if _, ok := ctx.Deadline(); !ok {
		f.t.Error("an access record without a time limit")
	}
	if a.Subject == "" || a.ClientID == "" || a.TokenID == "" || a.Tenant == "" || a.RequestID == "" || len(a.Digest) != 64 || a.Query == nil {
		f.t.Errorf("access is not complete: %+v", a)
	}
	if f.hook != nil {
		f.hook()
	}
	if f.mode == "down" {
		return errors.New("control topic is not there")
	}
	f.got = append(f.got, a)
	return nil
}

type fakeHealth struct{ mode string }

func (f *fakeHealth) Ready(context.Context) Readiness {
	r := Readiness{Checks: []Check{{"kafka", true, "3 brokers"}, {"postgres", f.mode != "unready", "10.0.0.1:5432"}}}
	if f.mode == "alarm" {
		r.Alarms = []Alarm{{"head_trimmed", "audit.events/3", time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC)}}
	}
	return r
}
