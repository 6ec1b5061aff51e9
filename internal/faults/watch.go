package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// watch looks at sealed topics and stored offsets all the time, through every outage:
// when each partition came back after a fault, and whether all have caught up.
type watch struct {
	load     *load
	sources  map[string]string // sealed topic -> source topic
	cl       *kgo.Client       // tails the sealed topics
	adm      *kadm.Client
	postgres string
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu        sync.Mutex
	err       error // the watch itself is broken, or the log is
	tails     map[sinks.Partition]*tail
	stored    map[sinks.Partition]int64
	sightings []Sighting
	lookNow   chan chan error
	mark      *mark
}

// tail is how far one sealed partition was seen.
type tail struct {
	next   int64 // offset behind the last record or marker seen
	last   int64 // offset of the last sealed record, -1 for none
	source int64 // the source offset it speaks of, -1 for none
}

// mark is a moment after which each partition's first new event is waited for.
type mark struct {
	at     time.Time
	n      int64 // the last event sent before
	sealed map[sinks.Partition]stamp
	stored map[sinks.Partition]time.Time
}

type stamp struct {
	offset int64
	at     time.Time
}

// newWatch begins to watch. It reads on from where it was when brokers or the database
// come back, and never from anywhere else.
func newWatch(ctx context.Context, l *load, c *collector) (*watch, error) {
	w := &watch{load: l, sources: map[string]string{}, postgres: c.postgres, tails: map[sinks.Partition]*tail{},
		stored: map[sinks.Partition]int64{}, lookNow: make(chan chan error)}
	admin, err := kgo.NewClient(slices.Concat(c.kafka, quick())...)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w.adm = kadm.NewClient(admin)
	var topics []string
	for _, s := range c.sources {
		w.sources[schemas.SealedName(s)] = s
		topics = append(topics, schemas.SealedName(s))
	}
	md, err := w.adm.Metadata(ctx, topics...)
	if err == nil {
		err = md.Topics.Error()
	}
	if err != nil {
		admin.Close()
		return nil, fmt.Errorf("watch: list sealed topics: %w", err)
	}
	from := map[string]map[int32]kgo.Offset{}
	for _, t := range topics {
		from[t] = map[int32]kgo.Offset{}
		for id := range md.Topics[t].Partitions {
			from[t][id] = kgo.NewOffset().At(0)
			w.tails[sinks.Partition{Topic: t, ID: id}] = &tail{last: -1, source: -1}
		}
	}
	w.cl, err = kgo.NewClient(slices.Concat(c.kafka, quick(), []kgo.Opt{
		kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(50 * time.Millisecond)})...)
	if err != nil {
		admin.Close()
		return nil, fmt.Errorf("watch: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.cancel = cancel
	w.wg.Go(func() { w.tailSealed(run) })
	w.wg.Go(func() { w.pollStored(run) })
	return w, nil
}

// quick keeps a client's own waits out of what is measured.
func quick() []kgo.Opt {
	return []kgo.Opt{kgo.MetadataMinAge(50 * time.Millisecond), kgo.DialTimeout(2 * time.Second),
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(20*time.Millisecond<<min(tries, 3), 100*time.Millisecond) })}
}

func (w *watch) close() {
	w.cancel()
	w.wg.Wait()
	w.cl.Close()
	w.adm.Close()
}

func (w *watch) tailSealed(ctx context.Context) {
	for ctx.Err() == nil {
		fs := w.cl.PollFetches(ctx)
		now := time.Now()
		fs.EachError(func(t string, p int32, err error) {
			if errors.Is(err, kerr.OffsetOutOfRange) || errors.Is(err, kerr.UnknownTopicID) {
				w.fail(fmt.Errorf("sealed records that were committed are gone: %s/%d: %w", t, p, err))
			}
		})
		w.mu.Lock()
		fs.EachRecord(func(k *kgo.Record) { w.see(k, now) })
		w.mu.Unlock()
	}
}

