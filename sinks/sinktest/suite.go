package sinktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// Fixture is one destination, empty at first, and what a test may do to it.
type Fixture struct {
	// Open returns a sink of its own on the destination, as a process has it.
	Open func() sinks.Sink
	// Rows reads back everything stored; of each partition in the order in which it
	// was stored, if the destination can tell.
	Rows func() []Row
	// Refuse makes the destination refuse these records for what they are.
	Refuse func(...Ref)
}

// Topic is the sealed topic of the suite's records.
const Topic = "sinktest.sealed"

// Run tests a sink. open makes a fresh destination for each case.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for _, c := range []struct {
		name string
		fn   func(*testing.T, Fixture)
	}{
		{"stores what it is given", testStores},
		{"stores records that are odd", testOdd},
		{"stores big values", testBig},
		{"never seen is offset 0", testPositions},
		{"offsets belong to one topic of one installation", testBind},
		{"moves an offset without records", testEmpty},
		{"all batches of a call or none", testAtomic},
		{"idempotent after a lost answer", testLostAnswer},
		{"a zombie is fenced", testZombie},
		{"of two racing owners one wins", testRace},
		{"offsets are never ahead of rows (I5)", testNeverAhead},
		{"partitions written at one time", testConcurrent},
		{"a cancelled write is all or nothing", testCancelled},
		{"order within a partition (I6)", testOrder},
		{"poison is set aside, its neighbours are stored (I7)", testPoison},
		{"poison in one of many partitions", testPoisonElsewhere},
		{"refuses misuse", testMisuse},
	} {
		t.Run(c.name, func(t *testing.T) { c.fn(t, open(t)) })
	}
}

// sorted brings rows into an order that tests can compare.
func sorted(rows []Row) []Row {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Row) int {
		return slices.Compare([]int64{int64(a.Partition.ID), a.Offset}, []int64{int64(b.Partition.ID), b.Offset})
	})
	return rows
}

func wantRows(t *testing.T, f Fixture, batches ...sinks.Batch) {
	t.Helper()
	var want []Row
	for _, b := range batches {
		for i := range b.Records {
			want = append(want, RowOf(b.Partition, &b.Records[i]))
		}
	}
	if diff := cmp.Diff(sorted(want), sorted(f.Rows())); diff != "" {
		if len(diff) > 4000 {
			diff = diff[:4000] + "..."
		}
		t.Errorf("rows differ (-want +stored):\n%s", diff)
	}
}

func wantAt(t *testing.T, s sinks.Sink, p sinks.Partition, want int64) {
	t.Helper()
	at, err := s.Positions(t.Context(), []sinks.Partition{p})
	if err != nil {
		t.Fatalf("positions: %v", err)
	}
	if at[p] != want {
		t.Errorf("stored offset of %s is %d, want %d", p, at[p], want)
	}
}

func write(t *testing.T, s sinks.Sink, batches ...sinks.Batch) {
	t.Helper()
	if err := s.Write(t.Context(), batches); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func testStores(t *testing.T, f Fixture) {
	s := f.Open()
	a, b := NewSource(t, Topic, 0), NewSourceWith(t, Topic, 7, nil)
	first := a.Batch(append([]sinks.Record{a.First()}, a.Events(20)...))
	other := b.Batch(append([]sinks.Record{b.First()}, b.Events(3)...))
	write(t, s, first, other)
	a.Gap()
	rs := append(a.Events(5), a.Close())
	second := sinks.Batch{Partition: a.Partition, From: first.Next, Next: a.Next() + 1, Records: rs} // markers on both sides
	write(t, s, second)
	wantRows(t, f, first, other, second)
	wantAt(t, f.Open(), a.Partition, a.Next()+1)
	wantAt(t, f.Open(), b.Partition, 4)
}

func testOdd(t *testing.T, f Fixture) {
	s, src := f.Open(), NewSource(t, Topic, 0)
	batch := src.Batch([]sinks.Record{src.First()})
	write(t, s, batch)
	odd := OddRecords()
	names := make([]string, 0, len(odd))
	for name := range odd {
		names = append(names, name)
	}
	slices.Sort(names)
	all := []sinks.Batch{batch}
	for _, name := range names {
		b := src.Batch(src.Seal(odd[name]))
		if err := s.Write(t.Context(), []sinks.Batch{b}); err != nil {
			t.Fatalf("%s: write: %v", name, err)
		}
		all = append(all, b)
	}
	wantRows(t, f, all...)
}

func testBig(t *testing.T, f Fixture) {
	s, src := f.Open(), NewSource(t, Topic, 0)
	rng := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 21<<20) // compresses to nothing less
	_, _ = rng.Read(noise)
	rs := append([]sinks.Record{src.First()}, src.Seal(
		ledger.Record{Value: noise, TimeMs: BaseTimeMs},
		ledger.Record{Value: slices.Concat([]byte(`{"event":{"id":"x"},"message":"`), []byte(fmt.Sprintf("%021000000d", 1)), []byte(`"}`)), TimeMs: BaseTimeMs},
		ledger.Record{Key: noise[:1<<20], TimeMs: BaseTimeMs},
	)...)
	b := src.Batch(rs)
	write(t, s, b)
	rows := sorted(f.Rows())
	if len(rows) != len(rs) {
		t.Fatalf("%d rows stored, want %d", len(rows), len(rs))
	}
	for i := range rs {
		if rows[i].Frame != RowOf(b.Partition, &rs[i]).Frame {
			t.Errorf("frame of record %d differs", i)
		}
	}
}

