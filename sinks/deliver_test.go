package sinks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"pgregory.net/rapid"

	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

const topic = "audit.events.sealed"

// bench is a Deliverer in front of a spiteful sink; run it inside synctest.
type bench struct {
	*sinks.Deliverer
	sink    *sinktest.Memory
	rejects *sinktest.Rejects
	reg     *prometheus.Registry
	src     *sinktest.Source
	log     bytes.Buffer

	mu     sync.Mutex
	alarms []string
}

func newBench(t *testing.T, o sinks.DeliverOptions) *bench {
	b := &bench{sink: sinktest.NewMemory(t), rejects: &sinktest.Rejects{}, reg: prometheus.NewRegistry(), src: sinktest.NewSource(t, topic, 0)}
	o.Sink = "memory"
	o.Alarm = func(kind, detail string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		state := "raised"
		if detail == "" {
			state = "cleared"
		}
		b.alarms = append(b.alarms, kind+" "+state)
	}
	b.Deliverer = sinks.NewDeliverer(b.sink, b.rejects, o, slog.New(slog.NewTextHandler(&b.log, nil)), sinks.NewMetrics(b.reg))
	return b
}

// batch is the genesis and n-1 events.
func (b *bench) batch(n int) sinks.Batch {
	return b.src.Batch(append([]sinks.Record{b.src.First()}, b.src.Events(n-1)...))
}

func (b *bench) seqs() (stored []uint64) {
	for _, r := range b.sink.Rows() {
		stored = append(stored, r.Seq)
	}
	return stored
}

func upTo(n int) (seqs []uint64) {
	for i := range n {
		seqs = append(seqs, uint64(i))
	}
	return seqs
}

// metric returns the value of a metric, or a histogram's count.
func (b *bench) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	fams, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fams {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && matches(m, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

func matches(m *dto.Metric, labels []string) bool {
	for _, want := range labels {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName()+"="+l.GetValue() == want }) {
			return false
		}
	}
	return true
}

// inBubble runs fn with time of its own, and fails the test when a planned fault did
// not happen.
func inBubble(t *testing.T, o sinks.DeliverOptions, fn func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, o)
		fn(t, b)
		if n := b.sink.Unfired(); n > 0 {
			t.Errorf("%d planned faults never fired", n)
		}
	})
}

func TestDeliverStores(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		batch := b.batch(10)
		if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(upTo(10), b.seqs()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		for name, want := range map[string]float64{"records_total": 10, "batch_records": 1, "write_seconds": 1, "bisect_steps_total": 0, "breaker_state": 0, "rejects_total": 0} {
			if got := b.metric(t, "sealstream_sink_"+name, "sink=memory"); got != want {
				t.Errorf("metric %s is %v, want %v", name, got, want)
			}
		}
		// Genesis has no timestamp, so it has no latency.
		if got := b.metric(t, "sealstream_sink_stored_latency_seconds", "sink=memory"); got != 9 {
			t.Errorf("%v stored latencies, want 9", got)
		}
		if err := b.Deliver(t.Context(), nil); err == nil {
			t.Error("a call without batches is taken")
		}
	})
}

func TestDeliverRetries(t *testing.T) {
	busy := &sinks.Unavailable{Class: "resources", Err: errors.New("busy")}
	inBubble(t, sinks.DeliverOptions{BreakerFailures: 1000}, func(t *testing.T, b *bench) {
		batch := b.batch(4)
		// Not applied, applied with the answer lost, busy, unknown.
		b.sink.Fail(sinktest.Fault{Err: errors.New("down")}, sinktest.Fault{Err: busy}, sinktest.Fault{Err: busy}, sinktest.Fault{Err: errors.New("answer lost"), Apply: true})
		start := time.Now()
		if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(upTo(4), b.seqs()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		if took := time.Since(start); took > (100+200+400+800)*time.Millisecond {
			t.Errorf("four retries took %v, more than the sum of their bounds", took)
		}
		if other, resources := b.metric(t, "sealstream_sink_retries_total", "class=other"), b.metric(t, "sealstream_sink_retries_total", "class=resources"); other != 2 || resources != 2 {
			t.Errorf("retries by class: other %v, resources %v, want 2 and 2", other, resources)
		}
	})
}

func TestDeliverNeverGivesUp(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		batch := b.batch(4)
		b.sink.Down(errors.New("down"))
		done := make(chan error, 1)
		go func() { done <- b.Deliver(t.Context(), []sinks.Batch{batch}) }()
		time.Sleep(24 * time.Hour) // the bubble's time
		select {
		case err := <-done:
			t.Fatalf("gave up: %v", err)
		default:
		}
		if b.State() == sinks.BreakerClosed {
			t.Error("the breaker is closed after a day without an answer")
		}
		writes, probes := b.sink.Calls()
		if writes != 5 {
			t.Errorf("%d writes to a sink that is down, want 5 before the breaker opens and none behind a failed probe", writes)
		}
		// Every 5 s, the jitter aside.
		if probes < 24*3600/6 || probes > 24*3600/5 {
			t.Errorf("%d probes in a day, want one about every 5 s", probes)
		}
		b.sink.Down(nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if b.State() != sinks.BreakerClosed || b.metric(t, "sealstream_sink_breaker_state") != 0 {
			t.Error("the breaker is not closed after a stored batch")
		}
		if diff := cmp.Diff([]string{"sink_down raised", "sink_down cleared"}, slices.Compact(b.alarms[len(b.alarms)-2:])); diff != "" {
			t.Errorf("alarms (-want +got):\n%s", diff)
		}
	})
}

