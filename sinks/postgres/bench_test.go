package postgres_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// clientCPU is the CPU time of this process.
func clientCPU(t testing.TB) time.Duration {
	t.Helper()
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// benchRecords are events of about 400 bytes with realistic spread: version 7 event
// ids, 20,000 users, 40 actions, 5 tenants. They are not chained: rows do not show it.
func benchRecords(t testing.TB, partition int32, n int) []sinks.Record {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(partition)))
	out := make([]sinks.Record, n)
	for i := range out {
		ms := int64(1_795_000_000_000) + int64(i)*20 + int64(partition)
		var id uuid.UUID
		binary.BigEndian.PutUint64(id[:], uint64(ms)<<16|0x7000|rng.Uint64N(4096))
		binary.BigEndian.PutUint64(id[8:], rng.Uint64()>>2|1<<63)
		user := rng.IntN(20_000)
		r := &out[i]
		r.Offset = int64(i)
		r.Source = ledger.Record{
			Key: fmt.Appendf(nil, "acme/%016x", user), TimeMs: ms, Headers: []ledger.Header{{Name: postgres.TenantHeader, Value: fmt.Append(nil, "tenant-", user%5)}},
			Value: fmt.Appendf(nil, `{"@timestamp":%q,"event":{"id":"%s","kind":"event","category":["iam"],"type":["user","change"],"action":"action.%d","outcome":"success","dataset":"acme.iam"},"organization":{"id":"acme"},`+
				`"user":{"id":"u-%06d","name":"user%d"},"source":{"ip":"10.%d.%d.%d"},"audit":{"object":{"type":"role","id":"r-%d"}},"trace":{"id":"%032x"}}`,
				time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00"), id, rng.IntN(40), user, user, rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(1000), rng.Uint64()),
		}
		r.Statement = ledger.Statement{
			Kind: ledger.KindEvent, Partition: uint32(partition), Ledger: ledger.ID{byte(partition), 0xA7, 9, 1}, Seq: uint64(i) + 1, TimeMs: ms,
			Topic: ledger.TopicID{1}, Offset: uint64(i), SaltKey: 1,
		}
		binary.BigEndian.PutUint64(r.Statement.Commitment[:], rng.Uint64())
		binary.BigEndian.PutUint64(r.Salt[:], rng.Uint64())
		r.Statement.Put(&r.Raw)
	}
	return out
}

const benchPartitions = 12

// BenchmarkPostgresCopy stores 480,000 rows in calls of about 5,000, with every index
// there is. CPU seconds per million rows are total-us/row: client and server together.
func BenchmarkPostgresCopy(b *testing.B) {
	const per = 40_000
	recs := make([][]sinks.Record, benchPartitions)
	for p := range recs {
		recs[p] = benchRecords(b, int32(p), per)
	}
	for _, connections := range []int{1, 2} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			var wall, client, server time.Duration
			rows := 0
			for b.Loop() {
				b.StopTimer()
				m := measure{b, newDatabase(b)}
				b.StartTimer()
				w, c, s := m.copy(recs, connections)
				wall, client, server = wall+w, client+c, server+s
				rows += per * benchPartitions
			}
			report(b, rows, wall, client, server)
		})
	}
}

func report(b *testing.B, rows int, wall, client, server time.Duration) {
	us := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(rows) }
	b.ReportMetric(float64(rows)/wall.Seconds(), "rows/s")
	b.ReportMetric(us(client), "client-us/row")
	b.ReportMetric(us(server), "server-us/row")
	b.ReportMetric(us(client+server), "total-us/row")
}

type measure struct {
	*testing.B
	d *database
}

// copy stores recs and returns what it took.
func (m *measure) copy(recs [][]sinks.Record, connections int) (wall, client, pg time.Duration) {
	s := m.d.sink()
	step := 5000 * connections / benchPartitions
	c0, p0, t0 := clientCPU(m), server.cpu(m), time.Now()
	var wg sync.WaitGroup
	for w := range connections {
		wg.Go(func() {
			for at := 0; at < len(recs[0]); at += step {
				to := min(len(recs[0]), at+step)
				var bs []sinks.Batch
				for p := w; p < len(recs); p += connections {
					bs = append(bs, sinks.Batch{Partition: sinks.Partition{Topic: "audit.events.sealed", ID: int32(p)}, From: int64(at), Next: int64(to), Records: recs[p][at:to]})
				}
				if err := s.Write(m.Context(), bs); err != nil {
					m.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(t0), clientCPU(m) - c0, server.cpu(m) - p0
}

// BenchmarkAudit compares rows with their records: the row part of verify, with the
// records in memory.
func BenchmarkAudit(b *testing.B) {
	const per = 20_000
	recs := make([][]sinks.Record, benchPartitions)
	for p := range recs {
		recs[p] = benchRecords(b, int32(p), per)
	}
	m := measure{b, newDatabase(b)}
	m.copy(recs, 2)
	m.d.exec("VACUUM ANALYZE events") // as autovacuum has done it by the time somebody verifies
	a := m.d.auditor()
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			rows := 0
			c0, p0, t0 := clientCPU(b), server.cpu(b), time.Now()
			for b.Loop() {
				var wg sync.WaitGroup
				for w := range workers {
					wg.Go(func() {
						for p := w; p < len(recs); p += workers {
							auditAll(b, a, int32(p), recs[p])
						}
					})
				}
				wg.Wait()
				rows += per * benchPartitions
			}
			report(b, rows, time.Since(t0), clientCPU(b)-c0, server.cpu(b)-p0)
		})
	}
}

func auditAll(b *testing.B, a *postgres.Auditor, partition int32, recs []sinks.Record) {
	c, err := a.Compare(b.Context(), postgres.CompareOptions{Ledger: recs[0].Statement.Ledger, Stored: int64(len(recs)), Partition: sinks.Partition{Topic: "audit.events.sealed", ID: partition}})
	if err != nil {
		b.Error(err)
		return
	}
	defer c.Close()
	for i := range recs {
		if fs, err := c.Next(recs[i].Offset, &recs[i].Sealed); err != nil || len(fs) > 0 {
			b.Errorf("seq %d: %v, %v", recs[i].Statement.Seq, brief(fs), err)
			return
		}
	}
	if fs, _, err := c.Finish(); err != nil || len(fs) > 0 {
		b.Errorf("finish: %v, %v", brief(fs), err)
	}
}