func testPositions(t *testing.T, f Fixture) {
	s := f.Open()
	p, q := sinks.Partition{Topic: Topic, ID: 1}, sinks.Partition{Topic: "other.sealed", ID: 1}
	at, err := s.Positions(t.Context(), []sinks.Partition{p, q})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[sinks.Partition]int64{p: 0, q: 0}, at); diff != "" {
		t.Errorf("positions of a fresh destination (-want +got):\n%s", diff)
	}
	write(t, s, sinks.Batch{Partition: p, Next: 4})
	wantAt(t, s, p, 4)
	wantAt(t, s, q, 0)
	if err := s.Probe(t.Context()); err != nil {
		t.Errorf("probe of a destination that is well: %v", err)
	}
}

func testEmpty(t *testing.T, f Fixture) {
	s, p := f.Open(), sinks.Partition{Topic: Topic, ID: 3}
	write(t, s, sinks.Batch{Partition: p, From: 0, Next: 5})
	write(t, s, sinks.Batch{Partition: p, From: 5, Next: 6})
	for _, wrong := range []int64{0, 5, 7} {
		if err := s.Write(t.Context(), []sinks.Batch{{Partition: p, From: wrong, Next: 9}}); !errors.Is(err, sinks.ErrMoved) {
			t.Errorf("write from offset %d where 6 is stored: %v, want ErrMoved", wrong, err)
		}
	}
	wantAt(t, s, p, 6)
	wantRows(t, f)
}

func testAtomic(t *testing.T, f Fixture) {
	s := f.Open()
	a, b := NewSource(t, Topic, 0), NewSource(t, Topic, 1)
	good := a.Batch([]sinks.Record{a.First()})
	moved := b.Batch([]sinks.Record{b.First()})
	write(t, s, sinks.Batch{Partition: b.Partition, Next: 1})
	if err := s.Write(t.Context(), []sinks.Batch{good, moved}); !errors.Is(err, sinks.ErrMoved) {
		t.Fatalf("write with one moved partition: %v, want ErrMoved", err)
	}
	wantRows(t, f)
	wantAt(t, s, a.Partition, 0)

	f.Refuse(RefOf(&good.Records[0]))
	c := NewSource(t, Topic, 2)
	fine := c.Batch([]sinks.Record{c.First()})
	var rej *sinks.Rejected
	if err := s.Write(t.Context(), []sinks.Batch{fine, good}); !errors.As(err, &rej) {
		t.Fatalf("write with poison: %v, want *Rejected", err)
	}
	if rej.Reason == "" || rej.Code == "" {
		t.Errorf("refusal %+v has no reason or no code", rej)
	}
	wantRows(t, f)
	wantAt(t, s, c.Partition, 0)
}

// lossy is a sink whose answers get lost behind a write that was stored.
type lossy struct {
	sinks.Sink
	lose int // so many answers
}

var errLost = errors.New("answer lost")

func (l *lossy) Write(ctx context.Context, bs []sinks.Batch) error {
	err := l.Sink.Write(ctx, bs)
	if err == nil && l.lose > 0 {
		l.lose--
		return errLost
	}
	return err
}

