package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/stream"
)

// running is an `up` in this process.
type running struct {
	dir  string
	info RunInfo
	stop func() result
	log  *lockedBuffer
}

// lockedBuffer is what an `up` prints while it runs.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// begin runs a mode until its context ends.
func begin(ctx context.Context, log *lockedBuffer, args ...string) <-chan result {
	done := make(chan result, 1)
	go func() {
		err := run(ctx, args, &env{getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: log, stderr: log})
		done <- result{code: exitCode(log, err), stdout: log.String()}
	}()
	return done
}

// until waits for a condition that other goroutines or processes bring about.
func until(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within %v", what, within)
		case <-tick.C:
		}
	}
}

// dataDir is a directory that PostgreSQL's own user can reach when we are root.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

func startUp(t *testing.T, dir string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{dir: dir, log: &lockedBuffer{}}
	ready := filepath.Join(t.TempDir(), "ready.json")
	done := begin(ctx, r.log, append([]string{"up", "--data", dir, "--ready-file", ready, "--listen", "127.0.0.1:0"}, args...)...)
	var end *result
	r.stop = func() result {
		cancel()
		if end == nil {
			res := <-done
			end = &res
		}
		return *end
	}
	t.Cleanup(func() { r.stop() })
	until(t, "ready file", 90*time.Second, func() bool {
		select {
		case res := <-done:
			end = &res
			t.Fatalf("up ended with code %d:\n%s", res.code, r.log.String())
		default:
		}
		b, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(b, &r.info) == nil
	})
	if info, err := os.Stat(ready); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ready file: mode %v, %v", info.Mode(), err)
	}
	return r
}

