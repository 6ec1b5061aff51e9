package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
)

// site is an `up` of one test's own, with the sink in a process beside it.
type site struct {
	t    *testing.T
	dir  string
	up   *testbed.Up
	sink *testbed.Proc
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	dir, err := bed.MakeDir(name)
	if err != nil {
		t.Fatal(err)
	}
	return &site{t: t, dir: dir}
}

// start starts `up` with some roles left out.
func (s *site) start(without ...string) {
	s.t.Helper()
	var err error
	if s.up, err = bed.Up(bounded(s.t), bin, testbed.UpOptions{Data: s.dir, Without: without}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = s.up.Kill() })
}

func (s *site) stop() {
	s.t.Helper()
	if code, err := s.up.Terminate(bounded(s.t)); err != nil || code != 0 {
		s.t.Fatalf("up ended with %d, %v:\n%s", code, err, s.up.Tail())
	}
}

func (s *site) startSink() {
	s.t.Helper()
	var err error
	if s.sink, err = bed.Start("sink", bin, "run", "sink-postgres", "--data", s.dir); err != nil {
		s.t.Fatal(err)
	}
}

// command runs a mode on the site and fails unless it ends with 0.
func (s *site) command(args ...string) string {
	s.t.Helper()
	res, err := bed.Run(bounded(s.t), bin, append(args, "--data", s.dir)...)
	if err != nil || res.Exit != 0 {
		s.t.Fatalf("%v: exit code %d, %v\n%s%s", args, res.Exit, err, res.Stdout, res.Stderr)
	}
	return res.Stdout
}

// query asks the database as the superuser.
func (s *site) query(sql string) (n int64) {
	s.t.Helper()
	conn, err := pgx.Connect(bounded(s.t), s.up.Ready.Postgres)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(bounded(s.t), sql).Scan(&n); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// want is how many rows there must be: one for each source record and each genesis.
func (s *site) want() int64 {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.up.Ready.Kafka...))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(bounded(s.t), "audit.events", "domain.events", "ledger.control")
	if err != nil {
		s.t.Fatal(err)
	}
	n := int64(0)
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset + 1 })
	return n
}

const rowCountSQL = "SELECT count(*) FROM public.events"

// whole waits until every record is stored, then holds the table and the ledger against
// what the sources have: each once, nothing else.
func (s *site) whole() int64 {
	s.t.Helper()
	want := s.want()
	until(s.t, fmt.Sprintf("%d rows", want), func() (bool, error) { return s.query(rowCountSQL) >= want, nil })
	var r report
	if err := json.Unmarshal([]byte(s.command("verify", "--json")), &r); err != nil {
		s.t.Fatal(err)
	}
	rows, distinct := s.query(rowCountSQL), s.query("SELECT count(*) FROM (SELECT DISTINCT ledger, seq FROM public.events) d")
	if r.Result != "ok" || r.Lag != 0 || int64(r.Records) != want || rows != want || distinct != want {
		s.t.Errorf("%d records in the sources and genesis: verify %+v, %d rows, %d of them different", want, r, rows, distinct)
	}
	return want
}

