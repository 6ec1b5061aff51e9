package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sealstream/sealstream/api"
	"github.com/sealstream/sealstream/internal/verify"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// verifyJobs lets the API start verifications, and works them off beside it.
type verifyJobs struct {
	*postgres.Jobs
	rt      *runtime
	ledgers func(context.Context) ([]sinks.LedgerInfo, error)
	wake    chan struct{}
}

// newVerifyJobs opens the jobs; nil when the configuration has no place for them.
func newVerifyJobs(ctx context.Context, r *runtime, cfg *Config, reader *postgres.Reader) (*verifyJobs, error) {
	file := cfg.SinkPostgres.JobsURLFile
	if file == "" {
		return nil, nil
	}
	again := secretOf("sink_postgres.jobs_url_file", file)
	url, err := again()
	if err != nil {
		return nil, err
	}
	jobs, err := postgres.NewJobs(ctx, url, again)
	if err != nil {
		return nil, err
	}
	return &verifyJobs{jobs, r, reader.Ledgers, make(chan struct{}, 1)}, nil
}

// run works jobs off until ctx ends.
func (v *verifyJobs) run(ctx context.Context, cfg *Config) error {
	defer v.Close()
	r := verify.Runner{Store: v.Jobs, Wake: v.wake, Log: v.rt.log, Open: func(ctx context.Context, q sinks.VerificationRequest) (verify.Options, func(), error) {
		o, done, err := verifyOptions(ctx, cfg, !q.Rows)
		if len(q.Sources) > 0 {
			o.Sources, o.Partial = q.Sources, true
		}
		return o, done, err
	}}
	return r.Run(ctx)
}

// Resolve says which partitions a request is about. Ledgers are looked up in the
// database, which nobody has to believe: a ledger that is then not where it should be
// makes the result incomplete.
func (v *verifyJobs) Resolve(ctx context.Context, q sinks.VerificationRequest) (sinks.VerificationRequest, error) {
	known, _ := v.rt.sources()
	for n, name := range q.Sources {
		full := v.rt.named(name).Name
		if full == "" || slices.Contains(known, name) {
			full = name
		}
		if !slices.Contains(known, full) {
			return q, &api.VerificationRefused{Where: fmt.Sprintf("body.sources[%d]", n), Detail: "this topic is not sealed here", Fix: "name some of " + fmt.Sprint(known)}
		}
		q.Sources[n] = full
	}
	if len(q.Ledgers) == 0 {
		return q, nil
	}
	all, err := v.ledgers(ctx)
	if err != nil {
		return q, err
	}
	q.Partitions = []sinks.Partition{}
	for n, id := range q.Ledgers {
		at := slices.IndexFunc(all, func(l sinks.LedgerInfo) bool { return l.ID == id })
		if at < 0 {
			return q, &api.VerificationRefused{Where: fmt.Sprintf("body.ledgers[%d]", n), Detail: "the event store has no ledger of this id", Fix: "take ids from /v1/ledgers"}
		}
		p := sinks.Partition{Topic: all[at].Source, ID: all[at].Partition}
		if len(q.Sources) > 0 && !slices.Contains(q.Sources, p.Topic) {
			return q, &api.VerificationRefused{Where: fmt.Sprintf("body.ledgers[%d]", n), Detail: "the ledger is of the source " + p.Topic + ", which is not among the sources named", Fix: "leave sources out, or name that one too"}
		}
		if !slices.Contains(q.Partitions, p) {
			q.Partitions = append(q.Partitions, p)
		}
	}
	return q, nil
}

// Create queues a job and lets this process look for it at once.
func (v *verifyJobs) Create(ctx context.Context, id string, q sinks.VerificationRequest) (sinks.Verification, error) {
	job, err := v.Jobs.Create(ctx, id, q)
	if err == nil {
		select {
		case v.wake <- struct{}{}:
		default:
		}
	}
	return job, err
}

var _ api.Verifications = (*verifyJobs)(nil)

// beside works jobs off while serve serves, and gives the one in hand back before it
// returns.
func (v *verifyJobs) beside(ctx context.Context, cfg *Config, serve func() error) error {
	if v == nil {
		return serve()
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- v.run(ctx, cfg) }()
	err := serve()
	stop()
	return errors.Join(err, <-done)
}
