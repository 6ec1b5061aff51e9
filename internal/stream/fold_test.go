package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
	"github.com/sealstream/sealstream/schemas"
)

// I1, I2: every source record is sealed exactly once, in order; a second life of the
// same slot goes on where the log says.
func TestSealsEachSourceRecordOnceInOrder(t *testing.T) {
	b := newBench(t, 3)
	for p := range int32(3) {
		b.produce(p, 1000)
	}
	m := b.startSeal("a")
	for p := range int32(3) {
		b.checkExactlyOnce(p)
	}
	b.produce(1, 500)
	b.sealedEvents(1, 1500)
	m.stop()

	b.produce(2, 700)
	b.startSeal("a")
	b.sealedEvents(2, 1700)
	for p := range int32(3) {
		b.checkExactlyOnce(p)
	}
}

func TestEmptyPartitionsGetTheirGenesis(t *testing.T) {
	b := newBench(t, 2)
	b.startSeal("a")
	for p := range int32(2) {
		until(t, "genesis", func() (bool, string) {
			rs := b.readAll(b.sealed(), p)
			return len(rs) == 1, fmt.Sprintf("%d records", len(rs))
		})
		s, err := ledger.Open(&b.readAll(b.sealed(), p)[0])
		if err != nil || s.Statement.Kind != ledger.KindGenesis {
			t.Fatalf("partition %d begins with kind %d, %v", p, s.Statement.Kind, err)
		}
	}
	// The genesis commits the group offset too: without it a zombie could write a second.
	until(t, "group offsets", func() (bool, string) {
		os, err := b.admin().FetchOffsets(t.Context(), b.cfg.Prefix+"seal")
		if err != nil {
			return false, err.Error()
		}
		_, ok0 := os.Lookup(b.source, 0)
		_, ok1 := os.Lookup(b.source, 1)
		return ok0 && ok1, fmt.Sprint(os)
	})
}

func TestMembersJoinAndLeave(t *testing.T) {
	b := newBench(t, 6)
	load := func() {
		for p := range int32(6) {
			b.produce(p, 200)
		}
	}
	a := b.startSeal("a")
	load()
	b.startSeal("b")
	load()
	for p := range int32(6) {
		b.sealedEvents(p, 400) // both hold partitions by now, or one still all
	}
	a.stop()
	load()
	for p := range int32(6) {
		b.checkExactlyOnce(p)
	}
}

