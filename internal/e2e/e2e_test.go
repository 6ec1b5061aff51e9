package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
)

// One bed and one running `up` serve all tests of the package.
var (
	bed *testbed.Bed
	bin string
	up  *testbed.Up
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var err error
	if bed, err = testbed.New(""); err == nil {
		defer func() {
			if err := bed.Close(code != 0); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}()
		if bin, err = bed.Build(ctx); err == nil {
			up, err = bed.Up(ctx, bin, testbed.UpOptions{Data: bed.Path("data"), Args: []string{"--listen", "127.0.0.1:0"}})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start up:", err)
		return 1
	}
	return m.Run()
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func until(t *testing.T, what string, ok func() (bool, error)) {
	t.Helper()
	if err := testbed.Until(bounded(t), ok); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func kafka(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(up.Ready.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func database(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), up.Ready.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// get asks the API as a role.
func get(t *testing.T, role, path string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(bounded(t), http.MethodGet, up.Ready.API+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if role != "" {
		token, err := up.Ready.Token(role)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

type report struct {
	Result   string `json:"result"`
	Records  int    `json:"records"`
	Lag      int    `json:"lag"`
	Findings []struct {
		Verdict string `json:"verdict"`
		Ledger  string `json:"ledger"`
		Seq     uint64 `json:"seq"`
		Where   string `json:"where"`
		Detail  string `json:"detail"`
	} `json:"findings"`
}

// verify runs the command and returns its report and exit code.
func verify(t *testing.T) (report, int) {
	t.Helper()
	res, err := bed.Run(bounded(t), bin, "verify", "--data", bed.Path("data"), "--json")
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(res.Stdout), &r); err != nil {
		t.Fatalf("verify printed %q, %q: %v", res.Stdout, res.Stderr, err)
	}
	return r, res.Exit
}

// stored waits until the table holds n rows of a sealed topic.
func stored(t *testing.T, topic string, n int) {
	t.Helper()
	conn := database(t)
	until(t, fmt.Sprintf("%d rows of %s", n, topic), func() (bool, error) {
		got := 0
		err := conn.QueryRow(bounded(t), "SELECT count(*) FROM events WHERE sealed_topic = $1", topic).Scan(&got)
		return got >= n, err
	})
}

func rowCount(t *testing.T, topic string) (n int) {
	t.Helper()
	if err := database(t).QueryRow(bounded(t), "SELECT count(*) FROM events WHERE sealed_topic = $1", topic).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// odd are values and records that no schema explains, that are large, or that lie.
func odd() []*kgo.Record {
	many := make([]kgo.RecordHeader, 200)
	for i := range many {
		many[i] = kgo.RecordHeader{Key: fmt.Sprintf("h%d", i), Value: []byte("v")}
	}
	rs := []*kgo.Record{
		{Value: []byte("neither Avro nor JSON")},
		{Value: []byte{0, 0, 0, 0x27, 0x10, 1, 2, 3}}, // a schema id that nobody registered
		{Value: []byte{0, 0, 0, 0, 1, 0xff, 0xff}},    // a known schema that does not fit
		{Value: []byte(`{"@timestamp":"2026-01-01T00:00:00Z","event":{"id":"twice","action":"first"}}`)},
		{Value: []byte(`{"@timestamp":"2026-01-01T00:00:00Z","event":{"id":"twice","action":"second"}}`)},
		{Value: nil}, {Key: []byte{}, Value: []byte{}},
		{Key: []byte(strings.Repeat("k", 64<<10)), Value: []byte("{}")},
		{Value: []byte("{}"), Headers: many},
		{Value: []byte("{}"), Headers: []kgo.RecordHeader{{Key: "seal", Value: make([]byte, 200)}}},
		{Value: []byte("{}"), Headers: []kgo.RecordHeader{{Key: "seal", Value: []byte("x")}, {Key: "seal", Value: make([]byte, 216)}}},
		{Value: []byte("{}"), Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("1")}, {Key: "ce_id", Value: []byte("2")}}},
		{Value: []byte("{}"), Timestamp: time.UnixMilli(-1)}, {Value: []byte("{}"), Timestamp: time.UnixMilli(-5000)},
		{Value: []byte("{}"), Timestamp: time.Now().Add(2 * time.Hour)},
		{Value: []byte(`{"@timestamp":"9999-12-31T23:59:59Z","message":"` + "\xff\xfe" + `"}`)},
		{Value: []byte(`{"message":"nul \u0000 in text"}`)},
		{Value: []byte(strings.Repeat("[", 5000))},
		{Value: []byte(`{"message":"` + strings.Repeat("a", 1_000_000) + `"}`)},
		{Value: []byte(`{"message":"` + strings.Repeat("a", 21<<20) + `"}`)}, // compresses to nothing, so the source takes it
	}
	for i, r := range rs {
		r.Topic, r.Partition = "audit.events", int32(i%3)
		if r.Timestamp.IsZero() {
			r.Timestamp = time.Now()
		}
	}
	return rs
}

// Whatever a Kafka client can write is sealed, stored and verifies; the same event id
// twice is two events.
func TestStoresAndVerifiesWhateverKafkaCarries(t *testing.T) {
	cl := kafka(t, kgo.ProducerBatchMaxBytes(64<<20), kgo.BrokerMaxWriteBytes(128<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	before := rowCount(t, "audit.events.sealed")
	rs := odd()
	for _, r := range rs {
		if err := cl.ProduceSync(bounded(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	stored(t, "audit.events.sealed", before+len(rs))
	if r, code := verify(t); code != 0 || r.Result != "ok" {
		t.Fatalf("verify: exit %d, %+v", code, r)
	}
	// Both events of one id are there; the one that sorts behind is marked.
	marked := 0
	for _, action := range []string{"first", "second"} {
		code, body := get(t, "auditor", "/v1/events?action="+action)
		if code != http.StatusOK || strings.Count(string(body), `"seq"`) < 1 {
			t.Errorf("event %s of the id that came twice: %d %s", action, code, body)
		}
		if strings.Contains(string(body), `"duplicate_of":{`) {
			marked++
		}
	}
	if marked != 1 {
		t.Errorf("%d events are marked as duplicates, want 1", marked)
	}
}

// A hand in the table: one column changed, one row deleted, one inserted. Verify names
// exactly these three, and nothing when they are mended.
func TestVerifyNamesExactlyTheRowsThatWereTouched(t *testing.T) {
	stored(t, "audit.events.sealed", 12+20)
	conn := database(t)
	ctx := bounded(t)
	rows, err := conn.Query(ctx, "SELECT replace(ledger::text, '-', ''), seq FROM events WHERE kind = 2 AND sealed_topic = 'audit.events.sealed' ORDER BY ledger, seq LIMIT 3")
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		ledger string
		seq    int64
	}
	places, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (p place, err error) { return p, r.Scan(&p.ledger, &p.seq) })
	if err != nil || len(places) != 3 {
		t.Fatal(places, err)
	}
	for _, sql := range []string{
		"CREATE TEMP TABLE kept AS SELECT * FROM events WHERE kind = 2",
		fmt.Sprintf("UPDATE events SET user_name = 'mallory' WHERE ledger = '%s' AND seq = %d", places[0].ledger, places[0].seq),
		fmt.Sprintf("DELETE FROM events WHERE ledger = '%s' AND seq = %d", places[1].ledger, places[1].seq),
		fmt.Sprintf("CREATE TEMP TABLE forged AS SELECT * FROM kept WHERE ledger = '%s' AND seq = %d", places[2].ledger, places[2].seq),
		"UPDATE forged SET seq = 1000000", "INSERT INTO events SELECT * FROM forged",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	r, code := verify(t)
	var got []string
	for _, f := range r.Findings {
		got = append(got, fmt.Sprintf("%s %s/%d", f.Verdict, f.Ledger, f.Seq))
	}
	want := []string{
		fmt.Sprintf("ALTERED %s/%d", places[0].ledger, places[0].seq),
		fmt.Sprintf("MISSING %s/%d", places[1].ledger, places[1].seq),
		fmt.Sprintf("EXTRA %s/1000000", places[2].ledger),
	}
	slices.Sort(got)
	slices.Sort(want)
	if code != 1 || !slices.Equal(got, want) {
		t.Fatalf("exit %d, findings %v, want %v", code, got, want)
	}
	if !strings.Contains(fmt.Sprint(r.Findings), "user_name") {
		t.Errorf("no finding names the column: %+v", r.Findings)
	}
	for _, sql := range []string{
		"DELETE FROM events WHERE seq = 1000000",
		fmt.Sprintf("INSERT INTO events SELECT * FROM kept WHERE ledger = '%s' AND seq = %d", places[1].ledger, places[1].seq),
		fmt.Sprintf("UPDATE events e SET user_name = k.user_name FROM kept k WHERE e.ledger = k.ledger AND e.seq = k.seq AND e.ledger = '%s' AND e.seq = %d", places[0].ledger, places[0].seq),
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if r, code := verify(t); code != 0 {
		t.Fatalf("mended, and still: exit %d, %+v", code, r)
	}
}

// The head of a sealed partition is trimmed: the seal stops that partition, says so in
// /readyz, metrics and log, and goes on by the operator's command.
func TestAStoppedPartitionGoesOnByOrder(t *testing.T) {
	adm := kadm.NewClient(kafka(t))
	until(t, "the last partition has its genesis", func() (bool, error) {
		ends, err := adm.ListCommittedOffsets(bounded(t), "domain.events.sealed")
		o, ok := ends.Lookup("domain.events.sealed", 11)
		return ok && o.Offset > 0, err
	})
	ends, err := adm.ListEndOffsets(bounded(t), "domain.events.sealed")
	if err != nil {
		t.Fatal(err)
	}
	last, _ := ends.Lookup("domain.events.sealed", 11)
	if _, err := adm.DeleteRecords(bounded(t), kadm.Offsets{"domain.events.sealed": {11: {Topic: "domain.events.sealed", Partition: 11, At: last.Offset}}}); err != nil {
		t.Fatal(err)
	}
	// The seal knows its head; only a new one reads it back.
	restart(t)
	until(t, "alarm in /readyz", func() (bool, error) {
		_, body := get(t, "operator", "/readyz")
		return strings.Contains(string(body), "head_trimmed"), nil
	})
	if _, body := get(t, "", "/metrics"); !strings.Contains(string(body), `sealstream_alarm_active{kind="head_trimmed",stage="seal"} 1`) {
		t.Error("no alarm in /metrics")
	}
	if err := up.WaitLog(bounded(t), "head_trimmed"); err != nil {
		t.Error(err)
	}
	res, err := bed.Run(bounded(t), bin, "order", "resume", "--data", bed.Path("data"), "--source", "domain.events", "--partition", "11", "--reason", "trimmed by the test")
	if err != nil || res.Exit != 0 {
		t.Fatalf("order: exit %d, %s%s, %v", res.Exit, res.Stdout, res.Stderr, err)
	}
	until(t, "alarm cleared", func() (bool, error) {
		_, body := get(t, "operator", "/readyz")
		return !strings.Contains(string(body), "head_trimmed"), nil
	})
	until(t, "the successor's genesis", func() (bool, error) {
		ends, err := adm.ListCommittedOffsets(bounded(t), "domain.events.sealed")
		o, ok := ends.Lookup("domain.events.sealed", 11)
		return ok && o.Offset > last.Offset, err
	})
}

// restart ends `up` as Ctrl-C does and starts it again on the same data.
func restart(t *testing.T) {
	t.Helper()
	if code, err := up.Terminate(bounded(t)); err != nil || code != 0 {
		t.Fatalf("up ended with %d, %v:\n%s", code, err, up.Tail())
	}
	var err error
	if up, err = bed.Up(bounded(t), bin, testbed.UpOptions{Data: bed.Path("data"), Args: []string{"--listen", "127.0.0.1:0"}}); err != nil {
		t.Fatal(err)
	}
}

// I11: a read is an audit event itself, in the ledger before the answer is out.
func TestAReadIsEvidence(t *testing.T) {
	stored(t, "audit.events.sealed", 12+20)
	code, body := get(t, "auditor", "/v1/events?limit=1&outcome="+url.QueryEscape("failure"))
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	conn := database(t)
	until(t, "the read is stored", func() (bool, error) {
		n := 0
		err := conn.QueryRow(bounded(t), "SELECT count(*) FROM events WHERE sealed_topic = 'ledger.control.sealed' AND event_action = 'access.read'").Scan(&n)
		return n > 0, err
	})
}
