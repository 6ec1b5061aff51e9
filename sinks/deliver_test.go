package sinks_test

import (
	"bytes"
	"context"
	"errors"
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

// heard returns the alarms so far.
func (b *bench) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.alarms)
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
		if n := strings.Count(b.log.String(), "\n"); n > 3 {
			t.Errorf("a day without an answer took %d log lines", n)
		}
		b.sink.Down(nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if b.State() != sinks.BreakerClosed || b.metric(t, "sealstream_sink_breaker_state") != 0 {
			t.Error("the breaker is not closed after a stored batch")
		}
		if diff := cmp.Diff([]string{"sink_down raised", "sink_down cleared"}, slices.Compact(b.heard()[len(b.heard())-2:])); diff != "" {
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
		time.Sleep(9 * time.Second)
		if writes, probes := b.sink.Calls(); writes != 1 || probes != 0 {
			t.Errorf("%d writes and %d probes in the first 9 s, want 1 and 0", writes, probes)
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
		if got := slices.Compact(b.heard()); !slices.Equal(got, []string{"sink_config raised", "sink_config cleared"}) {
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
		if slices.Contains(b.heard(), "sink_config cleared") {
			t.Error("the alarm was cleared by a destination that did not answer")
		}
		b.sink.Down(nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(b.heard(), "sink_config cleared") {
			t.Error("the alarm was not cleared by a stored batch")
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
		if b.State() != sinks.BreakerOpen || !slices.Contains(b.heard(), "sink_config raised") {
			t.Errorf("breaker %v, alarms %q", b.State(), b.heard())
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
		if !slices.Contains(b.heard(), "sink_conflict raised") || len(b.rejects.Kept()) != 1 {
			t.Errorf("alarms %q, %d set aside", b.heard(), len(b.rejects.Kept()))
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
