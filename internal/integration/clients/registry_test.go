//go:build integration

package clients

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/sealstream/sealstream/internal/testbed"
)

const (
	loginV1 = `{"at": 1700000000000, "event": {"id": "v1", "action": "login", "outcome": "success"}, "user": {"name": "zo\u00eb"}}`
	loginV2 = `{"at": 1700000000000, "event": {"id": "v2", "action": "login", "outcome": "unknown"}, "user": null, "source": {"ip": "192.0.2.9"}}`
	byUser  = `{"who": {"id": "u1", "name": "zo\u00eb"}, "event": {"id": "ref", "action": "refer"}, "owner": null}`

	sourceField = `, {"name": "source", "type": ["null", {"type": "record", "name": "From", "fields": [{"name": "ip", "type": "string"}]}], "default": null}`
	badField    = `, {"name": "must", "type": "long"}`

	userSchema  = `{"type": "record", "name": "User", "namespace": "com.example", "fields": [{"name": "id", "type": "string"}, {"name": "name", "type": ["null", "string"], "default": null}]}`
	referSchema = `{"type": "record", "name": "Referring", "namespace": "com.example.refer", "fields": [
		{"name": "who", "type": "com.example.User", "ecs": "user"},
		{"name": "event", "type": {"type": "record", "name": "What", "fields": [{"name": "id", "type": "string"}, {"name": "action", "type": "string"}]}},
		{"name": "owner", "type": ["null", "com.example.User"], "default": null}]}`
)

// login returns the schema with more fields at its end.
func login(t *testing.T, more string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/login.avsc")
	if err != nil {
		t.Fatal(err)
	}
	head, ok := strings.CutSuffix(strings.TrimSpace(string(b)), "\n]}")
	if !ok {
		t.Fatal("login.avsc does not end as expected")
	}
	return head + more + "\n]}"
}

