package sinktest

import (
	"context"
	"sync"

	"github.com/sealstream/sealstream/sinks"
)

// Rejects keeps rejections in memory. Before each one is kept, Check sees it; an error
// from Check fails the call, as a broker that does not answer does.
type Rejects struct {
	Check func(sinks.Rejection) error

	mu   sync.Mutex
	kept []sinks.Rejection
}

var _ sinks.Rejecter = (*Rejects)(nil)

// Reject implements sinks.Rejecter.
func (r *Rejects) Reject(ctx context.Context, rs []sinks.Rejection) error {
	for _, x := range rs {
		if r.Check != nil {
			if err := r.Check(x); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		r.mu.Lock()
		r.kept = append(r.kept, x)
		r.mu.Unlock()
	}
	return nil
}

// Kept returns what was set aside, in order.
func (r *Rejects) Kept() []sinks.Rejection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]sinks.Rejection(nil), r.kept...)
}