// get asks the API as a role and returns status and body.
func (r *running) get(t *testing.T, role, path string) (int, string) {
	t.Helper()
	token, err := os.ReadFile(r.info.Tokens[role])
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.info.API+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// post sends one event as the role ingest.
func (r *running) post(t *testing.T, event string) (int, string) {
	t.Helper()
	token, err := os.ReadFile(r.info.Tokens["ingest"])
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.info.API+"/v1/events?stream=audit", strings.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// verified waits until verify says that all is as it was sealed and stored, and
// returns its report.
func verified(t *testing.T, dir string) (rep struct {
	Result   string
	Records  int
	Rows     int
	Lag      int
	Findings []map[string]any
}) {
	t.Helper()
	until(t, "verify without lag", 60*time.Second, func() bool {
		r := sealstream(t, "verify", "--data", dir, "--json")
		if err := json.Unmarshal([]byte(r.stdout), &rep); err != nil {
			t.Fatalf("verify: code %d, %v\n%s%s", r.code, err, r.stdout, r.stderr)
		}
		return rep.Result != "ok" || rep.Lag == 0
	})
	return rep
}

// TestUp walks the way of a new user: start, ingest, query, verify, tamper, verify,
// stop, start again.
func TestUp(t *testing.T) {
	dir := dataDir(t)
	sealstream(t, "token", "--role", "analyst", "--data", dir).want(t, exitNotDone, "no running up in "+dir)
	u := startUp(t, dir)
	if u.info.PID != os.Getpid() || len(u.info.Kafka) != 3 || u.info.API == "" || u.info.Registry == "" || len(u.info.Tokens) != 7 {
		t.Errorf("ready file: %+v", u.info)
	}
	for _, want := range []string{u.info.API, u.info.Kafka[0], u.info.Registry, "ingest --data", "verify --data", "curl"} {
		until(t, "banner with "+want, 10*time.Second, func() bool { return strings.Contains(u.log.String(), want) })
	}
	if pw := passwordOf(t, u.info.Postgres); strings.Contains(u.log.String(), pw) {
		t.Error("the banner or the log shows the database's password")
	}

	sealstream(t, "up", "--data", dir).want(t, exitNotDone, "in use by process "+fmt.Sprint(os.Getpid()))
	var lines strings.Builder
	for i := range 50 {
		fmt.Fprintf(&lines, goodLine+"\n", i)
	}
	file := write(t, t.TempDir(), "a.ndjson", lines.String())
	sealstream(t, "ingest", "--data", dir, "--format", "ndjson", file).want(t, exitDone, "ingested 50 events, 0 refused")
	sealstream(t, "ingest", "--data", dir, "--format", "ndjson", file).want(t, exitDone, "ingested 0 events, 0 refused, 50 already there")
	sealstream(t, "topics", "check", "--data", dir).want(t, exitDone, "7 topics, 0 problems")
	sealstream(t, "generate", "--data", dir, "--count", "20", "--format", "mixed").want(t, exitDone, "generated 20 events, 0 failed")
	sealstream(t, "config", "--data", dir).want(t, exitDone, u.info.Kafka[0], u.info.Registry)
	sealstream(t, "order", "resume", "--data", dir, "--source", "audit.events", "--partition", "0", "--reason", "x").want(t, exitNotDone, "is not stopped")
	before := verified(t, dir)
	until(t, "all events sealed and stored", 60*time.Second, func() bool {
		before = verified(t, dir)
		return before.Result != "ok" || before.Rows >= 50+20+60
	})
	if before.Result != "ok" || len(before.Findings) != 0 {
		t.Errorf("verify: %+v", before)
	}
	if code, body := u.get(t, "analyst", "/v1/events?action=role.grant&limit=100"); code != 200 || strings.Count(body, `"role.grant"`) < 50 {
		t.Errorf("query: %d %.300s", code, body)
	}
	if code, body := u.get(t, "operator", "/metrics"); code != 200 || !strings.Contains(body, "sealstream_produce_records_total") {
		t.Errorf("metrics: %d %.300s", code, body)
	}
	u.tamper(t)
	if after := verified(t, dir); after.Result != "findings" || len(after.Findings) != 1 {
		t.Errorf("after tampering: %+v", after)
	}

	if r := u.stop(); r.code != exitDone {
		t.Fatalf("stop: code %d\n%s", r.code, r.stdout)
	}
	sealstream(t, "verify", "--data", dir).want(t, exitNotDone, "no running up in "+dir)
	again := startUp(t, dir)
	if !slices.Equal(again.info.Kafka, u.info.Kafka) || again.info.Registry != u.info.Registry {
		t.Errorf("addresses changed: %+v, before %+v", again.info, u.info)
	}
	if rep := verified(t, dir); len(rep.Findings) != 1 || rep.Records < before.Records {
		t.Errorf("after the second start: %+v, before %+v", rep, before)
	}
	sealstream(t, "ingest", "--data", dir, "--format", "ndjson", file).want(t, exitDone, "ingested 0 events, 0 refused, 50 already there")
	again.forge(t)
	if r := again.stop(); r.code != exitDone {
		t.Fatalf("stop with an alarm: code %d\n%s", r.code, r.stdout)
	}
	stopped := startUp(t, dir) // the alarm is there again
	until(t, "alarm", 30*time.Second, func() bool {
		_, body := stopped.get(t, "operator", "/readyz")
		return strings.Contains(body, "ledger.control/0: ")
	})
	resume := []string{"order", "resume", "--data", dir, "--source", "ledger.control", "--partition", "0", "--reason", "forged by a test"}
	sealstream(t, resume...).want(t, exitDone, "the alarm: seal/", "order ", "ledger.control/0 goes on")
	sealstream(t, resume...).want(t, exitNotDone, "is not stopped")
}

// forge appends a second record of one seq to the sealed control topic, as only somebody
// with the seal's rights can, and waits until the seal has stopped the partition.
func (r *running) forge(t *testing.T) {
	t.Helper()
	sc := stream.Config{Brokers: r.info.Kafka}
	_, out, err := stream.Inspect(t.Context(), sc, "ledger.control", "ledger.control.sealed", 0)
	if err != nil || len(out.Tail) == 0 {
		t.Fatalf("look at ledger.control.sealed/0: %d records, %v", len(out.Tail), err)
	}
	last := out.Tail[len(out.Tail)-1]
	k := &kgo.Record{Topic: "ledger.control.sealed", Key: last.Key, Value: last.Value, Timestamp: time.UnixMilli(last.TimeMs)}
	for _, h := range last.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	cl, err := kgo.NewClient(sc.Opts()...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), k).FirstErr(); err != nil {
		t.Fatal(err)
	}
	until(t, "alarm", 30*time.Second, func() bool {
		r.get(t, "analyst", "/v1/events?limit=1") // is a control event, which the seal has to seal
		_, body := r.get(t, "operator", "/readyz")
		return strings.Contains(body, "ledger.control/0: ")
	})
}

func passwordOf(t *testing.T, url string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Password
}

// tamper changes one row as a superuser would.
func (r *running) tamper(t *testing.T) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), r.info.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	tag, err := db.Exec(t.Context(), `UPDATE public.events SET user_id = 'mallory' WHERE (ledger, seq) =
		(SELECT ledger, seq FROM public.events WHERE event_action = 'role.grant' LIMIT 1)`)
	if err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("tamper: %v, %v", tag, err)
	}
}

