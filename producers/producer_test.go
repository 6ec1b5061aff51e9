package producers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/producers"
)

const topic = "audit.events"

func cluster(t *testing.T) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(12, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// place is a topic of the test's own, on the brokers that SEALSTREAM_TEST_KAFKA names,
// else on a fake one: what a test of it says is true of both.
func place(t *testing.T) (addrs []string, topic string) {
	t.Helper()
	topic = "producers." + t.Name()
	given := os.Getenv("SEALSTREAM_TEST_KAFKA")
	if given == "" {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(12, topic))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c.ListenAddrs(), topic
	}
	addrs = strings.Split(given, ",")
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if r, err := kadm.NewClient(cl).CreateTopic(t.Context(), 12, -1, nil, topic); errors.Join(err, r.Err) != nil {
		t.Fatal(err, r.Err)
	}
	return addrs, topic
}

func producer(t *testing.T, opts producers.Options, addrs ...string) *producers.Producer {
	t.Helper()
	p, err := producers.New(opts, kgo.SeedBrokers(addrs...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// readAll returns what the topic holds, by partition and offset.
func readAll(t *testing.T, topic string, want int, addrs ...string) map[string]*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	got := map[string]*kgo.Record{}
	for len(got) < want {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%d of %d records read: %v", len(got), want, err)
		}
		fs.EachRecord(func(r *kgo.Record) { got[fmt.Sprintf("%d@%d", r.Partition, r.Offset)] = r })
	}
	return got
}

// TestPartitionsAsJavaDoes uses the murmur2 values of Kafka's own UtilsTest: an
// event must land where a Java producer would put it.
func TestPartitionsAsJavaDoes(t *testing.T) {
	addrs, topic := place(t)
	p := producer(t, producers.Options{}, addrs...)
	java := map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string":                       -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	}
	for key, hash := range java {
		r := p.Send(t.Context(), []producers.Message{{Topic: topic, Key: []byte(key)}})[0]
		if want := (hash & 0x7fffffff) % 12; r.Err != nil || r.Partition != want {
			t.Errorf("key %q: partition %d (%v), Java has %d", key, r.Partition, r.Err, want)
		}
	}
}

func TestSendWritesWhatItWasGiven(t *testing.T) {
	addrs, topic := place(t)
	reg := prometheus.NewPedanticRegistry()
	p := producer(t, producers.Options{Registerer: reg}, addrs...)
	before := time.Now().Truncate(time.Millisecond)
	msgs := []producers.Message{
		{Topic: topic, Key: []byte("k"), Value: []byte(`{"a":1}`), TimeMs: 1_700_000_000_123, Headers: []ledger.Header{
			{Name: "ce_id", Value: []byte("1")}, {Name: "ce_id", Value: []byte("2")}, {Name: "null"}, {Name: "\xff", Value: []byte{}}}},
		{Topic: topic, TimeMs: -5000},
		{Topic: topic, Key: []byte{}, Value: []byte{}},
	}
	res := p.Send(t.Context(), msgs)
	got := readAll(t, topic, len(msgs), addrs...)
	for i, r := range res {
		if r.Err != nil {
			t.Fatalf("message %d: %v", i, r.Err)
		}
		rec := got[fmt.Sprintf("%d@%d", r.Partition, r.Offset)]
		if rec == nil {
			t.Fatalf("message %d: nothing at %d@%d", i, r.Partition, r.Offset)
		}
		back := producers.Message{Topic: rec.Topic, Key: rec.Key, Value: rec.Value, TimeMs: rec.Timestamp.UnixMilli()}
		for _, h := range rec.Headers {
			back.Headers = append(back.Headers, ledger.Header{Name: h.Key, Value: h.Value})
		}
		if msgs[i].TimeMs == 0 {
			if rec.Timestamp.Before(before) || rec.Timestamp.After(time.Now()) {
				t.Errorf("message %d: time %v is not now", i, rec.Timestamp)
			}
			back.TimeMs = 0
		}
		if d := cmp.Diff(msgs[i], back); d != "" {
			t.Errorf("message %d (-sent +stored):\n%s", i, d)
		}
	}
	if n := metric(t, reg, "sealstream_produce_records_total", "acked"); n != 3 {
		t.Errorf("%v records counted as acked, want 3", n)
	}
}

// metric returns a counter's or a gauge's value; label is one of its label values.
func metric(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			found := label == ""
			for _, l := range m.GetLabel() {
				found = found || l.GetValue() == label
			}
			if f.GetName() == name && found {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// TestOrderPerKeyAcrossBatches enqueues without waiting and looks at the log.
func TestOrderPerKeyAcrossBatches(t *testing.T) {
	addrs, topic := place(t)
	p := producer(t, producers.Options{Linger: time.Millisecond}, addrs...)
	const batches, each, keys = 40, 25, 7
	pending := make([]*producers.Pending, batches)
	n := 0
	for b := range batches {
		msgs := make([]producers.Message, each)
		for i := range msgs {
			msgs[i] = producers.Message{Topic: topic, Key: fmt.Appendf(nil, "actor-%d", n%keys), Value: fmt.Appendf(nil, "%d", n)}
			n++
		}
		pending[b] = p.Enqueue(t.Context(), msgs)
	}
	type place struct {
		partition int32
		offset    int64
	}
	last := map[int]place{}
	n = 0
	for _, b := range pending {
		for _, r := range b.Wait(t.Context()) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			if l, ok := last[n%keys]; ok && (r.Partition != l.partition || r.Offset <= l.offset) {
				t.Fatalf("event %d of key %d is at %d@%d, the one before it at %d@%d", n, n%keys, r.Partition, r.Offset, l.partition, l.offset)
			}
			last[n%keys] = place{r.Partition, r.Offset}
			n++
		}
	}
}

func TestTooLarge(t *testing.T) {
	c := cluster(t)
	const limit = 2000
	p := producer(t, producers.Options{MaxMessageBytes: map[string]int{topic: limit}}, c.ListenAddrs()...)
	res := p.Send(t.Context(), []producers.Message{
		{Topic: topic, Value: make([]byte, limit)},
		{Topic: topic, Key: []byte("small"), Value: []byte("neighbour")},
		{Topic: topic, Value: make([]byte, limit-100)},
	})
	var tl *producers.TooLargeError
	if !errors.As(res[0].Err, &tl) || tl.Limit != limit || tl.Size < limit+61 || tl.Size > limit+80 || tl.Topic != topic {
		t.Errorf("error %v", res[0].Err)
	}
	for _, part := range []string{"2000 bytes", topic, fmt.Sprint(tl.Size)} {
		if !strings.Contains(res[0].Err.Error(), part) {
			t.Errorf("error %q does not name %q", res[0].Err, part)
		}
	}
	if producers.MaybeStored(res[0].Err) || res[0].Offset != -1 {
		t.Errorf("a message too large was perhaps stored: %+v", res[0])
	}
	if res[1].Err != nil || res[2].Err != nil {
		t.Errorf("neighbours: %v, %v", res[1].Err, res[2].Err)
	}
}

// TestTooLargeForTheBroker: the broker's limit is below the one we were told.
func TestTooLargeForTheBroker(t *testing.T) {
	c := cluster(t)
	answer(c, kerr.MessageTooLarge.Code)
	p := producer(t, producers.Options{}, c.ListenAddrs()...)
	var tl *producers.TooLargeError
	res := p.Send(t.Context(), []producers.Message{{Topic: topic, Value: make([]byte, 1000)}})
	if !errors.As(res[0].Err, &tl) || tl.Size < 1000 || tl.Limit != producers.DefaultMaxMessageBytes {
		t.Errorf("error %v", res[0].Err)
	}
}

// answer makes every produce request fail with code.
func answer(c *kfake.Cluster, code int16) {
	c.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewProduceResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewProduceResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, code
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
}

func TestRefusalKeepsItsCode(t *testing.T) {
	c := cluster(t)
	answer(c, kerr.TopicAuthorizationFailed.Code)
	p := producer(t, producers.Options{}, c.ListenAddrs()...)
	res := p.Send(t.Context(), []producers.Message{{Topic: topic}})
	if !errors.Is(res[0].Err, kerr.TopicAuthorizationFailed) || producers.MaybeStored(res[0].Err) {
		t.Errorf("error %v", res[0].Err)
	}
}

func TestUnknownTopic(t *testing.T) {
	c := cluster(t)
	p := producer(t, producers.Options{}, c.ListenAddrs()...)
	res := p.Send(t.Context(), []producers.Message{{Topic: "nosuch"}, {Topic: topic}})
	var ut *producers.UnknownTopicError
	if !errors.As(res[0].Err, &ut) || ut.Topic != "nosuch" || !strings.Contains(ut.Error(), "topics create") {
		t.Errorf("error %v", res[0].Err)
	}
	if res[1].Err != nil {
		t.Errorf("neighbour of another topic: %v", res[1].Err)
	}
}

// deadPort is an address at which nobody listens.
func deadPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestNotReachable(t *testing.T) {
	addr := deadPort(t)
	t.Run("bounded by the context", func(t *testing.T) {
		p := producer(t, producers.Options{}, addr)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		err := p.Send(ctx, []producers.Message{{Topic: topic}})[0].Err
		checkUnreachable(t, err, 5*time.Second)
		if !strings.Contains(err.Error(), addr) {
			t.Errorf("error %q does not name the address", err)
		}
	})
	t.Run("bounded by the delivery time-out", func(t *testing.T) {
		p := producer(t, producers.Options{DeliveryTimeout: time.Second}, addr)
		checkUnreachable(t, p.Send(t.Context(), []producers.Message{{Topic: topic}})[0].Err, 8*time.Second)
	})
}

func checkUnreachable(t *testing.T, err error, atMost time.Duration) {
	t.Helper()
	var ur *producers.UnreachableError
	if !errors.As(err, &ur) || ur.Waited > atMost || ur.Topic != topic {
		t.Fatalf("error %v (%#v), want *UnreachableError within %v", err, err, atMost)
	}
}

// TestBrokerDiesUnderWay: the topic is known and a record is in flight when the
// broker goes silent; the delivery time-out must free the record and its memory.
func TestBrokerDiesUnderWay(t *testing.T) {
	c := cluster(t)
	p := producer(t, producers.Options{DeliveryTimeout: time.Second, BufferBytes: 5000}, c.ListenAddrs()...)
	if r := p.Send(t.Context(), []producers.Message{{Topic: topic, Key: []byte("k")}})[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	c.Close()
	res := p.Send(t.Context(), []producers.Message{{Topic: topic, Key: []byte("k"), Value: make([]byte, 4096)}})
	checkUnreachable(t, res[0].Err, 20*time.Second)
	// The buffer holds one such message: a second one gets in only if the first left.
	res = p.Send(t.Context(), []producers.Message{{Topic: topic, Key: []byte("k"), Value: make([]byte, 4096)}})
	checkUnreachable(t, res[0].Err, 20*time.Second)
	if !producers.MaybeStored(res[0].Err) {
		t.Errorf("error %v says for certain that nothing was stored", res[0].Err)
	}
}

// stall holds every produce request until the returned function is called. arrived
// gets one token for each request held.
func stall(c *kfake.Cluster) (arrived <-chan struct{}, release func()) {
	gate, in := make(chan struct{}), make(chan struct{}, 100)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() {
			in <- struct{}{}
			<-gate
		})
		return nil, nil, false
	})
	return in, sync.OnceFunc(func() { close(gate) })
}

