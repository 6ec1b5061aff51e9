package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/internal/embedded"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// server is the PostgreSQL that all tests of the package share; each test has a
// database of its own in it.
var server *testServer

type testServer struct {
	*embedded.Postgres
	made     atomic.Int32
	template *database // migrated, and copied for each test
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sealstream-postgres-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // as root the server runs as somebody else
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	pg, err := embedded.StartPostgres(context.Background(), embedded.PostgresOptions{Dir: filepath.Join(dir, "pg"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, "the tests of sinks/postgres need a real PostgreSQL:", err)
		return 1
	}
	defer pg.Quit()
	server = &testServer{Postgres: pg}
	return m.Run()
}

// cpu is the CPU time that all processes of the server have used so far.
func (s *testServer) cpu(t testing.TB) time.Duration {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	pid, ticks := strconv.Itoa(s.PID()), 0
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		// Behind the command in parentheses: state, parent, ..., utime, stime, and the same
		// of children that have ended.
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		times := []int{11, 12}
		switch {
		case filepath.Base(filepath.Dir(name)) == pid:
			times = []int{11, 12, 13, 14}
		case f[1] != pid:
			continue
		}
		for _, at := range times {
			n, err := strconv.Atoi(f[at])
			if err != nil {
				t.Fatal(err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// database is one test's own, migrated.
type database struct {
	name    string
	t       testing.TB
	ledgers int32
	conn    *pgx.Conn
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func password(role string) string { return "password of " + role }

// emptyDatabase makes a database without anything of ours in it.
func emptyDatabase(t testing.TB) *database {
	t.Helper()
	return createDatabase(t, "template1")
}

func createDatabase(t testing.TB, template string) *database {
	t.Helper()
	d := &database{t: t, name: fmt.Sprintf("test_%d", server.made.Add(1))}
	admin := connect(t, server.URL("postgres"))
	if _, err := admin.Exec(t.Context(), "CREATE DATABASE "+d.name+" TEMPLATE "+template); err != nil {
		t.Fatal(err)
	}
	return d
}

// newDatabase makes a database as Migrate leaves it.
func newDatabase(t testing.TB) *database {
	t.Helper()
	if server.template == nil {
		d := emptyDatabase(t)
		d.migrate()
		server.template = d
	}
	return createDatabase(t, server.template.name)
}

func (d *database) migrate() {
	d.t.Helper()
	o := postgres.MigrateOptions{URL: server.URL(d.name), Passwords: map[string]string{}, Log: quiet()}
	for _, role := range []string{postgres.RoleOwner, postgres.RoleWriter, postgres.RoleReader, postgres.RoleRepair, postgres.RoleJobs} {
		o.Passwords[role] = password(role)
	}
	if err := postgres.Migrate(d.t.Context(), o); err != nil {
		d.t.Fatal(err)
	}
}

func (d *database) url(role string) string { return server.RoleURL(role, password(role), d.name) }

// connect returns a connection that ends with the test.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// super is the test's connection as superuser, one goroutine's.
func (d *database) super() *pgx.Conn {
	d.t.Helper()
	if d.conn == nil {
		d.conn = connect(d.t, server.URL(d.name))
	}
	return d.conn
}

func (d *database) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.super().Exec(d.t.Context(), sql, args...); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
}

// sink opens a sink that ends with the test.
func (d *database) sink(change ...func(*postgres.Options)) *postgres.Sink {
	d.t.Helper()
	o := postgres.Options{URL: d.url(postgres.RoleWriter), Codec: schemas.NewCodec(nil), Log: quiet()}
	for _, c := range change {
		c(&o)
	}
	s, err := postgres.New(d.t.Context(), o)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(s.Close)
	return s
}
