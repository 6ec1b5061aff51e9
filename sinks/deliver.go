package sinks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sealstream/sealstream/ledger"
)

// DeliverOptions sets up a [Deliverer]. Zero fields take the default in brackets.
type DeliverOptions struct {
	Sink string // the sink's name in metrics, logs and rejects; required

	RetryMin time.Duration // bound of the first wait [100 ms]; doubles with each retry
	RetryMax time.Duration // bound of every wait [30 s]

	WriteTimeout time.Duration // for one call of the sink [2 min]: a destination that hangs must not hold a partition for ever
	ProbeTimeout time.Duration // [5 s]

	BreakerFailures int           // failures in a row that open the breaker [5]
	BreakerOpen     time.Duration // how long it then stays open [5 s]
	ConfigOpen      time.Duration // how long it stays open after a ConfigError [10 s]

	// Alarm hears of what a person must mend: kind is a bounded label, detail what
	// to do; detail "" means that it has been mended. It must not call the
	// Deliverer. It may be nil.
	Alarm func(kind, detail string)
}

// Kinds of alarm a Deliverer raises.
const (
	AlarmConfig   = "sink_config"   // the destination is set up wrongly; nothing is written until it is mended
	AlarmDown     = "sink_down"     // the breaker is open
	AlarmConflict = "sink_conflict" // the destination holds another record in a record's place; never cleared
)

// ReasonConflict is the reason of a [Rejected] that means: the destination holds
// something else under this record's identity. That is a bug or tampering, so it
// raises an alarm beside the reject.
const ReasonConflict = "conflict"

func (o *DeliverOptions) fill() {
	o.RetryMin = or(o.RetryMin, 100*time.Millisecond)
	o.RetryMax = or(o.RetryMax, 30*time.Second)
	o.WriteTimeout = or(o.WriteTimeout, 2*time.Minute)
	o.ProbeTimeout = or(o.ProbeTimeout, 5*time.Second)
	o.BreakerFailures = or(o.BreakerFailures, 5)
	o.BreakerOpen = or(o.BreakerOpen, 5*time.Second)
	o.ConfigOpen = or(o.ConfigOpen, 10*time.Second)
	if o.Alarm == nil {
		o.Alarm = func(string, string) {}
	}
}

