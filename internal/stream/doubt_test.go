package stream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
	"github.com/sealstream/sealstream/schemas"
)

// remake deletes a topic and makes it anew under its name.
func (b *bench) remake(topic string) {
	b.t.Helper()
	if _, err := b.admin().DeleteTopic(b.t.Context(), topic); err != nil {
		b.t.Fatal(err)
	}
	b.restore()
}

// restore makes the topic that was deleted, once the brokers have forgotten the old one.
func (b *bench) restore() {
	b.t.Helper()
	until(b.t, "topic made anew", func() (bool, string) {
		rep, err := stream.EnsureTopics(b.t.Context(), b.cfg, b.topics, 1)
		return err == nil && len(rep.Created) == 1, fmt.Sprint(rep, err)
	})
}

// sender sends n records to the source as it is now; b's own client knows the old one.
func (b *bench) sender() func(n int) {
	b.t.Helper()
	fresh, err := kgo.NewClient(append(b.cfg.Opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(fresh.Close)
	return func(n int) {
		b.t.Helper()
		for i := range n {
			if err := fresh.ProduceSync(b.t.Context(), &kgo.Record{Topic: b.source, Value: fmt.Appendf(nil, "new %d", i)}).FirstErr(); err != nil {
				b.t.Fatal(err)
			}
		}
	}
}

func TestSourceMadeAnewStopsUntilOrdered(t *testing.T) {
	b := newBench(t, 1)
	b.produce(0, 20)
	m := b.startSeal("a")
	b.sealedEvents(0, 20)
	m.stop()
	b.remake(b.source)
	b.sender()(30)
	m = b.startSeal("a")
	al := stopped(t, m, processors.DoubtTopicID)
	b.order(al, nil)
	m.quiet(t)
	got := b.sealedEvents(0, 50)
	// genesis, 20 events, close, genesis, 30 events
	if k := got[21].Statement.Kind; k != ledger.KindClose {
		t.Fatalf("record 21 has kind %d, want close", k)
	}
	g, err := ledger.ParseGenesis(got[22].GenesisBody())
	if err != nil || g.Previous == nil || g.Previous.Ledger != got[0].Statement.Ledger || g.Previous.Size != 21 {
		t.Fatalf("successor %+v, %v", g, err)
	}
	if string(got[23].Source.Value) != "new 0" || string(got[52].Source.Value) != "new 29" {
		t.Fatal("the new source is not sealed from its start")
	}
}

// Behind the order a restart finds statements about the old topic in the tail, with
// offsets that the new one has given to other records, or has not reached. They are
// history, and nobody's forgery.
func TestSourceMadeAnewIsResumedAfterItsOrder(t *testing.T) {
	b := newBench(t, 1)
	b.produce(0, 20)
	m := b.startSeal("a")
	b.sealedEvents(0, 20)
	m.stop()
	b.remake(b.source)
	send := b.sender()
	send(9)
	m = b.startSeal("a")
	b.order(stopped(t, m, processors.DoubtTopicID), nil)
	b.sealedEvents(0, 29)
	m.stop()

	m = b.startSeal("a")
	send(3)
	b.sealedEvents(0, 32)
	m.quiet(t)
}

// Somebody else appends a perfect next statement while the seal runs: the next
// record would be the second of its seq, so the partition stops and stays stopped
// over a restart.
func TestForeignStatementStopsThePartition(t *testing.T) {
	b := newBench(t, 2)
	b.produce(0, 10)
	m := b.startSeal("a")
	b.sealedEvents(0, 10)
	b.forge()
	b.produce(0, 5)
	stopped(t, m, processors.DoubtFork)
	b.produce(1, 5) // the neighbour is not stopped
	b.sealedEvents(1, 5)
	m.stop()

	m = b.startSeal("a") // and a restart does not make it right
	al := stopped(t, m, processors.DoubtFork)
	b.order(al, nil)
	m.quiet(t)
	got := b.sealedEvents(0, 10+1+5)
	if k := got[12].Statement.Kind; k != ledger.KindClose {
		t.Fatalf("record 12 has kind %d, want close", k)
	}
	// The forged statement claimed source offset 10; the true record is sealed all the same.
	if s := got[14]; s.Statement.Offset != 10 || string(s.Source.Value) != `{"n":0}` {
		t.Fatalf("the successor begins with offset %d", s.Statement.Offset)
	}
}

// The same in the middle of a transaction: the foreign statement has records of ours
// before it and behind it, none of them committed.
func TestForeignStatementAmongOurRecords(t *testing.T) {
	b := newBench(t, 1)
	b.interval = 3 * time.Second
	b.produce(0, 10)
	m := b.startSeal("a")
	b.sealedEvents(0, 10)
	b.produce(0, 5)
	until(t, "records of an open transaction", func() (bool, string) {
		stable, err1 := b.admin().ListCommittedOffsets(t.Context(), b.sealed())
		ends, err2 := b.admin().ListEndOffsets(t.Context(), b.sealed())
		s, _ := stable.Lookup(b.sealed(), 0)
		e, _ := ends.Lookup(b.sealed(), 0)
		return err1 == nil && err2 == nil && e.Offset >= s.Offset+5, fmt.Sprint(s.Offset, e.Offset, err1, err2)
	})
	b.forge()
	b.produce(0, 5)
	stopped(t, m, processors.DoubtFork)
}

// A topic that cannot be recovered holds no other one, and goes on when it can be.
func TestWhatCannotBeRecoveredRestsAlone(t *testing.T) {
	b := newBench(t, 2)
	b.stallAfter = time.Second
	b.produce(0, 3)
	if _, err := b.admin().DeleteTopic(t.Context(), b.sealed()); err != nil {
		t.Fatal(err)
	}
	control := b.cfg.Prefix + schemas.TopicControl
	b.send(&kgo.Record{Topic: control, Value: []byte("{}")})
	m := b.startSeal("a")
	until(t, "the control topic is sealed", func() (bool, string) {
		n := len(b.readAll(schemas.SealedName(control), 0))
		return n == 2, fmt.Sprint(n, " records") // genesis and the event
	})
	stopped(t, m, processors.DoubtUnread)
	b.restore()
	b.sealedEvents(0, 3)
	m.quiet(t)
}

// What is no sealed record at all does not hide the head before it: the order closes
// that ledger, and nothing is sealed a second time.
func TestJunkInTheOutputIsClosedOver(t *testing.T) {
	b := newBench(t, 1)
	b.produce(0, 10)
	m := b.startSeal("a")
	b.sealedEvents(0, 10)
	b.send(&kgo.Record{Topic: b.sealed(), Value: []byte("fake")})
	m.stop()
	b.produce(0, 5)
	m = b.startSeal("a")
	b.order(stopped(t, m, processors.DoubtMalformed), nil)
	m.quiet(t)
	count := func() (bool, string) {
		n, junk := 0, 0
		for _, r := range b.readAll(b.sealed(), 0) {
			if s, err := ledger.Open(&r); err != nil {
				junk++
			} else if s.Statement.Kind == ledger.KindEvent {
				n++
			}
		}
		return n == 15 && junk == 1, fmt.Sprintf("%d events, %d others", n, junk)
	}
	until(t, "15 events, each once", count)
	m.stop()
	b.startSeal("a") // a restart does not find the old doubt again
	b.produce(0, 1)
	until(t, "the 16th event", func() (bool, string) {
		_, state := count()
		return state == "16 events, 1 others", state
	})
}

// forge appends a perfect next statement about a record that the source does not have.
func (b *bench) forge() {
	b.t.Helper()
	last := b.readAll(b.sealed(), 0)
	head, err := ledger.Open(&last[len(last)-1])
	if err != nil {
		b.t.Fatal(err)
	}
	chain, err := ledger.Continue(&head, keyring(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	src := ledger.Record{Value: []byte("forged"), TimeMs: 1, Offset: 10}
	value, _, err := chain.Append(&src, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.send(&kgo.Record{Topic: b.sealed(), Value: src.Value, Timestamp: time.UnixMilli(1), Headers: []kgo.RecordHeader{{Key: ledger.SealHeader, Value: value}}})
}
