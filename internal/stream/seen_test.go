package stream_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A source whose retention takes markers behind the last sealed record has lost nothing.
func TestMarkersThatAreGoneAreNoLoss(t *testing.T) {
	b := newBench(t, 1)
	m := b.startSeal("a")
	cl, err := kgo.NewClient(append(b.cfg.Opts(), kgo.TransactionalID(b.cfg.Prefix+"source"), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: b.source, Value: []byte("v")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	b.sealedEvents(0, 5)
	const end = 12 // 5 records and a marker, twice
	until(t, "the rest is seen", func() (bool, string) {
		rs, err := b.admin().FetchOffsetsForTopics(t.Context(), b.cfg.Prefix+"seal", b.source)
		o, _ := rs.Lookup(b.source, 0)
		return err == nil && o.At == 5 && o.Metadata == fmt.Sprint("seen ", end), fmt.Sprintf("%+v, %v", o, err)
	})
	m.stop()
	var drop kadm.Offsets
	drop.AddOffset(b.source, 0, end, -1)
	if rs, err := b.admin().DeleteRecords(t.Context(), drop); err != nil || rs.Error() != nil {
		t.Fatal(err, rs.Error())
	}
	b.produce(0, 3)
	m = b.startSeal("a")
	if got := b.sealedEvents(0, 8); len(got) != 9 {
		t.Errorf("%d records, want a genesis and 8 events in one ledger", len(got))
	}
	if as := fmt.Sprint(m.alarms.List()); strings.Contains(as, "source_lost_records") {
		t.Error(as)
	}

	// One record more, and it is a loss.
	m.stop()
	b.produce(0, 2)
	drop = kadm.Offsets{}
	drop.AddOffset(b.source, 0, end+4, -1)
	if rs, err := b.admin().DeleteRecords(t.Context(), drop); err != nil || rs.Error() != nil {
		t.Fatal(err, rs.Error())
	}
	m = b.startSeal("a")
	until(t, "alarm", func() (bool, string) {
		as := fmt.Sprint(m.alarms.List())
		return strings.Contains(as, "offsets 15 to 15 were gone"), as
	})
}