func or[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Deliverer brings batches into one sink, whatever it takes: it returns when they
// are durable (or set aside in the rejects topic, durably), when another owner has
// taken a partition over, or when its context ends. It holds nothing between two
// calls, so that a crash at any point loses nothing: the stored offset in the
// destination says where to go on.
type Deliverer struct {
	sink    Sink
	rejects Rejecter
	opts    DeliverOptions
	log     *slog.Logger
	metrics *sinkMetrics
	breaker *breaker
}

// NewDeliverer returns a Deliverer for sink. Several may share metrics.
func NewDeliverer(sink Sink, rejects Rejecter, opts DeliverOptions, log *slog.Logger, metrics *Metrics) *Deliverer {
	opts.fill()
	d := &Deliverer{sink: sink, rejects: rejects, opts: opts, log: log.With("sink", opts.Sink), metrics: metrics.of(opts.Sink)}
	d.breaker = newBreaker(opts, d.breakerMoved)
	return d
}

// State returns the breaker's state.
func (d *Deliverer) State() BreakerState { return d.breaker.state() }

// Deliver brings all batches into the sink. Several calls may run at one time if
// they name different partitions.
//
// It returns nil when everything is durable or set aside, [ErrMoved] when the
// stored offset of a partition is neither where its batch begins nor inside it or
// at its end (the caller must read Positions and continue from there), or the
// context's error; after both some batches may be stored and others not. No other
// error comes back, except for batches that fail [Check].
func (d *Deliverer) Deliver(ctx context.Context, batches []Batch) error {
	if err := Check(batches); err != nil {
		return fmt.Errorf("deliver to %s: %w", d.opts.Sink, err)
	}
	rest, err := d.write(ctx, slices.Clone(batches))
	var rej *Rejected
	if !errors.As(err, &rej) {
		return err
	}
	// Per partition first: one that holds no poison is stored in a single write.
	alone := len(rest) > 1
	for _, b := range rest {
		iso := isolation{d: d, first: time.Now(), tries: 1}
		if _, err := iso.solve(ctx, b, !alone); err != nil {
			return err
		}
	}
	return nil
}

// write brings batches into the sink. A *Rejected comes back together with the
// batches it is about: fewer, or shorter ones, than were given when the answer to
// an earlier write was lost and that write had stored some.
func (d *Deliverer) write(ctx context.Context, batches []Batch) ([]Batch, error) {
	for {
		err := d.persist(ctx, func(ctx context.Context) error { return d.timed(ctx, batches) })
		if !errors.Is(err, ErrMoved) {
			return batches, err
		}
		if batches, err = d.reconcile(ctx, batches); err != nil || len(batches) == 0 {
			return nil, err
		}
	}
}

// reconcile settles what ErrMoved leaves open: it drops what the stored offsets say
// is durable. Where an offset is outside its batch, or nothing has moved at all,
// somebody else decides about the partition: ErrMoved.
func (d *Deliverer) reconcile(ctx context.Context, batches []Batch) ([]Batch, error) {
	ps := make([]Partition, len(batches))
	for i, b := range batches {
		ps[i] = b.Partition
	}
	var at map[Partition]int64
	err := d.persist(ctx, func(ctx context.Context) (err error) {
		at, err = d.sink.Positions(ctx, ps)
		return err
	})
	if err != nil {
		return nil, err
	}
	left, moved := make([]Batch, 0, len(batches)), false
	for _, b := range batches {
		pos := at[b.Partition]
		if pos < b.From || pos > b.Next {
			d.log.WarnContext(ctx, "stored offset is not in the batch", "topic", b.Partition.Topic, "partition", b.Partition.ID,
				"from", b.From, "next", b.Next, "stored", pos)
			return nil, ErrMoved
		}
		moved = moved || pos != b.From
		if pos < b.Next {
			left = append(left, below(b, pos))
		}
	}
	if !moved {
		return nil, ErrMoved
	}
	return left, nil
}

// below returns b without what lies below offset at.
func below(b Batch, at int64) Batch {
	i, _ := slices.BinarySearchFunc(b.Records, at, func(r Record, at int64) int { return int(max(-1, min(1, r.Offset-at))) })
	b.From, b.Records = at, b.Records[i:]
	return b
}

// timed is one write, measured.
func (d *Deliverer) timed(ctx context.Context, batches []Batch) error {
	start := time.Now()
	err := d.sink.Write(ctx, batches)
	now := time.Now()
	d.metrics.write.Observe(now.Sub(start).Seconds())
	n, bytes := 0, 0
	for _, b := range batches {
		n += len(b.Records)
	}
	var rej *Rejected
	if n == 0 && errors.As(err, &rej) {
		// Nothing but offsets was refused: no record is to blame, so nothing may be
		// set aside. The destination is not as it should be.
		return &ConfigError{Err: errors.New("the sink refuses to store an offset: " + rej.Error())}
	}
	if err != nil {
		return err
	}
	for _, b := range batches {
		for i := range b.Records {
			src := &b.Records[i].Source
			bytes += len(src.Key) + len(src.Value)
			if src.TimeMs >= 0 && src.TimeMs != ledger.TimeOutOfRange {
				d.metrics.stored.Observe(max(0, now.Sub(time.UnixMilli(src.TimeMs)).Seconds()))
			}
		}
	}
	if n > 0 {
		d.metrics.records.Add(float64(n))
		d.metrics.bytes.Add(float64(bytes))
		d.metrics.batch.Observe(float64(n))
	}
	return nil
}

// persist calls fn, through the breaker, until its outcome is one that repeating
// cannot change: nil, *Rejected, ErrMoved, or the end of ctx.
func (d *Deliverer) persist(ctx context.Context, fn func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		err := d.call(ctx, fn)
		var rej *Rejected
		if err == nil || errors.Is(err, ErrMoved) || errors.As(err, &rej) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errOpen) {
			attempt-- // nothing was tried
		} else {
			d.failed(ctx, err, attempt)
		}
		wait := backoff(d.opts.RetryMin, d.opts.RetryMax, max(attempt, 0))
		if d.breaker.worst() != BreakerClosed {
			// The breaker says when to come back; the jitter keeps many partitions from
			// coming back in one moment.
			wait = d.breaker.wait() + backoff(d.opts.RetryMin, d.opts.RetryMin, 0)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// call lets fn through the breaker once. After the breaker was open, a probe that
// costs nothing goes before a batch that costs much.
func (d *Deliverer) call(ctx context.Context, fn func(context.Context) error) error {
	done, probe, err := d.breaker.allow()
	if err != nil {
		return err
	}
	if probe {
		err = within(ctx, d.opts.ProbeTimeout, d.sink.Probe)
	}
	if err == nil {
		err = within(ctx, d.opts.WriteTimeout, fn)
	}
	outcome := err
	if ctx.Err() != nil && err != nil {
		err, outcome = ctx.Err(), context.Canceled // ended by our caller: not the destination's fault
	}
	done(outcome)
	d.metrics.breaker.Set(float64(d.breaker.worst()))
	return err
}

// failed counts and logs a failure that will be tried again.
func (d *Deliverer) failed(ctx context.Context, err error, attempt int) {
	class := classOf(err)
	d.metrics.retry(class)
	var cfg *ConfigError
	switch {
	case errors.As(err, &cfg):
		d.opts.Alarm(AlarmConfig, cfg.Error())
		d.log.ErrorContext(ctx, "sink is set up wrongly, writing stops until it is mended", "err", err)
	case attempt == 0:
		d.log.WarnContext(ctx, "write will be retried", "class", class, "err", err)
	default:
		d.log.DebugContext(ctx, "write will be retried", "class", class, "attempt", attempt, "err", err)
	}
}

// breakerMoved reports a change of the breaker's state. A probe that failed opens it
// again, which is no news.
func (d *Deliverer) breakerMoved(name breakerName, from, to BreakerState) {
	alarm := AlarmDown
	if name == breakerConfig {
		alarm = AlarmConfig
	}
	switch {
	case to == BreakerClosed:
		d.opts.Alarm(alarm, "")
		d.log.Info("sink answers again", "breaker", string(name))
	case from == BreakerClosed && name == breakerFault:
		d.opts.Alarm(alarm, "the destination does not answer: its partitions wait, nothing is lost")
		d.log.Warn("breaker opened", "breaker", string(name))
	}
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func within(ctx context.Context, d time.Duration, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return fn(ctx)
}
