package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// fakeJobs keeps verifications in memory. Mode "down", "slow", "panic", "raced" (a job
// that comes between), or a state: the newest job is in it, with three findings.
type fakeJobs struct {
	mode string
	now  func() time.Time
	jobs []sinks.Verification // newest first
}

func (f *fakeJobs) fail() error {
	switch f.mode {
	case "down":
		return errors.New("dial tcp 10.0.0.1:5432: refused")
	case "slow":
		return fmt.Errorf("statement: %w", context.DeadlineExceeded)
	case "panic":
		panic(errors.New("secret of the jobs"))
	}
	return nil
}

func (f *fakeJobs) Resolve(_ context.Context, r sinks.VerificationRequest) (sinks.VerificationRequest, error) {
	if err := f.fail(); err != nil {
		return r, err
	}
	for n, s := range r.Sources {
		if s != "audit.events" {
			return r, &VerificationRefused{fmt.Sprintf("body.sources[%d]", n), "no such source topic", "take source from /v1/ledgers"}
		}
	}
	return r, nil
}

func (f *fakeJobs) Create(_ context.Context, id string, r sinks.VerificationRequest) (sinks.Verification, error) {
	if f.mode == "raced" {
		return sinks.Verification{}, &sinks.VerificationActive{}
	}
	v := sinks.Verification{ID: id, State: sinks.VerificationQueued, Request: r, Created: f.now()}
	f.jobs = slices.Insert(f.jobs, 0, v)
	return v, f.fail()
}

func (f *fakeJobs) List(context.Context) ([]sinks.Verification, error) {
	out := slices.Clone(f.jobs)
	for n := range out {
		out[n] = f.shown(out[n])
	}
	return out, f.fail()
}

func (f *fakeJobs) shown(v sinks.Verification) sinks.Verification {
	if f.mode == "" || f.mode == "raced" {
		return v
	}
	v.State, v.Started, v.TakenUp = sinks.VerificationState(f.mode), v.Created.Add(time.Second), 1
	v.Progress = sinks.VerificationProgress{Partitions: 2, PartitionsDone: 1, Records: 5, RecordsKnown: 9, RecordsPerSecond: 2.5,
		Findings: 3, Verdicts: map[ledger.Verdict]uint64{ledger.Altered: 1, ledger.Missing: 2}}
	if v.State == sinks.VerificationDone {
		v.Finished = v.Started.Add(time.Second)
		v.Report = json.RawMessage(`{"result":"findings","records":9,"findings_total":3,"rows":8,"lag":0,"rejected":0,"ledgers":[{"id":"` + ledgerOf(0xaa).String() +
			`","topic":"audit.events.sealed","partition":3,"size":9,"head":"` + (ledger.Hash{1}).String() + `","closed":false}],"not_checked":["heads"],"verdicts":{"ALTERED":1,"MISSING":2}}`)
	}
	return v
}

func (f *fakeJobs) Get(_ context.Context, id string) (sinks.Verification, error) {
	for _, v := range f.jobs {
		if v.ID == id {
			return f.shown(v), f.fail()
		}
	}
	return sinks.Verification{}, errors.Join(f.fail(), sinks.ErrNotFound)
}

func (f *fakeJobs) Findings(_ context.Context, _ string, after int64, limit int) (out []sinks.VerificationFinding, err error) {
	if f.mode == "" {
		return nil, f.fail()
	}
	for n := after + 1; n <= 3 && len(out) < limit; n++ {
		v := ledger.Missing
		if n == 1 {
			v = ledger.Altered
		}
		out = append(out, sinks.VerificationFinding{N: n, Finding: ledger.Finding{Verdict: v, Ledger: ledgerOf(0xaa), Seq: uint64(n), Where: "postgres", Detail: "differs in frame"}})
	}
	return out, f.fail()
}

func (f *fakeJobs) Cancel(_ context.Context, id string) (sinks.Verification, error) {
	for n := range f.jobs {
		if f.jobs[n].ID == id {
			f.jobs[n].State, f.jobs[n].Finished = sinks.VerificationCancelled, f.now()
			return f.jobs[n], f.fail()
		}
	}
	return sinks.Verification{}, sinks.ErrNotFound
}
