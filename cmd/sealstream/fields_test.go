package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// TestASourceNeedsItsTopicOnly: what an entry leaves out is what the manual shows.
func TestASourceNeedsItsTopicOnly(t *testing.T) {
	cfg, err := load(t, "version: 1\nsources:\n  - topic: pay.events\n  - {topic: hr.events, partitions: 12}\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	pay, hr := defaultSource("pay.events"), defaultSource("hr.events")
	hr.Partitions = 12
	if len(cfg.Sources) != 2 || cfg.Sources[0] != pay || cfg.Sources[1] != hr {
		t.Errorf("%+v", cfg.Sources)
	}
	_, err = load(t, "version: 1\nsources:\n  - topic: pay.events\n    partition: 3\n", nil)
	if err == nil || !strings.Contains(err.Error(), "line 4") || !strings.Contains(err.Error(), "partition") {
		t.Errorf("an unknown key of an entry: %v", err)
	}
}

// TestFlagsAreNamed: a time that is over at once is refused before anything is tried.
func TestFlagsAreNamed(t *testing.T) {
	p := newPlace(t)
	for _, v := range []string{"0", "-5s"} {
		for _, mode := range [][]string{{"topics", "check"}, {"topics", "create"}, {"database", "migrate"}, {"bench-path", "--yes"}} {
			p.do(t, append(mode, "--timeout", v)...).want(t, exitNotDone, "--timeout "+strings.Replace(v, "0", "0s", 1)[:2], "want more than 0")
		}
	}
	p.do(t, "generate", "--rate", "-1").want(t, exitNotDone, "--rate -1: want 0 or more")
	p.do(t, "generate", "--count", "-1").want(t, exitNotDone, "--count -1: want 0 or more")
	p.do(t, "bench-path", "--yes", "--rate", "0").want(t, exitNotDone, "--rate 0: want more than 0")
}

// TestBrokersThatAreAwayAreNamed: a refused connection says which key leads there.
func TestBrokersThatAreAwayAreNamed(t *testing.T) {
	addr := closedPort(t)
	file := write(t, t.TempDir(), "c.yaml", fmt.Sprintf("version: 1\nkafka: {brokers: [%q]}\nsink_postgres: {reader_url_file: reader}\n", addr))
	write(t, strings.TrimSuffix(file, "/c.yaml"), "reader", "postgres://sealstream_reader:x@"+closedPort(t)+"/x")
	for _, mode := range [][]string{{"topics", "create", "--timeout", "300ms"}, {"topics", "check", "--timeout", "300ms"}, {"verify"}, {"verify", "--ledger-only"}} {
		sealstream(t, append(mode, "--config", file)...).want(t, exitNotDone, "kafka.brokers "+addr, "refused")
	}
}

// TestPasswordsAreNamed: a password that PostgreSQL may not get says in which file it is.
func TestPasswordsAreNamed(t *testing.T) {
	dir := dataDir(t)
	u := startUp(t, dir, "--without", "api,sink-postgres,seal")
	for _, c := range []struct{ key, role string }{{"writer_url_file", "sealstream_writer"}, {"reader_url_file", "sealstream_reader"}, {"jobs_url_file", "sealstream_jobs"}} {
		place := t.TempDir()
		write(t, place, "owner", u.info.Postgres)
		write(t, place, "role", "postgres://"+c.role+":short@127.0.0.1:1/x")
		file := write(t, place, "c.yaml", fmt.Sprintf("version: 1\nsink_postgres: {owner_url_file: owner, %s: role}\n", c.key))
		sealstream(t, "database", "migrate", "--config", file).want(t, exitNotDone, "sink_postgres."+c.key, "at least 8 characters")
	}
}

// refusing is a sink whose database does not know its password.
type refusing struct{ sinks.Sink }

func (refusing) Positions(context.Context, []sinks.Partition) (map[sinks.Partition]int64, error) {
	return nil, fmt.Errorf("x: %w", &sinks.ConfigError{Err: errors.New("SQLSTATE 28P01")})
}

func TestASinksLoginIsNamed(t *testing.T) {
	part := sinkPart{cfg: PostgresConfig{WriterURLFile: "/etc/w"}}
	_, err := namedSink{refusing{}, part.login()}.Positions(t.Context(), nil)
	if _, ok := errors.AsType[*sinks.ConfigError](err); !ok || !strings.Contains(err.Error(), "sink_postgres.writer_url_file /etc/w") {
		t.Errorf("%v", err)
	}
}

// TestAlarmOfAWrongPasswordNamesItsFile lets the database change the sink's password.
func TestAlarmOfAWrongPasswordNamesItsFile(t *testing.T) {
	dir := dataDir(t)
	u := startUp(t, dir, "--without", "sink-postgres")
	execSQL(t, u.info.Postgres, "ALTER ROLE sealstream_writer PASSWORD 'another password'")
	port := closedPort(t)
	_, port, _ = net.SplitHostPort(port)
	file := write(t, t.TempDir(), "c.yaml", "version: 1\nmonitor: {listen: \"127.0.0.1:"+port+"\"}\n")
	ctx, stop := context.WithCancel(t.Context())
	log := &lockedBuffer{}
	done := begin(ctx, log, "run", "sink-postgres", "--data", dir, "--config", file)
	t.Cleanup(func() { stop(); <-done })
	until(t, "the alarm", 60*time.Second, func() bool {
		return strings.Contains(log.String(), "no_positions") || strings.Contains(log.String(), "sink_config")
	})
	for line := range strings.Lines(log.String()) {
		if (strings.Contains(line, "no_positions") || strings.Contains(line, "sink_config")) && !strings.Contains(line, "sink_postgres.writer_url_file") {
			t.Errorf("an alarm that names no file: %s", line)
		}
	}
}

// TestACLsForScripts: the JSON says who each role is, in keys as elsewhere.
func TestACLsForScripts(t *testing.T) {
	file := write(t, t.TempDir(), "c.yaml", "version: 1\nkafka: {brokers: ['b:1'], principals: {seal: ['User:CN=sealer,O=Example', 'User:spare']}}\n")
	r := sealstream(t, "topics", "--acls", "--json", "--config", file)
	r.want(t, exitDone)
	type acl struct {
		Resource, Name, Pattern string
		Operations              []string
	}
	var roles map[schemas.Role]struct {
		Principals []string
		ACLs       []acl `json:"acls"`
	}
	dec := json.NewDecoder(strings.NewReader(r.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&roles); err != nil {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	if got := fmt.Sprintf("%q", roles[schemas.RoleSeal].Principals); got != `["User:CN=sealer,O=Example" "User:spare"]` {
		t.Errorf("principals of the seal: %s", got)
	}
	for _, role := range schemas.Roles() {
		have := roles[role]
		if role != schemas.RoleSeal && fmt.Sprint(have.Principals) != "[User:"+string(role)+"]" || len(have.ACLs) == 0 {
			t.Errorf("%s: %+v", role, have)
		}
		for _, a := range have.ACLs {
			if a.Resource == "" || a.Name == "" || a.Pattern == "" || len(a.Operations) == 0 {
				t.Errorf("%s: %+v", role, a)
			}
		}
	}
	if r.stdout != strings.ReplaceAll(r.stdout, `"Resource"`, "") {
		t.Errorf("keys in capitals: %s", r.stdout)
	}
}

// TestSamplesOfConfiguredStreamsOnly: a first start without domain.events is one.
func TestSamplesOfConfiguredStreamsOnly(t *testing.T) {
	dir := dataDir(t)
	file := write(t, t.TempDir(), "c.yaml", "version: 1\nsources: [{topic: audit.events}]\n")
	u := startUp(t, dir, "--config", file)
	db, err := pgx.Connect(t.Context(), u.info.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	until(t, "samples stored", 60*time.Second, func() bool {
		var audit, other int
		err := db.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE sealed_topic = 'audit.events.sealed'),
			count(*) FILTER (WHERE sealed_topic NOT IN ('audit.events.sealed', 'ledger.control.sealed')) FROM events`).Scan(&audit, &other)
		if err != nil || other != 0 {
			t.Fatalf("%d rows of other streams, %v", other, err)
		}
		return audit > 0
	})
}