// see notes one record or marker; the lock is held.
func (w *watch) see(k *kgo.Record, now time.Time) {
	p := sinks.Partition{Topic: k.Topic, ID: k.Partition}
	t := w.tails[p]
	if t == nil {
		return
	}
	t.next = k.Offset + 1
	if k.Attrs.IsControl() {
		return
	}
	r := recordOf(k)
	s, err := ledger.Open(&r)
	if err != nil {
		w.failLocked(fmt.Errorf("%s@%d is no sealed record: %w", p, k.Offset, err))
		return
	}
	t.last = k.Offset
	if s.Statement.Kind == ledger.KindEvent {
		t.source = int64(s.Statement.Offset)
	}
	if w.mark == nil {
		return
	}
	for _, h := range k.Headers {
		if h.Key == idHeader && w.load.number(string(h.Value)) > w.mark.n {
			if _, ok := w.mark.sealed[p]; !ok {
				w.mark.sealed[p] = stamp{offset: k.Offset, at: now}
			}
		}
	}
}

// pollStored reads the stored offsets every 20 ms and takes a sighting every second,
// and whenever it is asked for one.
func (w *watch) pollStored(ctx context.Context) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.WithoutCancel(ctx))
		}
	}()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	var asked chan error
	var lastLook time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case asked = <-w.lookNow:
		case <-t.C:
		}
		err := w.pollOnce(ctx, &conn, asked != nil || time.Since(lastLook) > time.Second, &lastLook)
		if asked != nil {
			asked <- err
			asked = nil
		}
	}
}

// pollOnce asks the database. One that does not answer is what some cases are about.
func (w *watch) pollOnce(ctx context.Context, conn **pgx.Conn, sight bool, lastLook *time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var err error
	if *conn == nil || (*conn).IsClosed() {
		if *conn, err = pgx.Connect(ctx, w.postgres); err != nil {
			*conn = nil
			return err
		}
	}
	if sight {
		seen, err := look(ctx, *conn)
		if err != nil {
			return err
		}
		*lastLook = time.Now()
		w.mu.Lock()
		w.sightings = append(w.sightings, seen...)
		w.mu.Unlock()
	}
	rows, err := (*conn).Query(ctx, "SELECT topic, partition, next_offset FROM public.sink_offsets")
	if err != nil {
		return err
	}
	at := map[sinks.Partition]int64{}
	var p sinks.Partition
	var next int64
	_, err = pgx.ForEachRow(rows, []any{&p.Topic, &p.ID, &next}, func() error { at[p] = next; return nil })
	if err != nil {
		return err
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, next := range at {
		if next < w.stored[p] {
			w.failLocked(fmt.Errorf("the stored offset of %s went back from %d to %d", p, w.stored[p], next))
		}
	}
	w.stored = at
	if w.mark != nil {
		for p, s := range w.mark.sealed {
			if _, ok := w.mark.stored[p]; !ok && at[p] > s.offset {
				w.mark.stored[p] = now
			}
		}
	}
	return nil
}

// sight takes a sighting now.
func (w *watch) sight(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case w.lookNow <- answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *watch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(err)
}

func (w *watch) failLocked(err error) {
	if w.err == nil {
		w.err = err
	}
}

// broken returns what the watch saw that must never be.
func (w *watch) broken() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// begin sets the mark: from now on the first new event of each partition is stamped.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark = &mark{at: time.Now(), n: w.load.sent.Load(), sealed: map[sinks.Partition]stamp{}, stored: map[sinks.Partition]time.Time{}}
}

// Recovery is how long after a fault events that were sent after it were sealed and
// stored again: the first of any partition, and the first of the last partition.
type Recovery struct {
	Kind                                 takeover // of what was waited for
	Role                                 string   // whose end it was
	Sealed, SealedAll, Stored, StoredAll time.Duration
}

