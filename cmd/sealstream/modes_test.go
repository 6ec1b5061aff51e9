package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/producers/ingest"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// place is an installation without roles: a broker in memory and a configuration.
type place struct {
	dir, config string
	cluster     *kfake.Cluster
	seeds       kgo.Opt
}

func newPlace(t *testing.T) *place {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	p := &place{dir: t.TempDir(), cluster: c, seeds: kgo.SeedBrokers(c.ListenAddrs()...)}
	write(t, p.dir, "pseudonym", strings.Repeat("ab", 32)+"\n")
	p.config = write(t, p.dir, "sealstream.yaml", fmt.Sprintf(`version: 1
kafka: {brokers: ["%s"], prefix: "x-"}
producer: {pseudonym_key_file: pseudonym, tenant: acme, delivery_timeout: 1s}
`, c.ListenAddrs()[0]))
	return p
}

// do runs a mode on the place.
func (p *place) do(t *testing.T, args ...string) result {
	t.Helper()
	return sealstream(t, append(args, "--config", p.config)...)
}

// records reads n records of a topic.
func (p *place) records(t *testing.T, topic string, n int) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(p.seeds, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var out []*kgo.Record
	for len(out) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%d of %d records of %s: %v", len(out), n, topic, err)
		}
		out = append(out, fs.Records()...)
	}
	return out
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func TestTopics(t *testing.T) {
	p := newPlace(t)
	p.do(t, "topics", "check").want(t, exitLook, "7 topics, 7 problems", "x-audit.events: missing")
	p.do(t, "topics", "create").want(t, exitDone, "created x-audit.events.sealed", "7 topics, 7 created, 0 problems")
	p.do(t, "topics", "create").want(t, exitDone, "7 topics, 0 created, 0 problems")
	p.do(t, "topics", "check").want(t, exitDone, "7 topics, 0 problems")
	var report struct{ Problems []string }
	if r := p.do(t, "topics", "check", "--json"); json.Unmarshal([]byte(r.stdout), &report) != nil || report.Problems == nil {
		t.Errorf("check --json: %s", r.stdout)
	}
	p.do(t, "topics", "list").want(t, exitDone, "x-ledger.control.sealed", "forever", "sink-postgres")
	p.do(t, "topics").want(t, exitNotDone, "create, check, acls or list")
	p.do(t, "topics", "drop").want(t, exitNotDone, `"drop"`)
}

// TestOnlyTheSealWritesSealedTopics reads the printed commands, not the table.
func TestOnlyTheSealWritesSealedTopics(t *testing.T) {
	r := newPlace(t).do(t, "topics", "acls")
	r.want(t, exitDone, "--allow-principal User:seal", "--resource-pattern-type prefixed")
	writers := map[string][]string{}
	for line := range strings.Lines(r.stdout) {
		f := strings.Fields(line)
		if i := slices.Index(f, "--topic"); i > 0 && slices.Contains(f, "Write") {
			writers[f[i+1]] = append(writers[f[i+1]], f[2])
		}
	}
	for _, topic := range []string{"'x-audit.events.sealed'", "'x-domain.events.sealed'", "'x-ledger.control.sealed'"} {
		if fmt.Sprint(writers[topic]) != "[User:seal]" {
			t.Errorf("%s is written by %v", topic, writers[topic])
		}
	}
	if len(writers["'x-audit.events'"]) == 0 {
		t.Errorf("nobody may write x-audit.events: %v", writers)
	}
}

