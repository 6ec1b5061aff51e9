package stream_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/embedded"
	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
	"github.com/sealstream/sealstream/processors/seal"
	"github.com/sealstream/sealstream/schemas"
)

// brokerAddr is where the package's tests find their broker: the address given by
// SEALSTREAM_TEST_KAFKA, else an embedded one started once. Each test has topics of
// its own by prefix.
var (
	brokerAddr     []string
	embeddedBroker *embedded.Broker
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if a := os.Getenv("SEALSTREAM_TEST_KAFKA"); a != "" {
		brokerAddr = strings.Split(a, ",")
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "stream-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	b, err := embedded.StartBroker(context.Background(), embedded.BrokerOptions{Dir: dir, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, "start embedded broker:", err)
		return 1
	}
	defer b.Close()
	brokerAddr, embeddedBroker = b.Addrs(), b
	return m.Run()
}

// bench is one test's cluster view: a prefix, topics, clients.
type bench struct {
	t      testing.TB
	cfg    stream.Config
	source string
	topics []schemas.Topic
	cl     *kgo.Client

	sinkAlarms *stream.Alarms // of the sink started last
	interval   time.Duration  // of transactions; 0 = 20 ms
	stallAfter time.Duration  // 0 = 30 s
}

func newBench(t *testing.T, partitions int32) *bench { return newBenchTB(t, partitions) }

func newBenchTB(t testing.TB, partitions int32) *bench {
	t.Helper()
	b := &bench{t: t, cfg: stream.Config{Brokers: brokerAddr, ClientID: "test", Prefix: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())) + "."}}
	b.source = b.cfg.Prefix + schemas.TopicAudit
	b.topics = schemas.Topics(b.cfg.Prefix, schemas.KeepForever([]schemas.Source{
		{Name: schemas.TopicAudit, Partitions: partitions},
		{Name: schemas.TopicControl, Partitions: 1, Product: true},
	}))
	if _, err := stream.EnsureTopics(t.Context(), b.cfg, b.topics, 1); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(b.cfg.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	b.cl = cl
	return b
}

func (b *bench) sealed() string { return schemas.SealedName(b.source) }

// produce appends n records to a partition of the source.
func (b *bench) produce(partition int32, n int) {
	b.t.Helper()
	rs := make([]*kgo.Record, n)
	for i := range rs {
		rs[i] = &kgo.Record{Topic: b.source, Partition: partition, Key: []byte("k"), Value: fmt.Appendf(nil, `{"n":%d}`, i)}
	}
	b.send(rs...)
}

func (b *bench) send(rs ...*kgo.Record) {
	b.t.Helper()
	if err := b.cl.ProduceSync(b.t.Context(), rs...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

func keyring(t testing.TB) *ledger.Keyring {
	t.Helper()
	k, err := ledger.NewKeyring(map[uint32][]byte{1: []byte("0123456789abcdef0123456789abcdef")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// member is one running seal.
type member struct {
	alarms *stream.Alarms
	stop   func()
}

func (b *bench) startSeal(slot string) *member {
	b.t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter{b.t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	alarms := stream.NewAlarms(log, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- stream.RunFold(ctx, stream.FoldOptions{
			Kafka: b.cfg, Stage: "seal", Slot: slot, Pairs: map[string]string{
				b.source:                            b.sealed(),
				b.cfg.Prefix + schemas.TopicControl: schemas.SealedName(b.cfg.Prefix + schemas.TopicControl),
			},
			Processor:    seal.New(seal.Options{Name: "test.sealstream.invalid/log", Keys: keyring(b.t)}),
			ControlTopic: b.cfg.Prefix + schemas.TopicControl, ParseOrder: processors.ParseOrder,
			MaxBatchBytes: func(string) int32 { return 1_048_588 + 65536 },
			Interval:      cmp.Or(b.interval, 20*time.Millisecond), StallAfter: b.stallAfter,
			Alarms: alarms, Metrics: stream.NewFoldMetrics("seal", nil), Log: log,
		})
	}()
	stopped := false
	m := &member{alarms: alarms, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}}
	b.t.Cleanup(m.stop)
	return m
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Fprint(os.Stderr, string(p))
	}
	return len(p), nil
}

// until polls cond, bounded, failing the test with what it last said.
func until(t testing.TB, what string, cond func() (bool, string)) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := cond()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within 30 s: %s", what, state)
		}
	}
}

// readAll returns the committed records of one partition of a topic.
func (b *bench) readAll(topic string, partition int32) []ledger.Record {
	b.t.Helper()
	r, err := stream.NewReader(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	ps, _, err := r.Partitions(b.t.Context(), topic)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []ledger.Record
	if err := r.Read(b.t.Context(), ps[partition], func(rs []ledger.Record) error {
		out = append(out, rs...)
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// sealedEvents waits until the partition holds n sealed events and returns all its
// records opened.
func (b *bench) sealedEvents(partition int32, n int) []ledger.Sealed {
	b.t.Helper()
	var out []ledger.Sealed
	until(b.t, fmt.Sprintf("%d sealed events in %s/%d", n, b.sealed(), partition), func() (bool, string) {
		out = out[:0]
		events := 0
		for _, r := range b.readAll(b.sealed(), partition) {
			s, err := ledger.Open(&r)
			if err != nil {
				b.t.Fatalf("sealed record at %d: %v", r.Offset, err)
			}
			if s.Statement.Kind == ledger.KindEvent {
				events++
			}
			out = append(out, s)
		}
		return events >= n, fmt.Sprintf("%d events", events)
	})
	return out
}

// checkExactlyOnce compares the sealed partition with its source: each source record
// once, in order, and one unbroken chain from a genesis.
func (b *bench) checkExactlyOnce(partition int32) {
	b.t.Helper()
	src := b.readAll(b.source, partition)
	got := b.sealedEvents(partition, len(src))
	i := 0
	var prev *ledger.Sealed
	for k := range got {
		s := &got[k]
		if !s.CheckCommitment() {
			b.t.Fatalf("seq %d: commitment does not match", s.Statement.Seq)
		}
		if prev != nil && prev.Statement.Kind != ledger.KindClose && (s.Statement.Seq != prev.Statement.Seq+1 || s.Statement.Prev != prev.Leaf()) {
			b.t.Fatalf("seq %d does not follow seq %d", s.Statement.Seq, prev.Statement.Seq)
		}
		prev = s
		if s.Statement.Kind != ledger.KindEvent {
			continue
		}
		if i >= len(src) {
			b.t.Fatalf("seq %d: more sealed events than source records (%d)", s.Statement.Seq, len(src))
		}
		if want := src[i]; s.Statement.Offset != uint64(want.Offset) || string(s.Source.Value) != string(want.Value) {
			b.t.Fatalf("event %d is about offset %d, want %d", i, s.Statement.Offset, want.Offset)
		}
		i++
	}
	if i != len(src) {
		b.t.Fatalf("%d sealed events for %d source records", i, len(src))
	}
}

func (b *bench) admin() *kadm.Client { return kadm.NewClient(b.cl) }
