package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

func write(t testing.TB, s sinks.Sink, batches ...sinks.Batch) {
	t.Helper()
	if err := s.Write(t.Context(), batches); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// row reads one row, by column.
func (d *database) row(id ledger.ID, seq uint64) map[string]any {
	d.t.Helper()
	rows, err := d.super().Query(d.t.Context(), "SELECT * FROM events WHERE ledger = $1 AND seq = $2", id.UUID(), int64(seq))
	if err != nil {
		d.t.Fatal(err)
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToMap)
	if err != nil {
		d.t.Fatalf("row %d: %v", seq, err)
	}
	for k, v := range m {
		if tm, ok := v.(time.Time); ok {
			m[k] = tm.UTC().Format(time.RFC3339Nano)
		}
	}
	return m
}

// one stores a single event, in a ledger of its own, and returns its row.
func (d *database) one(r ledger.Record, change ...func(*postgres.Options)) map[string]any {
	d.t.Helper()
	d.ledgers++
	src := sinktest.NewSource(d.t, sinktest.Topic, d.ledgers)
	write(d.t, d.sink(change...), src.Batch(append([]sinks.Record{src.First()}, src.Seal(r)...)))
	return d.row(src.ID, 1)
}

func TestColumns(t *testing.T) {
	d, src := newDatabase(t), sinktest.NewSource(t, sinktest.Topic, 4)
	rs := append([]sinks.Record{src.First()}, src.Seal(ledger.Record{
		Key: []byte("k"), TimeMs: sinktest.BaseTimeMs, Headers: []ledger.Header{{Name: "ce_tenant", Value: []byte("acme")}},
		Value: []byte(`{"@timestamp":"2026-10-31T23:59:59.123Z","event":{"id":"e-1","category":["iam","web"],"type":[],"action":"role.grant","severity":7,"created":"2026-10-31T23:59:58Z"},` +
			`"user":{"id":"u-1","name":"Älice"},"source":{"ip":"enc:v1:k:AAAA"},"audit":{"actor":{"mfa":true}},"organization":{"id":"globex"},"aggregate":{"type":"order","id":"o-7","version":3}}`),
	})...)
	write(t, d.sink(), src.Batch(rs))
	row := d.row(src.ID, 1)
	leaf := rs[1].Leaf()
	for column, want := range map[string]any{
		"ledger": [16]byte(src.ID), "seq": int64(1), "kind": int16(2), "sealed_topic": sinktest.Topic, "sealed_partition": int32(4), "sealed_offset": int64(1),
		"leaf_hash": leaf[:], "statement": rs[1].Raw[:], "salt": rs[1].Salt[:], "frame": ledger.AppendFrame(nil, &rs[1].Source),
		"event_time": "2026-10-31T23:59:59.123Z", "record_time": "2026-11-23T10:49:14Z", "month": "2026-11-01T00:00:00Z",
		"tenant": "acme", "organization_id": "globex", "projection_version": int16(1), "decode_error": nil,
		"event_id": "e-1", "event_category": []any{"iam", "web"}, "event_action": "role.grant", "event_severity": int64(7), "event_created": "2026-10-31T23:59:58Z",
		"event_outcome": nil, "user_id": "u-1", "user_name": "Älice", "source_ip": "enc:v1:k:AAAA", "audit_actor_mfa": true, "audit_actor_is_privileged": nil,
		"aggregate_type": "order", "aggregate_id": "o-7", "aggregate_version": int64(3), "message": nil,
	} {
		if diff := cmp.Diff(want, row[column]); diff != "" {
			t.Errorf("column %s (-want +stored):\n%s", column, diff)
		}
	}
	genesis := d.row(src.ID, 0)
	for column, want := range map[string]any{
		"kind": int16(1), "salt": nil, "record_time": nil, "event_time": "1970-01-01T00:00:00Z", "month": "1970-01-01T00:00:00Z", "tenant": "", "event_id": nil, "decode_error": nil,
	} {
		if diff := cmp.Diff(want, genesis[column]); diff != "" {
			t.Errorf("genesis column %s (-want +stored):\n%s", column, diff)
		}
	}
}

func TestTimes(t *testing.T) {
	d := newDatabase(t)
	odd := sinktest.OddRecords()
	for name, want := range map[string][3]any{ // event_time, record_time, month
		"no timestamp":          {"2026-11-23T12:00:00.001Z", nil, "1970-01-01T00:00:00Z"},
		"before 1970":           {"2026-11-23T12:00:00.001Z", "1969-12-31T23:59:55Z", "1970-01-01T00:00:00Z"},
		"out of range":          {"2026-11-23T12:00:00.001Z", nil, "1970-01-01T00:00:00Z"},
		"year 9999":             {"2026-11-23T12:00:00.001Z", nil, "1970-01-01T00:00:00Z"}, // no Go client can tell it apart
		"year 2199":             {"2026-11-23T12:00:00.001Z", "2199-12-31T23:59:59.999Z", "1970-01-01T00:00:00Z"},
		"last ms of 2019":       {"2026-11-23T12:00:00.001Z", "2019-12-31T23:59:59.999Z", "1970-01-01T00:00:00Z"},
		"first ms of 2020":      {"2026-11-23T12:00:00.001Z", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"},
		"last ms of 2099":       {"2026-11-23T12:00:00.001Z", "2099-12-31T23:59:59.999Z", "2099-12-01T00:00:00Z"},
		"first ms of 2100":      {"2026-11-23T12:00:00.001Z", "2100-01-01T00:00:00Z", "1970-01-01T00:00:00Z"},
		"payload time year 1":   {"0001-01-01T00:00:00Z", "2026-11-23T10:49:14Z", "2026-11-01T00:00:00Z"},
		"payload time odd":      {"2026-11-23T10:49:14Z", "2026-11-23T10:49:14Z", "2026-11-01T00:00:00Z"}, // the payload's is unusable
		"neither Avro nor JSON": {"2026-11-23T10:49:14Z", "2026-11-23T10:49:14Z", "2026-11-01T00:00:00Z"},
	} {
		row := d.one(odd[name])
		got := [3]any{row["event_time"], row["record_time"], row["month"]}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +stored):\n%s", name, diff)
		}
	}
	none := ledger.Record{Value: []byte("hello"), TimeMs: -1}
	if row := d.one(none); row["event_time"] != "1970-01-01T00:00:00Z" || row["decode_error"] == nil {
		t.Errorf("an event without any time: event_time %v, decode_error %v", row["event_time"], row["decode_error"])
	}
}

