package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/producers"
)

// flight is a batch, being filled or under way.
type flight struct {
	msgs   []producers.Message
	events []event
	wait   func(context.Context) []producers.Result
}

// event is what is remembered of a message until it is acknowledged.
type event struct {
	n         int
	id, where string
}

func (b *flight) add(n int, it *Item, m producers.Message) {
	b.msgs = append(b.msgs, m)
	b.events = append(b.events, event{n, it.Attributes.ID, it.Where})
}

// send hands the batch over; with too many under way it waits for the oldest.
func (f *feed) send(ctx context.Context) error {
	if len(f.batch.msgs) == 0 {
		return nil
	}
	if err := f.arm(); err != nil {
		return err
	}
	f.batch.wait = f.o.Sender.Enqueue(ctx, f.batch.msgs)
	f.under = append(f.under, f.batch)
	n := len(f.batch.msgs)
	f.batch = flight{}
	if n == f.o.BatchEvents { // the next one will most likely be as large
		f.batch.msgs, f.batch.events = make([]producers.Message, 0, n), make([]event, 0, n)
	}
	if len(f.under) < f.o.InFlight {
		return nil
	}
	return f.wait(ctx, 1)
}

// wait takes the results of the n oldest batches, and of all when one has failed.
func (f *feed) wait(ctx context.Context, n int) (failed error) {
	for len(f.under) > 0 && (n > 0 || failed != nil) {
		b := f.under[0]
		f.under, n = f.under[1:], n-1
		for i, r := range b.wait(ctx) {
			var tooLarge *producers.TooLargeError
			switch {
			case r.Err == nil:
				f.acked = append(f.acked, b.events[i])
				f.sum.Ingested++
				f.o.Done(1)
			case errors.As(r.Err, &tooLarge):
				f.refuse(&Item{Where: b.events[i].where}, r.Err)
			case failed == nil:
				failed = r.Err
			}
		}
	}
	return failed
}

// checkpoint waits until everything read so far is acknowledged, and keeps that. A
// crash before it is on disk costs nothing: the checkpoint before is true as well, and
// what came after it is found in the topic.
func (f *feed) checkpoint(ctx context.Context, complete bool) error {
	f.saved = f.o.Now()
	if err := f.send(ctx); err != nil {
		return err
	}
	if err := f.wait(ctx, len(f.under)); err != nil {
		return err
	}
	if !f.armed && len(f.state.Checkpoints) > 0 {
		return f.confirm(complete)
	}
	ends, err := f.o.Log.Ends(ctx)
	if err != nil {
		return err
	}
	if lost := f.o.Sender.Disconnects(); lost != f.lost {
		f.lost = lost
		if err := f.recount(ctx, ends); err != nil {
			return err
		}
	}
	clear(f.acked)
	f.acked = f.acked[:0]
	if len(f.state.Checkpoints) == 0 {
		f.state.Checkpoints = []checkpoint{f.base}
	}
	f.state.add(checkpoint{Events: f.next, Refused: f.refused, SHA256: f.sha(), Ends: ends, UnixMs: f.saved.UnixMilli()})
	f.state.Complete = complete
	f.certain = f.next
	return f.keep()
}

// confirm ends a run that sent nothing, because all was there. Once the last
// checkpoint has been looked up at an age at which it is on disk, the ones before it
// have done their duty, and the next run has nothing to look up.
func (f *feed) confirm(complete bool) error {
	last := f.state.last()
	f.certain = f.next
	if !complete || !f.state.Complete || last.Events != f.next || len(f.state.Checkpoints) == 1 ||
		f.saved.UnixMilli()-last.UnixMs < settle.Milliseconds() {
		return nil
	}
	f.state.Checkpoints = []checkpoint{last}
	return f.keep()
}

func (f *feed) keep() error {
	if f.path == "" {
		return nil
	}
	return f.state.save(f.path)
}

// recount reads back what was acknowledged since the last checkpoint, because a
// connection was lost meanwhile: a broker that was killed may hold a record twice.
func (f *feed) recount(ctx context.Context, ends map[int32]int64) error {
	if len(f.acked) == 0 {
		return nil
	}
	records, err := f.lookUp(ctx, f.state.last().Ends, ends)
	if err != nil {
		return err
	}
	missing := 0
	for _, e := range f.acked {
		copies := 0
		for _, r := range records[e.n] {
			if r.id != e.id {
				continue
			}
			if copies++; copies > 1 {
				f.double(r.place)
			}
		}
		if copies == 0 {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("the broker acknowledged %d events that are not in the topic: it lost them when it went down", missing)
	}
	return nil
}

// lookUp finds this input's records in a part of the topic.
func (f *feed) lookUp(ctx context.Context, from, to map[int32]int64) (map[int][]found, error) {
	if maps.Equal(from, to) {
		return nil, nil
	}
	records := map[int][]found{}
	gone, err := f.o.Log.Scan(ctx, from, to, func(p Place, r *ledger.Record) {
		if n, id, ok := f.mine(r); ok {
			records[n] = append(records[n], found{id, p})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look up what is in the topic already: %w", err)
	}
	if gone > 0 {
		f.o.Notice(fmt.Sprintf("%s: the topic no longer holds all records from the time of the interrupted run (%d offsets are gone); events among them are ingested again", f.in.Name, gone))
	}
	return records, nil
}

// mine says which event of this input a record is.
func (f *feed) mine(r *ledger.Record) (n int, id string, ok bool) {
	for _, h := range r.Headers {
		switch h.Name {
		case HeaderPlace:
			v := h.Value
			if k := len(f.digest); len(v) > k+1 && string(v[:k]) == f.digest && v[k] == ':' {
				i, err := strconv.Atoi(string(v[k+1:]))
				n, ok = i, err == nil
			}
		case producers.HeaderID:
			id = string(h.Value)
		}
	}
	return n, id, ok
}
