package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// JobStore keeps jobs where all processes of an installation see them. Whatever is
// written under a claim that is not the newest any more is refused with
// [sinks.ErrVerificationLost].
type JobStore interface {
	// Claim takes the active job if nobody works on it; nil when there is none to take.
	Claim(ctx context.Context, lease time.Duration) (*sinks.VerificationClaim, error)
	// Renew prolongs the lease and says whether the job is to end.
	Renew(ctx context.Context, c *sinks.VerificationClaim, p sinks.VerificationProgress, lease time.Duration) (cancel bool, err error)
	// Release gives the job back unfinished; why is what interrupted it, if anything did.
	Release(ctx context.Context, c *sinks.VerificationClaim, why string) error
	Finish(ctx context.Context, c *sinks.VerificationClaim, end sinks.Verification) error
	Load(ctx context.Context, c *sinks.VerificationClaim) (plan []byte, parts [][]byte, err error)
	SavePlan(ctx context.Context, c *sinks.VerificationClaim, plan []byte) error
	SavePart(ctx context.Context, c *sinks.VerificationClaim, at sinks.Partition, part []byte, findings []ledger.Finding) error
}

// maxIdle is how many processes may die over a job, one after the other, without
// finishing a single partition, before the job counts as one that kills processes.
const maxIdle = 5

// Runner works off jobs, in as many processes as wanted: one of them at a time.
type Runner struct {
	Store JobStore
	// Open makes the options of one job and a function that closes what they use.
	Open  func(ctx context.Context, r sinks.VerificationRequest) (Options, func(), error)
	Wake  <-chan struct{} // a hint that there is a job now
	Poll  time.Duration   // between looks for a job that another process left; default 3 s
	Lease time.Duration   // how long a job waits for a process that is gone; default 15 s
	Log   *slog.Logger
}

// Run works until ctx ends. A store that does not answer is asked again.
func (r *Runner) Run(ctx context.Context) error {
	if r.Poll <= 0 {
		r.Poll = 3 * time.Second
	}
	if r.Lease <= 0 {
		r.Lease = 15 * time.Second
	}
	quiet := false // an error is said once, not at every look
	for ctx.Err() == nil {
		c, err := r.Store.Claim(ctx, r.Lease)
		if err != nil && !quiet && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "verification jobs cannot be looked for", "err", err)
		}
		quiet = err != nil
		if c != nil && r.work(ctx, c) {
			continue
		}
		t := time.NewTimer(r.Poll)
		select {
		case <-ctx.Done():
		case <-r.Wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// errDamaged ends a job whose state cannot be read: trying again would not help.
var errDamaged = errors.New("what was kept of it cannot be read; start it anew")

// errCancelled ends a job that somebody cancelled.
var errCancelled = errors.New("cancelled")

// work does one job, until it ends or is not ours any more. It returns false when
// something it needs is away, so that trying again at once is of no use.
func (r *Runner) work(ctx context.Context, c *sinks.VerificationClaim) bool {
	log := r.Log.With("verification", c.ID)
	if c.Idle > maxIdle {
		r.finish(ctx, log, c, sinks.Verification{State: sinks.VerificationFailed, Progress: c.Progress,
			Error: fmt.Sprintf("%d processes died over it, none finished a partition: look into their logs and their memory limits", maxIdle)})
		return true
	}
	log.InfoContext(ctx, "verification goes on", "taken_up", c.TakenUp)
	jctx, cut := context.WithCancelCause(ctx)
	k := &jobKeeper{store: r.Store, claim: c, began: time.Now()}
	var beat sync.WaitGroup
	beat.Go(func() { r.renew(jctx, cut, k) })
	rep, err := r.verify(jctx, c, k)
	cause := context.Cause(jctx)
	cut(nil)
	beat.Wait()
	_, other := errors.AsType[*sinks.OtherInstallation](err)
	end := sinks.Verification{State: sinks.VerificationDone, Progress: k.snapshot()}
	switch {
	case errors.Is(cause, errCancelled):
		end.State = sinks.VerificationCancelled
	case errors.Is(err, errDamaged):
		end.State, end.Error = sinks.VerificationFailed, errDamaged.Error()
	case other:
		end.State, end.Error = sinks.VerificationFailed, err.Error() // waiting does not mend it
	case errors.Is(cause, sinks.ErrVerificationLost) || errors.Is(err, sinks.ErrVerificationLost):
		log.WarnContext(ctx, "verification is not this process's any more")
		return true
	case ctx.Err() != nil:
		r.release(ctx, log, c, "")
		return false
	case err != nil:
		log.WarnContext(ctx, "verification is interrupted and will go on", "err", err)
		r.release(ctx, log, c, err.Error())
		return false
	default:
		if end.Report, err = reportOf(rep); err != nil {
			end.State, end.Error = sinks.VerificationFailed, err.Error()
		}
	}
	r.finish(ctx, log, c, end)
	return true
}

// release gives a job back, so that nobody has to wait for its lease to run out.
func (r *Runner) release(ctx context.Context, log *slog.Logger, c *sinks.VerificationClaim, why string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := r.Store.Release(ctx, c, why[:min(len(why), 500)]); err != nil {
		log.WarnContext(ctx, "verification could not be given back; it waits for its lease", "err", err)
	}
}

func (r *Runner) finish(ctx context.Context, log *slog.Logger, c *sinks.VerificationClaim, end sinks.Verification) {
	ctx, cancel := context.WithTimeout(ctx, r.Lease)
	defer cancel()
	if err := r.Store.Finish(ctx, c, end); err != nil {
		log.WarnContext(ctx, "end of a verification could not be kept; it is gone over again", "err", err)
		return
	}
	log.InfoContext(ctx, "verification ended", "state", string(end.State), "records", end.Progress.Records, "findings", end.Progress.Findings)
}

func (r *Runner) verify(ctx context.Context, c *sinks.VerificationClaim, k *jobKeeper) (*Report, error) {
	o, done, err := r.Open(ctx, c.Request)
	if err != nil {
		return nil, err
	}
	defer done()
	o.Workers, o.Keeper, o.Progress = 1, k, k.records // one reader: the API goes first
	o.Partitions, o.Ledgers = c.Request.Partitions, c.Request.Ledgers
	o.From, o.To, o.Rate = c.Request.From, c.Request.To, c.Request.Rate
	return Run(ctx, o)
}

// renew keeps the lease until ctx ends, and cuts the job off when it is to end or may
// be somebody else's by now.
func (r *Runner) renew(ctx context.Context, cut context.CancelCauseFunc, k *jobKeeper) {
	every := time.NewTicker(min(r.Lease/5, 2*time.Second))
	defer every.Stop()
	until := time.Now().Add(r.Lease)
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		asked := time.Now()
		cancel, err := r.Store.Renew(ctx, k.claim, k.snapshot(), r.Lease)
		switch {
		case err == nil && cancel:
			cut(errCancelled)
		case err == nil:
			until = asked.Add(r.Lease)
		case errors.Is(err, sinks.ErrVerificationLost), time.Now().After(until):
			cut(sinks.ErrVerificationLost)
		}
	}
}