func TestTenants(t *testing.T) {
	d := newDatabase(t)
	event := func(headers ...string) ledger.Record {
		r := sinktest.Event(1)
		r.Headers = nil
		for i := 0; i < len(headers); i += 2 {
			r.Headers = append(r.Headers, ledger.Header{Name: headers[i], Value: []byte(headers[i+1])})
		}
		return r
	}
	fixed := func(o *postgres.Options) { o.Tenants = postgres.Tenants{sinktest.Topic: "configured"} }
	null := event()
	null.Headers = []ledger.Header{{Name: "ce_tenant"}, {Name: "ce_tenant", Value: []byte("second")}}
	for _, c := range []struct {
		name   string
		r      ledger.Record
		change []func(*postgres.Options)
		want   string
	}{
		{"header", event("x", "1", "ce_tenant", "acme"), nil, "acme"},
		{"no header", event("CE_TENANT", "acme"), nil, ""},
		{"two headers", event("ce_tenant", "acme", "ce_tenant", "acme"), nil, ""},
		{"null, then a second", null, nil, ""},
		{"empty", event("ce_tenant", ""), nil, ""},
		{"not text", event("ce_tenant", "a\xff"), nil, ""},
		{"NUL", event("ce_tenant", "a\x00"), nil, ""},
		{"longest", event("ce_tenant", strings.Repeat("t", 256)), nil, strings.Repeat("t", 256)},
		{"too long", event("ce_tenant", strings.Repeat("t", 257)), nil, ""},
		{"configured wins", event("ce_tenant", "acme"), []func(*postgres.Options){fixed}, "configured"},
	} {
		if row := d.one(c.r, c.change...); row["tenant"] != c.want {
			t.Errorf("%s: tenant %q, want %q", c.name, row["tenant"], c.want)
		}
	}
}