func TestTopicsWithoutABroker(t *testing.T) {
	file := write(t, t.TempDir(), "c.yaml", fmt.Sprintf("version: 1\nkafka: {brokers: [\"%s\"]}\n", closedPort(t)))
	sealstream(t, "topics", "check", "--config", file, "--timeout", "300ms").want(t, exitNotDone, "topics at kafka.brokers 127.0.0.1:", "connection refused")
	sealstream(t, "topics", "check").want(t, exitNotDone, "no Kafka cluster is named", "--data DIR")
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

const goodLine = `{"@timestamp": "2026-03-01T10:00:00Z",  "event": {"id": "e-%d", "kind": "event", "category": ["iam"], "type": ["user", "change"], "action": "role.grant", "outcome": "success"}, "user": {"id": "alice@example.com"}}`

func TestIngestLines(t *testing.T) {
	p := newPlace(t)
	p.do(t, "topics", "create").want(t, exitDone)
	content := fmt.Sprintf(goodLine, 1) + "\n" + "{\"event\": {}}\n" + "not json\n" + fmt.Sprintf(goodLine, 2) + "\r\n"
	file := write(t, p.dir, "in/a.ndjson", content)
	state := filepath.Join(p.dir, "state")
	r := p.do(t, "ingest", "--format", "ndjson", "--state", state, filepath.Dir(file))
	r.want(t, exitLook, file+": line 2: refused: @timestamp: missing", file+": line 3: refused: ")
	if last := lastLine(r.stdout); last != "ingested 2 events, 2 refused" {
		t.Errorf("last line %q", last)
	}
	recs := p.records(t, "x-audit.events", 2)
	slices.SortFunc(recs, func(a, b *kgo.Record) int { return bytes.Compare(a.Value, b.Value) })
	for i, rec := range recs {
		if want := fmt.Sprintf(goodLine, i+1); string(rec.Value) != want {
			t.Errorf("value %s\nwant  %s", rec.Value, want)
		}
		for name, want := range map[string]string{"ce_id": fmt.Sprintf("e-%d", i+1), "ce_type": "role.grant", "ce_tenant": "acme",
			"ce_specversion": "1.0", "ce_source": "sealstream/ingest/ndjson", "ce_time": "2026-03-01T10:00:00Z", "content-type": "application/json"} {
			if got := header(rec, name); got != want {
				t.Errorf("header %s is %q, want %q", name, got, want)
			}
		}
		if !strings.HasPrefix(string(rec.Key), "acme/") || strings.Contains(string(rec.Key), "alice") {
			t.Errorf("key %q", rec.Key)
		}
		if d := time.Since(rec.Timestamp); d < 0 || d > time.Minute {
			t.Errorf("record time %v: want the time it was received", rec.Timestamp)
		}
	}
	r = p.do(t, "ingest", "--format", "ndjson", "--state", state, file)
	if last := lastLine(r.stdout); r.code != exitLook || last != "ingested 0 events, 2 refused, 2 already there" {
		t.Errorf("second run: %d, %q", r.code, last)
	}
	// The file grows.
	write(t, p.dir, "in/a.ndjson", content+fmt.Sprintf(goodLine, 3)+"\n")
	r = p.do(t, "ingest", "--format", "ndjson", "--state", state, "--tenant", "other", file)
	if last := lastLine(r.stdout); last != "ingested 1 events, 2 refused, 2 already there" {
		t.Errorf("grown: %q", last)
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return lines[len(lines)-1]
}

func TestIngestCloudTrail(t *testing.T) {
	p := newPlace(t)
	p.do(t, "topics", "create").want(t, exitDone)
	record := func(id string) string {
		return `{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","userName":"bob","arn":"arn:aws:iam::1:user/bob"},"eventTime":"2026-02-03T04:05:06Z",` +
			`"eventSource":"iam.amazonaws.com","eventName":"CreateUser","awsRegion":"us-east-1","sourceIPAddress":"1.2.3.4","eventID":"` + id + `","eventType":"AwsApiCall"}`
	}
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	_, _ = zw.Write([]byte(`{"Records": [` + record("11111111-1111-4111-8111-111111111111") + `]}`))
	_ = zw.Close()
	write(t, p.dir, "trail/b.json.gz", z.String())
	write(t, p.dir, "trail/a.json", `[`+record("22222222-2222-4222-8222-222222222222")+`, {"eventName": 5}]`)
	write(t, p.dir, "trail/README.md", "not a log")
	write(t, p.dir, "trail/c.json", `nonsense`)
	r := p.do(t, "ingest", "--format", "cloudtrail", "--state", filepath.Join(p.dir, "state"), filepath.Join(p.dir, "trail"))
	r.want(t, exitLook, "a.json: record 1: refused", "c.json: behind event 0: refused", "passed over 1 files", "README.md")
	if last := lastLine(r.stdout); last != "ingested 2 events, 2 refused" {
		t.Errorf("last line %q", last)
	}
	for _, rec := range p.records(t, "x-audit.events", 2) {
		id := header(rec, "ce_id")
		var e struct {
			Event struct{ Original, Action string }
		}
		if err := json.Unmarshal(rec.Value, &e); err != nil || e.Event.Original != record(id) || e.Event.Action == "" {
			t.Errorf("event %s: %v, original %q", id, err, e.Event.Original)
		}
	}
}

func TestIngestStandardInput(t *testing.T) {
	p := newPlace(t)
	p.do(t, "topics", "create").want(t, exitDone)
	for range 2 {
		r := sealstreamWith(t.Context(), nil, strings.NewReader(fmt.Sprintf(goodLine, 1)+"\n"), "ingest", "--format", "ndjson", "-", "--config", p.config,
			"--state", filepath.Join(p.dir, "state"))
		r.want(t, exitDone, "cannot be read again")
		if last := lastLine(r.stdout); last != "ingested 1 events, 0 refused" {
			t.Errorf("last line %q", last)
		}
	}
}

func TestIngestComplains(t *testing.T) {
	p := newPlace(t)
	empty := filepath.Join(p.dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"x"}, "--format"}, {[]string{"--format", "csv", "x"}, `"csv"`}, {[]string{"--format", "ndjson"}, "no PATH"},
		{[]string{"--format", "ndjson", "/no/such/file"}, "/no/such/file does not exist"},
		{[]string{"--format", "ndjson", empty}, "holds no files"},
		{[]string{"--format", "ndjson", "--stream", "x", "-"}, `"x"`},
		{[]string{"--format", "cloudtrail", "--stream", "domain", "-"}, "audit events"},
		{[]string{"--format", "ndjson", "--tenant", "a b", "-"}, "--tenant"},
	} {
		p.do(t, append([]string{"ingest"}, c.args...)...).want(t, exitNotDone, c.want)
	}
	// The topics do not exist.
	r := p.do(t, "ingest", "--format", "ndjson", "--state", p.dir, "-")
	r.want(t, exitNotDone, "x-audit.events", "nothing was ingested")
}