// reportOf is the report as `sealstream verify --json` prints it, without the findings,
// which are kept one by one.
func reportOf(r *Report) (json.RawMessage, error) {
	return json.Marshal(struct {
		*Report
		Findings []ledger.Finding `json:"findings,omitempty"`
	}{Report: r})
}

// jobKeeper is the Keeper of a job, and counts its progress.
type jobKeeper struct {
	store JobStore
	claim *sinks.VerificationClaim
	began time.Time

	mu    sync.Mutex
	p     sinks.VerificationProgress
	first uint64 // records that were checked before this process came
	known bool
}

func (k *jobKeeper) snapshot() sinks.VerificationProgress {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.p
	p.Verdicts = map[ledger.Verdict]uint64{}
	for v, n := range k.p.Verdicts {
		p.Verdicts[v] = n
	}
	if !k.known {
		return k.claim.Progress // nothing new is known yet
	}
	if took := time.Since(k.began).Seconds(); took > 0 {
		p.RecordsPerSecond = float64(p.Records-min(p.Records, k.first)) / took
	}
	return p
}

func (k *jobKeeper) records(done, total uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.known {
		k.known, k.first = true, done
	}
	k.p.Records, k.p.RecordsKnown = done, max(done, total)
}

func (k *jobKeeper) Load(ctx context.Context) (*Plan, []Part, error) {
	text, texts, err := k.store.Load(ctx, k.claim)
	if err != nil || text == nil {
		return nil, nil, err
	}
	plan, parts := &Plan{}, make([]Part, len(texts))
	err = json.Unmarshal(text, plan)
	for i := range texts {
		err = errors.Join(err, json.Unmarshal(texts[i], &parts[i]))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %v", errDamaged, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.p.Partitions = len(plan.Partitions)
	for i := range parts {
		k.count(&parts[i])
	}
	return plan, parts, nil
}

func (k *jobKeeper) SavePlan(ctx context.Context, p Plan) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.p.Partitions = len(p.Partitions)
	k.mu.Unlock()
	return k.store.SavePlan(ctx, k.claim, text)
}

func (k *jobKeeper) SavePart(ctx context.Context, p Part) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := k.store.SavePart(ctx, k.claim, sinks.Partition{Topic: p.Topic, ID: p.ID}, text, p.Findings); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count(&p)
	return nil
}

// count takes in a part that is kept; k.mu is held.
func (k *jobKeeper) count(p *Part) {
	if (sinks.Partition{Topic: p.Topic, ID: p.ID}) != endPart() {
		k.p.PartitionsDone++
	}
	k.p.Rows += p.Rows
	k.p.Lag += p.Lag
	k.p.Rejected += p.Rejected
	k.p.Ledgers += len(p.Ledgers)
	for v, n := range p.Verdicts {
		if k.p.Verdicts == nil {
			k.p.Verdicts = map[ledger.Verdict]uint64{}
		}
		k.p.Verdicts[v] += n
		k.p.Findings += n
	}
}
