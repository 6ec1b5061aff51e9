package postgres_test

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

// Every role of ours may ask for the version, and the sink stores nothing in a schema
// that is not its own.
func TestSchemaVersionIsChecked(t *testing.T) {
	d := newDatabase(t)
	for _, role := range []string{postgres.RoleOwner, postgres.RoleWriter, postgres.RoleReader, postgres.RoleRepair} {
		if err := postgres.CheckSchema(t.Context(), d.url(role)); err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
	p := []sinks.Partition{{Topic: sinktest.Topic, ID: 0}}
	sink := d.sink()
	if _, err := sink.Positions(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]error{
		"INSERT INTO sealstream_schema (version, name) VALUES (99, 'x')": postgres.ErrNewerSchema,
		"DELETE FROM sealstream_schema":                                  postgres.ErrOlderSchema,
	} {
		d.exec(sql)
		if err := postgres.CheckSchema(t.Context(), d.url(postgres.RoleWriter)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", sql, err, want)
		}
		_, err := d.sink().Positions(t.Context(), p)
		if cfg := (*sinks.ConfigError)(nil); !errors.As(err, &cfg) || !errors.Is(err, want) {
			t.Errorf("%s: a sink that starts gets %v, want a ConfigError that is %v", sql, err, want)
		}
		d.exec("DELETE FROM sealstream_schema WHERE version = 99")
	}
	// Rolling: a sink that runs goes on while a newer program migrates.
	if _, err := sink.Positions(t.Context(), p); err != nil {
		t.Errorf("a sink that runs: %v", err)
	}
}

func TestCheckSchemaOfADatabaseThatIsAway(t *testing.T) {
	err := postgres.CheckSchema(t.Context(), "postgres://sealstream_reader:secret-word@127.0.0.1:1/x")
	if away := (*sinks.Unavailable)(nil); !errors.As(err, &away) || strings.Contains(err.Error(), "secret-word") {
		t.Errorf("a server that is not there: %v, want Unavailable without the password", err)
	}
	if err := postgres.CheckSchema(t.Context(), "no url with secret-word"); err == nil || strings.Contains(err.Error(), "secret-word") {
		t.Errorf("no URL: %v", err)
	}
}

// Processes of the release before go on while one migrates, so a migration only adds.
// What takes away comes a release later, in a file that says so: NNNN_contract_what.sql.
func TestMigrationsOnlyAdd(t *testing.T) {
	takes := regexp.MustCompile(`(?im)\b(DROP\s+(TABLE|COLUMN|FUNCTION|ROLE|INDEX)|RENAME\s+(TO|COLUMN)|ALTER\s+COLUMN\s+\w+\s+(SET\s+NOT\s+NULL|TYPE|SET\s+DATA)|REVOKE\s+.*\s+FROM\s+sealstream_)`)
	for text, want := range map[string]bool{
		"ALTER TABLE public.events DROP COLUMN x": true, "alter table x rename to y": true, "ALTER COLUMN x SET NOT NULL": true,
		"REVOKE INSERT ON TABLE x FROM sealstream_writer": true, "CREATE TABLE x (y int NOT NULL)": false, "REVOKE ALL ON TABLE x FROM PUBLIC": false,
	} {
		if takes.MatchString(text) != want {
			t.Errorf("%q takes away: want %v", text, want)
		}
	}
	names, err := fs.Glob(os.DirFS("."), "migrations/*.sql")
	if err != nil || len(names) != postgres.SchemaVersion() {
		t.Fatalf("%d migrations, version %d, %v", len(names), postgres.SchemaVersion(), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if m := takes.FindString(string(text)); m != "" && !strings.Contains(path.Base(name), "_contract_") {
			t.Errorf("%s says %q: the release before still needs it", name, m)
		}
	}
}