// TestI7OneCallersContextFailsNobodyElse: two callers share a partition; the first
// one gives up while its record is in flight.
func TestI7OneCallersContextFailsNobodyElse(t *testing.T) {
	c := cluster(t)
	p := producer(t, producers.Options{}, c.ListenAddrs()...)
	arrived, release := stall(c)
	defer release()
	ctx, cancel := context.WithCancelCause(t.Context())
	a := p.Enqueue(ctx, []producers.Message{{Topic: topic, Key: []byte("same"), Value: []byte("a")}})
	<-arrived
	b := p.Enqueue(t.Context(), []producers.Message{{Topic: topic, Key: []byte("same"), Value: []byte("b")}})
	gone := errors.New("the client hung up")
	cancel(gone)
	ra := a.Wait(ctx)[0]
	if !producers.MaybeStored(ra.Err) || !errors.Is(ra.Err, gone) {
		t.Errorf("the caller that gave up: %v", ra.Err)
	}
	release()
	if rb := b.Wait(t.Context())[0]; rb.Err != nil {
		t.Errorf("the neighbour: %v", rb.Err)
	}
}

func TestBufferIsBounded(t *testing.T) {
	c := cluster(t)
	reg := prometheus.NewRegistry()
	p := producer(t, producers.Options{BufferBytes: 10_000, Registerer: reg}, c.ListenAddrs()...)
	arrived, release := stall(c)
	defer release()
	first := p.Enqueue(t.Context(), []producers.Message{{Topic: topic, Value: make([]byte, 8000)}})
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	res := p.Send(ctx, []producers.Message{{Topic: topic, Value: make([]byte, 8000)}})
	checkUnreachable(t, res[0].Err, 5*time.Second)
	if producers.MaybeStored(res[0].Err) {
		t.Errorf("a message that never left the caller was perhaps stored: %v", res[0].Err)
	}
	release()
	if r := first.Wait(t.Context())[0]; r.Err != nil {
		t.Errorf("first: %v", r.Err)
	}
	if n := metric(t, reg, "sealstream_produce_buffered_bytes", ""); n != 0 {
		t.Errorf("%v bytes still counted as buffered", n)
	}
}

