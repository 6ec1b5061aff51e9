package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// DeliveryOptions configure [RunDelivery]. Zero numbers take the defaults.
type DeliveryOptions struct {
	Kafka  Config
	Stage  string   // names the sink in alarms, metrics and logs, and its consumer group
	Slot   string   // stable identity of this member
	Topics []string // sealed topics
	// Sink says where to go on; Deliver stores. They are usually one thing wrapped in
	// a [sinks.Deliverer], which retries, so Deliver returns only nil, ErrMoved or
	// ctx's error.
	Sink    sinks.Sink
	Deliver func(context.Context, []sinks.Batch) error

	Workers      int           // concurrent Deliver calls, partitions split between them; default 2
	BatchRecords int           // default 5,000
	BatchBytes   int           // default 8 MiB
	Linger       time.Duration // wait for a fuller batch; default 50 ms
	QueueBytes   int           // read ahead and not delivered, all workers; default 32 MiB

	Alarms *Alarms
	Lag    *prometheus.GaugeVec // labels topic, partition; may be nil
	Log    *slog.Logger
}

func (o *DeliveryOptions) defaults() error {
	switch {
	case len(o.Kafka.Brokers) == 0:
		return errors.New("kafka brokers: none given")
	case o.Stage == "" || o.Slot == "" || len(o.Topics) == 0:
		return errors.New("stage, slot and topics: all must be set")
	case o.Sink == nil || o.Deliver == nil || o.Log == nil || o.Alarms == nil:
		return errors.New("sink, deliver, alarms and log: all must be set")
	}
	o.Workers = orDefault(o.Workers, 2)
	o.BatchRecords = orDefault(o.BatchRecords, 5000)
	o.BatchBytes = orDefault(o.BatchBytes, 8<<20)
	o.Linger = orDefault(o.Linger, 50*time.Millisecond)
	o.QueueBytes = orDefault(o.QueueBytes, 32<<20)
	return nil
}

// RunDelivery feeds a sink from sealed topics until ctx ends; then what is in flight
// is finished within the sink's own patience and it returns nil. The offset stored by
// the sink decides where each partition goes on; the group offset is kept only so
// that ordinary tools show the lag.
func RunDelivery(ctx context.Context, o DeliveryOptions) error {
	if err := o.defaults(); err != nil {
		return fmt.Errorf("sink %s: %w", o.Stage, err)
	}
	o.Log = o.Log.With("stage", o.Stage, "slot", o.Slot)
	for attempt := 0; ctx.Err() == nil; attempt++ {
		began := time.Now()
		err := deliverSession(ctx, &o)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > 10*time.Second {
			attempt = 0
		}
		o.Log.WarnContext(ctx, "delivery session ended, starting again from the stored offsets", "err", err)
		_ = pause(ctx, backoff(attempt))
	}
	return nil
}

// delivery is one consumer and the partitions it owns.
type delivery struct {
	*DeliveryOptions
	cl   *kgo.Client
	ctx  context.Context
	fail context.CancelCauseFunc

	queued atomic.Int64  // bytes read and not delivered
	made   chan struct{} // closed once cl is set: the client calls its hooks before that
	room   chan struct{} // signals that queued went down

	mu    sync.Mutex
	parts map[sinks.Partition]*sinkPart
	stuck bool // some partition waits for a person; the session begins again now and then to look
}

// sinkPart is one owned partition. pos is the stored offset as this member knows it.
type sinkPart struct {
	id      sinks.Partition
	worker  int
	pos     int64
	stored  atomic.Int64 // pos, for the lag
	revoked atomic.Bool
}

// run is what the poll loop hands to a worker: records of one partition.
type run struct {
	part  *sinkPart
	recs  []sinks.Record
	bytes int
}

func deliverSession(ctx context.Context, o *DeliveryOptions) error {
	ictx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	d := &delivery{DeliveryOptions: o, ctx: ictx, fail: fail, made: make(chan struct{}), room: make(chan struct{}, 1), parts: map[sinks.Partition]*sinkPart{}}
	var err error
	d.cl, err = kgo.NewClient(d.options()...)
	if err != nil {
		return fmt.Errorf("make consumer: %w", err)
	}
	close(d.made)
	defer d.cl.Close()
	queues := make([]chan run, o.Workers)
	var wg sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan run, 64)
		wg.Go(func() { d.work(queues[i]) })
	}
	wg.Go(d.measure)
	d.poll(queues)
	d.fail(nil)
	for _, q := range queues {
		close(q)
	}
	wg.Wait()
	// Only for display: the truth is in the sink. An error here costs nothing.
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if cerr := d.cl.CommitMarkedOffsets(cctx); cerr != nil && ctx.Err() == nil {
		d.Log.DebugContext(ctx, "group offsets not committed", "err", cerr)
	}
	return context.Cause(ictx)
}

