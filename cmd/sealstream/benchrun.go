package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// benchPoll is how often stored offsets are looked at: latencies to the database are
// no finer.
const benchPoll = 10 * time.Millisecond

// The stations of the path.
const (
	stageAcked = iota
	stageSealed
	stageStored
	stageCount
)

// benchRun follows a number of events through an installation.
type benchRun struct {
	sealed   string // topic
	at       map[string]int
	ids      []string
	producer *producers.Producer
	reader   *postgres.Reader // nil: the database is not looked at
	client   *kgo.Client
	stop     context.CancelFunc
	watchers sync.WaitGroup

	mu      sync.Mutex
	began   time.Time
	due     []time.Time
	seen    [stageCount][]time.Time // zero: not there yet
	count   [stageCount]int
	waiting map[sinks.Partition][]sealedAt // sealed, and not known to be stored
	failed  error
	fails   int
	broken  chan struct{}             // closed when an event cannot get through any more
	full    [stageCount]chan struct{} // closed when all events are there
}

// sealedAt is an event and its place in the sealed topic.
type sealedAt struct {
	event  int
	offset int64
}

func newBenchRun(sealed string, ids []string) *benchRun {
	r := &benchRun{sealed: sealed, ids: ids, at: map[string]int{}, due: make([]time.Time, len(ids)), waiting: map[sinks.Partition][]sealedAt{}, broken: make(chan struct{})}
	for i, id := range ids {
		r.at[id] = i
	}
	for s := range r.full {
		r.full[s], r.seen[s] = make(chan struct{}), make([]time.Time, len(ids))
	}
	return r
}

func (r *benchRun) close() {
	if r.stop != nil {
		r.stop()
		r.watchers.Wait()
	}
	if r.client != nil {
		r.client.Close()
	}
	if r.reader != nil {
		r.reader.Close()
	}
	if r.producer != nil {
		r.producer.Close()
	}
}

// mark notes that an event has reached a station; r.mu is held.
func (r *benchRun) mark(stage, event int, now time.Time) {
	if !r.seen[stage][event].IsZero() {
		return
	}
	r.seen[stage][event] = now
	if r.count[stage]++; r.count[stage] == len(r.ids) {
		close(r.full[stage])
	}
}

// watch reads the sealed topic from its present end, and the stored offsets.
func (r *benchRun) watch(ctx context.Context, sc stream.Config) error {
	client, err := kgo.NewClient(append(sc.Opts(), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(1<<30), kgo.BrokerMaxReadBytes(1<<30), kgo.FetchMaxPartitionBytes(8<<20),
		kgo.FetchMaxWait(100*time.Millisecond))...)
	if err != nil {
		return fmt.Errorf("read %s: %w", r.sealed, err)
	}
	r.client = client
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, r.sealed)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", r.sealed, err)
	}
	from := map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) { from[o.Partition] = kgo.NewOffset().At(o.Offset) })
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.sealed: from})
	ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.watchers.Go(func() { r.readSealed(ctx) })
	if r.reader != nil {
		r.watchers.Go(func() { r.readStored(ctx) })
	}
	return nil
}

func (r *benchRun) readSealed(ctx context.Context) {
	for ctx.Err() == nil {
		fs := r.client.PollFetches(ctx)
		now := time.Now()
		r.mu.Lock()
		fs.EachRecord(func(rec *kgo.Record) {
			for _, h := range rec.Headers {
				if h.Key != producers.HeaderID {
					continue
				}
				event, ours := r.at[string(h.Value)]
				if !ours {
					return
				}
				r.mark(stageSealed, event, now)
				p := sinks.Partition{Topic: rec.Topic, ID: rec.Partition}
				r.waiting[p] = append(r.waiting[p], sealedAt{event, rec.Offset})
				return
			}
		})
		r.mu.Unlock()
	}
}