// events makes a file of n events that differ from those of any other seed.
func events(t *testing.T, n, seed int) string {
	t.Helper()
	res, err := bed.Run(bounded(t), bin, "generate", "--count", fmt.Sprint(n), "--seed", fmt.Sprint(seed))
	if err != nil || res.Exit != 0 {
		t.Fatalf("generate: %v\n%s", err, res.Stderr)
	}
	path := bed.Path(fmt.Sprintf("events-%d-%d.ndjson", n, seed))
	if err := os.WriteFile(path, []byte(res.Stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *site) ingest(n, seed int) {
	s.t.Helper()
	s.command("ingest", "--format", "ndjson", "--quiet", events(s.t, n, seed))
}

// dump is a backup of the database that was taken in one snapshot.
type dump interface {
	take(s *site)
	restore(s *site) // into a database that was just made, empty
}

// A dump is taken while events are stored, more come, the database is dropped, restored
// and brought up to date: the sink goes on from the offsets in the dump and fills up
// what is missing from the sealed topics, each record once.
func TestRestoredDatabaseRefillsFromTheSealedTopic(t *testing.T) {
	dumps := map[string]dump{"copy": &copied{}}
	s := newSite(t, "restore")
	s.start("sink-postgres")
	if tool := s.beside("pg_dump"); tool != "" {
		dumps["pg_dump"] = &dumped{tool: tool, restoreTool: s.beside("pg_restore"), file: bed.Path("restore.dump")}
	}
	s.startSink()
	s.ingest(3000, 1)
	seed := 2
	for name, d := range dumps {
		t.Run(name, func(t *testing.T) {
			on := *s
			on.t = t
			on.backAndForth(d, seed)
			s.sink = on.sink
		})
		seed += 2
	}
}

func (s *site) backAndForth(d dump, seed int) {
	s.t.Helper()
	busy, err := bed.Start("ingest", bin, "ingest", "--data", s.dir, "--format", "ndjson", "--quiet", events(s.t, 20_000, seed))
	if err != nil {
		s.t.Fatal(err)
	}
	before := s.query(rowCountSQL)
	until(s.t, "rows coming in", func() (bool, error) { return s.query(rowCountSQL) > before, nil })
	d.take(s)
	if code, err := busy.Wait(bounded(s.t)); err != nil || code != 0 {
		s.t.Fatalf("ingest: %d, %v\n%s", code, err, busy.Tail())
	}
	s.ingest(2000, seed+1)
	all := s.whole()
	if err := s.sink.Kill(); err != nil {
		s.t.Fatal(err)
	}
	s.recreate()
	d.restore(s)
	s.command("database", "migrate")
	if n := s.query(rowCountSQL); n < before || n > all-2000 {
		s.t.Fatalf("%d rows are restored: want some, at least %d, and not the %d that came after", n, before, all)
	}
	s.startSink()
	if n := s.whole(); n != all {
		s.t.Errorf("%d records after the restore, %d before", n, all)
	}
	if n := s.query("SELECT count(*) FROM public.repairs"); n != 0 {
		s.t.Errorf("%d repairs were made", n)
	}
}

// beside returns a program that lies beside the server's own, "" if there is none.
func (s *site) beside(name string) string {
	s.t.Helper()
	conn, err := pgx.Connect(bounded(s.t), s.up.Ready.Postgres)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var dir string
	if err := conn.QueryRow(bounded(s.t), "SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&dir); err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// recreate drops the database with everything in it, and makes an empty one.
func (s *site) recreate() {
	s.t.Helper()
	cfg, err := pgx.ParseConfig(s.up.Ready.Postgres)
	if err != nil {
		s.t.Fatal(err)
	}
	name := pgx.Identifier{cfg.Database}.Sanitize()
	cfg.Database = "postgres"
	conn, err := pgx.ConnectConfig(bounded(s.t), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, sql := range []string{"DROP DATABASE " + name + " WITH (FORCE)", "CREATE DATABASE " + name} {
		if _, err := conn.Exec(bounded(s.t), sql); err != nil {
			s.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// dumped is what the runbook says: pg_dump and pg_restore.
type dumped struct{ tool, restoreTool, file string }

func (d *dumped) take(s *site) { d.run(s, d.tool, "--format=custom", "--file="+d.file) }

func (d *dumped) restore(s *site) { d.run(s, d.restoreTool, "--exit-on-error", d.file) }

func (d *dumped) run(s *site, tool string, args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(bounded(s.t), tool, append(args, "--dbname="+s.up.Ready.Postgres)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", filepath.Base(tool), err, out)
	}
}

// copied needs nothing but the server: the tables by COPY in one snapshot, into a
// database that was migrated first. Downloaded server binaries come without pg_dump.
type copied struct {
	months []time.Time
	tables map[string][]byte
}

// copiedTables are the evidence and what the sink knows about it.
const copiedTables = `SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
	AND (relname = 'events' OR relname ^@ 'sink_') AND relkind IN ('r', 'p') ORDER BY 1`

func (c *copied) take(s *site) {
	s.t.Helper()
	ctx := bounded(s.t)
	s.inside(func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT DISTINCT month FROM public.events WHERE month >= '2020-01-01'")
		if err != nil {
			return err
		}
		if c.months, err = pgx.CollectRows(rows, pgx.RowTo[time.Time]); err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, copiedTables); err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		c.tables = map[string][]byte{}
		for _, name := range names {
			var b bytes.Buffer
			if _, err := tx.Conn().PgConn().CopyTo(ctx, &b, "COPY (SELECT * FROM public."+name+") TO STDOUT (FORMAT BINARY)"); err != nil {
				return err
			}
			c.tables[name] = b.Bytes()
		}
		return nil
	})
}

func (c *copied) restore(s *site) {
	s.t.Helper()
	s.command("database", "migrate")
	ctx := bounded(s.t)
	s.inside(func(tx pgx.Tx) error {
		for _, m := range c.months {
			if _, err := tx.Exec(ctx, "SELECT public.sealstream_add_month($1)", m); err != nil {
				return err
			}
		}
		for name, rows := range c.tables {
			if _, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(rows), "COPY public."+name+" FROM STDIN (FORMAT BINARY)"); err != nil {
				return err
			}
		}
		return nil
	})
}

// inside runs fn in one transaction over one snapshot.
func (s *site) inside(fn func(pgx.Tx) error) {
	s.t.Helper()
	conn, err := pgx.Connect(bounded(s.t), s.up.Ready.Postgres)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := pgx.BeginTxFunc(bounded(s.t), conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, fn); err != nil {
		s.t.Fatal(err)
	}
}

// A data directory that was copied while stopped starts at another path, with its own
// database, and the original does not notice. Its database alone, put back into the
// original later, is filled up from the sealed topics.
func TestCopiedDataDirectoryStartsAndItsDatabaseRefills(t *testing.T) {
	s := newSite(t, "original")
	s.start()
	s.ingest(2000, 11)
	before := s.whole()
	s.stop()
	backup, old := s.copyTo("backup"), s.copyTo("old")

	s.start()
	s.ingest(1500, 12)
	after := s.whole()
	if n := s.query(rowCountSQL); after != before+1500 || n != after {
		t.Fatalf("%d records, then %d and %d rows", before, after, n)
	}
	s.stop() // the copy has its ports
	// The copy knows nothing of what came after, and what it does is its own.
	backup.start()
	if n := backup.whole(); n != before {
		t.Errorf("the copy holds %d records, %d were there", n, before)
	}
	backup.ingest(100, 13)
	backup.whole()
	backup.stop()
	s.start()
	if n := s.whole(); n != after {
		t.Errorf("the copy has changed the original: %d records, %d before", n, after)
	}
	s.stop()

	if err := os.Rename(filepath.Join(s.dir, "postgres"), filepath.Join(s.dir, "lost")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(old.dir, "postgres"), filepath.Join(s.dir, "postgres")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.whole()
}

// copyTo copies the data directory of a stopped `up`, owners included: the server may
// run as another user.
func (s *site) copyTo(name string) *site {
	s.t.Helper()
	to := &site{t: s.t, dir: bed.Path(name)}
	if out, err := exec.CommandContext(bounded(s.t), "cp", "-a", s.dir, to.dir).CombinedOutput(); err != nil {
		s.t.Fatalf("copy the data directory: %v\n%s", err, strings.TrimSpace(string(out)))
	}
	return to
}
