package stream

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/sinks"
)

// work is one worker: it gathers runs of its partitions into a call of Deliver until
// the batch is full or the first run has waited long enough.
func (d *delivery) work(q <-chan run) {
	for {
		first, ok := <-q
		if !ok {
			return
		}
		g := gathered{}
		g.add(first)
		g.fill(d, q)
		if err := d.store(&g); err != nil {
			d.fail(err)
			for r := range q { // drain until the poll loop has closed it
				d.release(r.bytes)
			}
			return
		}
	}
}

func (d *delivery) release(n int) {
	d.queued.Add(-int64(n))
	select {
	case d.room <- struct{}{}:
	default:
	}
}

// gathered is what goes into one call, partitions in the order of arrival.
type gathered struct {
	runs    []run
	index   map[*sinkPart]int
	records int
	bytes   int
}

func (g *gathered) add(r run) {
	g.records += len(r.recs)
	g.bytes += r.bytes
	if i, ok := g.index[r.part]; ok {
		g.runs[i].recs = append(g.runs[i].recs, r.recs...)
		g.runs[i].bytes += r.bytes
		return
	}
	if g.index == nil {
		g.index = map[*sinkPart]int{}
	}
	g.index[r.part] = len(g.runs)
	g.runs = append(g.runs, r)
}

func (g *gathered) fill(d *delivery, q <-chan run) {
	timer := time.NewTimer(d.Linger)
	defer timer.Stop()
	for g.records < d.BatchRecords && g.bytes < d.BatchBytes {
		select {
		case r, ok := <-q:
			if !ok {
				return
			}
			g.add(r)
		case <-timer.C:
			return
		case <-d.ctx.Done():
			return
		}
	}
}

// store delivers what was gathered, in calls of at most BatchRecords.
func (d *delivery) store(g *gathered) error {
	defer d.release(g.bytes)
	for len(g.runs) > 0 {
		batches, parts := g.take(d.BatchRecords)
		if len(batches) == 0 {
			return nil
		}
		if err := d.Deliver(d.ctx, batches); err != nil {
			if errors.Is(err, sinks.ErrMoved) && anyRevoked(parts) {
				// The new owner was faster. Its partition is not ours any more; the
				// session starts again for the rest.
				d.Log.InfoContext(d.ctx, "partition was taken over while a batch was in hand")
			}
			return err
		}
		marks := make([]*kgo.Record, len(batches))
		for i, b := range batches {
			parts[i].pos = b.Next
			parts[i].stored.Store(b.Next)
			marks[i] = &kgo.Record{Topic: b.Partition.Topic, Partition: b.Partition.ID, Offset: b.Next - 1, LeaderEpoch: -1}
		}
		d.cl.MarkCommitRecords(marks...)
	}
	return nil
}

// take cuts the next call off g, leaving out partitions that were revoked meanwhile.
func (g *gathered) take(limit int) (batches []sinks.Batch, parts []*sinkPart) {
	n := 0
	for len(g.runs) > 0 && n < limit {
		r := &g.runs[0]
		if r.part.revoked.Load() || len(r.recs) == 0 {
			g.runs = g.runs[1:]
			continue
		}
		k := min(len(r.recs), limit-n)
		batches = append(batches, sinks.Batch{
			Partition: r.part.id, From: r.part.pos, Next: r.recs[k-1].Offset + 1, Records: r.recs[:k:k],
		})
		parts = append(parts, r.part)
		n += k
		r.recs = r.recs[k:]
		if len(r.recs) == 0 {
			g.runs = g.runs[1:]
		}
	}
	return batches, parts
}

func anyRevoked(parts []*sinkPart) bool {
	for _, p := range parts {
		if p.revoked.Load() {
			return true
		}
	}
	return false
}
