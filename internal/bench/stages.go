package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
)

// stages measures what stands between topics by itself: a whole sealed topic into
// PostgreSQL by a sink in a process of its own, then verify over both.
func (r *runner) stages(ctx context.Context) error {
	in, err := r.install(ctx, "stages", "sink-postgres")
	if err != nil {
		return err
	}
	defer in.leave(ctx)
	n, _, err := r.ingest(ctx, in)
	if err != nil {
		return err
	}
	r.say("%s events are in; waiting for the seal", thousands(n))
	if err := in.sealed(ctx); err != nil {
		return err
	}
	if err := r.storing(ctx, in); err != nil {
		return err
	}
	if err := r.verifying(ctx, in); err != nil {
		return err
	}
	return in.stop(ctx)
}

// ingest brings the events in by the command and returns how many, and its CPU time.
func (r *runner) ingest(ctx context.Context, in *installation) (n int64, cpu time.Duration, err error) {
	file, err := r.events(ctx)
	if err != nil {
		return 0, 0, err
	}
	return r.ingestFile(ctx, in, file)
}

func (r *runner) ingestFile(ctx context.Context, in *installation, file string) (n int64, cpu time.Duration, err error) {
	return r.ingestTo(ctx, file, "--data", in.data)
}

// ingestTo brings a file in to where target says.
func (r *runner) ingestTo(ctx context.Context, file string, target ...string) (n int64, cpu time.Duration, err error) {
	p, err := r.bed.Start("ingest", r.o.Binary, append(append([]string{"ingest"}, target...), "--format", "ndjson", "--quiet", file)...)
	if err != nil {
		return 0, 0, err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return 0, 0, err
	}
	var refused int64
	if _, err := fmt.Sscanf(p.Tail(), "ingested %d events, %d refused", &n, &refused); err != nil || code != 0 || refused > 0 {
		return 0, 0, fmt.Errorf("ingest ended with exit code %d and said %q", code, p.Tail())
	}
	return n, p.CPU(), nil
}

// storing measures the sink, from its start to its last row.
func (r *runner) storing(ctx context.Context, in *installation) error {
	want, err := in.expected(ctx)
	if err != nil {
		return err
	}
	at := load()
	before, err := in.meter()
	if err != nil {
		return err
	}
	began := time.Now()
	sink, err := r.bed.Start("sink", r.o.Binary, "run", "sink-postgres", "--data", in.data)
	if err != nil {
		return err
	}
	end, err := in.stored(ctx, want)
	if err != nil {
		return fmt.Errorf("%w; the sink's log ends with:\n%s", err, sink.Tail())
	}
	after, err := in.meter()
	if err != nil {
		return err
	}
	cpu, err := ownCPU(sink.PID())
	if err != nil {
		return err
	}
	used := after.since(before)
	r.add(Row{What: "sealed topic to PostgreSQL, all indexes, frame, statement and salt", Rate: perSecond(want, end.Sub(began), "rows"),
		CPU:      costs(want, share{"sink", cpu}, share{"PostgreSQL", used.postgres}) + fmt.Sprintf(" (broker %.1f)", perMillion(used.up, want)),
		Required: "25,000/s, 45", Goal: "45,000/s, 30", Load: at, Command: "`run sink-postgres`"})
	if err := in.count(ctx, want); err != nil {
		return err
	}
	if code, err := sink.Terminate(ctx); err != nil || code != 0 {
		return errors.Join(err, fmt.Errorf("the sink ended with exit code %d", code))
	}
	return nil
}

// verifying measures verify without rows, then with them.
func (r *runner) verifying(ctx context.Context, in *installation) error {
	ledger, err := r.verify(ctx, in, "--ledger-only")
	if err != nil {
		return err
	}
	r.add(Row{What: "verify, ledger only", Rate: perSecond(ledger.Records, ledger.took, "records"),
		CPU: costs(ledger.Records, share{"verify", ledger.cpu}, share{"broker", ledger.used.up}), Required: "400,000/s", Load: ledger.load,
		Command: "`verify --ledger-only`"})
	full, err := r.verify(ctx, in)
	if err != nil {
		return err
	}
	if full.Rows != full.Records {
		return fmt.Errorf("verify compared %d rows with %d records", full.Rows, full.Records)
	}
	r.add(Row{What: "verify, ledger and each row", Rate: perSecond(full.Rows, full.took, "rows"),
		CPU:  costs(full.Rows, share{"verify", full.cpu}, share{"PostgreSQL", full.used.postgres}, share{"broker", full.used.up}),
		Goal: "80,000/s", Load: full.load, Command: "`verify`"})
	return nil
}

type verified struct {
	Result  string `json:"result"`
	Records int64  `json:"records"`
	Rows    int64  `json:"rows"`

	took, cpu time.Duration
	used      meter
	load      float64
}

func (r *runner) verify(ctx context.Context, in *installation, args ...string) (v verified, err error) {
	before, err := in.meter()
	if err != nil {
		return v, err
	}
	v.load = load()
	began := time.Now()
	var p *testbed.Proc
	if p, err = r.bed.Start("verify", r.o.Binary, append([]string{"verify", "--data", in.data, "--json"}, args...)...); err != nil {
		return v, err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return v, err
	}
	v.took, v.cpu = time.Since(began), p.CPU()
	after, err := in.meter()
	if err != nil {
		return v, err
	}
	v.used = after.since(before)
	if err := json.Unmarshal([]byte(p.Log()), &v); err != nil || code != 0 || v.Result != "ok" {
		return v, errors.Join(err, fmt.Errorf("verify ended with exit code %d and result %q", code, v.Result))
	}
	return v, nil
}