func (d *delivery) options() []kgo.Opt {
	o := append(d.Kafka.Opts(), quickRetries()...)
	return append(o,
		kgo.ConsumerGroup(d.Kafka.Prefix+d.Stage), kgo.InstanceID(d.Kafka.Prefix+d.Slot), kgo.ConsumeTopics(d.Topics...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second), kgo.RebalanceTimeout(15*time.Second),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second),
		kgo.AdjustFetchOffsetsFn(d.positions), kgo.OnPartitionsRevoked(d.revoked), kgo.OnPartitionsLost(d.revoked),
		kgo.FetchMaxPartitionBytes(512<<10), kgo.FetchMaxBytes(6<<20), kgo.FetchMaxWait(200*time.Millisecond),
		kgo.MaxConcurrentFetches(3), kgo.BrokerMaxReadBytes(bigBatchBytes),
	)
}

// positions answers the client's question where to start, from the sink. It asks
// until the sink answers: a sink that is down at start is waited for.
func (d *delivery) positions(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	if err := await(ctx, d.made); err != nil {
		return nil, err
	}
	var want []sinks.Partition
	for t, ps := range offsets {
		for p := range ps {
			want = append(want, sinks.Partition{Topic: t, ID: p})
		}
	}
	if len(want) == 0 {
		return offsets, nil
	}
	for attempt := 0; ; attempt++ {
		refused, err := d.bind(ctx, want)
		var pos map[sinks.Partition]int64
		if err == nil {
			pos, err = d.Sink.Positions(ctx, want)
		}
		if err == nil {
			d.Alarms.Clear(d.Stage, d.Slot, "no_positions")
			return d.adopt(ctx, offsets, pos, refused)
		}
		if attempt == 3 {
			d.Alarms.Raise(Alarm{Stage: d.Stage, Key: d.Slot, Kind: "no_positions", Detail: fmt.Sprintf("the sink does not say where to go on: %v", err)})
		}
		d.Log.WarnContext(ctx, "sink does not answer, waiting for it", "err", err)
		if perr := pause(ctx, min(backoff(attempt)*4, 2*time.Second)); perr != nil {
			return nil, fmt.Errorf("read stored offsets: %w", errors.Join(err, perr))
		}
	}
}

// bind asks the sink whether its offsets are about these topics. It returns why not.
func (d *delivery) bind(ctx context.Context, ps []sinks.Partition) (map[string]string, error) {
	names := map[string]bool{}
	for _, p := range ps {
		names[p.Topic] = true
	}
	topics, cluster, err := metadata(ctx, d.cl, slices.Sorted(maps.Keys(names))...)
	if err != nil {
		return nil, err
	}
	ids := map[string]ledger.TopicID{}
	for name, td := range topics {
		if td.Err != nil {
			return nil, fmt.Errorf("describe %s: %w", name, td.Err)
		}
		ids[name] = ledger.TopicID(td.ID)
	}
	refused, err := d.Sink.Bind(ctx, sinks.Origin{Cluster: cluster, Prefix: d.Kafka.Prefix}, ids)
	if err != nil {
		return nil, err
	}
	for name := range ids {
		if why := refused[name]; why != "" {
			d.Alarms.Raise(Alarm{Stage: d.Stage, Key: name, Kind: "offsets_of_another_topic", Detail: why})
		} else {
			d.Alarms.Clear(d.Stage, name, "offsets_of_another_topic")
		}
	}
	return refused, nil
}

