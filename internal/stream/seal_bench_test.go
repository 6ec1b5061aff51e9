package stream_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors/seal"
	"github.com/sealstream/sealstream/schemas"
)

// eventOf400 is one JSON event of 400 bytes that differs in what real ones differ in.
func eventOf400(i int) []byte {
	var id [16]byte
	_, _ = rand.Read(id[:])
	s := fmt.Sprintf(`{"@timestamp":"2026-11-24T10:%02d:%02d.%03dZ","event":{"id":%q,"kind":"event","category":["iam"],"type":["change"],"action":"update-user","outcome":"success","dataset":"bench.audit"},"user":{"id":"u-%d","name":"user%d"},"source":{"ip":"10.1.%d.%d"},"audit":{"object":{"type":"record","id":"o-%d"}},"message":"`,
		i/60000%60, i/1000%60, i%1000, hex.EncodeToString(id[:]), i%5000, i%5000, i/256%256, i%256, i%100000)
	for len(s) < 398 {
		s += "x"
	}
	return []byte(s + `"}`)
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func (b *bench) preload(n int) {
	b.t.Helper()
	cl, err := kgo.NewClient(append(b.cfg.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(200_000), kgo.ProducerLinger(10*time.Millisecond))...)
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	values := make([][]byte, 4096)
	for i := range values {
		values[i] = eventOf400(i)
	}
	for i := range n {
		cl.Produce(context.Background(), &kgo.Record{Topic: b.source, Partition: int32(i % schemas.HotPartitions), Key: []byte("t1/u" + fmt.Sprint(i%5000)), Value: values[i%len(values)]}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.t.Error(err)
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		b.t.Fatal(err)
	}
}

// BenchmarkSeal seals b.N events of 400 bytes, 12 partitions, snappy, salted, with
// the embedded broker in the same process. Run it with a fixed count:
//
//	go test ./internal/stream -run '^$' -bench Seal -benchtime 2000000x
//
// cpu-us/rec is all CPU of the process: broker, client and seal.
func BenchmarkSeal(tb *testing.B) {
	b := newBenchTB(tb, schemas.HotPartitions)
	b.preload(tb.N)
	reg := prometheus.NewRegistry()
	m := stream.NewFoldMetrics("seal", reg)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	keys, err := ledger.NewKeyring(map[uint32][]byte{1: make([]byte, 32)}, 0)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	tb.ResetTimer()
	cpu0, began := cpuSeconds(), time.Now()
	go func() {
		done <- stream.RunFold(ctx, stream.FoldOptions{
			Kafka: b.cfg, Stage: "seal", Slot: "a", Pairs: map[string]string{b.source: b.sealed()},
			Processor:     seal.New(seal.Options{Name: "bench.sealstream.invalid/log", Keys: keys}),
			MaxBatchBytes: func(string) int32 { return 1_048_588 + 65536 },
			Alarms:        stream.NewAlarms(log, nil), Metrics: m, Log: log,
		})
	}()
	until(tb, "all sealed", func() (bool, string) {
		n := counter(tb, reg, "sealstream_seal_records_total")
		return n >= float64(tb.N+schemas.HotPartitions), fmt.Sprint(n)
	})
	wall, cpu := time.Since(began), cpuSeconds()-cpu0
	tb.StopTimer()
	cancel()
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
	tb.ReportMetric(float64(tb.N)/wall.Seconds(), "rec/s")
	tb.ReportMetric(cpu*1e6/float64(tb.N), "cpu-us/rec")
	b.dropTopics()
}

func (b *bench) dropTopics() {
	if _, err := kadm.NewClient(b.cl).DeleteTopics(context.Background(), b.source, b.sealed()); err != nil {
		b.t.Fatal(err)
	}
}

func counter(tb testing.TB, reg *prometheus.Registry, name string) float64 {
	tb.Helper()
	fs, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	sum := 0.0
	for _, f := range fs {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}