// TestIngestEndsWhenItsServerDisappears, says how to go on, and does go on.
func TestIngestEndsWhenItsServerDisappears(t *testing.T) {
	p := newPlace(t)
	p.do(t, "topics", "create").want(t, exitDone)
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, goodLine+"\n", i)
	}
	file := write(t, p.dir, "big.ndjson", b.String())
	args := []string{"ingest", "--format", "ndjson", "--state", filepath.Join(p.dir, "state"), file}
	done := make(chan result, 1)
	go func() { done <- p.do(t, args...) }()
	p.records(t, "x-audit.events", 500) // it is under way
	addr := p.cluster.ListenAddrs()[0]
	p.cluster.Close()
	began := time.Now()
	r := <-done
	r.want(t, exitNotDone, "run the same command again", "big.ndjson", addr)
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("it ended after %v", d)
	}
	if !strings.HasPrefix(lastLine(r.stdout), "ingested ") {
		t.Errorf("last line %q", lastLine(r.stdout))
	}
}

func TestIngestInterrupted(t *testing.T) {
	p := newPlace(t)
	p.do(t, "topics", "create").want(t, exitDone)
	ctx, cancel := context.WithCancel(t.Context())
	lines, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	go func() {
		defer w.Close()
		for i := range 600 {
			_, _ = fmt.Fprintf(w, goodLine+"\n", i)
		}
		p.records(t, "x-audit.events", 500)
		cancel()
		_, _ = fmt.Fprintf(w, goodLine+"\n", 601)
	}()
	r := sealstreamWith(ctx, nil, lines, "ingest", "--format", "ndjson", "-", "--config", p.config)
	r.want(t, exitNotDone, "interrupted in standard input")
}

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		s    ingest.Summary
		want string
	}{
		{ingest.Summary{}, "ingested 0 events, 0 refused"},
		{ingest.Summary{Ingested: 3, Refused: 1, Already: 2}, "ingested 3 events, 1 refused, 2 already there"},
		{ingest.Summary{Ingested: 3, Doubled: []ingest.Place{{Topic: "t", Partition: 1, Offset: 7}, {Topic: "t", Partition: 2, Offset: 9}}},
			"ingested 3 events, 0 refused, 2 doubled by a retry: t/1@7 t/2@9"},
	} {
		if got := summary(c.s); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestGenerate(t *testing.T) {
	r := sealstream(t, "generate", "--count", "50", "--start", "2026-03-01T10:00:00Z")
	r.want(t, exitDone)
	if n := strings.Count(r.stdout, "\n"); n != 50 || !json.Valid([]byte(lastLine(r.stdout))) {
		t.Errorf("%d lines", n)
	}
	if again := sealstream(t, "generate", "--count", "50", "--start", "2026-03-01T10:00:00Z"); again.stdout != r.stdout {
		t.Error("the same seed and start give other events")
	}
	p := newPlace(t)
	p.do(t, "topics", "create").want(t, exitDone)
	p.do(t, "generate", "--count", "120", "--stream", "both", "--malformed", "0.1").want(t, exitDone, "generated 120 events, 0 failed")
	p.do(t, "generate", "--count", "40", "--rate", "400").want(t, exitDone, "generated 40 events, 0 failed")
	p.do(t, "generate", "--format", "avro").want(t, exitNotDone, "registry.url")
	for _, args := range [][]string{{"--stream", "x"}, {"--format", "x"}, {"--start", "x"}, {"--count", "-1"}, {"--format", "avro"}, {"x"}, {"--tenants", "50"}} {
		sealstream(t, append([]string{"generate"}, args...)...).want(t, exitNotDone)
	}
	// What is generated is what ingest takes.
	file := write(t, p.dir, "gen.ndjson", r.stdout)
	p.do(t, "ingest", "--format", "ndjson", "--state", p.dir, file).want(t, exitDone, "ingested 50 events, 0 refused")
}

func TestToken(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "c.yaml", "version: 1\napi: {local_key_file: key.pem}\nproducer: {tenant: acme}\n")
	r := sealstream(t, "token", "--role", "auditor", "--config", file)
	r.want(t, exitDone)
	if strings.Count(r.stdout, ".") != 2 || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("token %q", r.stdout)
	}
	sealstream(t, "token", "--role", "ingest", "--config", file).want(t, exitDone)
	sealstream(t, "token", "--config", file).want(t, exitNotDone, "--role", "compliance")
	sealstream(t, "token", "--role", "root", "--config", file).want(t, exitNotDone, "root")
	sealstream(t, "token", "--role", "ingest", "--ttl", "1000000h", "--config", file).want(t, exitNotDone, "life")
	sealstream(t, "token", "--role", "ingest").want(t, exitNotDone, "no built-in issuer")
}

