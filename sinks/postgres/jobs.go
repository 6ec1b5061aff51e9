package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// keptJobs is how many finished verifications are kept with their findings.
const keptJobs = 100

// Jobs keeps verification jobs. All times are those of the server, so that a lease does
// not depend on the clocks of the processes that share it.
type Jobs struct{ pool *pgxpool.Pool }

// NewJobs makes the store; it does not connect. url is that of sealstream_jobs; each new
// connection takes user and password from what again returns, nil: from url.
func NewJobs(ctx context.Context, url string, again func() (string, error)) (*Jobs, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("postgres jobs: %w", badURL(err))
	}
	cfg.MaxConns = 4
	prepare(cfg.ConnConfig, "sealstream jobs")
	relogin(cfg, again)
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = "10000"
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "10000"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres jobs: %w", badURL(err))
	}
	return &Jobs{pool: pool}, nil
}

// Close closes the connections.
func (j *Jobs) Close() { j.pool.Close() }

// Create queues a job. While another one is not finished, the error is a
// *sinks.VerificationActive. It also forgets the oldest finished ones beyond a hundred.
func (j *Jobs) Create(ctx context.Context, id string, r sinks.VerificationRequest) (sinks.Verification, error) {
	request, err := json.Marshal(r)
	if err != nil {
		return sinks.Verification{}, fmt.Errorf("keep verification: %w", err)
	}
	err = pgx.BeginFunc(ctx, j.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM public.verify_jobs WHERE state NOT IN ('queued', 'running') AND id NOT IN
			(SELECT id FROM public.verify_jobs ORDER BY created_at DESC LIMIT $1)`, keptJobs-1); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO public.verify_jobs (id, request) VALUES ($1, $2)", id, request)
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeUniqueViolation {
		var active string
		err = j.pool.QueryRow(ctx, "SELECT id::text FROM public.verify_jobs WHERE state IN ('queued', 'running')").Scan(&active)
		if err == nil || errors.Is(err, pgx.ErrNoRows) { // it may have ended meanwhile; the caller asks again either way
			return sinks.Verification{}, &sinks.VerificationActive{ID: active}
		}
	}
	if err != nil {
		return sinks.Verification{}, readError(err)
	}
	return j.Get(ctx, id)
}

const (
	jobColumns = "id::text, state, cancel, fence, idle, created_at, started_at, finished_at, request, progress, report, coalesce(error, '')"
	selectJob  = "SELECT " + jobColumns + " FROM public.verify_jobs "
)

func scanJob(row pgx.CollectableRow) (sinks.VerificationClaim, error) {
	var (
		c                 sinks.VerificationClaim
		started, finished *time.Time
		request, progress []byte
		report            []byte
	)
	err := row.Scan(&c.ID, &c.State, &c.Cancelling, &c.Fence, &c.Idle, &c.Created, &started, &finished, &request, &progress, &report, &c.Error)
	if err != nil {
		return c, err
	}
	c.Created, c.Report, c.TakenUp = c.Created.UTC(), report, int(c.Fence)
	c.Cancelling = c.Cancelling && c.State == sinks.VerificationRunning
	if started != nil {
		c.Started = started.UTC()
	}
	if finished != nil {
		c.Finished = finished.UTC()
	}
	return c, errors.Join(json.Unmarshal(request, &c.Request), json.Unmarshal(progress, &c.Progress))
}

// Get returns one job, or sinks.ErrNotFound.
func (j *Jobs) Get(ctx context.Context, id string) (sinks.Verification, error) {
	c, err := j.one(ctx, selectJob+"WHERE id = $1", id)
	return c.Verification, err
}

func (j *Jobs) one(ctx context.Context, sql string, args ...any) (sinks.VerificationClaim, error) {
	rows, err := j.pool.Query(ctx, sql, args...)
	if err != nil {
		return sinks.VerificationClaim{}, readError(err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanJob)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, sinks.ErrNotFound
	}
	return c, readError(err)
}

// List returns all jobs there are, newest first.
func (j *Jobs) List(ctx context.Context) ([]sinks.Verification, error) {
	rows, err := j.pool.Query(ctx, selectJob+"ORDER BY created_at DESC, id DESC")
	if err != nil {
		return nil, readError(err)
	}
	claims, err := pgx.CollectRows(rows, scanJob)
	out := make([]sinks.Verification, len(claims))
	for i := range claims {
		out[i] = claims[i].Verification
	}
	return out, readError(err)
}

// Findings returns at most limit findings behind the given one, in the order in which
// they were kept.
func (j *Jobs) Findings(ctx context.Context, id string, after int64, limit int) ([]sinks.VerificationFinding, error) {
	rows, err := j.pool.Query(ctx, `SELECT n, verdict, ledger, seq::text, place, detail FROM public.verify_findings
		WHERE job = $1 AND n > $2 ORDER BY n LIMIT $3`, id, after, limit)
	if err != nil {
		return nil, readError(err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f sinks.VerificationFinding, err error) {
		var seq string
		if err := row.Scan(&f.N, &f.Verdict, (*[16]byte)(&f.Ledger), &seq, &f.Where, &f.Detail); err != nil {
			return f, err
		}
		f.Seq, err = strconv.ParseUint(seq, 10, 64)
		return f, err
	})
	return out, readError(err)
}

// Cancel ends a job that nobody works on, and tells the process that does to end. A
// finished job stays as it is.
func (j *Jobs) Cancel(ctx context.Context, id string) (sinks.Verification, error) {
	if _, err := j.pool.Exec(ctx, `UPDATE public.verify_jobs SET cancel = true,
			state = CASE WHEN coalesce(lease_until, '-infinity') < clock_timestamp() THEN 'cancelled' ELSE state END,
			finished_at = CASE WHEN coalesce(lease_until, '-infinity') < clock_timestamp() THEN clock_timestamp() END
		WHERE id = $1 AND state IN ('queued', 'running')`, id); err != nil {
		return sinks.Verification{}, readError(err)
	}
	return j.Get(ctx, id)
}

// Claim takes the active job if nobody holds it; nil when there is none to take. One
// that was to be cancelled when its process died is cancelled here.
func (j *Jobs) Claim(ctx context.Context, lease time.Duration) (*sinks.VerificationClaim, error) {
	if _, err := j.pool.Exec(ctx, `UPDATE public.verify_jobs SET state = 'cancelled', finished_at = clock_timestamp()
		WHERE state IN ('queued', 'running') AND cancel AND coalesce(lease_until, '-infinity') < clock_timestamp()`); err != nil {
		return nil, readError(err)
	}
	// Of two that try, the second waits for the first's row lock and then sees the lease.
	c, err := j.one(ctx, `UPDATE public.verify_jobs SET state = 'running', started_at = coalesce(started_at, clock_timestamp()),
			lease_until = clock_timestamp() + $1::interval, fence = fence + 1, idle = idle + 1
		WHERE state IN ('queued', 'running') AND coalesce(lease_until, '-infinity') < clock_timestamp()
		RETURNING `+jobColumns, lease)
	if errors.Is(err, sinks.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// held is what a write under a claim requires.
const held = " WHERE id = $1 AND fence = $2 AND state = 'running'"

// Renew prolongs the lease, keeps the progress, and says whether the job is to end. The
// error is sinks.ErrVerificationLost when another process has it.
func (j *Jobs) Renew(ctx context.Context, c *sinks.VerificationClaim, p sinks.VerificationProgress, lease time.Duration) (cancel bool, err error) {
	progress, err := json.Marshal(p)
	if err != nil {
		return false, fmt.Errorf("keep progress: %w", err)
	}
	err = j.pool.QueryRow(ctx, "UPDATE public.verify_jobs SET lease_until = clock_timestamp() + $3::interval, progress = $4"+held+" RETURNING cancel",
		c.ID, c.Fence, lease, progress).Scan(&cancel)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, sinks.ErrVerificationLost
	}
	return cancel, readError(err)
}

// Release lets another process take the job up at once. why, when not empty, is what
// interrupted it.
func (j *Jobs) Release(ctx context.Context, c *sinks.VerificationClaim, why string) error {
	return j.update(ctx, "lease_until = NULL, idle = 0, error = nullif($3, '')", c, why)
}

// Finish ends the job.
func (j *Jobs) Finish(ctx context.Context, c *sinks.VerificationClaim, end sinks.Verification) error {
	progress, err := json.Marshal(end.Progress)
	if err != nil {
		return fmt.Errorf("keep progress: %w", err)
	}
	return j.update(ctx, "state = $3, finished_at = clock_timestamp(), lease_until = NULL, progress = $4, report = $5, error = nullif($6, '')",
		c, end.State, progress, []byte(end.Report), end.Error)
}

// SavePlan keeps what a job will read.
func (j *Jobs) SavePlan(ctx context.Context, c *sinks.VerificationClaim, plan []byte) error {
	return j.update(ctx, "plan = $3", c, plan)
}

func (j *Jobs) update(ctx context.Context, set string, c *sinks.VerificationClaim, args ...any) error {
	tag, err := j.pool.Exec(ctx, "UPDATE public.verify_jobs SET "+set+held, append([]any{c.ID, c.Fence}, args...)...)
	if err == nil && tag.RowsAffected() == 0 {
		return sinks.ErrVerificationLost
	}
	return readError(err)
}

// SavePart keeps the outcome of a partition and its findings, in one transaction.
func (j *Jobs) SavePart(ctx context.Context, c *sinks.VerificationClaim, at sinks.Partition, part []byte, findings []ledger.Finding) error {
	err := pgx.BeginFunc(ctx, j.pool, func(tx pgx.Tx) error {
		// The row stays locked until the part is in, so that no new claim comes between.
		tag, err := tx.Exec(ctx, "UPDATE public.verify_jobs SET idle = 0"+held, c.ID, c.Fence)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return sinks.ErrVerificationLost
		}
		if _, err := tx.Exec(ctx, "INSERT INTO public.verify_parts (job, topic, partition, part) VALUES ($1, $2, $3, $4)",
			c.ID, at.Topic, at.ID, part); err != nil {
			return err
		}
		b := &pgx.Batch{}
		for _, f := range findings {
			b.Queue("INSERT INTO public.verify_findings (job, verdict, ledger, seq, place, detail) VALUES ($1, $2, $3, $4::text::numeric, $5, $6)",
				c.ID, string(f.Verdict), f.Ledger.UUID(), fmt.Sprint(f.Seq), f.Where, f.Detail)
		}
		return tx.SendBatch(ctx, b).Close()
	})
	if errors.Is(err, sinks.ErrVerificationLost) {
		return err
	}
	return readError(err)
}

// Load returns the plan, nil when there is none yet, and the parts.
func (j *Jobs) Load(ctx context.Context, c *sinks.VerificationClaim) (plan []byte, parts [][]byte, err error) {
	if err := j.pool.QueryRow(ctx, "SELECT plan FROM public.verify_jobs WHERE id = $1", c.ID).Scan(&plan); err != nil {
		return nil, nil, readError(err)
	}
	rows, err := j.pool.Query(ctx, "SELECT part FROM public.verify_parts WHERE job = $1", c.ID)
	if err != nil {
		return nil, nil, readError(err)
	}
	parts, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
	return plan, parts, readError(err)
}
