package stream

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// intruder looks for records that others have put among this transaction's records, or
// between them and the ones before. Offsets that skip say where to look, so that it costs
// nothing while we are alone. It returns the place of the first.
//
// Without it a statement of somebody else would go unnoticed until the next recovery,
// and by then it may be too far back to be seen there.
func (t *txn) intruder(ctx context.Context) (string, error) {
	var ours int64 = -1
	for _, p := range t.s.owned() {
		if !p.touched || p.fold == nil || p.first < 0 {
			continue
		}
		// Behind an aborted transaction of ours nobody knows which offset is next.
		before := p.first > p.behind && (p.expect < 0 || p.first > p.expect)
		among := p.last-p.first+1 != int64(p.count)
		if !before && !among {
			continue
		}
		if ours < 0 {
			id, _, err := t.s.gts.Client().ProducerID(ctx)
			if err != nil {
				return "", fmt.Errorf("ask for our producer id: %w", err)
			}
			ours = id
		}
		from := p.first
		if before {
			from = p.behind
		}
		at, err := t.stranger(ctx, p, from, ours)
		if err != nil || at != "" {
			return at, err
		}
	}
	return "", nil
}

// stranger looks in [from, last of ours] as the log stands: this transaction is not
// decided yet, so whoever reads committed records only sees nothing from its first on.
// What others have not decided counts too: it may be committed after us. What they
// have aborted makes a recovery that finds nothing.
func (t *txn) stranger(ctx context.Context, p *part, from, ours int64) (string, error) {
	log := newTopicLog(t.s.adm, p.out)
	td, _, err := log.describe(ctx)
	if err != nil {
		return "", err
	}
	pl, err := log.partition(td, p.id.id)
	if err != nil {
		return "", err
	}
	for off := from; off < p.last; {
		recs, next, err := pl.fetchAs(ctx, off, tailBytes, false)
		if err != nil {
			return "", err
		}
		for _, r := range recs {
			if r.Offset < p.last && foreign(r, ours) {
				return fmt.Sprintf("%s/%d@%d", p.out, p.id.id, r.Offset), nil
			}
		}
		if next <= off {
			return "", fmt.Errorf("read %s/%d@%d, below an acknowledged record at %d: nothing is there yet", p.out, p.id.id, off, p.last)
		}
		off = next
	}
	return "", nil
}

func foreign(r *kgo.Record, ours int64) bool {
	return !r.Attrs.IsControl() && r.ProducerID != ours
}