func (d *delivery) adopt(ctx context.Context, offsets map[string]map[int32]kgo.Offset, pos map[sinks.Partition]int64, refused map[string]string) (map[string]map[int32]kgo.Offset, error) {
	adm := kadm.NewClient(d.cl)
	starts, err := adm.ListStartOffsets(ctx, d.Topics...)
	if err != nil {
		return nil, fmt.Errorf("list start offsets: %w", err)
	}
	ends, err := adm.ListEndOffsets(ctx, d.Topics...)
	if err != nil {
		return nil, fmt.Errorf("list end offsets: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, at := range pos {
		from := at
		e, ok := ends.Lookup(p.Topic, p.ID)
		if refused[p.Topic] != "" {
			d.keepOut(p)
			offsets[p.Topic][p.ID] = kgo.NewOffset().At(max(e.Offset, 0)).WithEpoch(-1)
			continue
		}
		if ok && e.Err == nil && e.Offset < at {
			// The topic was cut or made anew. What is there now is not what was stored,
			// so nothing may be stored behind it until a person has looked.
			d.keepOut(p)
			d.Alarms.Raise(Alarm{Stage: d.Stage, Key: p.String(), Kind: "stored_offset_past_end", Detail: fmt.Sprintf(
				"the sink has stored up to offset %d, the topic ends at %d: the topic was cut or made anew, or the stored offset was changed; nothing of this partition is stored", at, e.Offset)})
			offsets[p.Topic][p.ID] = kgo.NewOffset().At(e.Offset).WithEpoch(-1)
			continue
		}
		d.Alarms.Clear(d.Stage, p.String(), "stored_offset_past_end")
		d.cl.ResumeFetchPartitions(map[string][]int32{p.Topic: {p.ID}})
		if s, ok := starts.Lookup(p.Topic, p.ID); ok && s.Err == nil && s.Offset > at {
			// Trimmed by our own scheduler before this sink had it, or a new sink on an
			// old ledger: what is gone cannot be stored.
			d.Log.ErrorContext(ctx, "sealed records were trimmed before this sink stored them", "topic", p.Topic, "partition", p.ID, "stored", at, "log_start", s.Offset)
			from = s.Offset
		}
		part := &sinkPart{id: p, worker: int(p.ID) % d.Workers, pos: at}
		part.stored.Store(at)
		d.parts[p] = part
		offsets[p.Topic][p.ID] = kgo.NewOffset().At(from).WithEpoch(-1)
	}
	return offsets, nil
}

// keepOut stores nothing of a partition until a later session finds it in order.
func (d *delivery) keepOut(p sinks.Partition) {
	d.stuck = true
	d.cl.PauseFetchPartitions(map[string][]int32{p.Topic: {p.ID}})
}

func (d *delivery) revoked(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for t, ps := range m {
		for _, p := range ps {
			id := sinks.Partition{Topic: t, ID: p}
			if part := d.parts[id]; part != nil {
				// What a worker has in hand may still be stored: the compare-and-set of
				// the stored offset keeps it and the new owner apart.
				part.revoked.Store(true)
				delete(d.parts, id)
			}
		}
	}
}

// poll reads until the session ends, and no further ahead than QueueBytes: a sink
// that is stuck stops the reading, not the heartbeats.
func (d *delivery) poll(queues []chan run) {
	for d.ctx.Err() == nil {
		for d.queued.Load() >= int64(d.QueueBytes) {
			select {
			case <-d.room:
			case <-d.ctx.Done():
				return
			}
		}
		fs := d.cl.PollRecords(d.ctx, 20_000)
		if err := d.pollErrors(fs); err != nil {
			d.fail(err)
			return
		}
		fs.EachPartition(func(fp kgo.FetchTopicPartition) {
			if len(fp.Records) == 0 {
				return
			}
			d.mu.Lock()
			part := d.parts[sinks.Partition{Topic: fp.Topic, ID: fp.Partition}]
			d.mu.Unlock()
			if part == nil {
				return // revoked meanwhile
			}
			r := d.open(part, fp.Records)
			d.queued.Add(int64(r.bytes))
			select {
			case queues[part.worker] <- r:
			case <-d.ctx.Done():
			}
		})
	}
}

func (d *delivery) pollErrors(fs kgo.Fetches) (fatal error) {
	fs.EachError(func(topic string, p int32, err error) {
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		case errors.Is(err, kerr.OffsetOutOfRange), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kgo.ErrClientClosed):
			fatal = fmt.Errorf("poll %s/%d: %w", topic, p, err)
		default:
			d.Log.WarnContext(d.ctx, "poll error", "topic", topic, "partition", p, "err", err)
		}
	})
	return fatal
}

// open takes sealed records apart. A record that is none was written by somebody else,
// since only the seal may write here. It is passed, with an alarm: it is no evidence,
// and evidence behind it and in other partitions must not wait for it. Verify names it.
func (d *delivery) open(part *sinkPart, ks []*kgo.Record) run {
	r := run{part: part, recs: make([]sinks.Record, 0, len(ks))}
	in := fromFetch(make([]ledger.Record, 0, len(ks)), ks)
	for i := range in {
		s, err := ledger.Open(&in[i])
		if err != nil {
			d.Alarms.Raise(Alarm{Stage: d.Stage, Key: part.id.String(), Kind: "not_a_sealed_record",
				Detail: fmt.Sprintf("offset %d: %v: someone else writes this topic; the record is passed", in[i].Offset, err)})
			continue
		}
		r.recs = append(r.recs, sinks.Record{Offset: in[i].Offset, Sealed: s})
		r.bytes += recordBytes(&in[i])
	}
	return r
}

// measure shows how far the stored offsets are behind the topics, also while nothing
// is read, and ends a session in which a partition is stuck after a while, so that the
// next one looks whether it was mended.
func (d *delivery) measure() {
	adm, began := kadm.NewClient(d.cl), time.Now()
	for pause(d.ctx, 2*time.Second) == nil {
		d.mu.Lock()
		stuck := d.stuck
		d.mu.Unlock()
		if stuck && time.Since(began) > 30*time.Second {
			d.fail(plannedRestart("looking again at a partition that is stuck"))
			return
		}
		if d.Lag == nil {
			continue
		}
		ends, err := adm.ListCommittedOffsets(d.ctx, d.Topics...)
		if err != nil {
			continue // the next look will tell
		}
		d.mu.Lock()
		for id, p := range d.parts {
			if e, ok := ends.Lookup(id.Topic, id.ID); ok && e.Err == nil {
				// One offset behind the last record is its transaction's marker.
				d.Lag.WithLabelValues(id.Topic, strconv.Itoa(int(id.ID))).Set(float64(max(0, e.Offset-p.stored.Load()-1)))
			}
		}
		d.mu.Unlock()
	}
}
