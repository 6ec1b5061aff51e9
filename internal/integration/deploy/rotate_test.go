//go:build integration

package deploy

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// roles are those that run for long, in the order in which they are started here.
var longRunning = [...]schemas.Role{schemas.RoleSeal, schemas.RoleSinkPostgres, schemas.RoleAPI}

// own starts brokers of the test's own, on which a login is worth four seconds.
func own(t *testing.T, bed *testbed.Bed) cluster {
	t.Helper()
	k, err := bed.Kafka(t.Context(), testbed.KafkaOptions{Nodes: 1, Config: map[string]string{"connections.max.reauth.ms": "4000"}})
	if err != nil {
		t.Fatal(err)
	}
	return cluster{plain: k.Brokers, sasl: k.SASLBrokers, ca: k.CAFile}
}

// TestCredentialsChange changes every password while the roles run under a small load, on
// the brokers first or in the file first, and takes rights of the database away. Nothing
// is lost, nothing is set aside, each role says what is wrong and goes on by itself.
func TestCredentialsChange(t *testing.T) {
	t.Parallel()
	bed := testbed.ForTest(t)
	in := lay(t, bed, own(t, bed))
	in.grant(in.printed()...)
	in.must(schemas.RoleOperator, 0, "0 problems", "topics", "create")
	in.must(schemas.RoleOperator, 0, "up to date", "database", "migrate")
	base := map[schemas.Role]string{}
	for _, r := range longRunning {
		p, addr := in.start(r, "1")
		in.log(p, "msg=running")
		base[r] = addr
	}
	stop := in.load()
	in.moves("at first")

	in.passwordsChange(base, "on the brokers first", in.password, in.fileOf)
	in.passwordsChange(base, "in the file first", in.fileOf, in.password)
	for _, r := range longRunning {
		pw := random()
		in.password(r, pw)
		in.fileOf(r, pw)
	}
	again := time.Now() // until every connection had to log in again
	in.until("wait for logins to end", func() bool { return time.Since(again) > 5*time.Second })
	in.moves("after both were changed at once")
	in.wrongAtStart()
	in.databaseChanges(base)

	in.sent += stop()
	in.stored()
	in.verified()
	in.must(schemas.RoleOperator, 0, "0 rejects", "rejects", "list")
	for _, r := range longRunning {
		in.until("wait until "+string(r)+" has no alarm", func() bool { return strings.Contains(in.alarms(base[r]), `"alarms":[]`) })
	}
	in.stop("api-1", "seal-1", "sink-postgres-1")
}

