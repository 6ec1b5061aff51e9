package faults

import (
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/embedded"
	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/internal/verify"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
	"github.com/sealstream/sealstream/processors/seal"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// On the brokers of SEALSTREAM_TEST_KAFKA, else on an embedded one:
// the collector, the watch and the load against the real parts in one process: what
// they see of an ordinary run is faultless, and damage done to the table is named.
func TestEvidenceOfARealRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, verifier := startParts(t, ctx)
	l := &load{run: 7}
	w, err := newWatch(ctx, l, c)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	f, err := newFeed(l, c.kafka)
	if err != nil {
		t.Fatal(err)
	}
	topics := []string{schemas.TopicAudit, schemas.TopicDomain}
	fctx, stopFeed := context.WithCancel(ctx)
	var feeding sync.WaitGroup
	feeding.Go(func() { f.run(fctx, 1000, topics...) })
	w.begin()
	rec, err := w.recovered(ctx, topics)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Sealed <= 0 || rec.SealedAll < rec.Sealed || rec.Stored < rec.Sealed || rec.StoredAll < rec.Stored {
		t.Errorf("times of recovery are impossible: %+v", rec)
	}
	if err := w.sight(ctx); err != nil {
		t.Fatal(err)
	}
	stopFeed()
	feeding.Wait()
	if err := f.close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.drained(ctx); err != nil {
		t.Fatal(err)
	}
	judged := func() *Verdict {
		e, err := c.collect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		e.Acked, e.Sightings = l.acks, w.sightings
		return Judge(e)
	}
	v := judged()
	if fs := v.Faults(Expected{}); len(fs) > 0 {
		t.Errorf("found %q in an ordinary run", fs)
	}
	if v.Acked != int(l.sent.Load()) || v.Source != v.Acked || v.Sealed != v.Source || v.Rows != v.Sealed+25 || v.Sightings == 0 {
		t.Errorf("judged %+v; %d were sent, and there are 25 ledgers", v, l.sent.Load())
	}
	if rep := verifier(); rep.Result != verify.ResultOK || int(rep.Records) != v.Rows || int(rep.Rows) != v.Rows {
		t.Errorf("verify says %s of %d records and %d rows, the oracle counts %d rows; %v", rep.Result, rep.Records, rep.Rows, v.Rows, rep.Findings)
	}
	conn, err := pgx.Connect(ctx, c.postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	w.close() // it would see the damage too, and say so once more for each look
	for _, damage := range []struct {
		sql, want string
		verdict   ledger.Verdict
	}{
		{"DELETE FROM events WHERE (ledger, seq) IN (SELECT ledger, seq FROM events WHERE seq > 0 LIMIT 1)", "1 offset ahead", ledger.Missing},
		{"UPDATE sink_offsets SET next_offset = next_offset - 1 WHERE (topic, partition) IN (SELECT topic, partition FROM sink_offsets WHERE topic LIKE 'audit%' LIMIT 1)", "1 row ahead", ""},
		{"UPDATE events SET leaf_hash = '\\x00' WHERE (ledger, seq) IN (SELECT ledger, seq FROM events WHERE seq > 0 ORDER BY seq DESC LIMIT 1)", "1 stored wrong", ledger.Altered},
	} {
		if tag, err := conn.Exec(ctx, damage.sql); err != nil || tag.RowsAffected() != 1 {
			t.Fatalf("%s: %v, %d rows", damage.sql, err, tag.RowsAffected())
		}
		fs := judged().Faults(Expected{})
		if !slices.ContainsFunc(fs, func(s string) bool { return strings.HasPrefix(s, damage.want) }) {
			t.Errorf("found %q, want one that begins %q", fs, damage.want)
		}
		if rep := verifier(); damage.verdict != "" && !slices.ContainsFunc(rep.Findings, func(f ledger.Finding) bool { return f.Verdict == damage.verdict }) {
			t.Errorf("verify found %v, want one that is %s", rep.Findings, damage.verdict)
		}
	}
}

// startParts runs database, seal and sink in this process, and a broker unless one is
// given. The second value verifies what they have made.
func startParts(t *testing.T, ctx context.Context) (*collector, func() *verify.Report) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	bed, err := testbed.New("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(false); err != nil {
			t.Error(err)
		}
	})
	dir, err := bed.MakeDir("data")
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	if given := os.Getenv(testbed.KafkaEnv); given != "" {
		addrs = strings.Split(given, ",")
	} else {
		b, err := embedded.StartBroker(ctx, embedded.BrokerOptions{Dir: dir + "/broker", Log: log})
		if err != nil {
			t.Fatal(err)
		}
		bed.AtClose(b.Close)
		addrs = b.Addrs()
	}
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: dir + "/postgres", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	bed.AtClose(pg.Close)
	passwords := map[string]string{postgres.RoleWriter: "writer-password", postgres.RoleReader: "reader-password", postgres.RoleRepair: "repair-password"}
	if err := postgres.Migrate(ctx, postgres.MigrateOptions{URL: pg.URL(""), Passwords: passwords, Log: log}); err != nil {
		t.Fatal(err)
	}
	kafka := stream.Config{Brokers: addrs, ClientID: "faults"}
	topics := schemas.Topics("", schemas.KeepForever(schemas.DefaultSources()))
	if _, err := stream.EnsureTopics(ctx, kafka, topics, -1); err != nil {
		t.Fatal(err)
	}
	run, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	bed.AtClose(func() error { cancel(); wg.Wait(); return nil })
	runSeal(t, run, &wg, kafka, log)
	runSink(t, run, &wg, kafka, pg.RoleURL(postgres.RoleWriter, "writer-password", ""), log)
	c := &collector{kafka: []kgo.Opt{kgo.SeedBrokers(addrs...)}, postgres: pg.URL(""), rejects: schemas.TopicRejects}
	for _, s := range schemas.DefaultSources() {
		c.sources = append(c.sources, s.Name)
	}
	return c, func() *verify.Report {
		return verified(t, ctx, kafka, pg.RoleURL(postgres.RoleReader, "reader-password", ""), c.sources)
	}
}

