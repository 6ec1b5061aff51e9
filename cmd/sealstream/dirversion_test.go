package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// oldDir is a data directory as the first layout had it, without the parts that no
// version has changed since. It was taken from one that commit cf910af made.
func oldDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, stateFile, `{
  "version": 1,
  "name": "4fc88e726e004c25a95534151fb20357.sealstream.invalid/log",
  "registry_port": 20144,
  "seeded": true
}
`)
	write(t, dir, "postgres/postgres.json", fmt.Sprintf(`{"version":1,"port":31700,"major":15,"data":%q}`+"\n", dir+"/postgres/server"))
	write(t, dir, "postgres/server/data/PG_VERSION", "15\n")
	return dir
}

// tree is every file below a directory, with its content, mode and time of change.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content := []byte(nil)
		if !d.IsDir() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		out[path] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), " ", string(content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// open migrates a directory as a start does.
func open(t *testing.T, dir string, steps []dirStep) (*dirState, error) {
	t.Helper()
	s, fresh, err := openDirState(dir)
	if err != nil || fresh {
		t.Fatalf("open: fresh %v, %v", fresh, err)
	}
	return s, migrateDir(t.Context(), dir, s, steps, quiet())
}

func TestOlderDirectoryIsMigrated(t *testing.T) {
	for name, version := range map[string]string{"the first release's": `"version": 1,`, "one without a version": ""} {
		t.Run(name, func(t *testing.T) {
			dir := oldDir(t)
			write(t, dir, stateFile, strings.Replace(content(t, filepath.Join(dir, stateFile)), `"version": 1,`, version, 1))
			s, err := open(t, dir, dirSteps())
			if err != nil {
				t.Fatal(err)
			}
			want := dirState{Version: stateVersion, Name: "4fc88e726e004c25a95534151fb20357.sealstream.invalid/log", RegistryPort: 20144, Seeded: true, Program: s.Program}
			if d := cmp.Diff(want, *s); d != "" || s.Program == "" {
				t.Errorf("state (-want +got), program %q:\n%s", s.Program, d)
			}
			if got, want := content(t, filepath.Join(dir, "postgres", "postgres.json")), `{"version":2,"port":31700,"major":15,"data":"server"}`+"\n"; got != want {
				t.Errorf("postgres.json is %s, want %s", got, want)
			}
			before := tree(t, dir)
			if _, err := open(t, dir, dirSteps()); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, tree(t, dir)); d != "" {
				t.Errorf("a second start changed (-before +after):\n%s", d)
			}
		})
	}
}

// A crash in the middle of any step leaves a directory that the program before refuses
// and that the next start finishes.
func TestMigrationGoesOnAfterACrash(t *testing.T) {
	crash := errors.New("crash")
	for at := range dirSteps() {
		for _, done := range []bool{false, true} {
			steps := dirSteps()
			whole := steps[at].do
			steps[at].do = func(dir string) error {
				if done {
					if err := whole(dir); err != nil {
						return err
					}
				}
				return crash
			}
			dir := oldDir(t)
			write(t, dir, stateFile, strings.Replace(content(t, filepath.Join(dir, stateFile)), `"version": 1,`, "", 1))
			if _, err := open(t, dir, steps); !errors.Is(err, crash) {
				t.Fatalf("step %d: %v", at, err)
			}
			if err := checkDir(dir, versions{dir: stateVersion - 1, schema: 1, program: "old"}); err == nil {
				t.Errorf("step %d: the program before opens what is half changed", at)
			}
			s, err := open(t, dir, dirSteps())
			if err != nil || s.Version != stateVersion || s.Migrating != 0 {
				t.Errorf("step %d, done %v: the next start leaves %+v, %v", at, done, s, err)
			}
			if got := content(t, filepath.Join(dir, "postgres", "postgres.json")); !strings.Contains(got, `"data":"server"`) {
				t.Errorf("step %d, done %v: postgres.json is %s", at, done, got)
			}
		}
	}
}

func TestStepsLeadToTheVersion(t *testing.T) {
	for i, s := range dirSteps() {
		if s.to != i+1 || s.what == "" {
			t.Errorf("step %d leads to version %d, %q", i, s.to, s.what)
		}
	}
	if n := len(dirSteps()); n != stateVersion {
		t.Errorf("%d steps, version %d", n, stateVersion)
	}
}