func TestRejects(t *testing.T) {
	p := newPlace(t)
	p.do(t, "topics", "create").want(t, exitDone)
	p.do(t, "rejects", "list").want(t, exitDone, "0 rejects")
	sealed, g := sealedRecords(t, 2)
	s, err := ledger.Open(&sealed[1])
	if err != nil {
		t.Fatal(err)
	}
	rej := sinks.Rejection{Sink: "postgres", Partition: sinks.Partition{Topic: "x-audit.events.sealed", ID: 3},
		Record: sinks.Record{Offset: 17, Sealed: s}, Code: "22P05", Reason: "invalid_text", Detail: "column 3", Attempts: 2,
		First: time.Unix(1000, 0), Last: time.Unix(2000, 0)}
	p.put(t, "x-rejects", s.Source.Key, s.Source.Value, rej.Headers())
	p.put(t, "x-rejects", nil, []byte("stray"), nil)
	r := p.do(t, "rejects", "list")
	r.want(t, exitDone, "0@0", "x-audit.events.sealed/3@17", ledger.IDOf(g).String()+"/1", "invalid_text", "22P05", "column 3", "2 rejects", "not a record of ours")
	p.do(t, "rejects", "list", "--sink", "elastic").want(t, exitDone, "0 rejects")
	p.do(t, "rejects", "list", "--limit", "1").want(t, exitDone, "2 rejects, the newest 1 shown")
	var list struct {
		Items []map[string]any
		Total int
	}
	if r := p.do(t, "rejects", "list", "--json"); json.Unmarshal([]byte(r.stdout), &list) != nil || list.Total != 2 || len(list.Items) != 2 {
		t.Errorf("list --json: %s", r.stdout)
	}
	p.do(t, "rejects", "show", "0@0").want(t, exitDone, "reject.reason", "invalid_text", "header seal")
	if r := p.do(t, "rejects", "show", "0@0", "--value"); r.stdout != string(s.Source.Value) {
		t.Errorf("value %q, want %q", r.stdout, s.Source.Value)
	}
	p.do(t, "rejects", "show", "0@9").want(t, exitNotDone, "no record at 0@9")
	p.do(t, "rejects", "show", "x").want(t, exitNotDone, "PARTITION@OFFSET")
	p.do(t, "rejects").want(t, exitNotDone, "rejects list")
}

