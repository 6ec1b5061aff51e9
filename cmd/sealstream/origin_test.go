package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// execSQL runs one statement as the superuser.
func execSQL(t *testing.T, dbURL, sql string) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), dbURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	if _, err := db.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestAnothersDatabaseIsRefused: with the configuration of a second installation verify
// does not call the rows of the first one forged, its API does not show them, and a job
// says why it failed.
func TestAnothersDatabaseIsRefused(t *testing.T) {
	dir := dataDir(t)
	u := startUp(t, dir)
	until(t, "the samples stored", 60*time.Second, func() bool { return verified(t, dir).Lag == 0 && verified(t, dir).Rows > 0 })
	cfg, err := (&target{dataDir: dir}).load(&env{getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, t.TempDir(), "second.yaml", fmt.Sprintf("version: 1\nkafka: {brokers: [%q], prefix: \"second-\"}\nproducer: {pseudonym_key_file: %q}\nsink_postgres: {reader_url_file: %q}\napi: {local_key_file: %q}\n",
		u.info.Kafka[0], cfg.Producer.PseudonymKeyFile, cfg.SinkPostgres.ReaderURLFile, cfg.API.LocalKeyFile))
	sealstream(t, "topics", "create", "--config", file).want(t, exitDone)
	say := []string{`belongs to the installation with kafka.prefix ""`, `this one has kafka.prefix "second-"`, "kafka.brokers and kafka.prefix", "sink_postgres.reader_url_file"}
	r := sealstream(t, "verify", "--config", file)
	r.want(t, exitNotDone, say...)
	if strings.Contains(r.stdout, "EXTRA") || strings.Count(strings.TrimSpace(r.stderr), "\n") != 0 {
		t.Errorf("not one clear line: %s%s", r.stdout, r.stderr)
	}
	sealstream(t, "verify", "--ledger-only", "--config", file).want(t, exitDone)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sealstreamWith(ctx, nil, strings.NewReader(""), "run", "api", "--listen", "127.0.0.1:0", "--config", file).want(t, exitNotDone, say...)

	// The API runs already when the database turns out to be another's.
	execSQL(t, u.info.Postgres, "UPDATE sink_topics SET prefix = 'first-'")
	id := u.startJob(t, `{}`)
	var j struct{ State, Error string }
	until(t, "the job to fail", 30*time.Second, func() bool {
		_, body := u.call(t, u.info.API, http.MethodGet, "/v1/verify/"+id, "")
		return json.Unmarshal([]byte(body), &j) == nil && j.State != "queued" && j.State != "running"
	})
	if j.State != "failed" || !strings.Contains(j.Error, `kafka.prefix "first-"`) || !strings.Contains(j.Error, "sink_postgres.reader_url_file") {
		t.Errorf("the job: %+v", j)
	}
	if j := u.job(t, u.startJob(t, `{"rows":false}`), "done"); j.Result != "ok" {
		t.Errorf("a job about topics only: %+v", j)
	}
	// Of a database in which nothing was stored yet nobody is told off.
	execSQL(t, u.info.Postgres, "DELETE FROM sink_topics")
	sealstream(t, "verify", "--data", dir).want(t, exitDone)
}

// TestOriginIsAskedUntilItIsKnown: servers that are away, and an empty database, do not
// keep the API from its work; what they say later does.
func TestOriginIsAskedUntilItIsKnown(t *testing.T) {
	dir := dataDir(t)
	u := startUp(t, dir, "--without", "api,sink-postgres")
	broker, open := proxy(t, u.info.Kafka[0])
	cfg := &Config{Kafka: KafkaConfig{Brokers: []string{broker}, Prefix: "second-"}}
	var c crew
	began := time.Now()
	again := secretOf("x", filepath.Join(dir, readerFile))
	if _, err := again(); err != nil {
		t.Fatal(err)
	}
	if err := cfg.guardOrigin(t.Context(), &c, quiet(), again); err != nil || time.Since(began) > originTimeout {
		t.Fatalf("brokers that do not answer: %v after %v", err, time.Since(began))
	}
	open()
	select {
	case f := <-c.failed():
		t.Fatalf("an empty database: %v", f.err)
	case <-time.After(3 * originEvery):
	}
	execSQL(t, u.info.Postgres, "INSERT INTO sink_topics (sink, topic, topic_id, cluster, prefix) VALUES ('postgres', 'x', gen_random_uuid(), 'another', '')")
	select {
	case f := <-c.failed():
		if !otherInstallation(f.err) {
			t.Errorf("the guard ended with %v", f.err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the guard did not end")
	}
	if err := c.stop(t.Context(), quiet()); err == nil {
		t.Error("a stop forgets why the guard ended")
	}
}
