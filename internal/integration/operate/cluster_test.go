//go:build integration

package operate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
)

// secondCluster is another Kafka, which forgets transactional ids in no time.
func secondCluster(t *testing.T, bed *testbed.Bed) *testbed.Kafka {
	t.Helper()
	k, err := bed.Kafka(t.Context(), testbed.KafkaOptions{Nodes: 1, Config: map[string]string{
		"transactional.id.expiration.ms":                              "2000",
		"transaction.remove.expired.transaction.cleanup.interval.ms":  "500",
		"producer.id.expiration.ms":                                   "2000",
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
		"producer.id.expiration.check.interval.ms":                    "500",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The configuration names the wrong cluster. Nothing of the two is mixed: without its
// topics nothing starts; where they were made too, the sink stores nothing there, since the
// database belongs to the first; and back on the first all is as it was. A cluster into
// which sealed records were copied is refused by the seal itself.
func TestWrongCluster(t *testing.T) {
	t.Parallel()
	bed := testbed.ForTest(t)
	p := testbed.Shared(t)
	s := newSite(t, bed, p.Kafka, "second", 1)
	seal, sink := s.start()
	s.produce("audit.events", 0, 30)
	first := s.settled(33)
	s.clean(first)
	s.stop(seal, sink)
	copies := s.sealedRecords("domain.events.sealed")
	rows := s.rows()

	other := secondCluster(t, bed)
	s.repoint(other.Brokers)
	seal = s.role("seal", "1")
	if code, err := seal.Wait(t.Context()); err != nil || code == 0 || !strings.Contains(seal.Log(), s.topic("audit.events.sealed: missing")) {
		t.Fatalf("on an empty cluster the seal ended with %d, %v:\n%s", code, err, seal.Log())
	}

	s.run(0, "topics", "create")
	s.copyTo("domain.events.sealed", copies)
	s.produce("audit.events", 0, 45)
	seal, sink = s.start()
	for _, base := range []string{"audit.events.sealed", "ledger.control.sealed"} {
		line := s.raised(sink, "offsets_of_another_topic", s.topic(base))
		for _, want := range []string{"belongs to the installation", "a database of its own", "kafka.brokers"} {
			if !strings.Contains(line, want) {
				t.Errorf("the alarm does not say %q: %s", want, line)
			}
		}
	}
	s.raised(seal, "name_or_cluster_changed", s.topic("domain.events/0"))
	s.until("the other partitions are sealed on the second cluster", func() (bool, string) {
		n := s.end(s.topic("audit.events.sealed"), 0)
		return n >= 46, fmt.Sprint(n)
	})
	if n := s.rows(); n != rows {
		t.Fatalf("%d rows, there were %d", n, rows)
	}
	// Transactional ids are forgotten here after 2 s without use. The seal notices by an
	// error, and goes on with a new one.
	sealed := s.end(s.topic("audit.events.sealed"), 0)
	s.until("the transactional id is forgotten", func() (bool, string) {
		ids, err := s.adm.ListTransactions(t.Context(), nil, nil)
		return err == nil && len(ids.TransactionalIDs()) == 0, fmt.Sprint(ids.TransactionalIDs(), err)
	})
	s.produce("audit.events", 0, 5)
	s.until("sealing goes on with a new transactional id", func() (bool, string) {
		n := s.end(s.topic("audit.events.sealed"), 0)
		return n >= sealed+5, fmt.Sprint(n)
	})
	s.stop(seal, sink)

	s.repoint(p.Kafka)
	seal, sink = s.start()
	s.produce("audit.events", 0, 10)
	again := s.settled(43)
	s.clean(again)
	for _, l := range first.Ledgers {
		if sizeOf(again, l.ID) < l.Size {
			t.Errorf("ledger %s had %d records: %+v", l.ID, l.Size, again.Ledgers)
		}
	}
	s.stop(seal, sink)
	if left := append(standing(seal), standing(sink)...); len(left) > 0 {
		t.Errorf("alarms left standing: %v", left)
	}
}

// sealedRecords reads partition 0 of a topic.
func (s *site) sealedRecords(base string) (out []*kgo.Record) {
	s.t.Helper()
	end := s.end(s.topic(base), 0)
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.topic(base): {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	for next := int64(0); next < end-1; { // the last offset is a marker's
		fs := cl.PollFetches(s.t.Context())
		if err := fs.Err(); err != nil {
			s.t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { out, next = append(out, r), r.Offset+1 })
	}
	return out
}

// copyTo writes them on the brokers at hand, as a mirror would.
func (s *site) copyTo(base string, rs []*kgo.Record) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	for _, r := range rs {
		c := &kgo.Record{Topic: s.topic(base), Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
		if err := cl.ProduceSync(s.t.Context(), c).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Group offsets expire when a group was empty for long. The seal needs none: its sealed
// topic says where to go on, and PostgreSQL says it to the sink.
func TestGroupOffsetsExpired(t *testing.T) {
	t.Parallel()
	s := newSite(t, testbed.ForTest(t), testbed.Shared(t).Kafka, "expired", 2)
	seal, sink := s.start()
	for p := range int32(2) {
		s.produce("audit.events", p, 30)
	}
	before := s.settled(64)
	s.clean(before)
	s.stop(seal, sink)
	for _, group := range []string{"seal", "sink-postgres"} {
		s.until("group "+group+" is deleted", func() (bool, string) {
			_, err := s.adm.DeleteGroup(t.Context(), s.topic(group)) // refused while a member is remembered
			return err == nil, fmt.Sprint(err)
		})
	}
	for p := range int32(2) {
		s.produce("audit.events", p, 10)
	}
	seal, sink = s.start()
	after := s.settled(84)
	s.clean(after)
	if len(after.Ledgers) != len(before.Ledgers) {
		t.Errorf("ledgers: %+v", after.Ledgers)
	}
	s.stop(seal, sink)
	if left := append(standing(seal), standing(sink)...); len(left) > 0 {
		t.Errorf("alarms left standing: %v", left)
	}
}

// A sealed topic that was deleted is evidence lost. Sealing stops until an order names the
// ledger that was there; the sink stores nothing until it is told that its offsets are
// void; verify shows what is missing for ever, and what is new is sound.
func TestSealedTopicDeleted(t *testing.T) {
	t.Parallel()
	s := newSite(t, testbed.ForTest(t), testbed.Shared(t).Kafka, "deleted", 1)
	seal, sink := s.start()
	s.produce("audit.events", 0, 30)
	s.clean(s.settled(33))
	sealed := s.topic("audit.events.sealed")
	s.deleteTopic(sealed)
	if line := s.raised(seal, "topics_wrong", "all"); !strings.Contains(line, sealed+": missing") {
		t.Errorf("the alarm: %s", line)
	}
	s.produce("audit.events", 0, 20)
	s.run(0, "topics", "create")
	s.raised(seal, "output_shorter_than_group_offset", s.topic("audit.events/0"))
	s.raised(sink, "offsets_of_another_topic", sealed)

	r := s.run(0, "order", "resume", "--source", "audit.events", "--partition", "0", "--by", "test", "--reason", "the sealed topic was deleted")
	if !strings.Contains(r.Stderr, "the ledger before, as PostgreSQL has it") || !strings.Contains(r.Stdout, "goes on") {
		t.Errorf("order resume: %s%s", r.Stdout, r.Stderr)
	}
	s.stop(sink)
	s.database(func(c *pgx.Conn) error {
		_, err := c.Exec(t.Context(), "BEGIN; DELETE FROM sink_offsets WHERE topic = '"+sealed+"'; DELETE FROM sink_topics WHERE topic = '"+sealed+"'; COMMIT")
		return err
	})
	sink = s.role("sink-postgres", "1")
	s.produce("audit.events", 0, 10)
	// What the source still has is sealed again: its genesis and all 60, domain's genesis,
	// control's and the order.
	rep := s.settled(1 + 60 + 1 + 1 + 1)
	gap, extra := 0, 0
	for _, f := range rep.Findings {
		switch {
		case f.Verdict == "GAP" && strings.Contains(f.Detail, "32 records missing: the whole ledger"):
			gap++
		case f.Verdict == "EXTRA":
			extra++
		default:
			t.Errorf("finding: %+v", f)
		}
	}
	s.cleared(seal, "topics_wrong", "all")
	if gap != 1 || extra != 31 || rep.exit != 1 {
		t.Errorf("%d GAP, %d EXTRA, exit code %d: %+v", gap, extra, rep.exit, rep)
	}
	s.stop(seal, sink)
	if left := append(standing(seal), standing(sink)...); len(left) > 0 {
		t.Errorf("alarms left standing: %v", left)
	}
}