func runSeal(t *testing.T, ctx context.Context, wg *sync.WaitGroup, kafka stream.Config, log *slog.Logger) {
	t.Helper()
	keys, err := ledger.NewKeyring(map[uint32][]byte{1: make([]byte, 32)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	o := stream.FoldOptions{Kafka: kafka, Stage: schemas.GroupSeal, Slot: "a", Pairs: map[string]string{},
		Processor: seal.New(seal.Options{Name: "log.test", Keys: keys}), ControlTopic: schemas.TopicControl,
		ParseOrder: func(ledger.Record) (processors.Order, bool) { return processors.Order{}, false },
		Alarms:     stream.NewAlarms(log, nil), Metrics: stream.NewFoldMetrics("seal", prometheus.NewRegistry()), Log: log}
	for _, s := range schemas.DefaultSources() {
		o.Pairs[s.Name] = schemas.SealedName(s.Name)
	}
	wg.Go(func() {
		if err := stream.RunFold(ctx, o); err != nil {
			t.Error(err)
		}
	})
}

func runSink(t *testing.T, ctx context.Context, wg *sync.WaitGroup, kafka stream.Config, url string, log *slog.Logger) {
	t.Helper()
	sink, err := postgres.New(ctx, postgres.Options{URL: url, Codec: schemas.NewCodec(nil), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	rejects, err := stream.NewRejects(kafka, schemas.TopicRejects)
	if err != nil {
		t.Fatal(err)
	}
	d := sinks.NewDeliverer(sink, rejects, sinks.DeliverOptions{Sink: "postgres"}, log, sinks.NewMetrics(prometheus.NewRegistry()))
	o := stream.DeliveryOptions{Kafka: kafka, Stage: schemas.GroupPostgres, Slot: "a", Sink: sink, Deliver: d.Deliver,
		Alarms: stream.NewAlarms(log, nil), Log: log}
	for _, s := range schemas.DefaultSources() {
		o.Topics = append(o.Topics, schemas.SealedName(s.Name))
	}
	wg.Go(func() {
		if err := stream.RunDelivery(ctx, o); err != nil {
			t.Error(err)
		}
		sink.Close()
		rejects.Close()
	})
}
