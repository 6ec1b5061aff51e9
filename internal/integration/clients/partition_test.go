//go:build integration

package clients

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/producers"
)

// keys are a thousand: ordinary ones, and those on which hashes come apart.
func keys() [][]byte {
	out := [][]byte{{}, {0}, {0xff}, []byte("\x00\x00\x00"), []byte("zo\u00eb"), []byte("\U0001f512"), []byte("\u65e5\u672c\u8a9e"), {0x80, 0x81, 0xfe}}
	for i := 0; len(out) < 1000; i++ {
		switch i % 3 {
		case 0:
			out = append(out, fmt.Appendf(nil, "acme/%08x", i*2654435761))
		case 1:
			out = append(out, fmt.Appendf(nil, "order-%d", i))
		default:
			out = append(out, fmt.Appendf(nil, "%d\u00e9\xff", i)[:1+i%6])
		}
	}
	return out
}

// Which partition a key goes to decides what keeps its order: everybody who writes one
// key must agree. Java's default, ours, and librdkafka's murmur2_random do; librdkafka's
// default does not, and this is why docs/upstream.md says to set it.
func TestPartitioners(t *testing.T) {
	p, bed := testbed.Shared(t), testbed.ForTest(t)
	adm := admin(t, p.Kafka)
	topic := prefix() + "keys"
	const n = 12
	if _, err := adm.CreateTopic(t.Context(), n, -1, nil, topic); err != nil {
		t.Fatal(err)
	}
	all := keys()
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	list := bed.Path("keys.json")
	if err := os.WriteFile(list, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	librdkafka := func(partitioner string) []int32 {
		return parse[[]int32](t, run(t, bed, p.Python, file(t, "testdata", "foreign.py"), "partition", p.Kafka[0], topic, list, partitioner))[0]
	}
	ours := sendKeys(t, p.Kafka, topic, all)
	java := parse[[]int32](t, runJava(t, bed, "Foreign.java", "partition", p.Kafka[0], topic, list))[0]
	murmur2, def, fnv1a := librdkafka("murmur2_random"), librdkafka("default"), librdkafka("fnv1a_random")
	for i, k := range all {
		if java[i] != ours[i] || murmur2[i] != ours[i] {
			t.Errorf("key %q: ours goes to partition %d, Java's to %d, librdkafka's with murmur2_random to %d", k, ours[i], java[i], murmur2[i])
		}
		// An empty key is none to librdkafka's default.
		if want := int32(crc32.ChecksumIEEE(k) % n); len(k) > 0 && def[i] != want {
			t.Errorf("key %q: librdkafka's default goes to partition %d, CRC32 to %d", k, def[i], want)
		}
	}
	// Eleven in twelve go elsewhere.
	if same := agree(def, ours); same > len(all)/4 {
		t.Errorf("librdkafka's default agrees on %d of %d keys: is it murmur2 by now? then docs/upstream.md is out of date", same, len(all))
	}
	t.Logf("agree with ours: Java %d, murmur2_random %d, consistent_random %d, fnv1a_random %d of %d keys",
		agree(java, ours), agree(murmur2, ours), agree(def, ours), agree(fnv1a, ours), len(all))
	h := fnv.New32a()
	_, _ = h.Write(all[8])
	t.Logf("key %q: murmur2 %d, CRC32 %d, FNV-1a %d (librdkafka's %d)", all[8], ours[8], def[8], h.Sum32()%n, fnv1a[8])
	t.Logf("empty key: ours %d, Java %d, murmur2_random %d, consistent_random %d", ours[0], java[0], murmur2[0], def[0])
	nullKeys(t, p, bed, topic)
}

func agree(a, b []int32) int {
	n := 0
	for i := range a {
		if a[i] == b[i] {
			n++
		}
	}
	return n
}

// sendKeys sends one event per key with our producer and returns where they went.
func sendKeys(t *testing.T, brokers []string, topic string, keys [][]byte) []int32 {
	t.Helper()
	pr, err := producers.New(producers.Options{}, kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	msgs := make([]producers.Message, len(keys))
	for i, k := range keys {
		msgs[i] = producers.Message{Topic: topic, Key: k, Value: []byte("{}")}
	}
	at := make([]int32, len(keys))
	for i, r := range pr.Send(t.Context(), msgs) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		at[i] = r.Partition
	}
	return at
}

// nullKeys: without a key everybody spreads, so there is no order to keep. The exception
// is a partitioner of librdkafka without "random" in its name: one partition takes all.
func nullKeys(t *testing.T, p testbed.Peers, bed *testbed.Bed, topic string) {
	t.Helper()
	const n = 5000
	list := bed.Path("null.json")
	if err := os.WriteFile(list, []byte("["+strings.Repeat("null,", n-1)+"null]"), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := file(t, "testdata", "foreign.py")
	for _, c := range []struct {
		name, out string
		most      int // partitions
	}{
		{"Java", runJava(t, bed, "Foreign.java", "partition", p.Kafka[0], topic, list), 12},
		{"murmur2_random", run(t, bed, p.Python, foreign, "partition", p.Kafka[0], topic, list, "murmur2_random"), 12},
		{"murmur2", run(t, bed, p.Python, foreign, "partition", p.Kafka[0], topic, list, "murmur2"), 1},
	} {
		at := parse[[]int32](t, c.out)[0]
		if len(at) != n {
			t.Errorf("%s: %d records arrived, want %d", c.name, len(at), n)
		}
		slices.Sort(at)
		used := len(slices.Compact(at))
		if used > c.most {
			t.Errorf("%s: null keys go to %d partitions, want %d at the most", c.name, used, c.most)
		}
		t.Logf("%d null keys: %s uses %d partitions", n, c.name, used)
	}
}
