package stream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

// startSink runs one member of a sink's group.
func (b *bench) startSink(slot string, sink sinks.Sink, rejects sinks.Rejecter) (stop func()) {
	b.t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{b.t}, nil))
	d := sinks.NewDeliverer(sink, rejects, sinks.DeliverOptions{Sink: "memory", RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		BreakerOpen: 50 * time.Millisecond, ConfigOpen: 50 * time.Millisecond}, log, sinks.NewMetrics(nil))
	b.sinkAlarms = stream.NewAlarms(log, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- stream.RunDelivery(ctx, stream.DeliveryOptions{
			Kafka: b.cfg, Stage: "sink-memory", Slot: slot, Topics: []string{b.sealed()}, Sink: sink, Deliver: d.Deliver,
			BatchRecords: 100, Linger: 5 * time.Millisecond, QueueBytes: 64 << 10, Alarms: b.sinkAlarms, Log: log,
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// stored checks that the sink holds exactly what the sealed topic does, in order.
func (b *bench) stored(m *sinktest.Memory, partitions int32, refused map[sinktest.Ref]bool) {
	b.t.Helper()
	var want [][]sinktest.Row
	total := 0
	for p := range partitions {
		var rows []sinktest.Row
		for _, r := range b.readAll(b.sealed(), p) {
			s, err := ledger.Open(&r)
			if err != nil {
				b.t.Fatal(err)
			}
			rec := sinks.Record{Offset: r.Offset, Sealed: s}
			if !refused[sinktest.RefOf(&rec)] {
				rows = append(rows, sinktest.RowOf(sinks.Partition{Topic: b.sealed(), ID: p}, &rec))
			}
		}
		want = append(want, rows)
		total += len(rows)
	}
	until(b.t, fmt.Sprintf("%d rows", total), func() (bool, string) {
		n := len(m.Rows())
		return n >= total, fmt.Sprint(n)
	})
	got := map[int32][]sinktest.Row{}
	for _, r := range m.Rows() {
		got[r.Partition.ID] = append(got[r.Partition.ID], r)
	}
	for p, rows := range want {
		if len(got[int32(p)]) != len(rows) {
			b.t.Fatalf("partition %d: %d rows, want %d", p, len(got[int32(p)]), len(rows))
		}
		for i := range rows {
			if got[int32(p)][i] != rows[i] {
				b.t.Fatalf("partition %d: row %d is not record %d", p, i, i)
			}
		}
	}
}

// I5, I6: whatever the sink answers, each record is stored once, in order.
func TestDeliversOnceInOrderWhateverTheSinkAnswers(t *testing.T) {
	b := newBench(t, 4)
	b.startSeal("a")
	for p := range int32(4) {
		b.produce(p, 300)
		b.sealedEvents(p, 300)
	}
	m := sinktest.NewMemory(t)
	lost := errors.New("answer lost")
	faults := []sinktest.Fault{
		{Err: lost, Apply: true}, {Err: lost}, {Err: &sinks.ConfigError{Err: errors.New("no such table")}},
		{Err: lost, Apply: true}, {Err: lost, Apply: true}, {Err: lost},
	}
	m.Fail(faults...)
	rej := &sinktest.Rejects{}
	stop := b.startSink("a", m, rej)
	b.stored(m, 4, nil)
	if n := m.Unfired(); n > 0 {
		t.Fatalf("%d faults never fired", n)
	}
	stop()
	for p := range int32(4) {
		b.produce(p, 50)
		b.sealedEvents(p, 350)
	}
	b.startSink("a", m, rej) // a second life begins at the stored offsets
	b.stored(m, 4, nil)
}

// I7: a record the sink will never take is set aside, its neighbours are stored.
func TestPoisonIsSetAsideAlone(t *testing.T) {
	b := newBench(t, 1)
	b.startSeal("a")
	b.produce(0, 250)
	got := b.sealedEvents(0, 250)
	m := sinktest.NewMemory(t)
	refused := map[sinktest.Ref]bool{}
	for _, i := range []int{1, 100, 101, 250} {
		ref := sinktest.Ref{Ledger: got[i].Statement.Ledger, Seq: got[i].Statement.Seq}
		refused[ref] = true
		m.Refuse(ref)
	}
	rejects, err := stream.NewRejects(b.cfg, b.cfg.Prefix+schemas.TopicRejects)
	if err != nil {
		t.Fatal(err)
	}
	defer rejects.Close()
	b.startSink("a", m, rejects)
	b.stored(m, 1, refused)
	var kept []sinks.Rejection
	until(t, "4 rejects", func() (bool, string) {
		kept = nil
		for p := range b.partitions(b.cfg.Prefix + schemas.TopicRejects) {
			for _, r := range b.readAll(b.cfg.Prefix+schemas.TopicRejects, p) {
				rej, err := sinks.ParseRejection(r.Headers)
				if err != nil {
					t.Fatal(err)
				}
				rej.Record.Source.Key, rej.Record.Source.Value = r.Key, r.Value
				if !rej.Record.CheckCommitment() {
					t.Error("a reject does not verify against its seal any more")
				}
				kept = append(kept, rej)
			}
		}
		return len(kept) >= 4, fmt.Sprint(len(kept))
	})
	for _, k := range kept {
		if !refused[sinktest.RefOf(&k.Record)] {
			t.Errorf("seq %d was set aside", k.Record.Statement.Seq)
		}
	}
}

func (b *bench) partitions(topic string) int32 {
	md, err := b.admin().Metadata(b.t.Context(), topic)
	if err != nil {
		b.t.Fatal(err)
	}
	return int32(len(md.Topics[topic].Partitions))
}

func TestTwoMembersShareASink(t *testing.T) {
	b := newBench(t, 6)
	b.startSeal("a")
	m := sinktest.NewMemory(t)
	rej := &sinktest.Rejects{}
	b.startSink("a", m.Handle(), rej)
	for p := range int32(6) {
		b.produce(p, 200)
	}
	stop := b.startSink("b", m.Handle(), rej)
	for p := range int32(6) {
		b.produce(p, 200)
		b.sealedEvents(p, 400)
	}
	stop()
	b.stored(m, 6, nil)
}

// What somebody else wrote into a sealed topic holds up nothing: not what follows it,
// not other partitions.
func TestAForeignRecordStarvesNoSink(t *testing.T) {
	b := newBench(t, 2)
	b.startSeal("a")
	for p := range int32(2) {
		b.produce(p, 50)
		b.sealedEvents(p, 50)
	}
	b.send(&kgo.Record{Topic: b.sealed(), Partition: 0, Value: []byte("fake")})
	m := sinktest.NewMemory(t)
	b.startSink("a", m, &sinktest.Rejects{})
	b.produce(1, 50)
	b.sealedEvents(1, 100)
	until(t, "rows of both partitions", func() (bool, string) {
		n := len(m.Rows())
		return n == 2+150, fmt.Sprint(n)
	})
}

// A stored offset behind the end of its partition stops that partition, and says so.
func TestAStoredOffsetPastTheEndStopsItsPartitionOnly(t *testing.T) {
	b := newBench(t, 2)
	b.startSeal("a")
	for p := range int32(2) {
		b.produce(p, 50)
		b.sealedEvents(p, 50)
	}
	m := sinktest.NewMemory(t)
	m.Move(sinks.Partition{Topic: b.sealed(), ID: 0}, 100_000)
	b.startSink("a", m, &sinktest.Rejects{})
	until(t, "rows of the other partition", func() (bool, string) {
		n := len(m.Rows())
		return n == 51, fmt.Sprint(n)
	})
	until(t, "alarm", func() (bool, string) {
		as := fmt.Sprint(b.sinkAlarms.List())
		return strings.Contains(as, "stored_offset_past_end"), as
	})
}
