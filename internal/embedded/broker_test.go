package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func startBroker(t *testing.T, o BrokerOptions) *Broker {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b, err := StartBroker(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func newClient(t *testing.T, addrs []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addrs...)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func createTopic(t *testing.T, cl *kgo.Client, name string, partitions int32) {
	t.Helper()
	never := "-1"
	cfg := map[string]*string{"retention.ms": &never, "retention.bytes": &never}
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, -1, cfg, name); err != nil {
		t.Fatal(err)
	}
}

func produce(t *testing.T, cl *kgo.Client, topic string, values ...string) {
	t.Helper()
	for _, v := range values {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// readAll returns the values of a topic up to its last stable offset.
func readAll(t *testing.T, addrs []string, topic string) []string {
	t.Helper()
	cl := newClient(t, addrs, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	defer cl.Close() // while the broker lives: later it would wait for it
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	starts, err := kadm.NewClient(cl).ListStartOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		s, _ := starts.Lookup(topic, o.Partition)
		if o.Err == nil && o.Offset > s.Offset {
			left[o.Partition] = o.Offset
		}
	})
	var got []string
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("read %s: %v (left %v)", topic, err, left)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				got = append(got, string(r.Value))
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return got
}

func bootOf(t *testing.T, addrs []string) string {
	t.Helper()
	cl := newClient(t, addrs)
	cfgs, err := kadm.NewClient(cl).DescribeBrokerConfigs(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, rc := range cfgs {
		for _, c := range rc.Configs {
			if c.Key == BootConfig {
				return c.MaybeValue()
			}
		}
	}
	return ""
}

func TestBrokerKeepsEverythingAcrossACleanStop(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, BrokerOptions{Dir: dir})
	cl := newClient(t, b.Addrs())
	createTopic(t, cl, "audit.events", 3)
	produce(t, cl, "audit.events", "a", "b", "c")
	adm := kadm.NewClient(cl)
	var offs kadm.Offsets
	offs.AddOffset("audit.events", 0, 1, -1)
	if err := adm.CommitAllOffsets(t.Context(), "g", offs); err != nil {
		t.Fatal(err)
	}
	if err := b.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := bootOf(t, b.Addrs()); got != b.Boot() {
		t.Fatalf("boot in DescribeConfigs = %q, want %q", got, b.Boot())
	}
	meta, err := adm.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if meta.Cluster != b.ClusterID() || meta.Cluster == "kfake" {
		t.Fatalf("cluster id %q, want %q", meta.Cluster, b.ClusterID())
	}
	cl.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	again := startBroker(t, BrokerOptions{Dir: dir})
	if again.Boot() == b.Boot() || bootOf(t, again.Addrs()) != again.Boot() {
		t.Fatalf("boot after restart %q (described %q), before %q", again.Boot(), bootOf(t, again.Addrs()), b.Boot())
	}
	if again.ClusterID() != b.ClusterID() {
		t.Fatalf("cluster id changed from %s to %s", b.ClusterID(), again.ClusterID())
	}
	if got, want := fmt.Sprint(again.Addrs()), fmt.Sprint(b.Addrs()); got != want {
		t.Fatalf("addresses changed from %s to %s", want, got)
	}
	if got := readAll(t, again.Addrs(), "audit.events"); len(got) != 3 {
		t.Fatalf("read %v, want a b c", got)
	}
	got, err := kadm.NewClient(newClient(t, again.Addrs())).FetchOffsets(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := got.Lookup("audit.events", 0); !ok || o.At != 1 {
		t.Fatalf("group offset %+v, want 1", o)
	}
}

func TestBrokerSettingsCannotBeChangedByAClient(t *testing.T) {
	b := startBroker(t, BrokerOptions{Dir: t.TempDir()})
	cl := newClient(t, b.Addrs())
	createTopic(t, cl, "t", 1)
	v := "forged"
	inc := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeBroker, ""
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = BootConfig, &v
	res.Configs = append(res.Configs, c)
	inc.Resources = append(inc.Resources, res)
	resp, err := inc.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Resources[0].ErrorCode); !errors.Is(err, kerr.PolicyViolation) {
		t.Fatalf("altering a broker setting answered %v, want %v", err, kerr.PolicyViolation)
	}
	alter := kmsg.NewPtrAlterConfigsRequest()
	ares := kmsg.NewAlterConfigsRequestResource()
	ares.ResourceType, ares.ResourceName = kmsg.ConfigResourceTypeBroker, "0"
	alter.Resources = append(alter.Resources, ares)
	aresp, err := alter.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(aresp.Resources[0].ErrorCode); !errors.Is(err, kerr.PolicyViolation) {
		t.Fatalf("replacing the broker settings answered %v, want %v", err, kerr.PolicyViolation)
	}
	if got := bootOf(t, b.Addrs()); got != b.Boot() {
		t.Fatalf("boot is %q, want %q", got, b.Boot())
	}
	// A topic's own settings stay free.
	if _, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kadm.StringPtr("2000000")}}, "t"); err != nil {
		t.Fatal(err)
	}
}

