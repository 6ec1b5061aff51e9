package clients

import (
	"fmt"
	"hash/crc32"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/twmb/franz-go/pkg/kgo"
)

const page = "../../../docs/upstream.md"

var block = regexp.MustCompile("(?s)```([a-z]+)\n(.*?)```\n")

// The documentation shows the files that the tests run, to the letter; what it shows
// besides can at least be read.
func TestUpstreamPageShowsWhatIsRun(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	left := []string{"login.avsc", "producer.py", "Producer.java", "librdkafka.properties", "java.properties"}
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		switch language, body := m[1], m[2]; language {
		case "sh":
		case "yaml":
			var doc map[string]any
			if err := yaml.UnmarshalWithOptions([]byte(body), &doc, yaml.Strict()); err != nil || len(doc) == 0 {
				t.Errorf("a block that is no YAML: %v\n%s", err, body)
			}
		default:
			i := slices.IndexFunc(left, func(name string) bool {
				b, err := os.ReadFile("testdata/" + name)
				if err != nil {
					t.Fatal(err)
				}
				return string(b) == body
			})
			if i < 0 {
				t.Errorf("a block of %s is no file of testdata: copy the file anew, or run what the page shows:\n%s", language, body)
				continue
			}
			left = slices.Delete(left, i, i+1)
		}
	}
	if len(left) > 0 {
		t.Errorf("the page does not show %v", left)
	}
}

var partitionRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([0-9]+) \\| ([0-9]+) \\|$")

func TestUpstreamPageNamesTheRightPartitions(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	rows := partitionRow.FindAllStringSubmatch(string(text), -1)
	if len(rows) != 3 {
		t.Fatalf("found %d rows of keys, want 3", len(rows))
	}
	ours := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for _, m := range rows {
		key := []byte(m[1])
		want := fmt.Sprint(ours.Partition(&kgo.Record{Key: key}, 12), " ", crc32.ChecksumIEEE(key)%12)
		if got := m[2] + " " + m[3]; got != want {
			t.Errorf("key %s: the page says partitions %s, want %s", key, got, want)
		}
	}
}