// What a newer program made, or has begun to make, is named and left alone by every mode.
func TestNewerDirectoryIsLeftAlone(t *testing.T) {
	for name, state := range map[string]string{
		"layout":          `{"version": 3, "program": "v9.1", "name": ["no longer a text"]}`,
		"half migrated":   `{"version": 2, "migrating": 3, "program": "v9.1", "name": "x"}`,
		"database schema": `{"version": 2, "schema": 99, "program": "v9.1", "name": "x"}`,
	} {
		dir := oldDir(t)
		write(t, dir, stateFile, state)
		before := tree(t, dir)
		has, knows := "version 3", "up to version 2"
		if name == "database schema" {
			has, knows = "schema version 99", "knows up to version "
		}
		for _, mode := range [][]string{{"up"}, {"verify"}, {"run", "sink-postgres"}, {"rejects", "list"}, {"token", "--role", "auditor"}} {
			sealstream(t, append(mode, "--data", dir)...).want(t, exitNotDone, dir, has, knows, "v9.1", "restore a backup")
		}
		if d := cmp.Diff(before, tree(t, dir)); d != "" {
			t.Errorf("%s: touched (-before +after):\n%s", name, d)
		}
	}
}

func TestDamagedStateIsRefused(t *testing.T) {
	for _, state := range []string{"", "{", `{"version": 2}`, `{"version": -1, "name": "x"}`, `{"version": "2", "name": "x"}`} {
		dir := oldDir(t)
		write(t, dir, stateFile, state)
		sealstream(t, "up", "--data", dir).want(t, exitNotDone, dir, "restore it from a backup")
	}
}

// proxy hands connections on to another address, from the moment open is called.
func proxy(t *testing.T, to string) (addr string, open func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case <-gate:
			default:
				_ = c.Close()
				continue
			}
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer s.Close()
				go func() { _, _ = io.Copy(s, c) }()
				_, _ = io.Copy(c, s)
			}()
		}
	}()
	return l.Addr().String(), func() { close(gate) }
}

// Roles, verify and up refuse a database of another schema version and say what to do;
// a role that runs already when the database comes up ends.
func TestOtherSchemaIsRefused(t *testing.T) {
	dir := dataDir(t)
	u := startUp(t, dir, "--without", "api,sink-postgres")
	db, err := pgx.Connect(t.Context(), u.info.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ sql, back, say string }{
		{"INSERT INTO sealstream_schema (version, name) VALUES (99, 'x')", "DELETE FROM sealstream_schema WHERE version = 99", "schema version 99"},
		{"ALTER TABLE sealstream_schema RENAME TO away", "ALTER TABLE away RENAME TO sealstream_schema", "run sealstream database migrate"},
	} {
		exec(c.sql)
		for _, mode := range [][]string{{"run", "sink-postgres"}, {"run", "api", "--listen", "127.0.0.1:0"}, {"verify"}} {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			r := sealstreamWith(ctx, nil, strings.NewReader(""), append(mode, "--data", dir)...)
			cancel()
			r.want(t, exitNotDone, c.say, "this program")
		}
		lateDatabase(t, u.info.Postgres, c.say)
		exec(c.back)
	}
	exec("INSERT INTO sealstream_schema (version, name) VALUES (99, 'x')")
	u.stop()
	sealstream(t, "up", "--data", dir, "--listen", "127.0.0.1:0").want(t, exitNotDone, "schema version 99", "this program knows")
}

// lateDatabase starts a guard before the database answers.
func lateDatabase(t *testing.T, dbURL, say string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(dbURL)
	if err != nil {
		t.Fatal(err)
	}
	host := fmt.Sprintf("%s:%d", cfg.Host, cfg.Port)
	addr, open := proxy(t, host)
	var c crew
	if err := guardSchema(t.Context(), &c, quiet(), func() (string, error) { return strings.Replace(dbURL, host, addr, 1), nil }); err != nil {
		t.Fatalf("a database that does not answer: %v", err)
	}
	open()
	select {
	case f := <-c.failed():
		if !strings.Contains(f.err.Error(), say) {
			t.Errorf("the guard ended with %v, want %q", f.err, say)
		}
	case <-time.After(30 * time.Second):
		t.Error("the guard did not end")
	}
	if err := c.stop(t.Context(), quiet()); err == nil {
		t.Error("a stop forgets why the guard ended")
	}
}
