package sinks_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

func TestPoisonIsAnAnswer(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{BreakerFailures: 1}, func(t *testing.T, b *bench) {
		batch := b.batch(64)
		var want []uint64
		for i := 1; i < 64; i += 2 {
			b.sink.Refuse(sinktest.RefOf(&batch.Records[i]))
			want = append(want, uint64(i-1))
		}
		start := time.Now()
		if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		if time.Since(start) != 0 {
			t.Error("poison made the Deliverer wait")
		}
		if diff := cmp.Diff(want, b.seqs()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		if b.metric(t, "sealstream_sink_breaker_state") != 0 {
			t.Error("poison opened the breaker")
		}
		if got := b.metric(t, "sealstream_sink_rejects_total", "reason=test"); got != 32 {
			t.Errorf("%v rejects counted, want 32", got)
		}
	})
}

func TestBisectIsLogarithmic(t *testing.T) {
	for _, at := range []int{0, 1, 777, 2048, 4095} {
		inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
			batch := b.batch(4096)
			b.sink.Refuse(sinktest.RefOf(&batch.Records[at]))
			if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
				t.Fatal(err)
			}
			// Two writes per halving where the poison is left, one where it is right: then the
			// right half need not be tried as a whole. And one for the record alone.
			want := 1.0
			for size := 2048; size > 0; size /= 2 {
				want++
				if at&size == 0 {
					want++
				}
			}
			if at%2 == 0 {
				want-- // the record alone was the left half
			}
			if steps := b.metric(t, "sealstream_sink_bisect_steps_total"); steps != want {
				t.Errorf("poison at %d of 4096 took %v writes, want %v", at, steps, want)
			}
			kept := b.rejects.Kept()
			if len(kept) != 1 {
				t.Fatalf("%d set aside, want 1", len(kept))
			}
			r := kept[0]
			if r.Sink != "memory" || r.Code != "poison" || r.Reason != "test" || r.Detail != "refused by the test" || r.Attempts < 2 || r.Attempts > 13 || r.First.IsZero() || r.Last.Before(r.First) {
				t.Errorf("rejection says %+v", r)
			}
		})
	}
}

func TestAttempts(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		batch := b.batch(8)
		b.sink.Refuse(sinktest.RefOf(&batch.Records[0]), sinktest.RefOf(&batch.Records[7]))
		if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, r := range b.rejects.Kept() {
			got = append(got, r.Attempts)
		}
		// Record 0 was refused in [0,8), [0,4), [0,2) and alone; record 7 in [0,8), [4,8) and alone.
		if diff := cmp.Diff([]int{4, 3}, got); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
	})
}

// Two records that only clash with each other are both stored: a record is set aside
// only when it was refused alone.
func TestClashIsNotPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, sinks.DeliverOptions{})
		batch := b.batch(8)
		d := sinks.NewDeliverer(&clash{b.sink, sinktest.RefOf(&batch.Records[2]), sinktest.RefOf(&batch.Records[6])}, b.rejects,
			sinks.DeliverOptions{Sink: "x"}, slog.New(slog.DiscardHandler), sinks.NewMetrics(nil))
		if err := d.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(upTo(8), b.seqs()); diff != "" || len(b.rejects.Kept()) > 0 {
			t.Errorf("%d set aside; stored (-want +got):\n%s", len(b.rejects.Kept()), diff)
		}
	})
}

type clash struct {
	*sinktest.Memory
	a, b sinktest.Ref
}

func (c *clash) Write(ctx context.Context, bs []sinks.Batch) error {
	var a, b bool
	for i := range bs[0].Records {
		a = a || sinktest.RefOf(&bs[0].Records[i]) == c.a
		b = b || sinktest.RefOf(&bs[0].Records[i]) == c.b
	}
	if a && b {
		return &sinks.Rejected{Code: "clash", Reason: "test"}
	}
	return c.Memory.Write(ctx, bs)
}

// The offset passes a record only when the rejects topic has it.
func TestRejectsComeFirst(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		batch := b.batch(8)
		b.sink.Refuse(sinktest.RefOf(&batch.Records[5]))
		left := 3
		b.rejects.Check = func(r sinks.Rejection) error {
			if at := b.sink.At(b.src.Partition); at != 5 {
				t.Errorf("stored offset is %d while record 5 is being set aside", at)
			}
			if left--; left >= 0 {
				return errors.New("rejects topic does not answer")
			}
			return nil
		}
		if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		if b.sink.At(b.src.Partition) != 8 || len(b.rejects.Kept()) != 1 || len(b.sink.Rows()) != 7 {
			t.Errorf("offset %d, %d set aside, %d rows", b.sink.At(b.src.Partition), len(b.rejects.Kept()), len(b.sink.Rows()))
		}
		if b.State() != sinks.BreakerClosed || b.metric(t, "sealstream_sink_retries_total", "class=rejects") != 3 {
			t.Error("a rejects topic that is down is held against the sink, or not counted")
		}
	})
}

