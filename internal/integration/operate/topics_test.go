//go:build integration

package operate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/sealstream/sealstream/internal/testbed"
)

// Records of a partition that the sealed topic lacks wait, under an alarm that names the
// command; all others go on. After the command the new partitions have ledgers of their
// own and the old ledgers are the same.
func TestPartitionsAdded(t *testing.T) {
	t.Parallel()
	s := newSite(t, testbed.ForTest(t), testbed.Shared(t).Kafka, "grow", 2)
	seal, sink := s.start()
	for p := range int32(2) {
		s.produce("audit.events", p, 50)
	}
	before := s.settled(104)
	s.clean(before)

	rs, err := s.adm.CreatePartitions(t.Context(), 2, s.topic("audit.events"))
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(2) { // what is produced before anybody has noticed
		s.produce("audit.events", 2+p, 20)
	}
	for _, p := range []string{"2", "3"} {
		if line := s.raised(seal, "sealed_partition_missing", s.topic("audit.events/"+p)); !strings.Contains(line, "sealstream topics create") {
			t.Errorf("the alarm names no command: %s", line)
		}
	}
	for p := range int32(4) {
		s.produce("audit.events", p, 10)
	}
	s.clean(s.settled(124)) // the old partitions go on
	if r := s.run(1, "topics", "check"); !strings.Contains(r.Stdout, s.topic("audit.events.sealed: has 2 partitions and ")+s.topic("audit.events has 4")) {
		t.Errorf("topics check: %s", r.Stdout)
	}
	s.clean(s.settled(124))

	if r := s.run(0, "topics", "create"); !strings.Contains(r.Stdout, "added partitions to "+s.topic("audit.events.sealed")) {
		t.Errorf("topics create: %s", r.Stdout)
	}
	for _, p := range []string{"2", "3"} {
		s.cleared(seal, "sealed_partition_missing", s.topic("audit.events/"+p))
	}
	after := s.settled(124 + 2 + 60)
	s.clean(after)
	for _, l := range before.Ledgers {
		if n := sizeOf(after, l.ID); n < l.Size {
			t.Errorf("ledger %s had %d records, has %d", l.ID, l.Size, n)
		}
	}
	if len(after.Ledgers) != len(before.Ledgers)+2 {
		t.Errorf("%d ledgers, had %d", len(after.Ledgers), len(before.Ledgers))
	}
	s.run(0, "topics", "check")
	s.stop(seal, sink)
	if left := append(standing(seal), standing(sink)...); len(left) > 0 {
		t.Errorf("alarms left standing: %v", left)
	}
}

func sizeOf(r report, ledger string) int {
	for _, l := range r.Ledgers {
		if l.ID == ledger {
			return l.Size
		}
	}
	return -1
}

// What the source drops before it is sealed is a GAP with its offsets, for ever; sealing
// goes on behind it without anybody's help.
func TestRetentionPassesTheSeal(t *testing.T) {
	t.Parallel()
	s := newSite(t, testbed.ForTest(t), testbed.Shared(t).Kafka, "gap", 1)
	seal, sink := s.start()
	s.produce("audit.events", 0, 30)
	s.clean(s.settled(33))
	s.stop(seal)
	s.produce("audit.events", 0, 40) // offsets 30 to 69
	var drop kadm.Offsets
	drop.AddOffset(s.topic("audit.events"), 0, 50, -1)
	if rs, err := s.adm.DeleteRecords(t.Context(), drop); err != nil || rs.Error() != nil {
		t.Fatal(err, rs.Error())
	}

	seal = s.role("seal", "1")
	if line := s.raised(seal, "source_lost_records", s.topic("audit.events/0")); !strings.Contains(line, "offsets 30 to 49") {
		t.Errorf("the alarm: %s", line)
	}
	s.produce("audit.events", 0, 10)
	// 30 events and what was left, 3 genesis, then close and genesis.
	want := func(records int) {
		t.Helper()
		rep := s.settled(records)
		if rep.exit != 1 || rep.Result != "findings" || len(rep.Findings) != 1 {
			t.Fatalf("verify: %+v", rep)
		}
		f := rep.Findings[0]
		if f.Verdict != "GAP" || f.Seq != 0 || !strings.Contains(f.Detail, "source offsets 30 to 49 are in no ledger") || !strings.Contains(f.Detail, "at most 20 records") {
			t.Fatalf("finding: %+v", f)
		}
		if len(rep.Ledgers) != 4 {
			t.Fatalf("ledgers: %+v", rep.Ledgers)
		}
	}
	want(33 + 2 + 20 + 10)
	if r := s.run(1, "verify"); !strings.Contains(r.Stdout, "GAP") || !strings.Contains(r.Stdout, "source offsets 30 to 49") {
		t.Errorf("verify prints:\n%s", r.Stdout)
	}
	// The next start finds nothing new, and the gap stays.
	s.stop(seal)
	seal = s.role("seal", "1")
	s.produce("audit.events", 0, 5)
	want(65 + 5)
	s.stop(seal, sink)
	if left := standing(seal); len(left) > 0 {
		t.Errorf("alarms left standing: %v", left)
	}
}

