package postgres_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

func clientCPU() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func benchRecords(part int32, from, n int, rng *rand.Rand) []sinks.Record {
	out := make([]sinks.Record, n)
	actions := []string{"user.login", "role.grant", "document.read", "document.export", "user.logout", "policy.change", "key.rotate"}
	for i := range out {
		seq := from + i
		ms := int64(1_795_000_000_000) + int64(seq)*20 + int64(part)
		var id [16]byte
		binary.BigEndian.PutUint64(id[:], uint64(ms)<<16|0x7000|uint64(rng.IntN(4096)))
		binary.BigEndian.PutUint64(id[8:], rng.Uint64()|1<<63)
		uid := hex.EncodeToString(id[:])
		uid = uid[:8] + "-" + uid[8:12] + "-" + uid[12:16] + "-" + uid[16:20] + "-" + uid[20:]
		u := rng.IntN(20000)
		v := fmt.Sprintf(`{"@timestamp":%q,"event":{"id":%q,"kind":"event","category":["iam"],"type":["user","change"],"action":%q,"outcome":"success","dataset":"acme.iam"},"organization":{"id":"acme"},"user":{"id":"u-%06d","name":"user%d"},"source":{"ip":"10.%d.%d.%d"},"audit":{"object":{"type":"role","id":"r-%d"}},"trace":{"id":"%032x"}}`,
			time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00"), uid, actions[rng.IntN(len(actions))], u, u, rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(1000), rng.Uint64())
		r := &out[i]
		r.Offset = int64(seq)
		r.Source = ledger.Record{Key: []byte(fmt.Sprintf("acme/%016x", u)), Value: []byte(v), TimeMs: ms, Headers: []ledger.Header{{Name: "ce_tenant", Value: []byte(fmt.Sprintf("tenant-%d", u%5))}}}
		r.Statement = ledger.Statement{Kind: ledger.KindEvent, Partition: uint32(part), Ledger: ledger.ID{byte(part), 0xa7, 9, 1}, Seq: uint64(seq), TimeMs: ms, Offset: uint64(seq), SaltKey: 1}
		binary.BigEndian.PutUint64(r.Statement.Commitment[:], rng.Uint64())
		r.Statement.Put(&r.Raw)
		r.Salt[0] = byte(rng.Uint32())
	}
	return out
}

func BenchmarkPostgresCopy(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("connections=%d", workers), func(b *testing.B) { benchCopy(b, workers, 5000, 400_000) })
	}
}

func benchCopy(b *testing.B, workers, batch, total int) {
	const parts = 12
	per := total / parts
	recs := make([][]sinks.Record, parts)
	size := 0
	for p := range recs {
		recs[p] = benchRecords(int32(p), 0, per, rand.New(rand.NewPCG(1, uint64(p))))
		size += len(recs[p][0].Source.Value)
	}
	b.Logf("value size %d", size/parts)
	for b.Loop() {
		b.StopTimer()
		d := newDatabase(b)
		s := d.sink()
		b.StartTimer()
		c0, s0, t0 := clientCPU(), server.cpu(b), time.Now()
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				at := 0
				mine := parts / workers
				step := batch / mine
				for at < per {
					var bs []sinks.Batch
					to := min(per, at+step)
					for p := w; p < parts; p += workers {
						bs = append(bs, sinks.Batch{Partition: sinks.Partition{Topic: "audit.events.sealed", ID: int32(p)}, From: int64(at), Next: int64(to), Records: recs[p][at:to]})
					}
					if err := s.Write(b.Context(), bs); err != nil {
						b.Error(err)
						return
					}
					at = to
				}
			})
		}
		wg.Wait()
		el := time.Since(t0)
		n := float64(per * parts)
		cc, sc := clientCPU()-c0, server.cpu(b)-s0
		b.StopTimer()
		b.ReportMetric(n/el.Seconds(), "rows/s")
		b.ReportMetric(float64(cc.Microseconds())/n, "client-us/row")
		b.ReportMetric(float64(sc.Microseconds())/n, "server-us/row")
		b.ReportMetric(float64((cc+sc).Microseconds())/n, "total-us/row")
		b.StartTimer()
	}
}