// TestRolesApart runs the roles outside of up, which is started after them.
func TestRolesApart(t *testing.T) {
	dir := dataDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	roles := &lockedBuffer{}
	done := begin(ctx, roles, "run", "seal", "sink-postgres", "api", "--data", dir, "--slot", "apart", "--listen", "127.0.0.1:0")
	until(t, "waiting for up", 10*time.Second, func() bool { return strings.Contains(roles.String(), "waiting: no running up in "+dir) })
	u := startUp(t, dir, "--without", "seal,sink-postgres,api")
	if u.info.API != "" || !strings.Contains(u.log.String(), "run seal --data") {
		t.Errorf("up without roles: api %q\n%s", u.info.API, u.log.String())
	}
	sealstream(t, "generate", "--data", dir, "--count", "30").want(t, exitDone, "generated 30 events")
	if rep := verified(t, dir); rep.Result != "ok" {
		t.Errorf("verify: %+v", rep)
	}
	until(t, "rows", 60*time.Second, func() bool { return verified(t, dir).Rows >= 90 })
	// A POST is answered only when the disk of the broker in the other process has it.
	_, addr, _ := strings.Cut(roles.String(), `msg="api listens" address=`)
	u.info.API = "http://" + strings.TrimSpace(strings.SplitN(addr, "\n", 2)[0])
	if code, body := u.post(t, fmt.Sprintf(goodLine, 1)); code != http.StatusAccepted || !strings.Contains(body, `"audit.events"`) {
		t.Errorf("POST: %d %s", code, body)
	}
	cancel()
	if r := <-done; r.code != exitDone {
		t.Errorf("roles: code %d\n%s", r.code, r.stdout)
	}
}