// recovered waits until every partition of the load's topics has sealed and stored an
// event that was sent after the mark.
func (w *watch) recovered(ctx context.Context, topics []string) (Recovery, error) {
	var r Recovery
	err := until(ctx, func() (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		want := w.partitions(topics)
		if w.err != nil {
			return false, w.err
		}
		return len(w.mark.sealed) >= want && len(w.mark.stored) >= want, nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		return r, fmt.Errorf("%v after the fault %d partitions have sealed and %d have stored new events: %w",
			time.Since(w.mark.at).Round(time.Millisecond), len(w.mark.sealed), len(w.mark.stored), err)
	}
	var sealed, stored []time.Duration
	for s := range maps.Values(w.mark.sealed) {
		sealed = append(sealed, s.at.Sub(w.mark.at))
	}
	for at := range maps.Values(w.mark.stored) {
		stored = append(stored, at.Sub(w.mark.at))
	}
	r = Recovery{Sealed: slices.Min(sealed), SealedAll: slices.Max(sealed), Stored: slices.Min(stored), StoredAll: slices.Max(stored)}
	return r, nil
}

// sealed waits until every partition of the load's topics has sealed an event that was
// sent after the mark.
func (w *watch) sealed(ctx context.Context, topics []string) error {
	var have, want int
	err := until(ctx, func() (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		have, want = len(w.mark.sealed), w.partitions(topics)
		return have >= want, w.err
	})
	if err != nil {
		return fmt.Errorf("%d of %d partitions have sealed new events: %w", have, want, err)
	}
	return nil
}

// progress is how many partitions have sealed and stored events sent after the mark.
func (w *watch) progress() (sealed, stored int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.mark.sealed), len(w.mark.stored)
}

// late says whether the first new event of every partition came a second after the
// mark or later, or is not there yet.
func (w *watch) late(firsts func(*mark) []time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range firsts(w.mark) {
		if d := at.Sub(w.mark.at); d < time.Second {
			return fmt.Errorf("a partition got new events after %v", d)
		}
	}
	return nil
}

// lag is how many offsets of a source's sealed partitions are sealed and not stored.
func (w *watch) lag(source string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var n int64
	for p, t := range w.tails {
		if w.sources[p.Topic] == source {
			n += max(0, t.last+1-w.stored[p])
		}
	}
	return n
}

// partitions counts the sealed partitions of some sources.
func (w *watch) partitions(topics []string) int {
	n := 0
	for p := range w.tails {
		if slices.Contains(topics, w.sources[p.Topic]) {
			n++
		}
	}
	return n
}

// drained waits until every source record is sealed and every sealed record stored.
func (w *watch) drained(ctx context.Context) error {
	var last error
	err := until(ctx, func() (bool, error) {
		if last = w.behind(ctx); last == nil {
			return true, nil
		}
		return false, w.broken()
	})
	if err != nil {
		return fmt.Errorf("the stages have not caught up: %w", errors.Join(last, err))
	}
	return nil
}

// behind says what has not caught up yet, nil when all has.
func (w *watch) behind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var sources []string
	for _, s := range w.sources {
		sources = append(sources, s)
	}
	ends, err := w.adm.ListEndOffsets(ctx, sources...)
	if err = errors.Join(err, ends.Error()); err != nil {
		return err
	}
	sealedEnds, err := w.adm.ListEndOffsets(ctx, slices.Collect(maps.Keys(w.sources))...)
	if err = errors.Join(err, sealedEnds.Error()); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, t := range w.tails {
		end, ok := ends.Lookup(w.sources[p.Topic], p.ID)
		if ok && t.source != end.Offset-1 {
			return fmt.Errorf("%s: source offset %d is sealed, the source ends at %d", p, t.source, end.Offset)
		}
		if end, ok := sealedEnds.Lookup(p.Topic, p.ID); ok && t.next != end.Offset {
			return fmt.Errorf("%s: read to %d, the log ends at %d", p, t.next, end.Offset)
		}
		if w.stored[p] <= t.last {
			return fmt.Errorf("%s: stored to %d, the last sealed record is at %d", p, w.stored[p], t.last)
		}
	}
	return nil
}