// readStored asks how far the sink has come. An error is no end: the next look may work.
func (r *benchRun) readStored(ctx context.Context) {
	tick := time.NewTicker(benchPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var ps []sinks.Partition
		r.mu.Lock()
		for p, w := range r.waiting {
			if len(w) > 0 {
				ps = append(ps, p)
			}
		}
		r.mu.Unlock()
		if len(ps) == 0 {
			continue
		}
		at, err := r.reader.Positions(ctx, sinkName, ps)
		if err != nil {
			continue
		}
		now := time.Now()
		r.mu.Lock()
		for p, next := range at {
			w := r.waiting[p]
			for len(w) > 0 && w[0].offset < next {
				r.mark(stageStored, w[0].event, now)
				w = w[1:]
			}
			r.waiting[p] = w
		}
		r.mu.Unlock()
	}
}

// pump writes the events at their pace and notes each acknowledgement as it comes.
func (r *benchRun) pump(ctx context.Context, msgs []producers.Message, pace *rate.Limiter) {
	r.began = time.Now()
	every := time.Duration(float64(time.Second) / float64(pace.Limit()))
	for i := range msgs {
		if pace.Wait(ctx) != nil {
			return
		}
		r.mu.Lock()
		// An event that goes out late was due all the same; one of a burst is due when it goes.
		r.due[i] = r.began.Add(time.Duration(i) * every)
		if now := time.Now(); now.Before(r.due[i]) {
			r.due[i] = now
		}
		r.mu.Unlock()
		pending := r.producer.Enqueue(ctx, msgs[i:i+1])
		go func() {
			res := pending.Wait(ctx)[0]
			now := time.Now()
			r.mu.Lock()
			defer r.mu.Unlock()
			if res.Err != nil {
				if r.fails++; r.fails == 1 {
					r.failed = res.Err
					close(r.broken)
				}
				return
			}
			r.mark(stageAcked, i, now)
		}()
	}
}

// wait waits for the last event at each station, and says what is missing.
func (r *benchRun) wait(ctx context.Context) error {
	last := stageSealed
	if r.reader != nil {
		last = stageStored
	}
	for s := range last + 1 {
		select {
		case <-ctx.Done():
			return r.missing(s)
		case <-r.broken:
			return r.missing(s)
		case <-r.full[s]:
		}
	}
	if r.reader == nil {
		return nil
	}
	// An offset also passes what the sink set aside: the rows themselves are counted.
	rows := 0
	for part := range slices.Chunk(r.ids, 1000) {
		n, err := r.reader.CountEvents(ctx, part)
		if err != nil {
			return fmt.Errorf("count the rows: %w", err)
		}
		rows += n
	}
	if rows != len(r.ids) {
		return fmt.Errorf("%d rows for %d events: see sealstream rejects list and sealstream verify", rows, len(r.ids))
	}
	return nil
}

func (r *benchRun) missing(stage int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := fmt.Errorf("in time came %d of %d acknowledgements, %d sealed records, %d rows: %s", r.count[stageAcked], len(r.ids), r.count[stageSealed], r.count[stageStored],
		[stageCount]string{"do the brokers answer?", "does a seal run?", "does a sink run? --sealed-only leaves it out"}[stage])
	if r.fails > 0 {
		err = errors.Join(err, fmt.Errorf("%d events were not acknowledged, such as: %w", r.fails, r.failed))
	}
	return err
}

// stages sums up. Rates are from the first event's due time to the last one's arrival.
func (r *benchRun) stages() []benchStage {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []benchStage
	for s, name := range [stageCount]string{"acknowledged", "sealed", "stored"} {
		if s == stageStored && r.reader == nil {
			continue
		}
		var lat []time.Duration
		var last time.Time
		for i, t := range r.seen[s] {
			if !t.IsZero() {
				lat = append(lat, t.Sub(r.due[i]))
				if t.After(last) {
					last = t
				}
			}
		}
		st := benchStage{Name: name, Events: len(lat)}
		if len(lat) > 0 {
			slices.Sort(lat)
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
			st.PerSec = float64(len(lat)) / max(last.Sub(r.began).Seconds(), 1e-6)
			st.P50, st.P99, st.Max = ms(lat[(len(lat)-1)/2]), ms(lat[(len(lat)-1)*99/100]), ms(lat[len(lat)-1])
		}
		out = append(out, st)
	}
	return out
}
