package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealstream/sealstream/schemas"
)

// What is required of the seal on one node.
const (
	sealRate      = 250_000
	sealRateGoal  = 395_000
	sealCPU       = 3500 * time.Nanosecond
	sealCPUGoal   = 2200 * time.Nanosecond
	commitMost    = 0.4 // seconds, 99 of 100
	sealedMetric  = "sealstream_seal_records_total"
	commitMetric  = "sealstream_seal_commit_seconds"
	latencyMetric = "sealstream_seal_latency_seconds"
	abortMetric   = "sealstream_seal_aborts_total"
)

// pollMetrics is the time between two looks at the seal's metrics: a look costs it a
// fraction of a millisecond.
const pollMetrics = 50 * time.Millisecond

// sealing measures the role seal on a backlog, then under a steady load.
func (r *realRunner) sealing(ctx context.Context) (err error) {
	in, err := r.install(ctx, "s.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.end(ctx)) }()
	feed, err := newFeeder(r.k.Brokers, in.prefix+schemas.TopicAudit)
	if err != nil {
		return err
	}
	defer feed.cl.Close()
	n := r.o.Backlog
	if len(r.k.Brokers) > 1 {
		n /= 2 // three nodes on these cores take three times as long
	}
	if err := r.warm(ctx, in, feed, n/2); err != nil {
		return err
	}
	r.say("making a backlog of %s records", thousands(n))
	if err := feed.fed(ctx, n); err != nil {
		return err
	}
	seal, err := r.drain(ctx, in, n)
	if err != nil {
		return err
	}
	if err := r.steady(ctx, in, feed, seal); err != nil {
		return err
	}
	if err := in.sealed(ctx); err != nil {
		return err
	}
	return seal.finish(ctx)
}

// warm has the brokers compile what they will run.
func (r *realRunner) warm(ctx context.Context, in *realInstall, feed *feeder, n int64) error {
	r.say("warming the broker up with %s records", thousands(n))
	seal, err := in.start(ctx, "seal", "a")
	if err != nil {
		return err
	}
	if err := feed.fed(ctx, n); err != nil {
		return err
	}
	if err := in.sealed(ctx); err != nil {
		return err
	}
	return seal.finish(ctx)
}

// drained is one look at a seal at work.
type drained struct {
	at             time.Time
	records        float64
	client, broker time.Duration
}

func (r *realRunner) look(ctx context.Context, m *member) (d drained, f figures, err error) {
	if f, err = scrape(ctx, m.addr); err != nil {
		return d, f, fmt.Errorf("%w; its log ends with:\n%s", err, m.Tail())
	}
	d.at, d.records = time.Now(), f.sums[sealedMetric]
	if d.client, err = ownCPU(m.PID()); err == nil {
		d.broker, err = r.brokerCPU()
	}
	return d, f, err
}

// drain starts the seal and measures from its first commit to the last.
func (r *realRunner) drain(ctx context.Context, in *realInstall, n int64) (*member, error) {
	at := load()
	seal, err := in.start(ctx, "seal", "a")
	if err != nil {
		return nil, err
	}
	t := time.NewTicker(pollMetrics)
	defer t.Stop()
	var first, last drained
	var f figures
	for last.records < float64(n) {
		if last, f, err = r.look(ctx, seal); err != nil {
			return nil, err
		}
		if first.records == 0 {
			first = last
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%.0f of %d records are sealed: %w", last.records, n, ctx.Err())
		}
	}
	if aborts := f.sums[abortMetric]; aborts > 0 || last.records > float64(n) {
		return nil, fmt.Errorf("%.0f transactions were aborted, and %.0f of %d records sealed: the figures are worth nothing", aborts, last.records, n)
	}
	count := int64(last.records - first.records)
	took, client, broker := last.at.Sub(first.at), last.client-first.client, last.broker-first.broker
	rate, each := float64(count)/took.Seconds(), client/time.Duration(count)
	row := Row{What: fmt.Sprintf("seal on real Kafka, %s, a backlog of %s records of %d bytes", r.nodes(), thousands(n), sealedBytes),
		Rate: perSecond(count, took, "records"), CPU: costs(count, share{"seal", client}, share{"broker", broker}), Load: at, Command: "`run seal`"}
	ends := f.histograms[commitMetric]
	commits := Row{What: fmt.Sprintf("of it: end of a transaction, p50 and p99 of %.0f, %.0f records each", ends.total(), last.records/ends.total()),
		Rate: millis(ends.quantile(0.5)) + ", " + millis(ends.quantile(0.99)), Load: at, Command: "`run seal`"}
	if len(r.k.Brokers) == 1 {
		row.Required = judged("250,000/s, seal 3.5", rate >= sealRate && each <= sealCPU)
		row.Goal = judged("395,000/s, seal 2.2", rate >= sealRateGoal && each <= sealCPUGoal)
		commits.Required = judged("p99 400 ms", ends.quantile(0.99) <= commitMost)
	}
	r.add(row)
	r.add(commits)
	mem, err := readMemory(seal.PID())
	if err != nil {
		return nil, err
	}
	r.add(Row{What: "of it: memory of the seal, most", Rate: megabytes(mem.peak), Load: at, Command: "`run seal`"})
	return seal, nil
}

// steady measures transactions under a load that does not fill the machine.
func (r *realRunner) steady(ctx context.Context, in *realInstall, feed *feeder, seal *member) error {
	at := load()
	before, was, err := r.look(ctx, seal)
	if err != nil {
		return err
	}
	if err := feed.steadily(ctx, r.o.Rate, r.o.Steady); err != nil {
		return err
	}
	if err := in.sealed(ctx); err != nil {
		return err
	}
	after, is, err := r.look(ctx, seal)
	if err != nil {
		return err
	}
	ends := is.histograms[commitMetric].since(was.histograms[commitMetric])
	late := is.histograms[latencyMetric].since(was.histograms[latencyMetric])
	row := Row{What: fmt.Sprintf("seal on real Kafka, %s, %s records/s for %s: end of a transaction, p50 and p99 of %.0f; record to commit, p50 and p99",
		r.nodes(), thousands(int64(r.o.Rate)), r.o.Steady, ends.total()),
		Rate: fmt.Sprintf("%s, %s; %s, %s", millis(ends.quantile(0.5)), millis(ends.quantile(0.99)), millis(late.quantile(0.5)), millis(late.quantile(0.99))),
		CPU:  costs(int64(after.records-before.records), share{"seal", after.client - before.client}, share{"broker", after.broker - before.broker}), Load: at, Command: "`run seal`"}
	if len(r.k.Brokers) == 1 {
		row.Required = judged("p99 400 ms", ends.quantile(0.99) <= commitMost)
	}
	r.add(row)
	return nil
}

func millis(seconds float64) string { return fmt.Sprintf("%.0f ms", seconds*1000) }