func (p *place) put(t *testing.T, topic string, key, value []byte, hs []ledger.Header) {
	t.Helper()
	prod, err := producers.New(producers.Options{}, p.seeds)
	if err != nil {
		t.Fatal(err)
	}
	defer prod.Close()
	if r := prod.Send(t.Context(), []producers.Message{{Topic: topic, Key: key, Value: value, Headers: hs}})[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
}

// sealedRecords makes a ledger of n records, genesis included, and its genesis body.
func sealedRecords(t *testing.T, n int) ([]ledger.Record, []byte) {
	t.Helper()
	g := ledger.Genesis{Name: "localhost/test", Cluster: "c", Source: "x-audit.events", SourceID: ledger.TopicID{1}, Partition: 0}
	body, err := g.Body()
	if err != nil {
		t.Fatal(err)
	}
	chain, first, err := ledger.Start(g, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := []ledger.Record{first}
	for i := 1; i < n; i++ {
		src := ledger.Record{Key: []byte("k"), Value: fmt.Appendf(nil, "value %d", i), TimeMs: 1000, Offset: int64(i - 1), LeaderEpoch: -1}
		seal, _, err := chain.Append(&src, nil)
		if err != nil {
			t.Fatal(err)
		}
		src.Headers = append(src.Headers, ledger.Header{Name: ledger.SealHeader, Value: slices.Clone(seal)})
		out = append(out, src)
	}
	return out, body
}

// TestOrder writes an order and reads it as the seal does.
func TestOrder(t *testing.T) {
	p := newPlace(t)
	p.do(t, "topics", "create").want(t, exitDone)
	sealed, _ := sealedRecords(t, 3)
	cl, err := kgo.NewClient(p.seeds, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, r := range sealed {
		k := &kgo.Record{Topic: "x-audit.events.sealed", Partition: 0, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.TimeMs)}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		if err := cl.ProduceSync(t.Context(), k).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	last, err := ledger.Open(&sealed[2])
	if err != nil {
		t.Fatal(err)
	}
	leaf := last.Leaf().String()
	base := []string{"order", "resume", "--source", "audit.events", "--partition", "0", "--reason", "restored from backup", "--by", "op-7", "--wait", "0s"}
	p.do(t, append(base, "--expect-leaf", strings.Repeat("0", 64))...).want(t, exitNotDone, leaf, "nothing was ordered")
	p.do(t, append(base, "--expect-leaf", "none-readable")...).want(t, exitNotDone, leaf)
	p.do(t, append(base, "--expect-leaf", leaf)...).want(t, exitDone, "written at x-ledger.control/0@0", leaf)
	rec := p.records(t, "x-ledger.control", 1)[0]
	lr := ledger.Record{Key: rec.Key, Value: rec.Value}
	for _, h := range rec.Headers {
		lr.Headers = append(lr.Headers, ledger.Header{Name: h.Key, Value: h.Value})
		if strings.Contains(string(h.Value), "op-7") {
			t.Errorf("header %s names the operator", h.Key)
		}
	}
	o, ok := processors.ParseOrder(lr)
	if !ok || o.Source != "x-audit.events" || o.Partition != 0 || o.End != 3 || o.Leaf != leaf || o.By != "op-7" || o.Previous != "none" ||
		o.Reason != "restored from backup" || o.OutputID == "" || o.ID != header(rec, "ce_id") {
		t.Errorf("order %+v, %v", o, ok)
	}
	// An empty partition has nothing readable.
	empty := slices.Clone(base)
	empty[5] = "4"
	// The order must then name the ledger before, else the new one would get its id.
	p.do(t, empty...).want(t, exitNotDone, "give --previous")
	p.do(t, append(slices.Clone(empty), "--previous", strings.Repeat("a", 32)+" 3 "+strings.Repeat("A", 43)+"=")...).want(t, exitDone, processors.NoneReadable)
	// Nobody applies it here.
	waiting := slices.Clone(base)
	waiting[len(waiting)-1] = "600ms"
	p.do(t, waiting...).want(t, exitLook, "has not applied the order")
	for _, c := range []struct{ flag, value, want string }{
		{"--source", "", "--source"}, {"--source", "nosuch", "nosuch"}, {"--partition", "-1", "--partition"}, {"--reason", " ", "--reason"},
		{"--previous", "x", "--previous"}, {"--partition", "99", "99"},
	} {
		p.do(t, append(slices.Clone(base), c.flag, c.value)...).want(t, exitNotDone, c.want)
	}
	p.do(t, "order").want(t, exitNotDone, "order resume")
}

func TestControlMessage(t *testing.T) {
	act, err := newAct("alice@example.com", "thing", "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := schemas.AccessRead(act, schemas.Read{Query: "q"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := controlMessage("p-", e, "thing")
	if err != nil || m.Topic != "p-ledger.control" || string(m.Key) != "access.read/thing" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, h := range m.Headers {
		if strings.Contains(string(h.Value), "alice") {
			t.Errorf("header %s holds personal data", h.Name)
		}
	}
}
