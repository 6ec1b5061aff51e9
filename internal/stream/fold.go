package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
)

// FoldOptions configure [RunFold]. Zero durations and sizes take the defaults.
type FoldOptions struct {
	Kafka Config
	// Stage names the stage in alarms, metrics and logs, and its consumer group.
	Stage string
	// Slot is the stable identity of this member within the group: its static
	// instance id and transactional id. Two live processes must not share one.
	Slot string
	// Pairs maps each input topic to its output topic.
	Pairs map[string]string
	// Processor makes the folds.
	Processor processors.Processor
	// ControlTopic carries operators' orders; ParseOrder recognises one.
	ControlTopic string
	ParseOrder   func(ledger.Record) (processors.Order, bool)
	// MaxBatchBytes returns the size limit of an output topic's record batch.
	MaxBatchBytes func(topic string) int32

	Interval   time.Duration // of transactions under load; default 100 ms
	StallAfter time.Duration // "nothing recovered" alarm, and how long partitions wait for one that fails; default 30 s
	TxnRecords int           // cap of one transaction; default 200,000
	TxnBytes   int           // cap of one transaction, uncompressed; default 96 MiB

	Alarms  *Alarms
	Metrics *FoldMetrics
	Log     *slog.Logger
}

func (o *FoldOptions) defaults() error {
	switch {
	case len(o.Kafka.Brokers) == 0:
		return errors.New("kafka brokers: none given")
	case o.Stage == "" || o.Slot == "":
		return errors.New("stage and slot: both must be set")
	case len(o.Pairs) == 0:
		return errors.New("no input topics")
	case o.Alarms == nil || o.Metrics == nil || o.Log == nil:
		return errors.New("alarms, metrics and log: all must be set")
	}
	o.Interval = orDefault(o.Interval, 100*time.Millisecond)
	o.StallAfter = orDefault(o.StallAfter, 30*time.Second)
	o.TxnRecords = orDefault(o.TxnRecords, 200_000)
	o.TxnBytes = orDefault(o.TxnBytes, 96<<20)
	return nil
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// topicPartition names an input partition.
type topicPartition struct {
	topic string
	id    int32
}

func (t topicPartition) String() string { return fmt.Sprintf("%s/%d", t.topic, t.id) }

// foldRunner outlives sessions: it keeps what a new session must know of the last.
type foldRunner struct {
	FoldOptions

	mu      sync.Mutex
	orders  map[topicPartition][]processors.Order // seen in the control topic, newest last
	stopped map[topicPartition]stoppedPartition   // waiting for an order
	refused map[topicPartition]refusal            // resting: the output refuses a record
	failing map[string]*failing                   // input topics that cannot be recovered
	sick    time.Time                             // since when nothing is recovered, over sessions; zero = something is
	bigTill time.Time                             // until then sessions take records of any size
}

// stoppedPartition is what an order must fit.
type stoppedPartition struct {
	outputID ledger.TopicID
	end      int64
	kind     processors.DoubtKind
}

// RunFold folds each input partition into the output partition of the same number,
// exactly once, until ctx ends; then it finishes the transaction at hand and returns
// nil. It returns an error only for options that cannot work.
func RunFold(ctx context.Context, o FoldOptions) error {
	if err := o.defaults(); err != nil {
		return fmt.Errorf("stage %s: %w", o.Stage, err)
	}
	o.Log = o.Log.With("stage", o.Stage, "slot", o.Slot)
	r := &foldRunner{FoldOptions: o,
		orders:  map[topicPartition][]processors.Order{},
		stopped: map[topicPartition]stoppedPartition{},
		refused: map[topicPartition]refusal{},
		failing: map[string]*failing{},
	}
	var watch sync.WaitGroup
	defer watch.Wait()
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	restart := make(chan struct{}, 1)
	watch.Go(func() { r.watchOrders(wctx, restart) })

	for attempt := 0; ctx.Err() == nil; attempt++ {
		began := time.Now()
		err := r.session(ctx, restart)
		if err == nil || ctx.Err() != nil {
			continue
		}
		o.Metrics.sessions.Inc()
		if time.Since(began) > 10*time.Second {
			attempt = 0
		}
		if planned := errors.As(err, new(plannedRestart)); planned {
			o.Log.InfoContext(ctx, "new session", "why", err)
			attempt = 0
			continue
		}
		if errors.Is(err, kerr.FencedInstanceID) || errors.Is(err, kerr.ProducerFenced) {
			o.Alarms.Raise(Alarm{Stage: o.Stage, Key: o.Slot, Kind: "slot_taken",
				Detail: fmt.Sprintf("another process runs as slot %s of stage %s: give each its own (--slot)", o.Slot, o.Stage)})
		}
		o.Log.WarnContext(ctx, "session ended, recovering from the log", "err", err)
		_ = pause(ctx, backoff(attempt)) // the loop sees ctx
	}
	return nil
}

// plannedRestart ends a session for a reason that is no fault.
type plannedRestart string

func (p plannedRestart) Error() string { return string(p) }

// backoff grows from 50 to 500 ms: a take-over must not wait for anything longer.
func backoff(attempt int) time.Duration {
	d := min(500*time.Millisecond, 50*time.Millisecond<<min(attempt, 6))
	return d*3/4 + rand.N(d/4)
}

// session runs one client until it must be thrown away.
func (r *foldRunner) session(ctx context.Context, restart <-chan struct{}) error {
	s, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.wake)
	defer stop()
	began := time.Now()
	for {
		select {
		case <-restart:
			return plannedRestart("an operator's order fits a stopped partition")
		case err := <-s.dead:
			return err
		default:
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := s.cycle(ctx); err != nil {
			return err
		}
		if time.Since(began) > 30*time.Second {
			r.Alarms.Clear(r.Stage, r.Slot, "slot_taken") // two that share one do not last that long
		}
		if s.big && time.Now().After(r.bigUntil()) {
			return plannedRestart("no large records any more")
		}
		if grown := s.grown(ctx); grown != "" {
			return plannedRestart(grown + " has got a partition that its source has")
		}
		if r.retryRefused() {
			return plannedRestart("a refused record is tried again")
		}
		if r.retryResting() {
			return plannedRestart("partitions that could not be recovered are tried again")
		}
	}
}

func (r *foldRunner) bigUntil() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bigTill
}

