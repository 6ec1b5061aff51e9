//go:build integration

package operate

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
)

// site is an installation of a test's own, and an operator's clients.
type site struct {
	t      *testing.T
	bed    *testbed.Bed
	g      *testbed.Given
	prefix string
	adm    *kadm.Client
	sent   int // events produced

	brokers []string
}

// patience bounds every wait: a group that settles anew takes seconds, not minutes.
const patience = 60 * time.Second

// newSite makes an installation whose audit.events has so many partitions. Its prefix
// was never used before on these brokers.
func newSite(t *testing.T, bed *testbed.Bed, kafka []string, name string, partitions int) *site {
	t.Helper()
	s := &site{t: t, bed: bed, prefix: fmt.Sprintf("op-%s-%s.", name, rand.Text()[:6])}
	prefix := s.prefix
	var err error
	s.g, err = bed.Given(t.Context(), testbed.GivenOptions{Binary: testbed.Shared(t).Binary, Kafka: kafka, Prefix: prefix, Config: []string{
		"sources:", source("audit.events", partitions), source("domain.events", 1)}})
	if err != nil {
		t.Fatal(err)
	}
	s.useBrokers(kafka)
	return s
}

// useBrokers makes the operator's clients talk to these.
func (s *site) useBrokers(kafka []string) {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(kafka...), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(cl.Close)
	s.adm, s.brokers = kadm.NewClient(cl), kafka
}

func source(topic string, partitions int) string {
	return fmt.Sprintf("  - {topic: %s, partitions: %d, max_message_bytes: 1048588, retention: 720h}", topic, partitions)
}

func (s *site) topic(base string) string { return s.prefix + base }

func (s *site) role(role, slot string) *testbed.Proc {
	s.t.Helper()
	p, err := s.g.Role(role, slot)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// start runs one seal and one sink.
func (s *site) start() (seal, sink *testbed.Proc) {
	return s.role("seal", "1"), s.role("sink-postgres", "1")
}

func (s *site) stop(ps ...*testbed.Proc) {
	s.t.Helper()
	for _, p := range ps {
		ctx, cancel := context.WithTimeout(s.t.Context(), patience)
		code, err := p.Terminate(ctx)
		cancel()
		if err != nil || code != 0 {
			s.t.Fatalf("%s: exit code %d, %v:\n%s", p.Name, code, err, p.Tail())
		}
	}
}

// produce appends n events to a partition of a source.
func (s *site) produce(base string, partition int32, n int) {
	s.t.Helper()
	rs := make([]*kgo.Record, n)
	for i := range rs {
		rs[i] = &kgo.Record{Topic: s.topic(base), Partition: partition, Key: fmt.Appendf(nil, "k%d", i%7),
			Value:   fmt.Appendf(nil, `{"event":{"action":"file.read","outcome":"success"},"n":%d}`, s.sent+i),
			Headers: []kgo.RecordHeader{{Key: "ce_type", Value: []byte("file.read")}}}
	}
	s.until("produce", func() (bool, string) {
		// A client of its own: one that knew the topic before would not know it is another
		// one now, or has more partitions. While it does not, it writes nothing.
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			s.t.Fatal(err)
		}
		defer cl.Close()
		err = cl.ProduceSync(s.t.Context(), rs...).FirstErr()
		if err != nil && !strings.Contains(err.Error(), "invalid record partitioning choice") {
			s.t.Fatalf("produce: %v", err)
		}
		return err == nil, fmt.Sprint(err)
	})
	s.sent += n
}

// run runs a command of sealstream and wants an exit code.
func (s *site) run(want int, args ...string) testbed.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	r, err := s.g.Run(ctx, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	if r.Exit != want {
		s.t.Fatalf("sealstream %s: exit code %d, want %d:\n%s%s", strings.Join(args, " "), r.Exit, want, r.Stdout, r.Stderr)
	}
	return r
}

// report is what `sealstream verify --json` prints.
type report struct {
	Result   string
	Records  int
	Rows     int
	Lag      int
	Rejected int
	Errors   []string
	Findings []struct {
		Verdict, Ledger, Where, Detail string
		Seq                            int
	}
	Ledgers []struct {
		ID, Topic string
		Partition int
		Size      int
		Closed    bool
	}
	exit int
}

func (s *site) verify() report {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	r, err := s.g.Run(ctx, "verify", "--json")
	if err != nil {
		s.t.Fatal(err)
	}
	rep := report{exit: r.Exit}
	if err := json.Unmarshal([]byte(r.Stdout), &rep); err != nil {
		s.t.Fatalf("verify: exit code %d: %v\n%s%s", r.Exit, err, r.Stdout, r.Stderr)
	}
	return rep
}