// A source made anew stops, others go on; an order closes the old ledger and begins the
// next one, which names it.
func TestSourceMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t, testbed.ForTest(t), testbed.Shared(t).Kafka, "anew", 1)
	seal, sink := s.start()
	s.produce("audit.events", 0, 30)
	s.produce("domain.events", 0, 10)
	s.clean(s.settled(43))

	s.deleteTopic(s.topic("audit.events"))
	s.produce("domain.events", 0, 10)
	s.clean(s.settled(53)) // others go on while it is gone
	if r := s.run(0, "topics", "create"); !strings.Contains(r.Stdout, "created "+s.topic("audit.events\n")) {
		t.Errorf("topics create: %s", r.Stdout)
	}
	s.produce("audit.events", 0, 25) // fewer than there were
	s.raised(seal, "source_topic_id_changed", s.topic("audit.events/0"))
	s.produce("domain.events", 0, 10)
	s.clean(s.settled(63)) // and while it is stopped

	r := s.run(0, "order", "resume", "--source", "audit.events", "--partition", "0", "--by", "test", "--reason", "the topic was deleted by mistake")
	if !strings.Contains(r.Stdout, s.topic("audit.events/0 goes on")) {
		t.Errorf("order resume: %s%s", r.Stdout, r.Stderr)
	}
	s.cleared(seal, "source_topic_id_changed", s.topic("audit.events/0"))
	rep := s.settled(63 + 1 + 2 + 25) // the order, close and genesis, what waited
	s.clean(rep)
	closed := 0
	for _, l := range rep.Ledgers {
		if l.Closed {
			closed++
		}
	}
	if closed != 1 || len(rep.Ledgers) != 4 {
		t.Errorf("ledgers: %+v", rep.Ledgers)
	}
	// A restart meets statements about the old topic in the tail, at offsets that the new
	// one has given to others or has not reached.
	s.stop(seal)
	seal = s.role("seal", "1")
	s.produce("audit.events", 0, 5)
	s.produce("domain.events", 0, 5)
	s.clean(s.settled(63 + 1 + 2 + 25 + 10))
	s.stop(seal, sink)
	if left := append(standing(seal), standing(sink)...); len(left) > 0 {
		t.Errorf("alarms left standing: %v", left)
	}
}

// A sealed topic that would lose or refuse evidence is refused at start, with the command
// for each setting. Kafka's own tool runs them, and the next start seals.
func TestSealedTopicWithDefaultLimits(t *testing.T) {
	t.Parallel()
	p := testbed.Shared(t)
	s := newSite(t, testbed.ForTest(t), p.Kafka, "limits", 1)
	sealed := s.topic("audit.events.sealed")
	s.deleteTopic(sealed)
	conf := map[string]*string{"cleanup.policy": kadm.StringPtr("compact,delete")}
	if _, err := s.adm.CreateTopic(t.Context(), 1, 1, conf, sealed); err != nil {
		t.Fatal(err)
	}
	s.produce("audit.events", 0, 20)

	seal := s.role("seal", "1")
	code, err := seal.Wait(t.Context())
	if err != nil || code == 0 {
		t.Fatalf("the seal ended with %d, %v", code, err)
	}
	for _, setting := range []string{"cleanup.policy=delete", "retention.ms=-1", "max.message.bytes=1114124", "message.timestamp.after.max.ms=9223372036854775807"} {
		want := fmt.Sprintf("kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics --entity-name %s --add-config %s", sealed, setting)
		if !strings.Contains(seal.Log(), want) {
			t.Errorf("the seal does not say %q:\n%s", want, seal.Log())
		}
	}
	if at := s.end(sealed, 0); at != 0 {
		t.Errorf("%d offsets are taken in %s", at, sealed)
	}

	check := s.run(1, "topics", "check")
	for _, line := range strings.Split(check.Stdout, "\n") {
		if _, cmd, ok := strings.Cut(line, "kafka-configs.sh "); ok {
			s.kafkaConfigs(p, strings.Fields(strings.Replace(cmd, "HOST:PORT", p.Kafka[0], 1))...)
		}
	}
	s.run(0, "topics", "check")
	seal, sink := s.start()
	s.clean(s.settled(23))

	// The same while it runs: an alarm, and it goes with the cause, without a restart.
	s.kafkaConfigs(p, "--bootstrap-server", p.Kafka[0], "--alter", "--entity-type", "topics", "--entity-name", sealed, "--add-config", "retention.ms=604800000")
	if line := s.raised(seal, "topics_wrong", "all"); !strings.Contains(line, "retention.ms") {
		t.Errorf("the alarm: %s", line)
	}
	s.kafkaConfigs(p, "--bootstrap-server", p.Kafka[0], "--alter", "--entity-type", "topics", "--entity-name", sealed, "--add-config", "retention.ms=-1")
	s.cleared(seal, "topics_wrong", "all")
	s.produce("audit.events", 0, 5)
	s.clean(s.settled(28))
	s.stop(seal, sink)
}

// kafkaConfigs is kafka-configs.sh.
func (s *site) kafkaConfigs(p testbed.Peers, args ...string) {
	s.t.Helper()
	jdk, err := testbed.FindJava(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := s.bed.Run(s.t.Context(), jdk.Java, append([]string{"-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", p.KafkaJars, "kafka.admin.ConfigCommand"}, args...)...)
	if err != nil || r.Exit != 0 {
		s.t.Fatalf("kafka-configs.sh %v: exit code %d, %v\n%s%s", args, r.Exit, err, r.Stdout, r.Stderr)
	}
}