func TestUpRefuses(t *testing.T) {
	dir := dataDir(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	for _, c := range []struct {
		name, yaml string
		prepare    func(data string)
		want       []string
	}{
		{"broker port", fmt.Sprintf("embedded: {kafka_ports: [%d, 0, 0]}", port), nil, []string{"in use", fmt.Sprint(port)}},
		{"registry port", fmt.Sprintf("embedded: {registry_port: %d}", port), nil, []string{"in use", fmt.Sprint(port), "embedded.registry_port"}},
		{"postgres URL file", "embedded: {postgres_url_file: none}", nil, []string{"embedded.postgres_url_file", "none"}},
		{"other version", "", func(d string) { write(t, d, stateFile, `{"version": 9}`) }, []string{"version 9"}},
		{"damaged state", "", func(d string) { write(t, d, stateFile, `{`) }, []string{"damaged"}},
		{"lost salt master", "", func(d string) { write(t, d, stateFile, `{"version": 1, "name": "x/y"}`) }, []string{"restore the salt masters"}},
		{"open salt master", "", func(d string) {
			if err := os.Chmod(write(t, d, saltDir+"/1.key", strings.Repeat("k", 32)), 0o644); err != nil {
				t.Fatal(err)
			}
		}, []string{"0644", "chmod 600"}},
		{"short salt master", "", func(d string) { write(t, d, saltDir+"/1.key", "k") }, []string{"1 bytes"}},
		{"other name", "seal: {name: other.example.com}", func(d string) {
			write(t, d, stateFile, `{"version": 1, "name": "first.example.com"}`)
			write(t, d, saltDir+"/1.key", strings.Repeat("k", 32))
		}, []string{"other.example.com", "first.example.com"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			if c.prepare != nil {
				c.prepare(data)
			}
			file := write(t, t.TempDir(), "c.yaml", "version: 1\n"+c.yaml+"\n")
			sealstream(t, "up", "--data", data, "--config", file).want(t, exitNotDone, c.want...)
		})
	}
	sealstream(t, "up", "--without", "broker").want(t, exitNotDone, `"broker"`, "seal, sink-postgres, api")
	sealstream(t, "up", "--listen", "0.0.0.0:1", "--data", dir).want(t, exitNotDone, "reachable from other machines")
	sealstream(t, "run", "--data", dir).want(t, exitNotDone, "name the roles")
	sealstream(t, "run", "broker", "--data", dir).want(t, exitNotDone, `"broker"`)
}

func TestRunInfo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, runFile)
	info := RunInfo{API: "http://a", Kafka: []string{"k:1"}, Tokens: map[string]string{"admin": "/t"}, PID: os.Getpid()}
	if err := info.Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRunInfo(dir); !errors.Is(err, errNotRunning) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a file that a killed up left: %v", err)
	}
	unlock, err := lockData(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := LoadRunInfo(dir); err != nil || got.API != info.API || got.Tokens["admin"] != "/t" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("locked twice: %v", err)
	}
	dead := info
	dead.PID = 1 << 30
	if err := dead.Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRunInfo(dir); !errors.Is(err, errNotRunning) {
		t.Errorf("dead process: %v", err)
	}
	write(t, dir, runFile, "{")
	if _, err := LoadRunInfo(dir); err == nil || errors.Is(err, errNotRunning) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRunInfo(dir); err == nil || !strings.Contains(err.Error(), "0644") {
		t.Errorf("open to others: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRunInfo(dir); !errors.Is(err, errNotRunning) || !strings.Contains(err.Error(), "still starting") {
		t.Errorf("still starting: %v", err)
	}
	unlock()
	if _, err := LoadRunInfo(dir); !errors.Is(err, errNotRunning) {
		t.Errorf("unlocked: %v", err)
	}
}

func TestCrewStopsInOrder(t *testing.T) {
	var c crew
	var mu sync.Mutex
	var order []string
	for _, name := range []string{"api", "seal", "sink"} {
		c.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return nil
		})
	}
	if err := c.stop(t.Context(), quiet()); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(order) != "[api seal sink]" {
		t.Errorf("order %v", order)
	}
	select {
	case f := <-c.failed():
		t.Errorf("an ordered stop counts as a failure: %+v", f)
	default:
	}
}

func TestCrewReportsFailureAndDeadline(t *testing.T) {
	var c crew
	broken := errors.New("broken")
	c.start("bad", func(context.Context) error { return broken })
	if f := <-c.failed(); f.name != "bad" || !errors.Is(f.err, broken) {
		t.Errorf("%+v", f)
	}
	c.start("gone", func(context.Context) error { return nil })
	if f := <-c.failed(); f.name != "gone" || !errors.Is(f.err, errEnded) {
		t.Errorf("%+v", f)
	}
	stuck := make(chan struct{})
	defer close(stuck)
	c.start("stuck", func(context.Context) error { <-stuck; return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := c.stop(ctx, quiet())
	if err == nil || !strings.Contains(err.Error(), "stuck did not stop in time") || !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