func testLostAnswer(t *testing.T, f Fixture) {
	s := &lossy{Sink: f.Open(), lose: 1}
	src := NewSource(t, Topic, 0)
	b := src.Batch(append([]sinks.Record{src.First()}, src.Events(9)...))
	if err := s.Write(t.Context(), []sinks.Batch{b}); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), []sinks.Batch{b}); !errors.Is(err, sinks.ErrMoved) {
		t.Errorf("the same write again: %v, want ErrMoved", err)
	}
	wantRows(t, f, b)
	wantAt(t, s, src.Partition, b.Next)

	s.lose = 1
	next := src.Batch(src.Events(9))
	rejects := &Rejects{}
	if err := deliverer(s, rejects).Deliver(t.Context(), []sinks.Batch{next}); err != nil {
		t.Fatalf("deliver over a lost answer: %v", err)
	}
	wantRows(t, f, b, next)
	wantAt(t, s, src.Partition, next.Next)
}

func deliverer(s sinks.Sink, r sinks.Rejecter) *sinks.Deliverer {
	return sinks.NewDeliverer(s, r, sinks.DeliverOptions{Sink: "test", RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond},
		slog.New(slog.DiscardHandler), sinks.NewMetrics(nil))
}

func testZombie(t *testing.T, f Fixture) {
	zombie, owner := f.Open(), f.Open()
	src := NewSource(t, Topic, 0)
	first := src.Batch(append([]sinks.Record{src.First()}, src.Events(9)...))
	second := src.Batch(src.Events(10))
	third := src.Batch(src.Events(10))
	write(t, zombie, first)
	write(t, owner, second)
	if err := zombie.Write(t.Context(), []sinks.Batch{second}); !errors.Is(err, sinks.ErrMoved) {
		t.Errorf("zombie writes what the new owner wrote: %v, want ErrMoved", err)
	}
	if err := zombie.Write(t.Context(), []sinks.Batch{{Partition: src.Partition, From: second.From, Next: third.Next, Records: slices.Concat(second.Records, third.Records)}}); !errors.Is(err, sinks.ErrMoved) {
		t.Errorf("zombie writes more than the new owner: %v, want ErrMoved", err)
	}
	write(t, owner, third)
	wantRows(t, f, first, second, third)
	wantAt(t, owner, src.Partition, third.Next)
}

func testRace(t *testing.T, f Fixture) {
	src := NewSource(t, Topic, 0)
	owners := []sinks.Sink{f.Open(), f.Open(), f.Open()}
	batches := []sinks.Batch{src.Batch(append([]sinks.Record{src.First()}, src.Events(9)...))}
	for range 9 {
		batches = append(batches, src.Batch(src.Events(10)))
	}
	wins := make([]int, len(owners))
	for _, b := range batches {
		var wg sync.WaitGroup
		errs := make([]error, len(owners))
		for i, s := range owners {
			wg.Go(func() { errs[i] = s.Write(t.Context(), []sinks.Batch{b}) })
		}
		wg.Wait()
		won := 0
		for i, err := range errs {
			switch {
			case err == nil:
				won++
				wins[i]++
			case !errors.Is(err, sinks.ErrMoved):
				t.Errorf("owner %d: %v, want nil or ErrMoved", i, err)
			}
		}
		if won != 1 {
			t.Fatalf("%d owners stored the batch at %d, want 1", won, b.From)
		}
	}
	wantRows(t, f, batches...)
}

func testNeverAhead(t *testing.T, f Fixture) {
	src := NewSource(t, Topic, 0)
	batches := []sinks.Batch{src.Batch([]sinks.Record{src.First()})}
	for range 30 {
		batches = append(batches, src.Batch(src.Events(10)))
	}
	s, watcher := f.Open(), f.Open()
	done := make(chan error, 1)
	looked := make(chan struct{}) // so that writes that are faster than looks are watched too
	go func() {
		for i, b := range batches {
			if i%10 == 5 {
				select {
				case <-looked:
				case <-t.Context().Done():
				}
			}
			if err := s.Write(t.Context(), []sinks.Batch{b}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	looks := 0
	for running := true; running; looks++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("write: %v", err)
			}
			running = false
		default:
		}
		at, err := watcher.Positions(t.Context(), []sinks.Partition{src.Partition})
		if err != nil {
			t.Fatal(err)
		}
		have := map[int64]bool{}
		for _, r := range f.Rows() {
			have[r.Offset] = true
		}
		for off := range at[src.Partition] {
			if !have[off] {
				t.Fatalf("stored offset is %d and record %d is not there", at[src.Partition], off)
			}
		}
		select {
		case looked <- struct{}{}:
		default:
		}
	}
	if looks < 3 {
		t.Errorf("looked %d times only: the writes were too fast to be watched", looks)
	}
}

