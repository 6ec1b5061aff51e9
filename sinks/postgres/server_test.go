package postgres_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/sinks/postgres"
)

// server is the PostgreSQL that all tests of the package share; each test has a
// database of its own.
var server *pgServer

func TestMain(m *testing.M) {
	os.Exit(func() int {
		s, err := startServer()
		if err != nil {
			fmt.Fprintln(os.Stderr, "these tests need a real PostgreSQL:", err)
			return 1
		}
		defer s.stop()
		server = s
		return m.Run()
	}())
}

type pgServer struct {
	dir  string
	cmd  *exec.Cmd
	port int
	n    atomic.Int32
}

func startServer() (*pgServer, error) {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		return nil, fmt.Errorf("no server binaries found")
	}
	bin := bins[len(bins)-1]
	dir, err := os.MkdirTemp("", "sealstream-pg-")
	if err != nil {
		return nil, err
	}
	s := &pgServer{dir: dir}
	cred := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 101, Gid: 104}}
	os.Chown(dir, 101, 104)
	init := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C")
	init.SysProcAttr, init.Dir = cred, dir
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	s.port = 55441
	s.cmd = exec.Command(filepath.Join(bin, "postgres"), "-D", filepath.Join(dir, "data"), "-k", dir, "-p", strconv.Itoa(s.port), "-h", "127.0.0.1")
	s.cmd.SysProcAttr, s.cmd.Dir = cred, dir
	log, _ := os.Create(filepath.Join(dir, "log"))
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		if c, err := pgx.Connect(context.Background(), s.url("postgres", "postgres")); err == nil {
			c.Close(context.Background())
			return s, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("does not start")
}

func (s *pgServer) stop() {
	s.cmd.Process.Signal(syscall.SIGINT)
	s.cmd.Wait()
	os.RemoveAll(s.dir)
}

func (s *pgServer) url(role, db string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, "password-"+role), Host: "127.0.0.1:" + strconv.Itoa(s.port), Path: db}
	return u.String()
}

// cpu is the CPU time that all processes of the server have used.
func (s *pgServer) cpu() time.Duration {
	ticks := 0
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		fs := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		pid := strings.Split(f, "/")[2]
		if fs[1] != strconv.Itoa(s.cmd.Process.Pid) && pid != strconv.Itoa(s.cmd.Process.Pid) {
			continue
		}
		u, _ := strconv.Atoi(fs[11])
		k, _ := strconv.Atoi(fs[12])
		ticks += u + k
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// database is one test's own.
type database struct {
	name string
	t    testing.TB
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	d := &database{t: t, name: fmt.Sprintf("test_%d", server.n.Add(1))}
	admin, err := pgx.Connect(t.Context(), server.url("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	if _, err := admin.Exec(t.Context(), "CREATE DATABASE "+d.name); err != nil {
		t.Fatal(err)
	}
	err = postgres.Migrate(t.Context(), postgres.MigrateOptions{
		URL: d.url("postgres"),
		Passwords: map[string]string{
			postgres.RoleWriter: "password-" + postgres.RoleWriter,
			postgres.RoleReader: "password-" + postgres.RoleReader,
			postgres.RoleRepair: "password-" + postgres.RoleRepair,
		},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *database) url(role string) string { return server.url(role, d.name) }
