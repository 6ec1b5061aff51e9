//go:build integration

package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// What our producer framed says the same to fastavro, to Confluent's deserializer and
// to our own decoder, field by field.
func TestForeignReaders(t *testing.T) {
	for _, registry := range []string{"Apicurio", "embedded"} {
		t.Run(registry, func(t *testing.T) {
			url := ""
			if registry == "Apicurio" {
				url = testbed.Shared(t).Registry
			}
			pl := open(t, testbed.ForTest(t), url)
			const n = 600
			r, err := pl.run("generate", "--count", strconv.Itoa(n), "--format", "avro", "--stream", "both", "--start", "2026-03-02T08:00:00Z")
			if err != nil || r.Exit != 0 {
				t.Fatalf("generate: exit code %d, %v\n%s", r.Exit, err, r.Stderr)
			}
			codec := schemas.NewCodec(ask(pl.registry))
			total := 0
			for _, topic := range []string{topicAudit, topicDomain} {
				source := pl.read(pl.topic(topic))
				count := 0
				for _, p := range source {
					count += len(p)
				}
				if count < n/10 {
					t.Fatalf("%s: %d events were generated", topic, count)
				}
				total += count
				for _, e := range parse[decoded](t, pl.python("read", pl.brokers(), pl.registry, pl.topic(topic), strconv.Itoa(count))) {
					ours, err := codec.JSON(t.Context(), source[e.Partition][e.Offset].Value)
					if err != nil {
						t.Fatal(err)
					}
					e.Event["@timestamp"] = e.Event["timestamp"]
					delete(e.Event, "timestamp")
					if d := sameEvent("", parse[any](t, string(ours))[0], e.Event); d != "" {
						t.Errorf("%s, partition %d, offset %d: %s\nours:   %s\ntheirs: %v", topic, e.Partition, e.Offset, d, ours, e.Event)
					}
				}
				pl.stored(topic, count+partitions)
			}
			if total != n {
				t.Errorf("%d events were read, want %d", total, n)
			}
			pl.verified()
		})
	}
}

// decoded is an event as a foreign reader sees it; times are milliseconds.
type decoded struct {
	Partition int32          `json:"partition"`
	Offset    int64          `json:"offset"`
	Event     map[string]any `json:"event"`
}

// ask is a registry, asked the plainest way.
type ask string

func (a ask) Schema(ctx context.Context, id uint32) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/schemas/ids/%d", a, id), nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var body struct{ Schema string }
	err = json.NewDecoder(resp.Body).Decode(&body)
	return body.Schema, err
}

// sameEvent says where our JSON of an event and a foreign reader's differ. Ours leaves
// out what is null, has times as text, and JSON that an event carries as itself.
func sameEvent(at string, ours, theirs any) string {
	switch o := ours.(type) {
	case map[string]any:
		t, ok := theirs.(map[string]any)
		if !ok {
			return embeddedJSON(at, ours, theirs)
		}
		for name, v := range t {
			if d := sameEvent(at+"."+name, o[name], v); d != "" {
				return d
			}
		}
		for name := range o {
			if _, ok := t[name]; !ok {
				return at + "." + name + " is in ours alone"
			}
		}
		return ""
	case []any:
		t, ok := theirs.([]any)
		if !ok {
			return embeddedJSON(at, ours, theirs)
		}
		if len(t) != len(o) {
			return at + ": lists of other lengths"
		}
		for i := range o {
			if d := sameEvent(fmt.Sprintf("%s[%d]", at, i), o[i], t[i]); d != "" {
				return d
			}
		}
		return ""
	case nil:
		if nothing(theirs) {
			return ""
		}
	case string:
		if n, ok := theirs.(json.Number); ok {
			when, err := time.Parse(time.RFC3339Nano, o)
			if err == nil && strconv.FormatInt(when.UnixMilli(), 10) == n.String() {
				return ""
			}
		}
	}
	if fmt.Sprint(ours) == fmt.Sprint(theirs) {
		return ""
	}
	return fmt.Sprintf("%s is %v in ours, %v in theirs", at, ours, theirs)
}

// embeddedJSON compares JSON that stands in an event as text.
func embeddedJSON(at string, ours, theirs any) string {
	text, ok := theirs.(string)
	if !ok {
		return fmt.Sprintf("%s is %v in ours, %v in theirs", at, ours, theirs)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return fmt.Sprintf("%s: theirs is no JSON: %v", at, err)
	}
	if _, again := v.(string); again {
		return at + " is text in JSON text"
	}
	return sameEvent(at, ours, v)
}

// nothing says whether a value and all below it is null.
func nothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, x := range v {
			if !nothing(x) {
				return false
			}
		}
		return true
	}
	return false
}