// TestI8BarrierComesBeforeTheAnswer: nobody hears of success before the disk has it.
func TestI8BarrierComesBeforeTheAnswer(t *testing.T) {
	c := cluster(t)
	var synced atomic.Int32
	broken := errors.New("disk full")
	fail := false
	opts := producers.Options{Barrier: func(context.Context) error {
		if fail {
			return broken
		}
		synced.Add(1)
		return nil
	}}
	p := producer(t, opts, c.ListenAddrs()...)
	if r := p.Send(t.Context(), []producers.Message{{Topic: topic}, {Topic: topic}})[0]; r.Err != nil || synced.Load() != 1 {
		t.Errorf("error %v, %d calls of the barrier", r.Err, synced.Load())
	}
	if r := p.Send(t.Context(), []producers.Message{{Topic: topic, Value: make([]byte, 2<<20)}})[0]; r.Err == nil || synced.Load() != 1 {
		t.Errorf("nothing was acknowledged (%v), but the barrier was called %d times", r.Err, synced.Load())
	}
	fail = true
	r := p.Send(t.Context(), []producers.Message{{Topic: topic}})[0]
	if !errors.Is(r.Err, broken) || !producers.MaybeStored(r.Err) {
		t.Errorf("failed barrier: %v", r.Err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, n := range []int{-1, 0, 511, 1<<30 + 1} {
		_, err := producers.New(producers.Options{MaxMessageBytes: map[string]int{"t": n}})
		if err == nil || !strings.Contains(err.Error(), "topic t") {
			t.Errorf("limit %d: %v", n, err)
		}
	}
	if _, err := producers.New(producers.Options{}, kgo.MaxBufferedRecords(-1)); err == nil {
		t.Error("bad client options: no error")
	}
	if res := producer(t, producers.Options{}, deadPort(t)).Send(t.Context(), nil); len(res) != 0 {
		t.Errorf("no messages: %v", res)
	}
}

// TestI12ErrorsShowNoContent: keys, values and headers stay out of error texts.
func TestI12ErrorsShowNoContent(t *testing.T) {
	canary := "canary-51f0"
	msg := producers.Message{Topic: topic, Key: []byte(canary), Value: bytes.Repeat([]byte(canary), 200_000),
		Headers: []ledger.Header{{Name: "h", Value: []byte(canary)}}}
	p := producer(t, producers.Options{}, deadPort(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	small := msg
	small.Value = []byte(canary)
	for _, r := range p.Send(ctx, []producers.Message{msg, small}) {
		if r.Err == nil || strings.Contains(r.Err.Error(), canary) {
			t.Errorf("error: %v", r.Err)
		}
	}
}