// A crash between the reject and the offset: the record is set aside again, nothing is lost.
func TestCrashBehindReject(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		batch := b.batch(8)
		b.sink.Refuse(sinktest.RefOf(&batch.Records[0]))
		ctx, crash := context.WithCancel(t.Context())
		b.rejects.Check = func(sinks.Rejection) error {
			b.sink.Down(errors.New("the process is gone"))
			return nil
		}
		go func() { time.Sleep(time.Second); crash() }()
		if err := b.Deliver(ctx, []sinks.Batch{batch}); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if at := b.sink.At(b.src.Partition); at != 0 || len(b.rejects.Kept()) != 1 {
			t.Fatalf("offset %d, %d set aside, want 0 and 1", at, len(b.rejects.Kept()))
		}
		b.rejects.Check = nil
		b.sink.Down(nil)
		if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6, 7}, b.seqs()); diff != "" || len(b.rejects.Kept()) != 2 {
			t.Errorf("%d set aside; stored (-want +got):\n%s", len(b.rejects.Kept()), diff)
		}
	})
}

// Whatever happens, each record ends up stored or set aside, once each, in order.
func TestDeliverProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, rejects := sinktest.NewMemory(t), &sinktest.Rejects{}
		d := sinks.NewDeliverer(m, rejects, sinks.DeliverOptions{
			Sink: "x", RetryMin: time.Nanosecond, RetryMax: time.Microsecond, WriteTimeout: time.Second,
			BreakerFailures: 3, BreakerOpen: time.Microsecond, ConfigOpen: time.Microsecond,
		}, slog.New(slog.DiscardHandler), sinks.NewMetrics(nil))
		srcs := []*sinktest.Source{sinktest.NewSource(t, topic, 0), sinktest.NewSource(t, topic, 1)}
		first := []sinks.Record{srcs[0].First()}
		next := []int64{0, 0}
		var poison []sinktest.Ref
		for round := range rapid.IntRange(1, 4).Draw(rt, "calls") {
			var batches []sinks.Batch
			for p, src := range srcs {
				rs := src.Events(rapid.IntRange(0, 9).Draw(rt, "records"))
				if round == 0 {
					rs = append(slices.Clone(first), rs...)
					first[0] = srcs[1].First()
				}
				for i := range rs {
					if rapid.IntRange(0, 4).Draw(rt, "poison") == 0 {
						poison = append(poison, sinktest.RefOf(&rs[i]))
						m.Refuse(poison[len(poison)-1])
					}
				}
				if rapid.Bool().Draw(rt, "marker") || len(rs) == 0 {
					src.Gap()
				}
				batches = append(batches, sinks.Batch{Partition: src.Partition, From: next[p], Next: src.Next(), Records: rs})
				next[p] = src.Next()
			}
			for range rapid.IntRange(0, 6).Draw(rt, "faults") {
				m.Fail(rapid.SampledFrom([]sinktest.Fault{
					{Err: errors.New("down")}, {Err: errors.New("answer lost"), Apply: true}, {Err: &sinks.ConfigError{Err: errors.New("x")}},
					{Err: &sinks.Unavailable{Class: "busy", Err: errors.New("x")}},
				}).Draw(rt, "fault"))
			}
			if err := d.Deliver(t.Context(), batches); err != nil {
				rt.Fatalf("deliver: %v", err)
			}
		}
		checkOutcome(rt, m, rejects, srcs, poison)
	})
}

func checkOutcome(rt *rapid.T, m *sinktest.Memory, rejects *sinktest.Rejects, srcs []*sinktest.Source, poison []sinktest.Ref) {
	var aside []sinktest.Ref
	for _, r := range rejects.Kept() {
		aside = append(aside, sinktest.RefOf(&r.Record))
	}
	slices.SortStableFunc(aside, refOrder)
	slices.SortStableFunc(poison, refOrder)
	if diff := cmp.Diff(poison, aside); diff != "" {
		rt.Fatalf("set aside (-want +got):\n%s", diff)
	}
	for _, src := range srcs {
		if at := m.At(src.Partition); at != src.Next() {
			rt.Fatalf("stored offset of %s is %d, want %d", src.Partition, at, src.Next())
		}
		var seqs []uint64
		for _, r := range m.Rows() {
			if r.Ledger == src.ID {
				seqs = append(seqs, r.Seq)
			}
		}
		if !slices.IsSorted(seqs) {
			rt.Fatalf("order of %s: %v", src.Partition, seqs)
		}
	}
	total := 0
	for _, src := range srcs {
		total += src.Records()
	}
	if got := len(m.Rows()) + len(aside); got != total {
		rt.Fatalf("%d records stored or set aside, want %d", got, total)
	}
}

func refOrder(a, b sinktest.Ref) int {
	if c := bytes.Compare(a.Ledger[:], b.Ledger[:]); c != 0 {
		return c
	}
	return int(a.Seq) - int(b.Seq)
}
