package embedded

import (
	"log/slog"
	"os"
	"path/filepath"
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

func run(t *testing.T, p *Postgres, sql string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), p.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.Exec(t.Context(), sql); err != nil {
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

func TestPostgresKeepsItsDataAcrossStops(t *testing.T) {
	dir := passableDir(t)
	p := startPostgres(t, PostgresOptions{Dir: dir})
	run(t, p, "CREATE TABLE t AS SELECT 'kept' AS v")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	again := startPostgres(t, PostgresOptions{Dir: dir})
	if again.Port() != p.Port() {
		t.Fatalf("port changed from %d to %d", p.Port(), again.Port())
	}
	if got := query(t, again, "SELECT v FROM t"); got != "kept" {
		t.Fatalf("read %q", got)
	}
}