func TestBrokerIgnoresPersistedSettings(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, BrokerOptions{Dir: dir})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	forged := `{"version":1,"configs":{"sealstream.boot":"old","log.retention.ms":"1","offset.retention.ms":"1"}}`
	if err := os.WriteFile(filepath.Join(dir, "log", "broker_configs.json"), []byte(forged), 0o600); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, BrokerOptions{Dir: dir})
	if got := bootOf(t, b.Addrs()); got != b.Boot() {
		t.Fatalf("boot is %q, want %q", got, b.Boot())
	}
	cfgs, err := kadm.NewClient(newClient(t, b.Addrs())).DescribeBrokerConfigs(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cfgs[0].Configs {
		if c.Key == "offset.retention.ms" || (c.Key == "log.retention.ms" && c.MaybeValue() == "1") {
			t.Errorf("a persisted setting came back: %s=%s", c.Key, c.MaybeValue())
		}
	}
}

func TestBrokerDirectoryErrors(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	start := func(o BrokerOptions) error {
		o.Log = log
		b, err := StartBroker(t.Context(), o)
		if err == nil {
			b.Close()
		}
		return err
	}
	t.Run("in use", func(t *testing.T) {
		b := startBroker(t, BrokerOptions{Dir: t.TempDir()})
		err := start(BrokerOptions{Dir: b.dir})
		if !errors.Is(err, ErrDirInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
			t.Fatalf("got %v, want %v naming this process", err, ErrDirInUse)
		}
	})
	t.Run("other version", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "broker.json"), []byte(`{"version":2,"cluster_id":"x"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := start(BrokerOptions{Dir: dir}); !errors.Is(err, ErrDirVersion) {
			t.Fatalf("got %v, want %v", err, ErrDirVersion)
		}
	})
	t.Run("identity lost", func(t *testing.T) {
		dir := t.TempDir()
		if err := startBroker(t, BrokerOptions{Dir: dir}).Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "broker.json")); err != nil {
			t.Fatal(err)
		}
		if err := start(BrokerOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "restore") {
			t.Fatalf("got %v, want a refusal to invent a cluster id", err)
		}
	})
	t.Run("a file in the way", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := start(BrokerOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "directory") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		if err := start(BrokerOptions{}); err == nil || !strings.Contains(err.Error(), "Dir is empty") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestBrokerPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	_, err = StartBroker(t.Context(), BrokerOptions{Dir: t.TempDir(), Ports: []int{0, taken, 0}, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), fmt.Sprint(taken)) {
		t.Fatalf("got %v, want %v naming port %d", err, ErrPortInUse, taken)
	}

	dir := t.TempDir()
	b := startBroker(t, BrokerOptions{Dir: dir})
	for _, p := range b.id.Ports {
		if p >= ephemeralStart() {
			t.Errorf("picked port %d, want one below %d", p, ephemeralStart())
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	l2, err := net.Listen("tcp", loopback(b.id.Ports[2]))
	if err != nil {
		t.Fatal(err)
	}
	defer l2.Close()
	_, err = StartBroker(t.Context(), BrokerOptions{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), fmt.Sprint(b.id.Ports[2])) {
		t.Fatalf("got %v, want %v naming the remembered port %d", err, ErrPortInUse, b.id.Ports[2])
	}
}