func testConcurrent(t *testing.T, f Fixture) {
	s := f.Open()
	var all []sinks.Batch
	var wg sync.WaitGroup
	for p := range int32(4) {
		src := NewSource(t, Topic, p)
		var mine []sinks.Batch
		mine = append(mine, src.Batch([]sinks.Record{src.First()}))
		for range 5 {
			mine = append(mine, src.Batch(src.Events(20)))
		}
		all = append(all, mine...)
		wg.Go(func() {
			for _, b := range mine {
				if err := s.Write(t.Context(), []sinks.Batch{b}); err != nil {
					t.Errorf("write of %s: %v", b.Partition, err)
				}
			}
		})
	}
	wg.Wait()
	wantRows(t, f, all...)
}

func testCancelled(t *testing.T, f Fixture) {
	s, src := f.Open(), NewSource(t, Topic, 0)
	var done []sinks.Batch
	rs := append([]sinks.Record{src.First()}, src.Events(200)...)
	b := src.Batch(rs)
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		if i == 0 {
			cancel() // before it begins
		} else {
			stop := time.AfterFunc(time.Duration(i)*200*time.Microsecond, cancel)
			defer stop.Stop()
		}
		err := s.Write(ctx, []sinks.Batch{b})
		cancel()
		if err == nil || errors.Is(err, sinks.ErrMoved) {
			done = append(done, b)
			b = src.Batch(src.Events(200))
		}
		at, err := s.Positions(t.Context(), []sinks.Partition{src.Partition})
		if err != nil {
			t.Fatal(err)
		}
		if at[src.Partition] == b.Next { // stored although the answer was an error
			done = append(done, b)
			b = src.Batch(src.Events(200))
		}
	}
	write(t, s, b)
	wantRows(t, f, append(done, b)...)
}

func testOrder(t *testing.T, f Fixture) {
	s := f.Open()
	a, b := NewSource(t, Topic, 0), NewSource(t, Topic, 1)
	write(t, s, a.Batch([]sinks.Record{a.First()}), b.Batch([]sinks.Record{b.First()}))
	for range 10 {
		a.Gap()
		write(t, s, bridge(a, a.Events(7)), bridge(b, b.Events(3)))
	}
	last := map[int32]int64{}
	for _, r := range f.Rows() {
		if before, ok := last[r.Partition.ID]; ok && r.Offset <= before {
			t.Errorf("partition %d: offset %d was stored behind %d", r.Partition.ID, r.Offset, before)
		}
		last[r.Partition.ID] = r.Offset
	}
}

// bridge is the batch of records of which gap offsets come first.
func bridge(s *Source, rs []sinks.Record) sinks.Batch {
	b := s.Batch(rs)
	if b.Partition.ID == 0 {
		b.From--
	}
	return b
}

func testMisuse(t *testing.T, f Fixture) {
	s, src := f.Open(), NewSource(t, Topic, 0)
	rs := append([]sinks.Record{src.First()}, src.Events(3)...)
	good := src.Batch(rs)
	for name, bs := range map[string][]sinks.Batch{
		"no batch":               {},
		"a partition twice":      {{Partition: src.Partition, Next: 1}, {Partition: src.Partition, From: 1, Next: 2}},
		"an offset that stays":   {{Partition: src.Partition, From: 1, Next: 1}},
		"an offset below zero":   {{Partition: src.Partition, From: -1, Next: 1}},
		"records out of order":   {{Partition: src.Partition, Next: 4, Records: []sinks.Record{rs[1], rs[0]}}},
		"a record twice":         {{Partition: src.Partition, Next: 4, Records: []sinks.Record{rs[1], rs[1]}}},
		"a record below From":    {{Partition: src.Partition, From: 1, Next: 4, Records: rs}},
		"a record at or over it": {{Partition: src.Partition, Next: 3, Records: rs}},
	} {
		if sinks.Check(bs) == nil {
			t.Errorf("%s: Check finds nothing wrong", name)
		}
		if _, spiteful := s.(interface{ Unfired() int }); spiteful {
			continue // it would fail the test, as it should
		}
		if err := s.Write(t.Context(), bs); err == nil {
			t.Errorf("%s: write was taken", name)
		}
	}
	write(t, s, good)
	wantRows(t, f, good)
}
