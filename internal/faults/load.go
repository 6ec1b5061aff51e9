package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// load numbers the events of a case and keeps what was acknowledged of them. The
// number is in the event's id, so that a sealed record tells when it was sent.
type load struct {
	run  uint32        // tells the cases of one run apart
	avro atomic.Uint32 // schema id of the audit events; 0 = JSON alone
	sent atomic.Int64

	gap gap

	mu     sync.Mutex
	acks   []Ack
	failed int
	reads  int // reads of event content that were answered
}

// nextID returns the number and id of the next event.
func (l *load) nextID() (int64, string) {
	n := l.sent.Add(1)
	return n, fmt.Sprintf("%08x-0000-7000-8000-%012x", l.run, n)
}

// number is the number of the event with an id of this load, 0 for other ids.
func (l *load) number(id string) int64 {
	tail, ok := strings.CutPrefix(id, fmt.Sprintf("%08x-0000-7000-8000-", l.run))
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(tail, 16, 64)
	if err != nil {
		return 0
	}
	return n
}

func (l *load) acknowledged(a Ack) {
	l.gap.acknowledged()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acks = append(l.acks, a)
}

// gap measures the longest time between two acknowledgements.
type gap struct {
	mu   sync.Mutex
	last time.Time
	most time.Duration
}

func (g *gap) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last, g.most = time.Now(), 0
}

func (g *gap) acknowledged() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if !g.last.IsZero() {
		g.most = max(g.most, now.Sub(g.last))
	}
	g.last = now
}

func (g *gap) longest() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.most
}

// auditJSON and domainJSON are ordinary events of some 350 bytes.
func auditJSON(id, action string, n int64) []byte {
	return fmt.Appendf(nil, `{"@timestamp":%q,"ecs":{"version":"9.4.0"},"event":{"id":%q,"kind":"event","category":["iam"],"type":["user","change"],"action":%q,"outcome":"success","dataset":"faults.load"},"user":{"id":"user-%d","name":"Load %d"},"source":{"ip":"192.0.2.%d"},"message":"event %d of the load, with a text of an ordinary length"}`,
		time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), id, action, n%200, n%200, n%250, n)
}

func domainJSON(id, action string, n int64) []byte {
	return fmt.Appendf(nil, `{"@timestamp":%q,"ecs":{"version":"9.4.0"},"event":{"id":%q,"kind":"event","category":["database"],"type":["change"],"action":%q,"outcome":"success","dataset":"faults.load"},"aggregate":{"type":"order","id":"order-%d","version":%d},"user":{"id":"user-%d"},"message":"event %d of the load, with a text of an ordinary length"}`,
		time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), id, action, n%500, n, n%200, n)
}

// auditAvro is an audit event of ours in its other form.
func auditAvro(asJSON []byte, schema uint32) []byte {
	var e schemas.AuditEvent
	err := e.UnmarshalJSON(asJSON)
	var body []byte
	if err == nil {
		body, err = e.AppendAvro(nil)
	}
	if err != nil {
		panic("faults: the load's own event is not valid: " + err.Error())
	}
	return schemas.AppendFrame(nil, schema, body)
}

// register registers a schema for audit events with the registry and returns its id.
func register(ctx context.Context, registry, schema string) (uint32, error) {
	body, err := json.Marshal(map[string]string{"schema": schema})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, registry+"/subjects/"+schemas.TopicAudit+"-value/versions", bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("register the audit schema: %w", err)
	}
	req.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("register the audit schema: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		ID uint32 `json:"id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.ID == 0 {
		return 0, fmt.Errorf("register the audit schema: %s, id %d: %w", resp.Status, answer.ID, err)
	}
	return answer.ID, nil
}

// actionLoad is event.action of the load, actionPoison of what the table will refuse.
const (
	actionLoad   = "faults.load"
	actionPoison = "faults.poison"
)

// record makes one event for a topic; partition -1 leaves the choice to the key.
func (l *load) record(topic string, partition int32, action string) *kgo.Record {
	n, id := l.nextID()
	r := &kgo.Record{Topic: topic, Partition: partition, Timestamp: time.Now(), Headers: []kgo.RecordHeader{
		{Key: idHeader, Value: []byte(id)}, {Key: "ce_type", Value: []byte(action)},
		{Key: "ce_source", Value: []byte("faults")}, {Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_tenant", Value: []byte("default")},
	}}
	if strings.HasSuffix(topic, "domain.events") {
		r.Key, r.Value = fmt.Appendf(nil, "order-%d", n%500), domainJSON(id, action, n)
	} else {
		r.Key, r.Value = fmt.Appendf(nil, "default/%d", n%200), auditJSON(id, action, n)
		if id := l.avro.Load(); id > 0 && n%4 == 1 {
			r.Value = auditAvro(r.Value, id)
		}
	}
	return r
}

// feed is a Kafka producer that goes on through every outage, as a client of any
// language would: idempotent, acks=all, retrying without end.
type feed struct {
	poisoner
	load *load
	cl   *kgo.Client
}

func newFeed(l *load, opts []kgo.Opt) (*feed, error) {
	cl, err := kgo.NewClient(slices.Concat(opts, []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.MaxBufferedRecords(500_000), kgo.RecordPartitioner(choosing{kgo.StickyKeyPartitioner(nil)}),
		kgo.UnknownTopicRetries(-1), kgo.MetadataMinAge(100 * time.Millisecond), kgo.DialTimeout(2 * time.Second),
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(50*time.Millisecond<<min(tries, 3), 250*time.Millisecond) })})...)
	if err != nil {
		return nil, fmt.Errorf("make the load's producer: %w", err)
	}
	return &feed{load: l, cl: cl}, nil
}

// send hands records over and keeps what becomes of them.
func (f *feed) send(ctx context.Context, rs ...*kgo.Record) {
	for _, r := range rs {
		id := string(r.Headers[0].Value)
		f.cl.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err != nil {
				f.load.mu.Lock()
				f.load.failed++ // nobody was told that it is there, so it may be or not
				f.load.mu.Unlock()
				return
			}
			if string(r.Headers[1].Value) == actionPoison {
				f.poisoned.Add(1)
			}
			f.load.acknowledged(Ack{ID: id, Partition: sinks.Partition{Topic: r.Topic, ID: r.Partition}, Offset: r.Offset})
		})
	}
}

// run feeds rate events a second to topics, in turns, until ctx ends.
func (f *feed) run(ctx context.Context, rate int, topics ...string) {
	const every = 20 * time.Millisecond
	t := time.NewTicker(every)
	defer t.Stop()
	for turn := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for range max(1, rate*int(every)/int(time.Second)) {
			// The record must outlive the load's end: it is flushed then.
			f.send(context.WithoutCancel(ctx), f.load.record(topics[turn%len(topics)], -1, f.action(int64(turn))))
			turn++
		}
	}
}

// close waits for what is under way and ends the producer.
func (f *feed) close(ctx context.Context) error {
	defer f.cl.Close()
	if err := f.cl.Flush(ctx); err != nil {
		return fmt.Errorf("flush the load: %w", err)
	}
	return nil
}

// choosing takes a record's partition if it names one, else the key decides.
type choosing struct{ kgo.Partitioner }

func (c choosing) ForTopic(topic string) kgo.TopicPartitioner {
	return choosingTopic{c.Partitioner.ForTopic(topic)}
}

type choosingTopic struct{ kgo.TopicPartitioner }

func (c choosingTopic) RequiresConsistency(*kgo.Record) bool { return true }

func (c choosingTopic) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 && int(r.Partition) < n {
		return int(r.Partition)
	}
	return c.TopicPartitioner.Partition(r, n)
}
