package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// TestTwoFirstBinds: of two installations that find the same empty database at the same
// moment, one gets it. A lock on the table holds both back between looking and writing.
func TestTwoFirstBinds(t *testing.T) {
	d := newDatabase(t)
	d.exec("BEGIN")
	d.exec("LOCK TABLE sink_topics IN SHARE MODE") // lets read, not write
	type outcome struct {
		refused map[string]string
		err     error
	}
	done := make(chan outcome, 2)
	for _, prefix := range []string{"a.", "b."} {
		s := d.sink()
		go func() {
			refused, err := s.Bind(t.Context(), sinks.Origin{Cluster: "c", Prefix: prefix}, map[string]ledger.TopicID{prefix + "x": {1}})
			done <- outcome{refused, err}
		}()
	}
	waiting, tick := 0, time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); waiting < 2; <-tick.C {
		err := d.super().QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&waiting)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d wait, want 2: %v", waiting, err)
		}
	}
	d.exec("COMMIT")
	won := 0
	for range 2 {
		o := <-done
		if o.err != nil {
			t.Fatal(o.err)
		}
		if len(o.refused) == 0 {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of two installations got the database", won)
	}
}

// TestCheckOrigin: the reader may ask whose the database is.
func TestCheckOrigin(t *testing.T) {
	d := newDatabase(t)
	ours, theirs := sinks.Origin{Cluster: "c1", Prefix: "p."}, sinks.Origin{Cluster: "c2", Prefix: "p."}
	ask := func(from sinks.Origin) (bool, error) {
		return postgres.CheckOrigin(t.Context(), d.url(postgres.RoleReader), "", from)
	}
	if tied, err := ask(ours); tied || err != nil {
		t.Errorf("empty database: %v, %v", tied, err)
	}
	if _, err := d.sink().Bind(t.Context(), ours, map[string]ledger.TopicID{"p.x": {1}}); err != nil {
		t.Fatal(err)
	}
	if tied, err := ask(ours); !tied || err != nil {
		t.Errorf("ours: %v, %v", tied, err)
	}
	_, err := ask(theirs)
	other, ok := errors.AsType[*sinks.OtherInstallation](err)
	if !ok || other.Theirs != ours || other.Ours != theirs || !strings.Contains(err.Error(), "c1") || !strings.Contains(err.Error(), "c2") {
		t.Errorf("another's: %v", err)
	}
	// Rows of two, as a version without the lock may have left them.
	d.exec("INSERT INTO sink_topics (sink, topic, topic_id, cluster, prefix) VALUES ('postgres', 'q.x', gen_random_uuid(), 'c1', 'q.')")
	if _, err := ask(ours); !errors.As(err, &other) || other.Theirs.Prefix != "q." {
		t.Errorf("shared by two: %v", err)
	}
}
