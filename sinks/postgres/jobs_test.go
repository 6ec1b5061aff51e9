package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

func (d *database) jobs() *postgres.Jobs {
	d.t.Helper()
	j, err := postgres.NewJobs(d.t.Context(), d.url(postgres.RoleJobs), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(j.Close)
	return j
}

func jobID() string { return uuid.Must(uuid.NewV7()).String() }

// The role that keeps jobs sees no evidence, and the others cannot write jobs.
func TestJobsRoleSeesNothingElse(t *testing.T) {
	d := newDatabase(t)
	jobs := connect(t, d.url(postgres.RoleJobs))
	for _, sql := range []string{"SELECT 1 FROM events", "SELECT 1 FROM sink_offsets", "SELECT 1 FROM repairs", "DELETE FROM events_odd",
		"UPDATE verify_findings SET detail = ''", "UPDATE verify_parts SET part = '{}'", "DELETE FROM verify_findings", "TRUNCATE verify_jobs CASCADE",
		"SELECT sealstream_holds(NULL, 1, '', '', '')", "CREATE TABLE x ()"} {
		if _, err := jobs.Exec(t.Context(), sql); codeOf(err) != insufficientPrivilege {
			t.Errorf("jobs role: %s: %v, want a refusal", sql, err)
		}
	}
	for _, role := range []string{postgres.RoleReader, postgres.RoleWriter, postgres.RoleRepair} {
		conn := connect(t, d.url(role))
		for _, table := range []string{"verify_jobs", "verify_parts", "verify_findings"} {
			for _, sql := range []string{"SELECT 1 FROM " + table, "DELETE FROM " + table, "INSERT INTO " + table + " DEFAULT VALUES"} {
				if _, err := conn.Exec(t.Context(), sql); codeOf(err) != insufficientPrivilege {
					t.Errorf("%s: %s: %v, want a refusal", role, sql, err)
				}
			}
		}
	}
}

func TestJobLife(t *testing.T) {
	d := newDatabase(t)
	j, ctx := d.jobs(), t.Context()
	if c, err := j.Claim(ctx, time.Minute); c != nil || err != nil {
		t.Fatalf("claim of nothing: %v, %v", c, err)
	}
	req := sinks.VerificationRequest{Sources: []string{"audit.events"}, Ledgers: []ledger.ID{{7}}, From: time.Unix(1000, 0).UTC(), Rows: true, Rate: 5,
		Partitions: []sinks.Partition{{Topic: "audit.events", ID: 3}}}
	id := jobID()
	made, err := j.Create(ctx, id, req)
	if err != nil || made.State != sinks.VerificationQueued || made.Created.IsZero() || !made.Started.IsZero() {
		t.Fatalf("%+v, %v", made, err)
	}
	if diff := cmp.Diff(req, made.Request); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	var active *sinks.VerificationActive
	if _, err := j.Create(ctx, jobID(), req); !errors.As(err, &active) || active.ID != id {
		t.Errorf("second job: %v, want one that names %s", err, id)
	}
	c, err := j.Claim(ctx, time.Minute)
	if err != nil || c == nil || c.State != sinks.VerificationRunning || c.TakenUp != 1 || c.Idle != 1 {
		t.Fatalf("claim: %+v, %v", c, err)
	}
	if plan, parts, err := j.Load(ctx, c); plan != nil || len(parts) > 0 || err != nil {
		t.Errorf("nothing kept: %s, %s, %v", plan, parts, err)
	}
	if err := j.SavePlan(ctx, c, []byte(`{"a": 1}`)); err != nil {
		t.Error(err)
	}
	finds := []ledger.Finding{{Verdict: ledger.Altered, Ledger: ledger.ID{9}, Seq: math.MaxUint64, Where: "t/3@1", Detail: "salt"}, {Verdict: ledger.Extra, Ledger: ledger.ID{9}, Seq: 2}}
	if err := j.SavePart(ctx, c, sinks.Partition{Topic: "t", ID: 3}, []byte(`{"b": 2}`), finds); err != nil {
		t.Error(err)
	}
	plan, parts, err := j.Load(ctx, c)
	if err != nil || string(plan) != `{"a": 1}` || len(parts) != 1 || string(parts[0]) != `{"b": 2}` {
		t.Errorf("kept: %s, %s, %v", plan, parts, err)
	}
	got, err := j.Findings(ctx, id, 0, 1)
	if err != nil || len(got) != 1 || got[0].Finding != finds[0] {
		t.Fatalf("first finding %+v, %v", got, err)
	}
	if got, err = j.Findings(ctx, id, got[0].N, 10); err != nil || len(got) != 1 || got[0].Finding != finds[1] {
		t.Errorf("second finding %+v, %v", got, err)
	}
	p := sinks.VerificationProgress{Records: 10, RecordsKnown: 20, Verdicts: map[ledger.Verdict]uint64{ledger.Extra: 1}}
	if cancel, err := j.Renew(ctx, c, p, time.Minute); cancel || err != nil {
		t.Errorf("renew: %v, %v", cancel, err)
	}
	if run, err := j.Cancel(ctx, id); err != nil || run.State != sinks.VerificationRunning || !run.Cancelling || run.Progress.Records != 10 {
		t.Errorf("cancel of one at work: %+v, %v", run, err)
	}
	if cancel, err := j.Renew(ctx, c, p, time.Minute); !cancel || err != nil {
		t.Errorf("renew after cancel: %v, %v", cancel, err)
	}
	if err := j.Finish(ctx, c, sinks.Verification{State: sinks.VerificationDone, Progress: p, Report: json.RawMessage(`{"result": "ok"}`)}); err != nil {
		t.Error(err)
	}
	end, err := j.Get(ctx, id)
	if err != nil || end.State != sinks.VerificationDone || string(end.Report) != `{"result": "ok"}` || end.Finished.IsZero() || end.Cancelling {
		t.Errorf("end: %+v, %v", end, err)
	}
	if again, err := j.Cancel(ctx, id); err != nil || again.State != sinks.VerificationDone {
		t.Errorf("cancel of a finished one: %+v, %v", again, err)
	}
	if _, err := j.Get(ctx, jobID()); !errors.Is(err, sinks.ErrNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

// A process that slept past its lease changes nothing any more.
func TestOldClaimIsRefused(t *testing.T) {
	d := newDatabase(t)
	j, ctx, id := d.jobs(), t.Context(), jobID()
	if _, err := j.Create(ctx, id, sinks.VerificationRequest{}); err != nil {
		t.Fatal(err)
	}
	old, err := j.Claim(ctx, time.Minute)
	if err != nil || old == nil {
		t.Fatal(old, err)
	}
	if c, err := j.Claim(ctx, time.Minute); c != nil || err != nil {
		t.Fatalf("claim within the lease: %v, %v", c, err)
	}
	d.exec("UPDATE verify_jobs SET lease_until = now() - interval '1 second'")
	taken, err := j.Claim(ctx, time.Minute)
	if err != nil || taken == nil || taken.TakenUp != 2 || taken.Idle != 2 {
		t.Fatalf("take over: %+v, %v", taken, err)
	}
	at := sinks.Partition{Topic: "t"}
	_, renew := j.Renew(ctx, old, sinks.VerificationProgress{}, time.Minute)
	for name, err := range map[string]error{"renew": renew, "plan": j.SavePlan(ctx, old, []byte("{}")), "part": j.SavePart(ctx, old, at, []byte("{}"), nil),
		"finish": j.Finish(ctx, old, sinks.Verification{State: sinks.VerificationDone}), "release": j.Release(ctx, old, "")} {
		if !errors.Is(err, sinks.ErrVerificationLost) {
			t.Errorf("%s under an old claim: %v", name, err)
		}
	}
	if err := j.SavePart(ctx, taken, at, []byte("{}"), nil); err != nil {
		t.Error(err)
	}
	if err := j.Release(ctx, taken, "broker away"); err != nil {
		t.Error(err)
	}
	next, err := j.Claim(ctx, time.Minute)
	if err != nil || next == nil || next.Idle != 1 || next.Error != "broker away" {
		t.Errorf("claim of one given back: %+v, %v", next, err)
	}
	// Its process dies, and somebody cancels: nobody takes it up, and the place is free.
	d.exec("UPDATE verify_jobs SET lease_until = now() - interval '1 second'")
	if got, err := j.Cancel(ctx, id); err != nil || got.State != sinks.VerificationCancelled || got.Finished.IsZero() {
		t.Errorf("cancel of a dead one: %+v, %v", got, err)
	}
	if c, err := j.Claim(ctx, time.Minute); c != nil || err != nil {
		t.Errorf("claim of a cancelled one: %+v, %v", c, err)
	}
}

// Whoever asks, one job is active and one process has it.
func TestOneJobAtATime(t *testing.T) {
	d := newDatabase(t)
	var wg sync.WaitGroup
	var made, claimed atomic.Int32
	for range 8 {
		j := d.jobs()
		wg.Go(func() {
			_, err := j.Create(t.Context(), jobID(), sinks.VerificationRequest{})
			var active *sinks.VerificationActive
			switch {
			case err == nil:
				made.Add(1)
			case !errors.As(err, &active):
				t.Error(err)
			}
			c, err := j.Claim(t.Context(), time.Minute)
			if err != nil {
				t.Error(err)
			}
			if c != nil {
				claimed.Add(1)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || claimed.Load() != 1 {
		t.Errorf("%d jobs made, %d claims, want 1 and 1", made.Load(), claimed.Load())
	}
}

func TestOldJobsAreForgotten(t *testing.T) {
	d := newDatabase(t)
	j := d.jobs()
	d.exec("INSERT INTO verify_jobs (id, state, request, created_at) SELECT gen_random_uuid(), 'done', '{}', now() - make_interval(mins => n) FROM generate_series(1, 120) n")
	d.exec("INSERT INTO verify_findings (job, verdict, ledger, seq, place, detail) SELECT id, 'EXTRA', gen_random_uuid(), 1, '', '' FROM verify_jobs")
	id := jobID()
	if _, err := j.Create(t.Context(), id, sinks.VerificationRequest{}); err != nil {
		t.Fatal(err)
	}
	all, err := j.List(t.Context())
	if err != nil || len(all) != 100 || all[0].ID != id || !all[1].Created.After(all[2].Created) {
		t.Errorf("%d jobs, %v", len(all), err)
	}
	var findings int
	if err := d.super().QueryRow(t.Context(), "SELECT count(*) FROM verify_findings").Scan(&findings); err != nil || fmt.Sprint(findings) != "99" {
		t.Errorf("%d findings, %v", findings, err)
	}
}