func client(t *testing.T, base string) *sr.Client {
	t.Helper()
	c, err := sr.NewClient(sr.URLs(base))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func register(t *testing.T, c *sr.Client, subject, schema string, refs ...sr.SchemaReference) int {
	t.Helper()
	s, err := c.CreateSchema(t.Context(), subject, sr.Schema{Schema: schema, References: refs})
	if err != nil {
		t.Fatal(err)
	}
	return s.ID
}

// A schema that grows as its registry allows is read on, one that refers to others too,
// and what no schema explains holds nobody up.
func TestSchemasGrow(t *testing.T) {
	t.Run("Apicurio", func(t *testing.T) { schemasGrow(t, testbed.Shared(t).Registry) })
	t.Run("embedded", func(t *testing.T) { schemasGrow(t, "") })
}

func schemasGrow(t *testing.T, registry string) {
	t.Helper()
	pl := open(t, testbed.ForTest(t), registry)
	c, subject := client(t, pl.registry), pl.topic(topicAudit)+"-value"
	send := func(subject string, values ...string) {
		t.Helper()
		pl.python(append([]string{"avro", pl.brokers(), pl.registry, pl.topic(topicAudit), subject}, values...)...)
	}
	register(t, c, subject, login(t, ""))
	send(subject, loginV1)
	register(t, c, subject, login(t, sourceField))
	send(subject, loginV2)

	var refused *sr.ResponseError
	if _, err := c.CreateSchema(t.Context(), subject, sr.Schema{Schema: login(t, badField)}); !errors.As(err, &refused) || refused.StatusCode != http.StatusConflict {
		t.Errorf("a version that cannot read the one before: %v, want status 409", err)
	}
	if vs, err := c.SubjectVersions(t.Context(), subject); err != nil || len(vs) != 2 {
		t.Errorf("the subject has versions %v (%v), want two", vs, err)
	}
	for _, ask := range []struct {
		path string
		code int
	}{{"/schemas/ids/2147483647", 40403}, {"/subjects/none/versions/latest", 40401}, {"/subjects/" + subject + "/versions/77", 40402}} {
		err := c.Do(t.Context(), http.MethodGet, ask.path, nil, nil)
		var re *sr.ResponseError
		if !errors.As(err, &re) || re.StatusCode != http.StatusNotFound || re.ErrorCode != ask.code {
			t.Errorf("%s: %v, want status 404 and error code %d", ask.path, err, ask.code)
		}
	}

	user, refer, proto := pl.prefix+"user", pl.prefix+"refer", pl.prefix+"proto"
	register(t, c, user, userSchema)
	toUser := sr.SchemaReference{Name: "com.example.User", Subject: user, Version: 1}
	foreign := sr.Schema{Schema: "syntax = \"proto3\"; message A { string x = 1; }", Type: sr.TypeProtobuf}
	unexplained := [][]byte{frame(2147483647, "x")}
	want := map[string]map[string]any{
		"v1none":    {"user_name": "zo\u00eb", "event_outcome": "success", "source_ip": nil},
		"v2none":    {"source_ip": "192.0.2.9", "user_name": nil},
		"afternone": {},
	}
	if registry == "" {
		for what, s := range map[string]sr.Schema{"references": {Schema: referSchema, References: []sr.SchemaReference{toUser}}, "Protobuf": foreign} {
			if _, err := c.CreateSchema(t.Context(), refer, s); !errors.As(err, &refused) || refused.StatusCode != http.StatusUnprocessableEntity {
				t.Errorf("%s: %v, want that they are refused", what, err)
			}
		}
	} else {
		register(t, c, refer, referSchema, toUser)
		send(refer, byUser)
		want["refnone"] = map[string]any{"user_id": "u1", "user_name": "zo\u00eb", "event_action": "refer"}
		protobuf, err := c.CreateSchema(t.Context(), proto, foreign)
		if err != nil {
			t.Fatal(err)
		}
		unexplained = append(unexplained, frame(uint32(protobuf.ID), "x"))
	}
	pl.produce(topicAudit, 0, append(unexplained, []byte(`{"event.id":"after"}`))...)
	total := len(want) + len(unexplained)
	pl.stored(topicAudit, total+partitions)
	got := map[string]row{}
	for _, p := range pl.rows(topicAudit) {
		for _, r := range p[1:] {
			id, _ := r.Columns["event_id"].(string)
			got[id+show(r.DecodeError)] = r
		}
	}
	for id, columns := range want {
		r, ok := got[id]
		if !ok {
			t.Errorf("no row %q among %q", id, slices.Sorted(maps.Keys(got)))
		}
		for name, v := range columns {
			if r.Columns[name] != v {
				t.Errorf("%s: column %s is %v, want %v", id, name, r.Columns[name], v)
			}
		}
	}
	if len(got) != total {
		t.Errorf("rows %q, want %d, %d of which nothing explains", slices.Sorted(maps.Keys(got)), total, len(unexplained))
	}
	pl.verified()
}

func frame(id uint32, body string) []byte {
	return append([]byte{0, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}, body...)
}

// produce writes values to one partition.
func (pl *place) produce(topic string, partition int32, values ...[]byte) {
	pl.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(pl.kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		pl.t.Fatal(err)
	}
	defer cl.Close()
	for _, v := range values {
		if err := cl.ProduceSync(pl.t.Context(), &kgo.Record{Topic: pl.topic(topic), Partition: partition, Value: v}).FirstErr(); err != nil {
			pl.t.Fatal(err)
		}
	}
}

// A registry that is away in any way makes rows wait and none wrong: what it would
// explain stays in order, what needs no registry goes on.
func TestRegistryAway(t *testing.T) {
	bed := testbed.ForTest(t)
	apicurio, err := bed.Apicurio(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	door := newDoor(t, apicurio.URL)
	door.open()
	pl := open(t, bed, door.url)
	// The events are made while the registry is there, in a topic that nobody seals.
	scratch, subject := pl.topic("scratch"), pl.prefix+"away"
	if _, err := pl.adm.CreateTopic(t.Context(), 1, -1, nil, scratch); err != nil {
		t.Fatal(err)
	}
	c := client(t, apicurio.URL)
	var events [][]byte
	var ids []int
	for i, more := range []string{"", sourceField} {
		ids = append(ids, register(t, c, subject, login(t, more)))
		pl.python("avro", pl.brokers(), apicurio.URL, scratch, subject, []string{loginV1, loginV2}[i])
		events = append(events, pl.read(scratch)[0][i].Value)
	}
	v1, v2 := events[0], events[1]
	json := func(id string) []byte { return []byte(`{"event.id":"` + id + `"}`) }

	// In flight: the process is frozen, takes connections and answers nothing.
	pl.produce(topicAudit, 0, v1)
	pl.storedAt(topicAudit, 0, 2)
	if err := apicurio.Suspend(); err != nil {
		t.Fatal(err)
	}
	pl.produce(topicAudit, 0, v2, json("behind"))
	pl.produce(topicAudit, 1, v1, json("beside"))
	pl.storedAt(topicAudit, 1, 3)
	pl.held(topicAudit, 0, 2)
	if err := apicurio.Resume(); err != nil {
		t.Fatal(err)
	}
	pl.storedAt(topicAudit, 0, 4)

	// At the start of a sink, which knows no schema yet: refused, an error of something
	// in between, a path that is not there, a registry that is dead behind its gateway.
	for _, away := range []struct {
		name      string
		how, back func()
	}{
		{"refused", door.shut, door.open},
		{"status 503", func() { door.answer(http.StatusServiceUnavailable) }, door.open},
		{"status 404 of something else", func() { door.answer(http.StatusNotFound) }, door.open},
		{"killed", func() {
			if err := apicurio.Stop(); err != nil {
				t.Fatal(err)
			}
		}, func() {
			// It comes back empty, so nobody may ask it before the schemas are back.
			door.shut()
			if err := apicurio.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i, more := range []string{"", sourceField} {
				if id := register(t, c, subject, login(t, more)); id != ids[i] {
					t.Fatalf("schema %d has id %d after the restart, %d before", i, id, ids[i])
				}
			}
			door.open()
		}},
	} {
		t.Log(away.name)
		pl.stopSink()
		away.how()
		at0, at1 := pl.count(topicAudit, 0), pl.count(topicAudit, 1)
		pl.produce(topicAudit, 0, v1, json(away.name))
		pl.produce(topicAudit, 1, json("beside "+away.name))
		pl.startSink()
		pl.storedAt(topicAudit, 1, at1+1)
		pl.held(topicAudit, 0, at0)
		away.back()
		pl.storedAt(topicAudit, 0, at0+2)
	}
	for n, p := range pl.rows(topicAudit) {
		for _, r := range p {
			if r.DecodeError != nil {
				t.Errorf("partition %d, offset %d: stored with the decode error %q", n, r.Offset, *r.DecodeError)
			}
		}
	}
	pl.verified()
}

// storedAt waits until one sealed partition has so many rows, genesis included.
func (pl *place) storedAt(topic string, partition int32, rows int) {
	pl.t.Helper()
	ctx, cancel := context.WithTimeout(pl.t.Context(), time.Minute)
	defer cancel()
	n := 0
	err := testbed.Until(ctx, func() (bool, error) { n = pl.count(topic, partition); return n >= rows, nil })
	if err != nil || n != rows {
		pl.t.Fatalf("%s/%d: %d rows are stored, want %d (%v)", topic, partition, n, rows, err)
	}
}

func (pl *place) count(topic string, partition int32) (n int) {
	pl.t.Helper()
	err := pl.db.QueryRow(pl.t.Context(), "SELECT count(*) FROM public.events WHERE sealed_topic = $1 AND sealed_partition = $2", pl.topic(topic)+".sealed", partition).Scan(&n)
	if err != nil {
		pl.t.Fatal(err)
	}
	return n
}

// held checks that a partition has not gone on, although what was sent to it has been
// sealed: so it is the sink that waits.
func (pl *place) held(topic string, partition int32, rows int) {
	pl.t.Helper()
	ctx, cancel := context.WithTimeout(pl.t.Context(), time.Minute)
	defer cancel()
	source := len(pl.read(pl.topic(topic))[partition])
	err := testbed.Until(ctx, func() (bool, error) {
		return len(pl.read(pl.topic(topic) + ".sealed")[partition]) == source+1, nil
	})
	if n := pl.count(topic, partition); err != nil || n != rows {
		pl.t.Errorf("%s/%d: %d rows are stored, want %d until the registry answers (%v)", topic, partition, n, rows, err)
	}
}

func (pl *place) stopSink() {
	pl.t.Helper()
	ctx, cancel := context.WithTimeout(pl.t.Context(), 30*time.Second)
	defer cancel()
	if _, err := pl.sink.Terminate(ctx); err != nil {
		pl.t.Fatal(err)
	}
}

func (pl *place) startSink() {
	pl.t.Helper()
	var err error
	if pl.sink, err = pl.g.Role("sink-postgres", "1"); err != nil {
		pl.t.Fatal(err)
	}
}

// door stands before a registry and is open, shut, or answers in its place.
type door struct {
	t    *testing.T
	url  string
	addr string
	to   http.Handler

	mu     sync.Mutex // guards all below
	srv    *http.Server
	status int
}

func newDoor(t *testing.T, to string) *door {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: u.Scheme, Host: u.Host})
	proxy.ErrorLog = log.New(io.Discard, "", 0) // that nobody is there is what is tested
	d := &door{t: t, addr: ln.Addr().String(), to: proxy}
	d.url = "http://" + d.addr + u.Path
	d.serve(ln)
	t.Cleanup(d.shut)
	return d
}

func (d *door) serve(ln net.Listener) {
	d.srv = &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	go func(s *http.Server) { _ = s.Serve(ln) }(d.srv) // ends with Close
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	status := d.status
	d.mu.Unlock()
	if status != 0 {
		http.Error(w, "something on the way says no", status)
		return
	}
	d.to.ServeHTTP(w, r)
}

func (d *door) open() { d.answer(0) }

// answer has the door answer with a status; 0 lets through.
func (d *door) answer(status int) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = status
	if d.srv != nil {
		return
	}
	ln, err := net.Listen("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.serve(ln)
}

// shut has connections refused and ends those there are.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.srv != nil {
		_ = d.srv.Close()
		d.srv = nil
	}
}