func (r *foldRunner) wantBig() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bigTill = time.Now().Add(30 * time.Second)
}

// open makes the client of a session and joins the group.
func (r *foldRunner) open(ctx context.Context) (*session, error) {
	adm, err := kgo.NewClient(append(r.Kafka.Opts(), quickRetries()...)...)
	if err != nil {
		return nil, fmt.Errorf("make admin client: %w", err)
	}
	boot, err := Boot(ctx, adm)
	if err != nil {
		adm.Close()
		return nil, fmt.Errorf("reach brokers %v: %w", r.Kafka.Brokers, err)
	}
	s := &session{
		r: r, adm: adm, boot: boot, big: time.Now().Before(r.bigUntil()),
		parts: map[topicPartition]*part{},
		made:  make(chan struct{}),
		dead:  make(chan error, 1), wakeCh: make(chan struct{}, 1),
	}
	s.txID = r.Kafka.Prefix + r.Stage + "-" + r.Slot
	if boot != "" {
		s.txID += "-" + boot
	}
	s.stall = time.AfterFunc(r.patience(), s.stalled)
	s.gts, err = kgo.NewGroupTransactSession(s.options()...)
	if err != nil {
		s.stall.Stop()
		adm.Close()
		return nil, fmt.Errorf("make transactional client: %w", err)
	}
	close(s.made)
	if err := s.claimProducer(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) options() []kgo.Opt {
	r := s.r
	batchBytes := func(topic string) int32 {
		if s.big {
			return bigBatchBytes
		}
		if topic == "" || r.MaxBatchBytes == nil {
			return defaultBatchBytes
		}
		return min(r.MaxBatchBytes(topic), defaultBatchBytes)
	}
	codecs := []kgo.CompressionCodec{kgo.SnappyCompression()}
	if s.big {
		// The producer may have used its best codec to get under the limit.
		codecs = []kgo.CompressionCodec{kgo.ZstdCompression().WithLevel(19)}
	}
	o := append(r.Kafka.Opts(), quickRetries()...)
	o = append(o,
		kgo.ConsumerGroup(r.Kafka.Prefix+r.Stage), kgo.InstanceID(r.Kafka.Prefix+r.Slot),
		kgo.TransactionalID(s.txID), kgo.TransactionTimeout(15*time.Second),
		kgo.ConsumeTopics(slices.Sorted(maps.Keys(r.Pairs))...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second), kgo.RebalanceTimeout(10*time.Second),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.AdjustFetchOffsetsFn(s.recoverAssigned), kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(s.revoked), kgo.OnPartitionsLost(s.revoked),
		kgo.FetchMaxPartitionBytes(2<<20), kgo.FetchMaxBytes(24<<20), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchMaxBytesFn(batchBytes), kgo.BrokerMaxWriteBytes(bigBatchBytes+1<<20), kgo.BrokerMaxReadBytes(bigBatchBytes),
		kgo.ProducerBatchCompression(codecs...), kgo.MaxBufferedRecords(r.TxnRecords),
	)
	if s.boot != "" {
		o = append(o, bootDialer(s.boot, s.adm, func() { s.die(errOtherBoot) }))
	}
	return o
}

// Batch sizes before compression. A record above the default needs a session of its
// own kind, because the client's limit is per client.
const (
	defaultBatchBytes = 1_000_012
	bigBatchBytes     = 256 << 20
)

// quickRetries caps the client's own patience: every wait of a take-over adds up.
func quickRetries() []kgo.Opt {
	return []kgo.Opt{
		kgo.RetryBackoffFn(backoff),
		// The default of 5 s stalls the next transaction while markers are written.
		kgo.MetadataMinAge(100 * time.Millisecond),
		// The default of 5 min is how late a new partition would be noticed.
		kgo.MetadataMaxAge(10 * time.Second),
		kgo.DialTimeout(5 * time.Second),
	}
}

// claimProducer asks for the producer id before anything is consumed, again and
// again: this is what ends the open transaction of this slot's dead predecessor,
// which the recovery below waits for.
func (s *session) claimProducer(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		actx, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, _, err := s.gts.Client().ProducerID(actx)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case err := <-s.dead:
			return err
		default:
		}
		if attempt == 0 || errors.Is(err, kerr.TransactionalIDAuthorizationFailed) && attempt%20 == 0 {
			s.r.Log.WarnContext(ctx, "cannot claim the transactional id yet, trying again", "transactional_id", s.txID, "err", err)
		}
		if err := pause(ctx, backoff(attempt)); err != nil {
			return fmt.Errorf("claim transactional id %s: %w", s.txID, err)
		}
	}
}