// load writes events until the function that it returns is called, which says how many.
func (in *install) load() func() int {
	in.t.Helper()
	ctx, cancel := context.WithCancel(in.t.Context())
	done, n := make(chan struct{}), atomic.Int64{}
	cl, err := kgo.NewClient(kgo.SeedBrokers(in.on.plain...))
	if err != nil {
		in.t.Fatal(err)
	}
	go func() {
		defer close(done)
		defer cl.Close()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for i := range 5 {
				r := &kgo.Record{Topic: in.prefix + schemas.TopicAudit, Key: fmt.Appendf(nil, "k%d", i), Value: event(i)}
				if cl.ProduceSync(context.WithoutCancel(ctx), r).FirstErr() == nil {
					n.Add(1)
				}
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	stop := func() int { cancel(); <-done; return int(n.Load()) }
	in.t.Cleanup(func() { stop() })
	return stop
}

// moves waits until what is written now is stored: seal and sink are at work.
func (in *install) moves(when string) {
	in.t.Helper()
	before := in.rows()
	in.until("wait for events to be stored "+when, func() bool { return in.rows() > before+100 })
}

// passwordsChange gives each role a new password, in two steps. Between them each says
// that it is refused.
func (in *install) passwordsChange(base map[schemas.Role]string, how string, first, second func(schemas.Role, string)) {
	in.t.Helper()
	pw := random()
	for _, r := range longRunning {
		first(r, pw)
	}
	for _, r := range longRunning {
		in.until(fmt.Sprintf("wait until %s says it is refused (%s)", r, how), func() bool {
			got := in.alarms(base[r])
			return strings.Contains(got, "refused") && strings.Contains(got, "kafka.sasl.user "+in.user(r))
		})
	}
	for _, r := range longRunning {
		second(r, pw)
	}
	for _, r := range longRunning {
		in.until(fmt.Sprintf("wait until %s is taken again (%s)", r, how), func() bool { return !strings.Contains(in.alarms(base[r]), "refused") })
	}
	in.moves("after passwords were changed " + how)
	in.posts(base, how)
}

// posts writes and reads by the API, which has credentials of its own for both.
func (in *install) posts(base map[schemas.Role]string, how string) {
	in.t.Helper()
	write, read := in.token("ingest"), in.token("auditor")
	in.until("wait for an event to be taken by the API after passwords were changed "+how, func() bool {
		code, _ := in.ask(http.MethodPost, base[schemas.RoleAPI]+"/v1/events?stream=audit", write, event(1))
		if code == http.StatusAccepted {
			in.sent++
		}
		return code == http.StatusAccepted
	})
	in.until("wait for events to be read by the API after passwords were changed "+how, func() bool {
		code, _ := in.ask(http.MethodGet, base[schemas.RoleAPI]+"/v1/events?limit=1", read, nil)
		return code == http.StatusOK
	})
}

// wrongAtStart: a role that cannot log in says so, and starts when the file is mended.
func (in *install) wrongAtStart() {
	in.t.Helper()
	right := in.passwordOf(schemas.RoleSinkPostgres)
	in.fileOf(schemas.RoleSinkPostgres, "not this one")
	p, _ := in.start(schemas.RoleSinkPostgres, "2")
	in.log(p, "the brokers refuse kafka.sasl.user "+in.user(schemas.RoleSinkPostgres))
	// So do commands, each in its own words; rejects stands for them.
	operator := in.passwordOf(schemas.RoleOperator)
	in.fileOf(schemas.RoleOperator, "nor this one")
	in.must(schemas.RoleOperator, 2, "the brokers refuse kafka.sasl.user "+in.user(schemas.RoleOperator), "rejects", "list")
	in.fileOf(schemas.RoleOperator, operator)
	in.fileOf(schemas.RoleSinkPostgres, right)
	in.log(p, "msg=running")
	if strings.Contains(p.Log(), right) || strings.Contains(p.Log(), "not this one") {
		in.t.Error("the log shows a password")
	}
	in.stop("sink-postgres-2")
}

// databaseChanges does to the database's users what administrators do.
func (in *install) databaseChanges(base map[schemas.Role]string) {
	in.t.Helper()
	db, err := pgx.Connect(in.t.Context(), in.base.Postgres)
	if err != nil {
		in.t.Fatal(err)
	}
	defer db.Close(context.Background())
	sql := func(text string) {
		in.t.Helper()
		if _, err := db.Exec(in.t.Context(), text); err != nil {
			in.t.Fatalf("%s: %v", text, err)
		}
	}
	const cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('sealstream_writer', 'sealstream_reader')"
	alarmed := func(what string) {
		in.t.Helper()
		in.until("wait for the sink's alarm: "+what, func() bool { return strings.Contains(in.alarms(base[schemas.RoleSinkPostgres]), "sink_config") })
	}
	mended := func(what string) {
		in.t.Helper()
		in.until("wait for the alarm to end: "+what, func() bool { return !strings.Contains(in.alarms(base[schemas.RoleSinkPostgres]), "sink_config") })
		in.moves("after " + what)
	}

	pw := random()
	sql(fmt.Sprintf("ALTER ROLE sealstream_writer PASSWORD '%s'", pw))
	sql(fmt.Sprintf("ALTER ROLE sealstream_reader PASSWORD '%s'", pw))
	sql(cut)
	alarmed("another password")
	if got := in.alarms(base[schemas.RoleSinkPostgres]); !strings.Contains(got, "sink_postgres.writer_url_file") {
		in.t.Errorf("the alarm does not name the file: %s", got)
	}
	in.databasePassword("writer", pw)
	in.databasePassword("reader", pw)
	mended("the database's passwords were changed")
	in.posts(base, "in the database")

	sql("ALTER ROLE sealstream_writer NOLOGIN")
	sql(cut)
	alarmed("no login")
	sql("ALTER ROLE sealstream_writer LOGIN")
	mended("the writer may log in again")

	sql("REVOKE INSERT ON public.events FROM sealstream_writer")
	alarmed("no right to insert")
	sql("GRANT INSERT ON public.events TO sealstream_writer")
	mended("the writer may insert again")
}

// databasePassword puts a password into a URL file.
func (in *install) databasePassword(name, pw string) {
	in.t.Helper()
	path := in.base.File(name + ".url")
	raw, err := os.ReadFile(path)
	if err != nil {
		in.t.Fatal(err)
	}
	u, err := url.Parse(strings.TrimSpace(string(raw)))
	if err != nil {
		in.t.Fatal("the URL file holds no URL")
	}
	u.User = url.UserPassword(u.User.Username(), pw)
	if err := os.WriteFile(path, []byte(u.String()+"\n"), 0o600); err != nil {
		in.t.Fatal(err)
	}
}
