package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// call asks the API as a role, with a body when there is one.
func (r *running) call(t *testing.T, api, method, path, body string) (int, string) {
	t.Helper()
	token, err := os.ReadFile(r.info.Tokens["auditor"])
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, api+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

type jobAnswer struct {
	ID, State, Result string
	Cancelling        bool
	TakenUp           int `json:"taken_up"`
	Progress          struct {
		Records, Findings uint64
		Partitions        int
		PartitionsDone    int `json:"partitions_done"`
	}
	Report   struct{ Records, Rows, Lag uint64 }
	Findings []struct {
		Verdict, Where, Detail string
		Seq                    uint64
	}
}

// job polls until the job has a state.
func (r *running) job(t *testing.T, id, state string) (j jobAnswer) {
	t.Helper()
	until(t, "verification "+state, 60*time.Second, func() bool {
		code, body := r.call(t, r.info.API, http.MethodGet, "/v1/verify/"+id, "")
		j = jobAnswer{}
		if err := json.Unmarshal([]byte(body), &j); err != nil || code != 200 || j.State == "failed" {
			t.Fatalf("%d: %s, %v", code, body, err)
		}
		return j.State == state
	})
	return j
}

func (r *running) startJob(t *testing.T, body string) string {
	t.Helper()
	code, text := r.call(t, r.info.API, http.MethodPost, "/v1/verify", body)
	var j jobAnswer
	if err := json.Unmarshal([]byte(text), &j); err != nil || code != http.StatusAccepted {
		t.Fatalf("%d: %s, %v", code, text, err)
	}
	return j.ID
}

// TestVerifyByTheAPI: a job says what the command says, is on record, and finds what was
// done to a row.
func TestVerifyByTheAPI(t *testing.T) {
	dir := dataDir(t)
	r := startUp(t, dir)
	sealstream(t, "generate", "--count", "200", "--data", dir).want(t, exitDone)
	until(t, "everything stored", 60*time.Second, func() bool {
		var rep struct{ Records, Rows, Lag uint64 }
		out := sealstream(t, "verify", "--json", "--data", dir)
		return json.Unmarshal([]byte(out.stdout), &rep) == nil && rep.Lag == 0 && rep.Rows > 200
	})
	clean := r.job(t, r.startJob(t, `{}`), "done")
	if clean.Result != "ok" || clean.Report.Records < 200 || clean.Report.Rows < 200 || clean.Progress.PartitionsDone != clean.Progress.Partitions || clean.Progress.Partitions == 0 {
		t.Errorf("clean installation: %+v", clean)
	}
	until(t, "the start on record", 30*time.Second, func() bool {
		_, body := r.get(t, "auditor", "/v1/events?action=verify.start")
		return strings.Contains(body, clean.ID)
	})
	// Somebody alters a row, and its job says so, as the command does.
	super, err := pgx.Connect(t.Context(), r.info.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	var ledger, source string
	err = super.QueryRow(t.Context(), `UPDATE events SET user_id = 'mallory' WHERE (ledger, seq) = (SELECT ledger, seq FROM events WHERE sealed_topic = 'audit.events.sealed' AND seq = 2 LIMIT 1)
		RETURNING replace(ledger::text, '-', ''), sealed_topic`).Scan(&ledger, &source)
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]int{`{}`: 1, `{"sources":["audit.events"]}`: 1, `{"ledgers":["` + ledger + `"]}`: 1, `{"sources":["domain.events"]}`: 0, `{"rows":false}`: 0, `{"to":"2001-01-01T00:00:00Z"}`: 0} {
		j := r.job(t, r.startJob(t, body), "done")
		if len(j.Findings) != want || want == 1 && (j.Findings[0].Verdict != "ALTERED" || j.Findings[0].Seq != 2 || j.Findings[0].Where != "postgres" || strings.Contains(j.Findings[0].Detail, "mallory")) {
			t.Errorf("%s: %+v", body, j)
		}
	}
	sealstream(t, "verify", "--data", dir).want(t, exitLook, "ALTERED", ledger, "user_id")
	for _, body := range []string{`{"sources":["no.such"]}`, `{"ledgers":["` + strings.Repeat("0", 32) + `"]}`, `{"ledgers":["` + ledger + `"],"sources":["domain.events"]}`} {
		if code, text := r.call(t, r.info.API, http.MethodPost, "/v1/verify", body); code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d: %s", body, code, text)
		}
	}
}

