//go:build integration

package clients

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/ledger"
)

// place is one installation with its roles running, and what looks at it.
type place struct {
	t    *testing.T
	bed  *testbed.Bed
	p    testbed.Peers
	g    *testbed.Given
	adm  *kadm.Client
	db   *pgx.Conn
	sink *testbed.Proc
	run  func(command ...string) (testbed.Result, error) // a command of sealstream

	kafka            []string
	prefix, registry string
}

const (
	topicAudit   = "audit.events"
	topicDomain  = "domain.events"
	topicStamped = "stamped.events" // the broker sets the time there
	partitions   = 3
)

func sources() []string {
	lines := []string{"sources:"}
	for _, t := range []string{topicAudit, topicDomain, topicStamped} {
		lines = append(lines, "  - topic: "+t, fmt.Sprintf("    partitions: %d", partitions), "    max_message_bytes: 1048588", "    retention: forever")
	}
	return lines
}

// open makes an installation with a registry (empty: ours) and starts its roles.
func open(t *testing.T, bed *testbed.Bed, registry string) *place {
	t.Helper()
	pl := &place{t: t, bed: bed, p: testbed.Shared(t), prefix: prefix()}
	pl.kafka = pl.p.Kafka
	var err error
	pl.g, err = bed.Given(t.Context(), testbed.GivenOptions{Binary: pl.p.Binary, Kafka: pl.kafka, Registry: registry, Prefix: pl.prefix, Config: sources()})
	if err != nil {
		t.Fatal(err)
	}
	pl.registry = pl.g.Registry
	pl.run = func(command ...string) (testbed.Result, error) { return pl.g.Run(t.Context(), command...) }
	pl.connect(pl.g.Postgres)
	stamp := "LogAppendTime"
	pl.alter(topicStamped, kadm.AlterConfig{Op: kadm.SetConfig, Name: "message.timestamp.type", Value: &stamp})
	if _, err := pl.g.Role("seal", "1"); err != nil {
		t.Fatal(err)
	}
	pl.startSink()
	return pl
}

// openUp starts `sealstream up`: everything of ours, the broker and the registry too.
func openUp(t *testing.T, bed *testbed.Bed) *place {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pl := &place{t: t, bed: bed, p: testbed.Shared(t)}
	data, err := bed.MakeDir("data")
	if err != nil {
		t.Fatal(err)
	}
	config := bed.Path("up.yaml")
	if err := os.WriteFile(config, []byte("version: 1\nembedded:\n  sample: false\n"+strings.Join(sources(), "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	up, err := bed.Up(ctx, pl.p.Binary, testbed.UpOptions{Data: data, Args: []string{"--config", config}})
	if err != nil {
		t.Fatal(err)
	}
	pl.kafka, pl.registry = up.Ready.Kafka, up.Ready.Registry
	pl.run = func(command ...string) (testbed.Result, error) {
		return bed.Run(t.Context(), pl.p.Binary, append(command, "--data", data, "--config", config)...)
	}
	pl.connect(up.Ready.Postgres)
	return pl
}

// connect opens what looks at the brokers and the database.
func (pl *place) connect(postgres string) {
	pl.t.Helper()
	pl.adm = admin(pl.t, pl.kafka)
	var err error
	if pl.db, err = pgx.Connect(pl.t.Context(), postgres); err != nil {
		pl.t.Fatal(err)
	}
	pl.t.Cleanup(func() { _ = pl.db.Close(context.Background()) })
}

// prefix keeps the tests on one cluster apart.
func prefix() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return "clients-" + hex.EncodeToString(b[:]) + "."
}

func admin(t *testing.T, brokers []string) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

func (pl *place) alter(topic string, c kadm.AlterConfig) {
	pl.t.Helper()
	rs, err := pl.adm.AlterTopicConfigs(pl.t.Context(), []kadm.AlterConfig{c}, pl.topic(topic))
	if err == nil {
		_, err = rs.On(pl.topic(topic), func(r *kadm.AlterConfigsResponse) error { return r.Err })
	}
	if err != nil {
		pl.t.Fatal(err)
	}
}

func (pl *place) topic(name string) string { return pl.prefix + name }

func (pl *place) brokers() string { return strings.Join(pl.kafka, ",") }

// file is the absolute path of a file of this repository: programs run elsewhere.
func file(t *testing.T, path ...string) string {
	t.Helper()
	abs, err := filepath.Abs(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// run runs a foreign program to its end and returns what it printed.
func run(t *testing.T, bed *testbed.Bed, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := bed.Run(ctx, command[0], command[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Exit != 0 {
		t.Fatalf("%s: exit code %d:\n%s", strings.Join(command, " "), r.Exit, r.Stderr)
	}
	return r.Stdout
}

func (pl *place) python(args ...string) string {
	pl.t.Helper()
	return run(pl.t, pl.bed, append([]string{pl.p.Python, file(pl.t, "testdata", "foreign.py")}, args...)...)
}

// runJava runs a source file with Kafka's jars and Avro's.
func runJava(t *testing.T, bed *testbed.Bed, source string, args ...string) string {
	t.Helper()
	jdk, err := testbed.FindJava(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	avro, err := testbed.FetchJars(t.Context(), "", testbed.AvroJars())
	if err != nil {
		t.Fatal(err)
	}
	return run(t, bed, jdk.Command(testbed.Shared(t).KafkaJars+":"+filepath.Join(avro, "*"), file(t, "testdata", source), args...)...)
}

// sent is one record as its producer reports it.
type sent struct {
	Case      string         `json:"case"`
	Partition int32          `json:"partition"`
	Offset    int64          `json:"offset"`
	TimeMs    int64          `json:"ts"`
	Key       []byte         `json:"key"`
	Value     []byte         `json:"value"`
	Headers   []header       `json:"headers"`
	Columns   map[string]any `json:"columns"`
	Aborted   bool           `json:"aborted"`
}

// header is written as a list of two.
type header ledger.Header

func (h *header) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&h.Name, &h.Value})
}

func (s *sent) record() ledger.Record {
	r := ledger.Record{Key: s.Key, Value: s.Value, TimeMs: s.TimeMs, Offset: s.Offset}
	for _, h := range s.Headers {
		r.Headers = append(r.Headers, ledger.Header(h))
	}
	return r
}

// parse reads one JSON document a line.
func parse[T any](t *testing.T, out string) []T {
	t.Helper()
	var all []T
	lines := bufio.NewScanner(strings.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var v T
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("a line that is no answer: %v: %.200s", err, lines.Text())
		}
		all = append(all, v)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// read returns every committed record of a topic, by partition and in order.
func (pl *place) read(topic string) map[int32][]ledger.Record {
	pl.t.Helper()
	return readTopic(pl.t, pl.adm, pl.kafka, topic)
}

func readTopic(t *testing.T, adm *kadm.Client, brokers []string, topic string) map[int32][]ledger.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ends, err := adm.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	left, from := map[int32]int64{}, map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition], from[o.Partition] = o.Offset, kgo.NewOffset().At(0)
		}
	})
	out := map[int32][]ledger.Record{}
	if len(left) == 0 {
		return out
	}
	// Markers are shown, so that the last offset of a partition is.
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("read %s: %v: not read to their ends: %v", topic, err, left)
		}
		fs.EachRecord(func(k *kgo.Record) {
			if end, ok := left[k.Partition]; ok && k.Offset >= end-1 {
				delete(left, k.Partition)
			}
			if !k.Attrs.IsControl() {
				out[k.Partition] = append(out[k.Partition], recordOf(k))
			}
		})
	}
	return out
}

