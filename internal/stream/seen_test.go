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
	sourceTxn(t, cl, b.source, 5, kgo.TryCommit)
	sourceTxn(t, cl, b.source, 5, kgo.TryAbort)
	b.sealedEvents(0, 5)
	const end = 12 // 5 records and a marker, twice
	until(t, "the rest is seen", func() (bool, string) {
		o := b.groupOffset()
		return o.At == 5 && strings.HasPrefix(o.Metadata, fmt.Sprint("seen ", end, " 1:")), fmt.Sprintf("%+v", o)
	})
	m.stop()
	var drop kadm.Offsets
	drop.AddOffset(b.source, 0, end, -1)
	if rs, err := b.admin().DeleteRecords(t.Context(), drop); err != nil || rs.Error() != nil {
		t.Fatal(err, rs.Error())
	}
	// The log start lies beyond the head now. Another look behind it must not commit an
	// offset that the output does not explain.
	m = b.startSeal("a")
	sourceTxn(t, cl, b.source, 1, kgo.TryAbort)
	until(t, "the rest is seen again", func() (bool, string) {
		o := b.groupOffset()
		return o.At == 5 && strings.HasPrefix(o.Metadata, fmt.Sprint("seen ", end+2, " 1:")), fmt.Sprintf("%+v", o)
	})
	m.stop()
	b.produce(0, 3)
	m = b.startSeal("a")
	if got := b.sealedEvents(0, 8); len(got) != 9 {
		t.Errorf("%d records, want a genesis and 8 events in one ledger", len(got))
	}
	if as := fmt.Sprint(m.alarms.List()); strings.Contains(as, "source_lost_records") {
		t.Error(as)
	}

	// One record more, and it is a loss, whatever others write beside the group offset.
	m.stop()
	b.produce(0, 2)
	forged := kadm.Offsets{}
	forged.Add(kadm.Offset{Topic: b.source, At: b.groupOffset().At, LeaderEpoch: -1, Metadata: "seen 1000000"})
	until(t, "the group takes offsets of others, since its member is gone", func() (bool, string) {
		rs, err := b.admin().CommitOffsets(t.Context(), b.cfg.Prefix+"seal", forged)
		return err == nil && rs.Error() == nil, fmt.Sprint(err, rs.Error())
	})
	drop = kadm.Offsets{}
	drop.AddOffset(b.source, 0, end+6, -1)
	if rs, err := b.admin().DeleteRecords(t.Context(), drop); err != nil || rs.Error() != nil {
		t.Fatal(err, rs.Error())
	}
	m = b.startSeal("a")
	until(t, "alarm", func() (bool, string) {
		as := fmt.Sprint(m.alarms.List())
		return strings.Contains(as, "offsets 17 to 17 were gone"), as
	})
}

// sourceTxn writes n records and ends the transaction.
func sourceTxn(t *testing.T, cl *kgo.Client, topic string, n int, end kgo.TransactionEndTry) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(t.Context(), end); err != nil {
		t.Fatal(err)
	}
}

// groupOffset is what the seal's group has committed of the source's first partition.
func (b *bench) groupOffset() kadm.OffsetResponse {
	b.t.Helper()
	rs, err := b.admin().FetchOffsetsForTopics(b.t.Context(), b.cfg.Prefix+"seal", b.source)
	if err != nil {
		b.t.Fatal(err)
	}
	o, _ := rs.Lookup(b.source, 0)
	return o
}