// TestVerifyIsTakenOver: one API gives up its job, another one goes on with it, and
// meanwhile nobody can start a second one.
func TestVerifyIsTakenOver(t *testing.T) {
	dir := dataDir(t)
	r := startUp(t, dir)
	sealstream(t, "generate", "--count", "400", "--data", dir).want(t, exitDone)
	until(t, "enough sealed to take its time", 60*time.Second, func() bool { return verified(t, dir).Records >= 400 })
	slow := r.startJob(t, `{"rate":100}`) // 100 at once, then 100 a second
	if code, text := r.call(t, r.info.API, http.MethodPost, "/v1/verify", `{}`); code != http.StatusConflict || !strings.Contains(text, slow) {
		t.Errorf("a second job: %d: %s", code, text)
	}
	until(t, "first partitions", 30*time.Second, func() bool {
		_, body := r.call(t, r.info.API, http.MethodGet, "/v1/verify/"+slow, "")
		var j jobAnswer
		return json.Unmarshal([]byte(body), &j) == nil && j.Progress.PartitionsDone > 0
	})
	// As if the process had died: its lease ends, and the claim is another one's.
	super, err := pgx.Connect(t.Context(), r.info.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	var parts int
	if err := super.QueryRow(t.Context(), "WITH gone AS (UPDATE verify_jobs SET lease_until = NULL, fence = fence + 1 RETURNING id) SELECT count(*) FROM verify_parts, gone WHERE job = id").Scan(&parts); err != nil {
		t.Fatal(err)
	}
	end := r.job(t, slow, "done")
	if end.TakenUp < 3 || end.Result != "ok" || end.Progress.PartitionsDone != end.Progress.Partitions || parts == 0 {
		t.Errorf("taken over: %+v, %d parts were done", end, parts)
	}
	gone := r.startJob(t, `{"rate":1}`)
	if code, text := r.call(t, r.info.API, http.MethodDelete, "/v1/verify/"+gone, ""); code != 200 {
		t.Errorf("cancel: %d: %s", code, text)
	}
	r.job(t, gone, "cancelled")
}

// TestKilledAPIsJobGoesOn kills the one of two API processes that works on a job.
func TestKilledAPIsJobGoesOn(t *testing.T) {
	dir := dataDir(t)
	r := startUp(t, dir, "--without", "api")
	sealstream(t, "generate", "--count", "600", "--data", dir).want(t, exitDone)
	type process struct {
		cmd *exec.Cmd
		out *lockedBuffer
		url string
	}
	var ps [2]process
	for i := range ps {
		p := &ps[i]
		p.cmd, p.out = spawn(t, "sealstream", "run", "api", "--data", dir, "--listen", "127.0.0.1:0")
		listens := regexp.MustCompile(`api listens.* address=(\S+)`)
		until(t, "api", 30*time.Second, func() bool {
			m := listens.FindStringSubmatch(p.out.String())
			if m != nil {
				p.url = "http://" + m[1]
			}
			return m != nil
		})
	}
	r.info.API = ps[0].url
	id := r.startJob(t, `{"rate":100}`)
	r.info.API = ps[1].url // both know of it
	if code, text := r.call(t, ps[1].url, http.MethodPost, "/v1/verify", `{}`); code != http.StatusConflict || !strings.Contains(text, id) {
		t.Errorf("a second job at the other process: %d: %s", code, text)
	}
	working := -1
	until(t, "somebody at work", 30*time.Second, func() bool {
		for i := range ps {
			if strings.Contains(ps[i].out.String(), "verification="+id) {
				working = i
			}
		}
		_, body := r.call(t, ps[1].url, http.MethodGet, "/v1/verify/"+id, "")
		var j jobAnswer
		return working >= 0 && json.Unmarshal([]byte(body), &j) == nil && j.Progress.PartitionsDone > 0
	})
	kill(ps[working].cmd)
	began := time.Now()
	other := &ps[1-working]
	r.info.API = other.url
	until(t, "the other process to go on", 40*time.Second, func() bool { return strings.Contains(other.out.String(), "verification="+id) })
	t.Logf("taken over after %v", time.Since(began).Round(time.Millisecond))
	end := r.job(t, id, "done")
	if end.Result != "ok" || end.TakenUp != 2 || end.Progress.PartitionsDone != end.Progress.Partitions || end.Report.Records < 600 {
		t.Errorf("end: %+v", end)
	}
}