func TestDeliverEndsWithContext(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		batch := b.batch(4)
		b.sink.Down(errors.New("down"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Deliver(ctx, []sinks.Batch{batch}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("deliver: %v, want the context's error", err)
		}
		if at := b.sink.At(b.src.Partition); at != 0 || len(b.sink.Rows()) != 0 {
			t.Errorf("offset %d, %d rows, want nothing", at, len(b.sink.Rows()))
		}
		b.sink.Down(nil)
		if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(upTo(4), b.seqs()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}

// A caller that goes away is not a fault of the destination.
func TestCancelDoesNotCount(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{BreakerFailures: 1}, func(t *testing.T, b *bench) {
		batch := b.batch(4)
		for range 10 {
			b.sink.Fail(sinktest.Fault{})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := b.Deliver(ctx, []sinks.Batch{batch}); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("deliver: %v, want the context's error", err)
			}
			cancel()
		}
		if b.State() != sinks.BreakerClosed {
			t.Error("the breaker counts calls that their caller ended")
		}
	})
}

// A destination that hangs without closing the connection.
func TestDeliverHang(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{WriteTimeout: time.Minute}, func(t *testing.T, b *bench) {
		batch := b.batch(4)
		b.sink.Fail(sinktest.Fault{}, sinktest.Fault{Apply: true})
		start := time.Now()
		if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 2*time.Minute || took > 2*time.Minute+time.Second {
			t.Errorf("two hangs of a minute took %v", took)
		}
		if got := b.metric(t, "sealstream_sink_retries_total", "class=timeout"); got != 2 {
			t.Errorf("%v time-outs counted, want 2", got)
		}
		if diff := cmp.Diff(upTo(4), b.seqs()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}

func TestDeliverMoved(t *testing.T) {
	for _, c := range []struct {
		name   string
		at     int64 // stored offset of the partition, whose batch is [4, 8)
		want   error
		stored []uint64
	}{
		{"behind the batch", 3, sinks.ErrMoved, nil},
		{"where it begins", 4, nil, []uint64{4, 5, 6, 7}},
		{"inside", 6, nil, []uint64{6, 7}},
		{"at its end", 8, nil, nil},
		{"beyond", 9, sinks.ErrMoved, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
				all := b.batch(8).Records
				b.sink.Move(b.src.Partition, c.at)
				err := b.Deliver(t.Context(), []sinks.Batch{b.src.Batch(all[4:])})
				if !errors.Is(err, c.want) {
					t.Errorf("deliver: %v, want %v", err, c.want)
				}
				if diff := cmp.Diff(c.stored, b.seqs()); diff != "" {
					t.Errorf("stored (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// An ErrMoved that Positions does not confirm must not become an endless loop.
func TestMovedWithoutMove(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		b.sink.Fail(sinktest.Fault{Err: sinks.ErrMoved})
		if err := b.Deliver(t.Context(), []sinks.Batch{b.batch(3)}); !errors.Is(err, sinks.ErrMoved) {
			t.Errorf("deliver: %v, want ErrMoved", err)
		}
	})
}

// Two partitions in one call, the answer lost after one was stored by another path.
func TestMovedPartially(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		other := sinktest.NewSource(t, topic, 1)
		mine := b.batch(5)
		theirs := other.Batch([]sinks.Record{other.First()})
		b.sink.Move(other.Partition, theirs.Next)
		if err := b.Deliver(t.Context(), []sinks.Batch{theirs, mine}); err != nil {
			t.Fatal(err)
		}
		if b.sink.At(b.src.Partition) != 5 || len(b.sink.Rows()) != 5 {
			t.Errorf("offset %d, %d rows, want 5 and 5", b.sink.At(b.src.Partition), len(b.sink.Rows()))
		}
	})
}

func TestConfigError(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		batch := b.batch(4)
		b.sink.Down(&sinks.ConfigError{Err: errors.New("password authentication failed")})
		done := make(chan error, 1)
		go func() { done <- b.Deliver(t.Context(), []sinks.Batch{batch}) }()
		synctest.Wait()
		if b.State() != sinks.BreakerOpen {
			t.Errorf("breaker is %v after one configuration error, want open", b.State())
		}
		b.sink.AskFirst()
		time.Sleep(59 * time.Second)
		if writes, probes := b.sink.Calls(); writes != 1 || probes != 0 {
			t.Errorf("%d writes and %d probes in the first minute, want 1 and 0", writes, probes)
		}
		time.Sleep(10 * time.Minute)
		b.sink.Down(nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(b.rejects.Kept()) != 0 {
			t.Error("a configuration error set records aside")
		}
		if diff := cmp.Diff(upTo(4), b.seqs()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		if got := slices.Compact(b.alarms); !slices.Equal(got, []string{"sink_config raised", "sink_config cleared"}) {
			t.Errorf("alarms %q", got)
		}
		if b.metric(t, "sealstream_sink_retries_total", "class=config") < 2 {
			t.Error("configuration errors are not counted by class")
		}
	})
}

// A database that is down while its configuration was wrong says nothing about the
// configuration: the alarm stays until a write is stored.
func TestConfigAlarmOutlivesAnOutage(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		b.sink.Down(&sinks.ConfigError{Err: errors.New("no such table")})
		done := make(chan error, 1)
		go func() { done <- b.Deliver(t.Context(), []sinks.Batch{b.batch(4)}) }()
		time.Sleep(10 * time.Second)
		b.sink.Down(errors.New("down"))
		time.Sleep(10 * time.Minute)
		if slices.Contains(b.alarms, "sink_config cleared") {
			t.Error("the alarm was cleared by a destination that did not answer")
		}
		b.sink.Down(nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(b.alarms, "sink_config cleared") {
			t.Error("the alarm was not cleared by a stored batch")
		}
	})
}

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

// A sink that refuses everything, bare offsets too, is set up wrongly: nothing is set
// aside for it.
func TestRefusedOffsetIsConfig(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		b.sink.Deny(true)
		done := make(chan error, 1)
		go func() {
			done <- b.Deliver(t.Context(), []sinks.Batch{{Partition: b.src.Partition, Next: 3}})
		}()
		synctest.Wait()
		if b.State() != sinks.BreakerOpen || !slices.Contains(b.alarms, "sink_config raised") {
			t.Errorf("breaker %v, alarms %q", b.State(), b.alarms)
		}
		b.sink.Deny(false)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(b.rejects.Kept()) != 0 || b.sink.At(b.src.Partition) != 3 {
			t.Errorf("%d set aside, offset %d", len(b.rejects.Kept()), b.sink.At(b.src.Partition))
		}
	})
}

func TestConflictRaisesAlarm(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		b.sink.Fail(sinktest.Fault{Err: &sinks.Rejected{Code: "23505", Reason: sinks.ReasonConflict}}, sinktest.Fault{Err: &sinks.Rejected{Code: "23505", Reason: sinks.ReasonConflict}})
		if err := b.Deliver(t.Context(), []sinks.Batch{b.batch(1)}); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(b.alarms, "sink_conflict raised") || len(b.rejects.Kept()) != 1 {
			t.Errorf("alarms %q, %d set aside", b.alarms, len(b.rejects.Kept()))
		}
	})
}

// Nothing of a record gets into a log line (I12).
func TestLogsShowNoContents(t *testing.T) {
	inBubble(t, sinks.DeliverOptions{}, func(t *testing.T, b *bench) {
		batch := b.batch(8)
		b.sink.Refuse(sinktest.RefOf(&batch.Records[3]))
		b.sink.Fail(sinktest.Fault{Err: errors.New("down")})
		if err := b.Deliver(t.Context(), []sinks.Batch{batch}); err != nil {
			t.Fatal(err)
		}
		if b.log.Len() == 0 || strings.Contains(b.log.String(), "alice") || strings.Contains(b.log.String(), "role.grant") {
			t.Errorf("log:\n%s", b.log.String())
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

func ExampleBreakerState() {
	fmt.Println(sinks.BreakerClosed, sinks.BreakerHalfOpen, sinks.BreakerOpen)
	// Output: closed half-open open
}
