package sinks

import (
	"context"
	"errors"
	"time"
)

// isolation finds the records of one batch that the sink refuses, by halving. It
// never reorders: the left half is stored, or set aside record by record, before the
// right half is tried, and only a record refused alone is set aside. A crash at any
// point leaves the stored offset behind what is durable, never ahead.
type isolation struct {
	d     *Deliverer
	first time.Time
	tries int // refused writes that held the present record, from the first one on
}

// solve stores b. suspect says that b is known to hold poison, so that trying it as
// a whole would be in vain. It tells whether anything was set aside.
func (iso *isolation) solve(ctx context.Context, b Batch, suspect bool) (poison bool, err error) {
	depth := iso.tries
	defer func() { iso.tries = depth }()
	if !suspect || len(b.Records) <= 1 {
		rest, rej, err := iso.try(ctx, b)
		if err != nil || rej == nil {
			return false, err
		}
		iso.tries++
		if len(rest.Records) == 1 {
			return true, iso.setAside(ctx, rest, rej)
		}
		b = rest
	}
	// If the left half passes, the poison should be in the right one; should it turn
	// out to be in neither (two records that only clash with each other), the right
	// one is stored all the same: a single record is always tried alone first.
	left, right := halve(b)
	poison, err = iso.solve(ctx, left, false)
	if err != nil {
		return poison, err
	}
	more, err := iso.solve(ctx, right, !poison)
	return poison || more, err
}

// try writes b alone. rest is what the refusal is about.
func (iso *isolation) try(ctx context.Context, b Batch) (rest Batch, rej *Rejected, err error) {
	iso.d.metrics.bisect.Inc()
	left, err := iso.d.write(ctx, []Batch{b})
	if !errors.As(err, &rej) {
		return Batch{}, nil, err
	}
	return left[0], rej, nil
}

// setAside brings the one record of b into the rejects topic and then, only then,
// moves the stored offset past it.
func (iso *isolation) setAside(ctx context.Context, b Batch, rej *Rejected) error {
	d := iso.d
	r := Rejection{
		Sink: d.opts.Sink, Partition: b.Partition, Record: b.Records[0],
		Code: rej.Code, Reason: rej.Reason, Detail: rej.Detail, Attempts: iso.tries,
		First: iso.first, Last: time.Now(),
	}
	if err := d.reject(ctx, r); err != nil {
		return err
	}
	// A crash here sets the record aside a second time; (sink, ledger, seq) tells.
	_, err := d.write(ctx, []Batch{{Partition: b.Partition, From: b.From, Next: b.Next}})
	return err
}

// halve cuts a batch of at least two records in two.
func halve(b Batch) (left, right Batch) {
	mid := len(b.Records) / 2
	at := b.Records[mid-1].Offset + 1
	return Batch{Partition: b.Partition, From: b.From, Next: at, Records: b.Records[:mid:mid]},
		Batch{Partition: b.Partition, From: at, Next: b.Next, Records: b.Records[mid:]}
}

// reject hands r to the rejects topic until that has it. Its failures are not the
// sink's: the breaker does not hear of them.
func (d *Deliverer) reject(ctx context.Context, r Rejection) error {
	if r.Reason == ReasonConflict {
		d.opts.Alarm(AlarmConflict, "the sink holds another record in the place of "+r.Record.Statement.Ledger.String()+
			": run verify; the ledger's record is in the rejects topic")
	}
	for attempt := 0; ; attempt++ {
		err := within(ctx, d.opts.WriteTimeout, func(ctx context.Context) error { return d.rejects.Reject(ctx, []Rejection{r}) })
		if err == nil {
			d.metrics.reject(r.Reason)
			d.log.WarnContext(ctx, "record set aside", "topic", r.Partition.Topic, "partition", r.Partition.ID, "offset", r.Record.Offset,
				"ledger", r.Record.Statement.Ledger.String(), "seq", r.Record.Statement.Seq, "reason", r.Reason, "code", r.Code, "detail", r.Detail)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.metrics.retry("rejects")
		d.log.WarnContext(ctx, "rejects topic does not take a record, will be retried", "attempt", attempt, "err", err)
		if err := sleep(ctx, backoff(d.opts.RetryMin, d.opts.RetryMax, attempt)); err != nil {
			return err
		}
	}
}
