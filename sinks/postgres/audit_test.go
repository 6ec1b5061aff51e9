package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

// audited is a ledger with its rows, ready to be tampered with.
type audited struct {
	*database
	src  *sinktest.Source
	recs []sinks.Record
	a    *postgres.Auditor
}

func newAudited(t *testing.T, events int) *audited {
	t.Helper()
	d := newDatabase(t)
	x := &audited{database: d, src: sinktest.NewSource(t, sinktest.Topic, 0)}
	x.recs = append([]sinks.Record{x.src.First()}, x.src.Events(events)...)
	write(t, d.sink(), x.src.Batch(x.recs))
	x.a = d.auditor()
	return x
}

func (d *database) auditor(change ...func(*postgres.AuditorOptions)) *postgres.Auditor {
	d.t.Helper()
	o := postgres.AuditorOptions{URL: d.url(postgres.RoleReader), Codec: schemas.NewCodec(nil)}
	for _, c := range change {
		c(&o)
	}
	a, err := postgres.NewAuditor(o)
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

// compare goes through all records; change may adapt the options.
func (x *audited) compare(change ...func(*postgres.CompareOptions)) (found []ledger.Finding, n postgres.Counts) {
	x.t.Helper()
	o := postgres.CompareOptions{Ledger: x.src.ID, Partition: x.src.Partition, Stored: int64(len(x.recs))}
	for _, c := range change {
		c(&o)
	}
	c, err := x.a.Compare(x.t.Context(), o)
	if err != nil {
		x.t.Fatal(err)
	}
	for i := range x.recs {
		fs, err := c.Next(x.recs[i].Offset, &x.recs[i].Sealed)
		if err != nil {
			x.t.Fatal(err)
		}
		found = append(found, fs...)
	}
	fs, n, err := c.Finish()
	if err != nil {
		x.t.Fatal(err)
	}
	return append(found, fs...), n
}

func brief(fs []ledger.Finding) (out []string) {
	for _, f := range fs {
		out = append(out, fmt.Sprintf("%s %d %s", f.Verdict, f.Seq, f.Detail))
	}
	return out
}

func TestAuditClean(t *testing.T) {
	d := newDatabase(t)
	s := d.sink()
	src := sinktest.NewSource(t, sinktest.Topic, 0)
	recs := []sinks.Record{src.First()}
	for _, r := range sinktest.OddRecords() {
		recs = append(recs, src.Seal(r)...)
		src.Gap()
	}
	recs = append(recs, src.Close())
	write(t, s, src.Batch(recs))
	x := &audited{database: d, src: src, recs: recs, a: d.auditor()}
	found, n := x.compare(func(o *postgres.CompareOptions) { o.Stored = src.Next() })
	if diff := cmp.Diff([]string(nil), brief(found)); diff != "" {
		t.Errorf("findings about odd records that nobody touched:\n%s", diff)
	}
	if want := (postgres.Counts{Rows: uint64(len(recs))}); n != want {
		t.Errorf("counts %+v, want %+v", n, want)
	}
	ids, err := x.a.Ledgers(t.Context())
	if err != nil || len(ids) != 1 || ids[0] != src.ID {
		t.Errorf("ledgers %v, %v", ids, err)
	}
}

// Each column of a row, changed alone, is found and named.
func TestAuditNamesEveryColumn(t *testing.T) {
	x := newAudited(t, 3)
	rows, err := x.super().Query(t.Context(), "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'public.events'::regclass AND attnum > 0")
	if err != nil {
		t.Fatal(err)
	}
	columns := map[string]string{}
	var name, typ string
	if _, err := pgx.ForEachRow(rows, []any{&name, &typ}, func() error { columns[name] = typ; return nil }); err != nil {
		t.Fatal(err)
	}
	other := map[string]string{
		"text": "coalesce(?, '') || 'x'", "text[]": "array_append(?, 'x')", "bigint": "coalesce(?, 0) + 1000", "integer": "? + 1", "smallint": "? + 1",
		"boolean": "NOT coalesce(?, false)", "timestamp with time zone": "coalesce(?, now()) + interval '1 ms'", "date": "'1970-01-01'::date", "bytea": "coalesce(?, '') || '\\x00'",
	}
	if len(columns) < 60 {
		t.Fatalf("%d columns only", len(columns))
	}
	for name, typ := range columns {
		change := strings.ReplaceAll(other[typ], "?", name)
		if change == "" {
			if name == "ledger" {
				continue // TestAuditMovedRows
			}
			t.Fatalf("column %s has type %s, which this test does not know", name, typ)
		}
		want := []string{"ALTERED 2 differs in " + name}
		if name == "seq" {
			want = []string{"MISSING 2 no row, and offset 2 is below the stored offset 4", "EXTRA 1002 no record of the ledger has this row"}
		}
		x.exec("CREATE TABLE keep AS SELECT * FROM events WHERE seq = 2")
		x.exec("UPDATE events SET " + name + " = " + change + " WHERE seq = 2")
		found, _ := x.compare()
		if diff := cmp.Diff(want, brief(found)); diff != "" {
			t.Errorf("%s changed (-want +found):\n%s", name, diff)
		}
		x.exec("DELETE FROM events WHERE seq IN (2, 1002)")
		x.exec("INSERT INTO events SELECT * FROM keep")
		x.exec("DROP TABLE keep")
	}
	// Set to null, too.
	x.exec("UPDATE events SET event_action = NULL, user_id = NULL, salt = NULL WHERE seq = 3")
	found, n := x.compare()
	if diff := cmp.Diff([]string{"ALTERED 3 differs in salt, event_action, user_id"}, brief(found)); diff != "" {
		t.Errorf("columns set to null (-want +found):\n%s", diff)
	}
	if n.Rows != 4 || found[0].Where != "postgres" || found[0].Ledger != x.src.ID {
		t.Errorf("counts %+v, finding %+v", n, found[0])
	}
}

func TestAuditMovedRows(t *testing.T) {
	x := newAudited(t, 6)
	// As the issue has it: one changed, one deleted, one inserted.
	x.exec("UPDATE events SET event_outcome = 'failure' WHERE seq = 1")
	x.exec("DELETE FROM events WHERE seq = 3")
	x.exec("DROP TABLE IF EXISTS pg_temp.forged; CREATE TEMPORARY TABLE forged AS SELECT * FROM events WHERE seq = 5; UPDATE forged SET seq = 4711; INSERT INTO events SELECT * FROM forged")
	found, n := x.compare()
	want := []string{"ALTERED 1 differs in event_outcome", "MISSING 3 no row, and offset 3 is below the stored offset 7", "EXTRA 4711 no record of the ledger has this row"}
	if diff := cmp.Diff(want, brief(found)); diff != "" {
		t.Errorf("findings (-want +found):\n%s", diff)
	}
	if n.Rows != 7 {
		t.Errorf("%d rows, want 7", n.Rows)
	}
	// A second row of a seq, in another month.
	x.exec("DROP TABLE IF EXISTS pg_temp.forged; CREATE TEMPORARY TABLE forged AS SELECT * FROM events WHERE seq = 5; UPDATE forged SET month = '1970-01-01'; INSERT INTO events SELECT * FROM forged")
	found, _ = x.compare()
	// The forged row comes first in order of month: it differs, and the real one is the second.
	want = []string{want[0], want[1], "ALTERED 5 differs in month", "EXTRA 5 a second row of this seq, or one that the topic skips", want[2]}
	if diff := cmp.Diff(want, brief(found)); diff != "" {
		t.Errorf("findings (-want +found):\n%s", diff)
	}
	// A row given to another ledger.
	stranger := ledger.ID{0xEE}
	x.exec("UPDATE events SET ledger = $1 WHERE seq = 6", stranger.UUID())
	found, _ = x.compare()
	if got := brief(found); !slices.Contains(got, "MISSING 6 no row, and offset 6 is below the stored offset 7") {
		t.Errorf("findings %q lack the row that was given to another ledger", got)
	}
	ids, err := x.a.Ledgers(t.Context())
	if err != nil || !slices.Contains(ids, stranger) {
		t.Fatalf("ledgers %v, %v: want the strange one among them", ids, err)
	}
	c, err := x.a.Compare(t.Context(), postgres.CompareOptions{Ledger: stranger})
	if err != nil {
		t.Fatal(err)
	}
	found, _, err = c.Finish()
	if err != nil || len(found) != 1 || found[0].Verdict != ledger.Extra || found[0].Seq != 6 {
		t.Errorf("a ledger of no topic: %v, %v, want one EXTRA", brief(found), err)
	}
}

func TestAuditNegativeSeq(t *testing.T) {
	x := newAudited(t, 2)
	x.exec("DO $$ DECLARE c name; BEGIN SELECT conname INTO c FROM pg_constraint WHERE conrelid = 'events'::regclass AND contype = 'c'; EXECUTE 'ALTER TABLE events DROP CONSTRAINT ' || c; END $$")
	x.exec("UPDATE events SET seq = -7 WHERE seq = 1")
	found, _ := x.compare()
	want := []string{fmt.Sprintf("EXTRA %d no record of the ledger has this row", uint64(1<<64-7)), "MISSING 1 no row, and offset 1 is below the stored offset 3"}
	if diff := cmp.Diff(want, brief(found)); diff != "" {
		t.Errorf("findings (-want +found):\n%s", diff)
	}
}

// Rows above the stored offset are lag; records set aside are counted; rows stored
// while verify reads are not judged, and nothing else is excused.
func TestAuditLagAndRejects(t *testing.T) {
	x := newAudited(t, 9)
	x.exec("DELETE FROM events WHERE seq IN (4, 8, 9)")
	found, n := x.compare(func(o *postgres.CompareOptions) {
		o.Stored = 8
		o.Rejected = func(offset int64) bool { return offset == 4 }
	})
	if diff := cmp.Diff([]string(nil), brief(found)); diff != "" {
		t.Errorf("findings:\n%s", diff)
	}
	if want := (postgres.Counts{Rows: 7, Lag: 2, Rejected: 1}); n != want {
		t.Errorf("counts %+v, want %+v", n, want)
	}

	// Stored offset taken at 8, records read up to there, two stored since.
	x = newAudited(t, 9)
	all := x.recs
	x.recs = all[:8]
	found, n = x.compare(func(o *postgres.CompareOptions) { o.Stored = 8 })
	if want := (postgres.Counts{Rows: 10, Unread: 2}); n != want || len(found) != 0 {
		t.Errorf("rows stored meanwhile: counts %+v, findings %q, want %+v and none", n, brief(found), want)
	}
	// A forged row that claims an offset beyond everything is not excused.
	x.exec("UPDATE events SET sealed_offset = 1000000 WHERE seq = 9")
	found, _ = x.compare(func(o *postgres.CompareOptions) { o.Stored = 8 })
	if diff := cmp.Diff([]string{"EXTRA 9 no record of the ledger has this row"}, brief(found)); diff != "" {
		t.Errorf("findings (-want +found):\n%s", diff)
	}
	// A record set aside that has a row all the same is compared.
	x.recs = all
	found, n = x.compare(func(o *postgres.CompareOptions) { o.Rejected = func(int64) bool { return true } })
	if diff := cmp.Diff([]string{"ALTERED 9 differs in sealed_offset"}, brief(found)); diff != "" || n.Rejected != 0 {
		t.Errorf("%d rejected; findings (-want +found):\n%s", n.Rejected, diff)
	}
}

// A topic that holds a seq twice, or lost one, must not start an avalanche.
func TestAuditOfBrokenTopic(t *testing.T) {
	x := newAudited(t, 6)
	x.recs = slices.Concat(x.recs[:3], x.recs[2:3], x.recs[4:])
	found, _ := x.compare(func(o *postgres.CompareOptions) { o.Stored = 7 })
	if diff := cmp.Diff([]string{"EXTRA 3 no record of the ledger has this row"}, brief(found)); diff != "" {
		t.Errorf("findings (-want +found):\n%s", diff)
	}
}

// A change while the comparison runs belongs to the next one.
func TestAuditIsOneSnapshot(t *testing.T) {
	x := newAudited(t, 3000)
	c, err := x.a.Compare(t.Context(), postgres.CompareOptions{Ledger: x.src.ID, Partition: x.src.Partition, Stored: 3001})
	if err != nil {
		t.Fatal(err)
	}
	x.exec("DELETE FROM events WHERE seq > 100")
	for i := range x.recs {
		fs, err := c.Next(x.recs[i].Offset, &x.recs[i].Sealed)
		if err != nil || len(fs) > 0 {
			t.Fatalf("record %d: %v, %v", i, brief(fs), err)
		}
	}
	if fs, _, err := c.Finish(); err != nil || len(fs) > 0 {
		t.Fatalf("finish: %v, %v", brief(fs), err)
	}
	if found, _ := x.compare(); len(found) != 2900 {
		t.Errorf("%d findings afterwards, want 2900", len(found))
	}
}

type downRegistry struct{}

func (downRegistry) Schema(context.Context, uint32) (string, error) {
	return "", errors.New("registry does not answer")
}

// What cannot be derived is an error, not a finding.
func TestAuditWithoutRegistry(t *testing.T) {
	d := newDatabase(t)
	src := sinktest.NewSource(t, sinktest.Topic, 0)
	recs := append([]sinks.Record{src.First()}, src.Seal(sinktest.OddRecords()["unknown schema"])...)
	write(t, d.sink(), src.Batch(recs))
	a := d.auditor(func(o *postgres.AuditorOptions) { o.Codec = schemas.NewCodec(downRegistry{}) })
	c, err := a.Compare(t.Context(), postgres.CompareOptions{Ledger: src.ID, Partition: src.Partition, Stored: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if fs, err := c.Next(0, &recs[0].Sealed); err != nil || len(fs) > 0 {
		t.Fatalf("genesis: %v, %v", brief(fs), err)
	}
	if fs, err := c.Next(1, &recs[1].Sealed); err == nil || len(fs) > 0 {
		t.Errorf("a record that cannot be derived: %v, %v, want an error", brief(fs), err)
	}
	// The sink waits, too, rather than storing half a row.
	s := d.sink(func(o *postgres.Options) { o.Codec = schemas.NewCodec(downRegistry{}) })
	b := src.Batch(src.Seal(sinktest.OddRecords()["unknown schema"]))
	var rej *sinks.Rejected
	if err := s.Write(t.Context(), []sinks.Batch{b}); err == nil || errors.As(err, &rej) {
		t.Errorf("write without the registry: %v, want an error that is tried again", err)
	}
}

// The repair role replaces rows through functions that write it down.
func TestRepair(t *testing.T) {
	x := newAudited(t, 6)
	x.exec("UPDATE events SET user_id = 'mallory' WHERE seq = 2")
	x.exec("DELETE FROM events WHERE seq = 3")
	x.exec("DROP TABLE IF EXISTS pg_temp.forged; CREATE TEMPORARY TABLE forged AS SELECT * FROM events WHERE seq = 5; UPDATE forged SET month = '1970-01-01'; INSERT INTO events SELECT * FROM forged; UPDATE forged SET seq = 77; INSERT INTO events SELECT * FROM forged")
	r, err := postgres.NewRepairer(postgres.RepairerOptions{URL: x.url(postgres.RoleRepair), Codec: schemas.NewCodec(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Replace(t.Context(), x.src.Partition, x.recs[2:3], " "); err == nil {
		t.Error("a repair without a reason is taken")
	}
	if err := r.Replace(t.Context(), x.src.Partition, []sinks.Record{x.recs[2], x.recs[3], x.recs[5]}, "verify found them"); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Remove(t.Context(), x.src.ID, 77, "in no topic"); err != nil || n != 1 {
		t.Errorf("removed %d, %v, want 1", n, err)
	}
	if found, _ := x.compare(); len(found) > 0 {
		t.Errorf("findings after the repair: %q", brief(found))
	}
	rows, err := connect(t, x.url(postgres.RoleRepair)).Query(t.Context(), "SELECT login || ' ' || action || ' ' || seq || ' ' || old_rows || ' ' || reason FROM repairs ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"sealstream_repair replace 2 1 verify found them", "sealstream_repair replace 3 0 verify found them", "sealstream_repair replace 5 2 verify found them", "sealstream_repair remove 77 1 in no topic"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("written down (-want +got):\n%s", diff)
	}
}