// settled verifies until this many records are sealed and all of them stored.
func (s *site) settled(records int) report {
	s.t.Helper()
	var rep report
	s.until(fmt.Sprintf("%d records sealed and stored", records), func() (bool, string) {
		rep = s.verify()
		return rep.Records >= records && rep.Lag == 0, fmt.Sprintf("%+v", rep)
	})
	if rep.Records != records {
		s.t.Fatalf("%d records sealed, want %d: %+v", rep.Records, records, rep)
	}
	return rep
}

// clean wants a report without findings.
func (s *site) clean(rep report) {
	s.t.Helper()
	if rep.Result != "ok" || rep.exit != 0 || len(rep.Findings) > 0 || rep.Rejected > 0 {
		s.t.Fatalf("verify: %+v", rep)
	}
}

// until polls ok within patience; state is shown when it is over.
func (s *site) until(what string, ok func() (bool, string)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var state string
	err := testbed.Until(ctx, func() (done bool, _ error) {
		done, state = ok()
		return done, nil
	})
	if err != nil {
		s.t.Fatalf("%s: %v: %s", what, err, state)
	}
}

// raised waits until a process has raised an alarm of a kind about a key, and returns
// its line.
func (s *site) raised(p *testbed.Proc, kind, key string) string {
	s.t.Helper()
	return s.logged(p, "alarm raised", "kind="+kind, "key="+key)
}

func (s *site) cleared(p *testbed.Proc, kind, key string) {
	s.t.Helper()
	s.logged(p, "alarm cleared", "kind="+kind, "key="+key)
}

// logged waits for a line of the log that holds all of these.
func (s *site) logged(p *testbed.Proc, parts ...string) (line string) {
	s.t.Helper()
	s.until(p.Name+" prints "+strings.Join(parts, " ... "), func() (bool, string) {
		for _, l := range strings.Split(p.Log(), "\n") {
			all := true
			for _, part := range parts {
				all = all && strings.Contains(l, part)
			}
			if all {
				line = l
				return true, ""
			}
		}
		return false, p.Tail()
	})
	return line
}

// standing lists the alarms that a log leaves standing.
func standing(p *testbed.Proc) (out []string) {
	stand := map[string]bool{}
	for _, l := range strings.Split(p.Log(), "\n") {
		i := strings.Index(l, " kind=")
		if i < 0 {
			continue
		}
		kind, _, _ := strings.Cut(l[i+1:], " ")
		_, key, _ := strings.Cut(l, " key=")
		key, _, _ = strings.Cut(key, " ")
		switch {
		case strings.Contains(l, "alarm raised"):
			stand[kind+" "+key] = true
		case strings.Contains(l, "alarm cleared"):
			delete(stand, kind+" "+key)
		}
	}
	for k := range stand {
		out = append(out, k)
	}
	return out
}

// end returns the end offset of a partition.
func (s *site) end(topic string, partition int32) int64 {
	s.t.Helper()
	es, err := s.adm.ListEndOffsets(s.t.Context(), topic)
	if err != nil {
		s.t.Fatal(err)
	}
	o, ok := es.Lookup(topic, partition)
	if !ok || o.Err != nil {
		s.t.Fatalf("end of %s/%d: %v", topic, partition, o.Err)
	}
	return o.Offset
}

// database runs SQL as the superuser.
func (s *site) database(do func(*pgx.Conn) error) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.g.Postgres)
	if err == nil {
		defer conn.Close(context.Background())
		err = do(conn)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) rows() (n int) {
	s.t.Helper()
	s.database(func(c *pgx.Conn) error { return c.QueryRow(s.t.Context(), "SELECT count(*) FROM events").Scan(&n) })
	return n
}

// config returns the path of the installation's configuration.
func (s *site) config() string { return s.g.Args[1] }

// repoint makes the configuration and the operator's clients name other brokers.
func (s *site) repoint(to []string) {
	s.t.Helper()
	from := s.brokers
	s.useBrokers(to)
	raw, err := os.ReadFile(s.config())
	if err != nil {
		s.t.Fatal(err)
	}
	a, _ := json.Marshal(from)
	b, _ := json.Marshal(to)
	text := strings.Replace(string(raw), "brokers: "+string(a), "brokers: "+string(b), 1)
	if text == string(raw) {
		s.t.Fatalf("the configuration does not name %s", a)
	}
	if err := os.WriteFile(s.config(), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// deleteTopic deletes a topic and waits until the brokers have forgotten it.
func (s *site) deleteTopic(topic string) {
	s.t.Helper()
	rs, err := s.adm.DeleteTopics(s.t.Context(), topic)
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.until(topic+" is gone", func() (bool, string) {
		ts, err := s.adm.ListTopics(s.t.Context(), topic)
		return err == nil && !ts.Has(topic), fmt.Sprint(err)
	})
}
