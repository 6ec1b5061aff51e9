package postgres_test

import (
	"sync/atomic"
	"testing"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

// FuzzStores: whatever Kafka carries has a row, and verify finds nothing wrong with it.
func FuzzStores(f *testing.F) {
	for _, r := range sinktest.OddRecords() {
		if len(r.Value) > 2000 || len(r.Key) > 2000 {
			continue // they are stored by the suite; here they only slow the fuzzer down
		}
		var name string
		var value []byte
		if len(r.Headers) > 0 {
			name, value = r.Headers[0].Name, r.Headers[0].Value
		}
		f.Add(r.Key, r.Value, name, value, r.TimeMs)
	}
	d := newDatabase(f)
	s, a := d.sink(), d.auditor()
	var n atomic.Int32
	f.Fuzz(func(t *testing.T, key, value []byte, name string, header []byte, ms int64) {
		src := sinktest.NewSource(t, sinktest.Topic, n.Add(1))
		// The month decides which partition is made, and 960 of them make no better test.
		if ms > 1_600_000_000_000 && ms < 4_102_444_800_000 {
			ms = sinktest.BaseTimeMs
		}
		recs := append([]sinks.Record{src.First()}, src.Seal(ledger.Record{Key: key, Value: value, TimeMs: ms, Headers: []ledger.Header{{Name: name, Value: header}}})...)
		if err := s.Write(t.Context(), []sinks.Batch{src.Batch(recs)}); err != nil {
			t.Fatalf("write: %v", err)
		}
		c, err := a.Compare(t.Context(), postgres.CompareOptions{Ledger: src.ID, Partition: src.Partition, Stored: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i := range recs {
			if found, err := c.Next(recs[i].Offset, &recs[i].Sealed); err != nil || len(found) > 0 {
				t.Fatalf("record %d: %q, %v", i, brief(found), err)
			}
		}
	})
}