func recordOf(k *kgo.Record) ledger.Record {
	r := ledger.Record{Key: k.Key, Value: k.Value, TimeMs: k.Timestamp.UnixMilli(), Offset: k.Offset, LogAppendTime: k.Attrs.TimestampType() == 1}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, ledger.Header{Name: h.Key, Value: h.Value})
	}
	return r
}

// stored waits until the table holds so many rows of a source topic, genesis rows
// included, and no more.
func (pl *place) stored(topic string, rows int) {
	pl.t.Helper()
	ctx, cancel := context.WithTimeout(pl.t.Context(), 90*time.Second)
	defer cancel()
	var n int
	err := testbed.Until(ctx, func() (bool, error) {
		err := pl.db.QueryRow(ctx, "SELECT count(*) FROM public.events WHERE sealed_topic = $1", pl.topic(topic)+".sealed").Scan(&n)
		return n >= rows, err
	})
	if err != nil || n != rows {
		pl.t.Fatalf("%s: %d rows are stored, want %d (%v)", topic, n, rows, err)
	}
}

// row is what is stored of one event.
type row struct {
	Partition   int32
	Offset      int64
	Frame       []byte
	Statement   []byte
	RecordTime  *int64
	EventTime   int64
	DecodeError *string
	Tenant      string
	Columns     map[string]any
}

// rows returns what is stored of a source topic, by sealed partition and in its order.
func (pl *place) rows(topic string) map[int32][]row {
	pl.t.Helper()
	rs, err := pl.db.Query(pl.t.Context(), `SELECT sealed_partition, sealed_offset, frame, statement,
			round(extract(epoch FROM record_time) * 1000)::bigint, round(extract(epoch FROM event_time) * 1000)::bigint, decode_error, tenant,
			jsonb_build_object('event_id', event_id, 'event_action', event_action, 'event_outcome', event_outcome, 'user_name', user_name,
				'source_ip', source_ip, 'event_time', round(extract(epoch FROM event_time) * 1000)::bigint, 'user_id', user_id, 'event_category', event_category)
		FROM public.events WHERE sealed_topic = $1 ORDER BY sealed_partition, sealed_offset`, pl.topic(topic)+".sealed")
	if err != nil {
		pl.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rs, pgx.RowToStructByPos[row])
	if err != nil {
		pl.t.Fatal(err)
	}
	out := map[int32][]row{}
	for _, r := range all {
		out[r.Partition] = append(out[r.Partition], r)
	}
	return out
}

// verified has `sealstream verify` look at everything, once it has been stored.
func (pl *place) verified() {
	pl.t.Helper()
	r, err := pl.run("verify")
	if err != nil || r.Exit != 0 {
		pl.t.Errorf("sealstream verify: exit code %d, %v\n%s%s", r.Exit, err, r.Stdout, r.Stderr)
	}
}

func byOffset(a, b sent) int { return int(a.Offset - b.Offset) }

// inOrder sorts what several producers sent into what each partition holds.
func inOrder(all []sent) map[int32][]sent {
	out := map[int32][]sent{}
	for _, s := range all {
		if !s.Aborted {
			out[s.Partition] = append(out[s.Partition], s)
		}
	}
	for _, p := range out {
		slices.SortFunc(p, byOffset)
	}
	return out
}