func TestSealsAnythingKafkaCarries(t *testing.T) {
	b := newBench(t, 1)
	far := time.Now().Add(2 * time.Hour)
	headers := make([]kgo.RecordHeader, 200)
	for i := range headers {
		headers[i] = kgo.RecordHeader{Key: fmt.Sprintf("h%d", i), Value: []byte("v")}
	}
	rs := []*kgo.Record{
		{Value: []byte("neither Avro nor JSON")},
		{Value: []byte{0, 0, 0, 0, 99, 1, 2}},
		{Key: []byte{}, Value: nil},
		{Key: bytes.Repeat([]byte("k"), 64<<10), Value: []byte("x")},
		{Value: []byte("{}"), Headers: headers},
		{Value: []byte("{}"), Headers: []kgo.RecordHeader{{Key: "seal", Value: make([]byte, 200)}}},
		{Value: []byte("{}"), Headers: []kgo.RecordHeader{{Key: "\xff\xfe", Value: nil}, {Key: "", Value: []byte{}}}},
		{Value: []byte("{}"), Timestamp: time.UnixMilli(-1)},
		{Value: []byte("{}"), Timestamp: time.UnixMilli(-5000)},
		{Value: []byte("year 9999"), Timestamp: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
		{Value: []byte("in 292,000 years"), Timestamp: time.UnixMilli(math.MaxInt64 / 1000)},
		{Value: []byte("292,000 years ago"), Timestamp: time.UnixMilli(math.MinInt64 / 1000)},
		{Value: []byte("{}"), Timestamp: far},
		{Value: []byte("\xff\xfe invalid UTF-8")},
	}
	for _, r := range rs {
		r.Topic = b.source
		if r.Timestamp.IsZero() {
			r.Timestamp = time.Now()
		}
		if r.Timestamp.Year() > 2200 || r.Timestamp.Year() < 1800 {
			b.rawProduce(r.Topic, 0, r.Value, r.Timestamp.UnixMilli())
			continue
		}
		b.send(r)
	}
	b.startSeal("a")
	got := b.sealedEvents(0, len(rs))
	for i, r := range rs {
		s := got[i+1]
		if !bytes.Equal(s.Source.Key, r.Key) || (s.Source.Key == nil) != (r.Key == nil) ||
			!bytes.Equal(s.Source.Value, r.Value) || (s.Source.Value == nil) != (r.Value == nil) || len(s.Source.Headers) != len(r.Headers) {
			t.Errorf("record %d came out different", i)
		}
		want := r.Timestamp.UnixMilli()
		if want > ledger.MaxTimeMs || want < -ledger.MaxTimeMs {
			want = ledger.TimeOutOfRange
		}
		if s.Statement.TimeMs != want {
			t.Errorf("record %d: statement says time %d, want %d", i, s.Statement.TimeMs, want)
		}
		if !s.CheckCommitment() {
			t.Errorf("record %d: commitment does not match", i)
		}
	}
}

// A value far above the client's batch limit that compresses to nothing passes the
// source's limit, so the seal must take it, and go on with small ones behind it.
func TestSealsTwentyMegabytesThatCompressToNothing(t *testing.T) {
	b := newBench(t, 2)
	cl, err := kgo.NewClient(append(b.cfg.Opts(), kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerBatchCompression(kgo.ZstdCompression()),
		kgo.BrokerMaxWriteBytes(128<<20), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	big := []byte(`{"a":"` + strings.Repeat("a", 21<<20) + `"}`)
	b.produce(0, 10)
	for range 2 {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: b.source, Value: big}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	b.produce(0, 10)
	b.produce(1, 10)
	m := b.startSeal("a")
	b.checkExactlyOnce(0)
	b.checkExactlyOnce(1)
	if as := m.alarms.List(); len(as) > 0 {
		t.Fatalf("alarms: %v", as)
	}
}

// stopped waits for the partition's alarm and returns it.
func stopped(t *testing.T, m *member, kind processors.DoubtKind) stream.Alarm {
	t.Helper()
	var al stream.Alarm
	until(t, "alarm "+string(kind), func() (bool, string) {
		as := m.alarms.List()
		for _, a := range as {
			if a.Kind == string(kind) {
				al = a
				return true, ""
			}
		}
		return false, fmt.Sprint(as)
	})
	return al
}

// order appends an operator's order that fits the alarm, with changes.
func (b *bench) order(al stream.Alarm, change func(*processors.Order)) {
	b.t.Helper()
	p, _ := strconv.Atoi(al.Facts["partition"])
	end, _ := strconv.ParseInt(al.Facts["end"], 10, 64)
	o := processors.Order{ID: "01TEST", Source: al.Facts["source"], Partition: int32(p), OutputID: al.Facts["output_id"],
		End: end, Leaf: al.Facts["leaf"], Previous: "none", Reason: "test", By: "tester"}
	if change != nil {
		change(&o)
	}
	v, err := json.Marshal(map[string]any{"event": map[string]any{"action": processors.OrderAction}, "audit": map[string]any{"order": o}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.send(&kgo.Record{Topic: b.cfg.Prefix + schemas.TopicControl, Value: v, Headers: []kgo.RecordHeader{{Key: "ce_type", Value: []byte(processors.OrderAction)}}})
}

func (m *member) quiet(t *testing.T) {
	t.Helper()
	until(t, "no alarms", func() (bool, string) {
		as := m.alarms.List()
		return len(as) == 0, fmt.Sprint(as)
	})
}

// The output is cut behind the seal's back: it stops, and goes on with a new ledger
// by an order that fits, not by one that does not.
func TestOutputShorterThanGroupOffsetStopsUntilOrdered(t *testing.T) {
	b := newBench(t, 2)
	b.produce(0, 50)
	b.produce(1, 50)
	m := b.startSeal("a")
	b.checkExactlyOnce(0)
	m.stop()

	b.remake(b.sealed())
	b.produce(0, 5)
	b.produce(1, 5)
	m = b.startSeal("a")
	al := stopped(t, m, processors.DoubtShort)
	if al.Facts["leaf"] != processors.NoneReadable {
		t.Fatalf("leaf %q in the alarm, want none readable", al.Facts["leaf"])
	}
	b.order(al, func(o *processors.Order) { o.End = 7 })
	b.order(al, func(o *processors.Order) { o.Leaf = strings.Repeat("0", 64) })
	until(t, "the second order is looked at and refused", func() (bool, string) {
		as := fmt.Sprint(m.alarms.List())
		return strings.Contains(as, "does not fit"), as
	})
	previous := ledger.Previous{Ledger: ledger.ID{1}, Size: 51, Leaf: ledger.Hash{2}}
	for _, a := range m.alarms.List() {
		if strings.HasPrefix(a.Key, b.source) {
			b.order(a, func(o *processors.Order) { o.Previous = previous.String() })
		}
	}
	m.quiet(t)
	got := b.sealedEvents(0, 55)
	g, err := ledger.ParseGenesis(got[0].GenesisBody())
	if err != nil || g.Previous == nil || *g.Previous != previous || g.Start != 0 {
		t.Fatalf("genesis %+v, %v: want start 0 and the order's previous", g, err)
	}
	m.stop()

	// The same orders are still in the topic, the same doubt comes again: an order is
	// used once.
	b.remake(b.sealed())
	m = b.startSeal("a")
	stopped(t, m, processors.DoubtShort)
}

func TestTrimmedHeadStops(t *testing.T) {
	b := newBench(t, 1)
	b.produce(0, 10)
	m := b.startSeal("a")
	b.sealedEvents(0, 10)
	m.stop()
	ends, err := b.admin().ListEndOffsets(t.Context(), b.sealed())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.admin().DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	m = b.startSeal("a")
	stopped(t, m, processors.DoubtTrimmed)
}

// An order works while the control topic's own ledger is what is stopped.
func TestOrderForTheControlLedgerItself(t *testing.T) {
	b := newBench(t, 1)
	control := b.cfg.Prefix + schemas.TopicControl
	b.send(&kgo.Record{Topic: control, Value: []byte("{}")})
	m := b.startSeal("a")
	until(t, "control sealed", func() (bool, string) {
		n := len(b.readAll(schemas.SealedName(control), 0))
		return n == 2, strconv.Itoa(n)
	})
	m.stop()
	var ends kadm.ListedOffsets
	ends, err := b.admin().ListEndOffsets(t.Context(), schemas.SealedName(control))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.admin().DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	m = b.startSeal("a")
	al := stopped(t, m, processors.DoubtTrimmed)
	previous := ledger.Previous{Ledger: ledger.ID{1}, Size: 2, Leaf: ledger.Hash{2}}
	b.order(al, func(o *processors.Order) { o.Previous = previous.String() })
	m.quiet(t)
	until(t, "control goes on", func() (bool, string) {
		n := len(b.readAll(schemas.SealedName(control), 0))
		return n == 3, strconv.Itoa(n) // genesis, the first event again, the order itself
	})
}

func TestBootIsReadable(t *testing.T) {
	b := newBench(t, 1)
	boot, err := stream.Boot(context.Background(), b.cl)
	if err != nil {
		t.Fatal(err)
	}
	if (boot == "") != (len(b.cfg.Brokers) > 0 && embeddedBroker == nil) {
		t.Fatalf("boot %q", boot)
	}
}

// The order fits what the seal says while it runs; no restart is needed.
func TestOrderFitsWhileTheSealRuns(t *testing.T) {
	b := newBench(t, 1)
	b.produce(0, 10)
	m := b.startSeal("a")
	b.sealedEvents(0, 10)
	b.forge()
	b.produce(0, 5)
	b.order(stopped(t, m, processors.DoubtFork), nil)
	m.quiet(t)
	b.sealedEvents(0, 10+1+5)
}

// A record that takes the source's whole size limit and does not compress still fits
// the sealed topic, whose limit is larger by the room for the seal.
func TestSealsARecordAtTheSizeLimit(t *testing.T) {
	b := newBench(t, 1)
	cl, err := kgo.NewClient(append(b.cfg.Opts(), kgo.ProducerBatchMaxBytes(64<<20), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.BrokerMaxWriteBytes(128<<20), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, schemas.DefaultMaxMessageBytes)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	// The largest that the source takes, found by asking it.
	size := len(noise)
	for ; ; size-- {
		err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: b.source, Value: noise[:size]}).FirstErr()
		if err == nil {
			break
		}
		if size < len(noise)-200 {
			t.Fatalf("the source takes not even %d bytes: %v", size, err)
		}
	}
	m := b.startSeal("a")
	b.checkExactlyOnce(0)
	if as := m.alarms.List(); len(as) > 0 {
		t.Fatalf("a record of %d bytes: %v", size, as)
	}
}