// Nothing that Kafka carries is poison to this sink: suite case "stores records that
// are odd" stores them; here is what becomes of texts that a column cannot hold.
func TestTextsAreMadeStorable(t *testing.T) {
	d := newDatabase(t)
	odd := sinktest.OddRecords()
	if row := d.one(odd["NUL in a text"]); row["user_id"] != "a\uFFFDb" {
		t.Errorf("user_id with NUL is %q", row["user_id"])
	}
	row := d.one(odd["huge texts"])
	if n := len(row["user_id"].(string)); n != 1024 {
		t.Errorf("user_id of 256 KiB is kept with %d bytes", n)
	}
	if row["decode_error"] == nil {
		t.Error("nothing says that the text was cut")
	}
	if row := d.one(odd["neither Avro nor JSON"]); row["decode_error"] == nil || row["event_id"] != nil {
		t.Errorf("decode_error %v, event_id %v", row["decode_error"], row["event_id"])
	}
}

// poisoned makes the database refuse one record of a batch.
func poisoned(t *testing.T, constraint string) (*sinks.Rejected, error) {
	t.Helper()
	d, src := newDatabase(t), sinktest.NewSource(t, sinktest.Topic, 0)
	d.exec(constraint)
	err := d.sink().Write(t.Context(), []sinks.Batch{src.Batch(append([]sinks.Record{src.First()}, src.Events(3)...))})
	var rej *sinks.Rejected
	errors.As(err, &rej)
	return rej, err
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct{ sql, code, reason, detail string }{
		"check":    {"ALTER TABLE events ADD CONSTRAINT poison CHECK (seq <> 2)", "23514", "check", "constraint poison table events_202611"},
		"not null": {"ALTER TABLE events ALTER COLUMN message SET NOT NULL", "23502", "null", "column message table events_odd"},
		"trigger": {`CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no % here', NEW.user_name USING ERRCODE = '22023'; END $$;
			CREATE TRIGGER bad BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION bad()`, "22023", "data", ""},
		"raise": {`CREATE FUNCTION bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no % here', NEW.user_name; END $$;
			CREATE TRIGGER bad BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION bad()`, "P0001", "trigger", ""},
		"unique index": {"CREATE UNIQUE INDEX twice ON events (user_name, month)", "23505", "conflict", "constraint events_202611_user_name_month_idx table events_202611"},
	} {
		rej, err := poisoned(t, c.sql)
		if rej == nil {
			t.Errorf("%s: %v, want *Rejected", name, err)
			continue
		}
		got := struct{ code, reason, detail string }{rej.Code, rej.Reason, rej.Detail}
		if want := (struct{ code, reason, detail string }{c.code, c.reason, c.detail}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if strings.Contains(rej.Error(), "alice") {
			t.Errorf("%s: the error shows the row: %s", name, rej.Error())
		}
	}
}

// A trigger that swallows rows must not make data vanish.
func TestSwallowedRows(t *testing.T) {
	rej, err := poisoned(t, `CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.seq = 2 THEN RETURN NULL; END IF; RETURN NEW; END $$;
		CREATE TRIGGER swallow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION swallow()`)
	var cfg *sinks.ConfigError
	if rej != nil || !errors.As(err, &cfg) || !strings.Contains(err.Error(), "dropped 1 of 4 rows") {
		t.Errorf("write under a trigger that drops rows: %v, want a *ConfigError", err)
	}
}

func TestConflict(t *testing.T) {
	d, src := newDatabase(t), sinktest.NewSource(t, sinktest.Topic, 0)
	s := d.sink()
	b := src.Batch(append([]sinks.Record{src.First()}, src.Events(3)...))
	write(t, s, b)
	// The offset is lost, the rows are not: each is there already.
	d.exec("UPDATE sink_offsets SET next_offset = 0")
	rejects := &sinktest.Rejects{}
	var alarms []string
	deliver := sinks.NewDeliverer(s, rejects, sinks.DeliverOptions{Sink: "postgres", Alarm: func(kind, _ string) { alarms = append(alarms, kind) }}, quiet(), sinks.NewMetrics(nil))
	if err := deliver.Deliver(t.Context(), []sinks.Batch{b}); err != nil {
		t.Fatal(err)
	}
	if len(rejects.Kept()) != 0 || len(d.rows()) != 4 {
		t.Errorf("%d set aside, %d rows, want 0 and 4", len(rejects.Kept()), len(d.rows()))
	}
	at, err := s.Positions(t.Context(), []sinks.Partition{src.Partition})
	if err != nil || at[src.Partition] != b.Next {
		t.Errorf("stored offset %d, %v, want %d", at[src.Partition], err, b.Next)
	}

	// Somebody has put something else in the place of a record.
	for what, sql := range map[string]string{
		"statement": "UPDATE events SET statement = 'x' WHERE seq = 2", "frame": "UPDATE events SET frame = 'x' WHERE seq = 2", "salt": "UPDATE events SET salt = NULL WHERE seq = 2",
	} {
		d.exec(sql)
		d.exec("UPDATE sink_offsets SET next_offset = 0")
		rejects, alarms = &sinktest.Rejects{}, nil
		deliver = sinks.NewDeliverer(s, rejects, sinks.DeliverOptions{Sink: "postgres", Alarm: func(kind, _ string) { alarms = append(alarms, kind) }}, quiet(), sinks.NewMetrics(nil))
		if err := deliver.Deliver(t.Context(), []sinks.Batch{b}); err != nil {
			t.Fatal(err)
		}
		kept := rejects.Kept()
		if len(kept) != 1 || kept[0].Record.Statement.Seq != 2 || kept[0].Reason != sinks.ReasonConflict || kept[0].Code != "23505" {
			t.Errorf("%s differs: set aside %d, want record 2 as a conflict", what, len(kept))
		}
		if len(alarms) != 1 || alarms[0] != sinks.AlarmConflict {
			t.Errorf("%s differs: alarms %q", what, alarms)
		}
		d.exec("UPDATE events SET statement = $1, frame = $2, salt = $3 WHERE seq = 2", b.Records[2].Raw[:], ledger.AppendFrame(nil, &b.Records[2].Source), b.Records[2].Salt[:])
	}
}

func TestConfigErrors(t *testing.T) {
	d, src := newDatabase(t), sinktest.NewSource(t, sinktest.Topic, 0)
	b := []sinks.Batch{src.Batch([]sinks.Record{src.First()})}
	isConfig := func(name string, err error) {
		t.Helper()
		var cfg *sinks.ConfigError
		if !errors.As(err, &cfg) {
			t.Errorf("%s: %v, want *ConfigError", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
	other := func(url string) *postgres.Sink { return d.sink(func(o *postgres.Options) { o.URL = url }) }
	isConfig("wrong password", other(server.RoleURL(postgres.RoleWriter, "hunter22", d.name)).Write(t.Context(), b))
	isConfig("wrong password, probe", other(server.RoleURL(postgres.RoleWriter, "hunter22", d.name)).Probe(t.Context()))
	isConfig("no such database", other(server.RoleURL(postgres.RoleWriter, password(postgres.RoleWriter), "nowhere")).Write(t.Context(), b))
	isConfig("role without privileges", other(d.url(postgres.RoleReader)).Write(t.Context(), b))
	isConfig("not migrated", other(server.RoleURL(postgres.RoleWriter, password(postgres.RoleWriter), emptyDatabase(t).name)).Write(t.Context(), b))
	s := d.sink()
	write(t, s, sinks.Batch{Partition: sinks.Partition{Topic: "other", ID: 0}, Next: 1})
	d.exec("ALTER TABLE events RENAME TO gone")
	isConfig("table gone", s.Write(t.Context(), b))
	d.exec("ALTER TABLE gone RENAME TO events")
	write(t, s, b...)

	if _, err := postgres.New(t.Context(), postgres.Options{URL: "postgres://u:hunter22@host:port:1/x"}); err == nil || strings.Contains(err.Error(), "hunter22") {
		t.Errorf("bad URL: %v, want an error without the password", err)
	}
}

func TestDroppedPartitionComesBack(t *testing.T) {
	d, src := newDatabase(t), sinktest.NewSource(t, sinktest.Topic, 0)
	s := d.sink()
	write(t, s, src.Batch(append([]sinks.Record{src.First()}, src.Events(3)...)))
	d.exec("DROP TABLE events_202611") // as retention does
	b := src.Batch(src.Events(3))
	err := s.Write(t.Context(), []sinks.Batch{b})
	var un *sinks.Unavailable
	if !errors.As(err, &un) || un.Class != "partition" {
		t.Fatalf("write into a month that was dropped: %v, want Unavailable: it must never be a refusal of data", err)
	}
	write(t, s, b)
	if n := len(d.rows()); n != 4 {
		t.Errorf("%d rows, want the genesis and three events", n)
	}
}

func TestDetachedPartition(t *testing.T) {
	d, src := newDatabase(t), sinktest.NewSource(t, sinktest.Topic, 0)
	d.exec("ALTER TABLE events DETACH PARTITION events_202611")
	err := d.sink().Write(t.Context(), []sinks.Batch{src.Batch(append([]sinks.Record{src.First()}, src.Events(3)...))})
	var cfg *sinks.ConfigError
	if !errors.As(err, &cfg) || !strings.Contains(err.Error(), "events_202611 is there and is no partition") {
		t.Errorf("write into a month that was detached: %v, want a *ConfigError that says so", err)
	}
}

// Values in many months, in one batch.
func TestManyMonths(t *testing.T) {
	d, src := newDatabase(t), sinktest.NewSource(t, sinktest.Topic, 0)
	rs := []sinks.Record{src.First()}
	for y := 2020; y < 2022; y++ {
		for m := time.January; m <= time.December; m++ {
			r := sinktest.Event(y*12 + int(m))
			r.TimeMs = time.Date(y, m, 15, 0, 0, 0, 0, time.UTC).UnixMilli()
			rs = append(rs, src.Seal(r)...)
		}
	}
	write(t, d.sink(), src.Batch(rs))
	var n, parts int
	if err := d.super().QueryRow(t.Context(), "SELECT count(*), count(DISTINCT tableoid) FROM events").Scan(&n, &parts); err != nil || n != 25 || parts != 25 {
		t.Errorf("%d rows in %d partitions, %v, want 25 in 25", n, parts, err)
	}
}

func TestSinksAreApart(t *testing.T) {
	d, src := newDatabase(t), sinktest.NewSource(t, sinktest.Topic, 0)
	write(t, d.sink(), sinks.Batch{Partition: src.Partition, Next: 7})
	other := d.sink(func(o *postgres.Options) { o.Sink = "replay" })
	at, err := other.Positions(t.Context(), []sinks.Partition{src.Partition})
	if err != nil || at[src.Partition] != 0 {
		t.Errorf("another sink's offset is %d, %v, want 0", at[src.Partition], err)
	}
	write(t, other, sinks.Batch{Partition: src.Partition, Next: 3})
	if at, err = d.sink().Positions(t.Context(), []sinks.Partition{src.Partition}); err != nil || at[src.Partition] != 7 {
		t.Errorf("the first sink's offset is %d, %v, want 7", at[src.Partition], err)
	}
}
