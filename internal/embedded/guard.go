package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrDiskFull says that the disk has too little room for more records. The
// broker refuses new records until there is room again; nothing else stops.
var ErrDiskFull = errors.New("disk is full")

const (
	// reserveBytes stay free for what must still be written when no more
	// records are taken: transaction markers, offsets, state at the stop.
	// kfake must never meet a full disk itself: it marks a batch as seen
	// before it writes it, so that a retry of a failed one would be
	// acknowledged as a duplicate of something that is not there.
	reserveBytes = 128 << 20
	// resumeBytes more must be free before records are taken again.
	resumeBytes = 32 << 20
	spaceEvery  = 50 * time.Millisecond
	fetchMax    = 1 << 30
)

// guard keeps the broker from acknowledging what it cannot keep, and clients
// from changing what must stay as it is.
type guard struct {
	dir     string
	log     *slog.Logger
	metrics *brokerMetrics
	free    func(dir string) (uint64, error)
	reserve uint64
	cluster *kfake.Cluster

	mu     sync.Mutex
	reason error
	failed chan struct{}
	full   atomic.Bool
}

func newGuard(dir string, log *slog.Logger, m *brokerMetrics) *guard {
	return &guard{dir: dir, log: log, metrics: m, free: freeBytes, reserve: reserveBytes, failed: make(chan struct{})}
}

// install puts the hooks into a cluster that answers nobody yet.
func (g *guard) install(c *kfake.Cluster, f *floors) {
	g.cluster = c
	// kfake forgets to name the aborted transactions of a partition whose
	// answer is cut by the request's MaxBytes, and a read_committed client
	// would take aborted records for committed ones. So no answer is cut
	// there; the limits per partition still hold.
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if f, ok := r.(*kmsg.FetchRequest); ok {
			f.MaxBytes = fetchMax
		}
		return nil, nil, false
	})
	c.ControlKey(int16(kmsg.DeleteRecords), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req, ok := r.(*kmsg.DeleteRecordsRequest)
		if !ok {
			return nil, nil, false
		}
		if err := f.note(c, req); err != nil {
			g.fail(err)
			return nil, err, true
		}
		return nil, nil, false
	})
	c.ControlKey(int16(kmsg.AlterConfigs), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return refuseAlter(r)
	})
	c.ControlKey(int16(kmsg.IncrementalAlterConfigs), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return refuseIncrementalAlter(r)
	})
}

// fail ends the broker's work for good: the connections check failed before
// they let an answer out. Only the first reason counts. kfake's own loop may be
// the caller, so that nothing here may wait for it.
func (g *guard) fail(err error) {
	g.mu.Lock()
	first := g.reason == nil
	if first {
		g.reason = err
		close(g.failed)
	}
	g.mu.Unlock()
	if !first {
		return
	}
	g.metrics.failed.Set(1)
	g.log.ErrorContext(context.Background(), "embedded broker cannot keep what it is given: it answers nobody any more; stop, look at the disk, start again", "error", err)
}

func (g *guard) fatal() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reason
}

func (g *guard) err() error {
	if err := g.fatal(); err != nil {
		return err
	}
	if g.full.Load() {
		return fmt.Errorf("%w: less than %d MiB are free for %s; free some space", ErrDiskFull, g.reserve>>20, g.dir)
	}
	return nil
}

// watchSpace closes the broker for new records while the disk is full.
func (g *guard) watchSpace(ctx context.Context) {
	t := time.NewTicker(spaceEvery)
	defer t.Stop()
	for {
		g.lookAtSpace(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (g *guard) lookAtSpace(ctx context.Context) {
	free, err := g.free(g.dir)
	if err != nil {
		return // not fatal: the write that fails will be
	}
	switch full := g.full.Load(); {
	case !full && free < g.reserve:
		g.full.Store(true)
		g.metrics.full.Set(1)
		g.log.ErrorContext(ctx, "disk is full: new records are refused until there is room", "free_bytes", free, "reserve_bytes", g.reserve)
		g.refuseRecords(g.cluster)
	case full && free >= g.reserve+resumeBytes:
		g.full.Store(false)
		g.metrics.full.Set(0)
		g.log.InfoContext(ctx, "disk has room again: records are taken", "free_bytes", free)
	}
}

// refuseRecords answers produce requests with an error that clients retry,
// until the disk has room again. The hook is there only while it is needed:
// kfake keeps the last request of every connection per hook.
func (g *guard) refuseRecords(c *kfake.Cluster) {
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		if !g.full.Load() {
			c.DropControl()
			return nil, nil, false
		}
		c.KeepControl()
		req, ok := r.(*kmsg.ProduceRequest)
		if !ok || req.Acks == 0 {
			return nil, errors.New("disk is full"), true
		}
		g.metrics.refused.Inc()
		return refuseProduce(req, kerr.KafkaStorageError.Code, "The broker's disk is full."), nil, true
	})
}

func refuseProduce(req *kmsg.ProduceRequest, code int16, why string) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode, rp.ErrorMessage = p.Partition, code, &why
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// whyFixed is the answer to a client that wants to change broker settings: the
// durability of what was acknowledged rests on them.
func whyFixed() *string {
	s := "The settings of the embedded broker are fixed."
	return &s
}

// refuseAlter lets a request through that has no broker setting in it.
func refuseAlter(r kmsg.Request) (kmsg.Response, error, bool) {
	req, ok := r.(*kmsg.AlterConfigsRequest)
	if !ok {
		return nil, nil, false
	}
	var broker bool
	resp := req.ResponseKind().(*kmsg.AlterConfigsResponse)
	for _, res := range req.Resources {
		broker = broker || res.ResourceType == kmsg.ConfigResourceTypeBroker
		rr := kmsg.NewAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = res.ResourceType, res.ResourceName
		rr.ErrorCode, rr.ErrorMessage = kerr.PolicyViolation.Code, whyFixed()
		resp.Resources = append(resp.Resources, rr)
	}
	return resp, nil, broker
}

func refuseIncrementalAlter(r kmsg.Request) (kmsg.Response, error, bool) {
	req, ok := r.(*kmsg.IncrementalAlterConfigsRequest)
	if !ok {
		return nil, nil, false
	}
	var broker bool
	resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	for _, res := range req.Resources {
		broker = broker || res.ResourceType == kmsg.ConfigResourceTypeBroker
		rr := kmsg.NewIncrementalAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = res.ResourceType, res.ResourceName
		rr.ErrorCode, rr.ErrorMessage = kerr.PolicyViolation.Code, whyFixed()
		resp.Resources = append(resp.Resources, rr)
	}
	return resp, nil, broker
}
