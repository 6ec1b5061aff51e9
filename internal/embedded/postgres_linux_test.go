package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func startPostgres(t *testing.T, o PostgresOptions) *Postgres {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p, err := StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// passableDir is a temporary directory that the server's user can reach.
func passableDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "postgres")
}

func execSQL(ctx context.Context, url, sql string) error {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql)
	return errors.Join(err, c.Close(ctx))
}

func run(t *testing.T, p *Postgres, sql string) {
	t.Helper()
	if err := execSQL(t.Context(), p.URL(""), sql); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, p *Postgres, sql string) string {
	t.Helper()
	c, err := pgx.Connect(t.Context(), p.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	var s string
	if err := c.QueryRow(t.Context(), sql).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// One database through everything that ends a server, in one test because each
// start of one costs a second.
func TestPostgresThroughStopsAndKills(t *testing.T) {
	dir := passableDir(t)
	p := startPostgres(t, PostgresOptions{Dir: dir})
	port, rows := p.Port(), 0
	insert := func(p *Postgres) {
		t.Helper()
		run(t, p, fmt.Sprintf("INSERT INTO t VALUES (%d)", rows))
		rows++
	}
	check := func(p *Postgres, after string) {
		t.Helper()
		if p.Port() != port {
			t.Fatalf("after %s: port %d, want %d", after, p.Port(), port)
		}
		if got := query(t, p, "SELECT count(*)::text FROM t"); got != fmt.Sprint(rows) {
			t.Fatalf("after %s: %s rows, want %d", after, got, rows)
		}
		insert(p)
	}
	run(t, p, "CREATE TABLE t (n int)")
	insert(p)

	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "listen_addresses": "127.0.0.1",
		"unix_socket_directories": "", "data_checksums": "on", "server_encoding": "UTF8", "log_min_messages": "log", "log_min_error_statement": "panic"} {
		if got := query(t, p, "SHOW "+setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if err := execSQL(t.Context(), p.RoleURL(Superuser, "wrong", ""), "SELECT 1"); err == nil {
		t.Error("a wrong password was let in")
	}
	if st, err := os.Stat(filepath.Join(dir, "superuser.password")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v; want mode 0600", st, err)
	}
	if _, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, ErrDirInUse) {
		t.Errorf("a second server on the directory: %v, want %v", err, ErrDirInUse)
	}

	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = startPostgres(t, PostgresOptions{Dir: dir})
	check(p, "a clean stop")
	if err := p.Quit(); err != nil {
		t.Fatal(err)
	}
	p = startPostgres(t, PostgresOptions{Dir: dir})
	check(p, "an immediate stop")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	p = startPostgres(t, PostgresOptions{Dir: dir})
	check(p, "kill -9")

	// Killed by somebody else, it comes back by itself.
	pid := p.PID()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server to come back", func() bool {
		return p.PID() != pid && execSQL(t.Context(), p.URL(""), "SELECT 1") == nil
	})
	check(p, "kill -9 from outside")
	pid = p.PID()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if worksIn(pid, p.data) {
		t.Fatalf("process %d is still there", pid)
	}

	// The port it is known by is taken.
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		t.Fatal(err)
	}
	_, err = StartPostgres(t.Context(), PostgresOptions{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Errorf("port in use: %v, want %v naming %d", err, ErrPortInUse, port)
	}
	l.Close()

	// Others may read the data directory: the server itself refuses that.
	if err := os.Chmod(p.data, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err = StartPostgres(t.Context(), PostgresOptions{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "permissions") {
		t.Errorf("wrong permissions: %v, want an error that says so", err)
	}
	if err := os.Chmod(p.data, 0o700); err != nil {
		t.Fatal(err)
	}

	// A password file that is gone is not made anew.
	pw := filepath.Join(dir, "superuser.password")
	if err := os.Rename(pw, pw+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "superuser.password") {
		t.Errorf("password file gone: %v", err)
	}
	if err := os.Rename(pw+".away", pw); err != nil {
		t.Fatal(err)
	}
	// Nor a database that is gone.
	if err := os.Rename(p.data, p.data+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := StartPostgres(t.Context(), PostgresOptions{Dir: dir, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("database gone: %v", err)
	}
}

// kill -9 of the process around it ends the server too, and what it had
// committed is there; a server that stays all the same is stopped.
func TestPostgresAfterKillOfItsParent(t *testing.T) {
	dir := passableDir(t)
	c := startChildWith(t, childPGEnv+"="+dir)
	if err := execSQL(t.Context(), c.Addrs[0], "CREATE TABLE t AS SELECT 7 AS n"); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "server", "data")
	if !worksIn(c.PID, data) {
		t.Fatalf("process %d does not work in %s", c.PID, data)
	}
	c.kill(t)
	eventually(t, "the server to end with its parent", func() bool { return !worksIn(c.PID, data) })
	p := startPostgres(t, PostgresOptions{Dir: dir})
	if got := query(t, p, "SELECT n::text FROM t"); got != "7" {
		t.Fatalf("read %s, want 7", got)
	}
	// A server nobody waits for: made by hand, as if the signal had failed.
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "server.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	left, err := p.user.start(filepath.Join(p.bin, "postgres"), p.serverArgs(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = left.stop(context.Background(), signalImmediate, stopWithin) })
	if err := p.ready(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	again := startPostgres(t, PostgresOptions{Dir: dir})
	<-left.done
	if got := query(t, again, "SELECT n::text FROM t"); got != "7" {
		t.Fatalf("read %s, want 7", got)
	}
}

// A postmaster.pid whose number now belongs to another process does not stop
// the start, nor that process.
func TestPostgresLeavesStrangersAlone(t *testing.T) {
	data := t.TempDir()
	pidFile := filepath.Join(data, "postmaster.pid")
	if err := os.WriteFile(pidFile, []byte(fmt.Sprintf("%d\n%s\n", os.Getpid(), data)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := stopLeftover(t.Context(), data, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(pidFile); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the stale file is still there: %v", err)
	}
}

func TestPostgresRefusals(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other := passableDir(t)
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "postgres.json"), []byte(`{"version":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		opt  PostgresOptions
		want string
	}{
		{"no directory", PostgresOptions{}, "Dir is empty"},
		{"a file in the way", PostgresOptions{Dir: file}, "directory"},
		{"another version", PostgresOptions{Dir: other}, "another version"},
		{"binaries that are not there", PostgresOptions{Dir: passableDir(t), BinDir: t.TempDir()}, "holds no postgres"},
		{"a port that is none", PostgresOptions{Dir: passableDir(t), Port: 70000}, "port 70000"},
	} {
		tc.opt.Log = log
		p, err := StartPostgres(t.Context(), tc.opt)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// As root the server runs as another user, and a data directory that this user
// cannot reach still works: the data is elsewhere. As anybody else nothing has
// to move.
func TestPostgresBelowAnUnreachableDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "postgres") // the test's directory is passable for its owner alone
	p := startPostgres(t, PostgresOptions{Dir: dir})
	root := os.Geteuid() == 0
	if far := strings.HasPrefix(p.data, farDataBase); far != root {
		t.Errorf("as root %v the data is in %s", root, p.data)
	}
	if root {
		t.Cleanup(func() {
			p.Close()
			if err := os.RemoveAll(filepath.Dir(p.data)); err != nil {
				t.Error(err)
			}
			_ = os.Remove(farDataBase) // only when nothing else is there
		})
		var st syscall.Stat_t
		if err := syscall.Stat(fmt.Sprintf("/proc/%d", p.PID()), &st); err != nil || st.Uid == 0 {
			t.Errorf("the server runs as user %d, %v", st.Uid, err)
		}
	}
	run(t, p, "CREATE TABLE t AS SELECT 7 AS n")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	again := startPostgres(t, PostgresOptions{Dir: dir})
	if got := query(t, again, "SELECT n::text FROM t"); got != "7" || again.data != p.data {
		t.Fatalf("read %s from %s, want 7 from %s", got, again.data, p.data)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestServerVersion(t *testing.T) {
	for text, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15, "postgres (PostgreSQL) 17.11\n": 17,
		"postgres (PostgreSQL) 18beta1": 18, "initdb (PostgreSQL) 17.11": 0, "": 0,
	} {
		got, err := majorOf(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}
