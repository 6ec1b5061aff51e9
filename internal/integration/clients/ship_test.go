//go:build integration

package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sealstream/sealstream/internal/testbed"
)

// Vector and Filebeat are not to be had here. What they would do to a broker is: Vector is
// librdkafka with these options, Filebeat a client without idempotence that hashes keys
// by FNV-1a. So librdkafka sends, with what the page's own blocks say, events of the
// shapes that both send, as a user with no rights but to write.
func TestWhatShippersSend(t *testing.T) {
	pl := open(t, testbed.ForTest(t), "")
	topic := pl.topic(topicAudit)
	user := pl.user(topic)
	vector, filebeat := user.vector(), user.filebeat()
	const at = `"2026-11-24T10:00:00.000Z"`
	for name, s := range map[string]shipped{
		"vector": {vector, "acme/u-1", `{"@timestamp":` + at + `,"event":{"id":"vector-%d","action":"user.login","outcome":"failure"},"user":{"name":"zoë"},"source_type":"file"}`},
		"filebeat": {filebeat, "acme/host-1", `{"@timestamp":` + at + `,"@metadata":{"beat":"filebeat","type":"_doc","version":"9.1.0"},"event":{"id":"filebeat-%d","action":"user.login","outcome":"failure"},` +
			`"user":{"name":"zoë"},"message":"line","log":{"offset":12,"file":{"path":"/var/log/app.json"}},"agent":{"type":"filebeat","ephemeral_id":"e"},"ecs":{"version":"8.0.0"},"host":{"name":"h"}}`},
	} {
		path := pl.bed.Path(name + ".json")
		raw, err := json.Marshal(s.config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		pl.python("ship", strings.Join(pl.p.KafkaSASL, ","), path, topic, s.key, fmt.Sprintf(s.event, 1), fmt.Sprintf(s.event, 2))
	}
	pl.stored(topicAudit, 4+partitions)
	seen := map[string]bool{}
	for _, p := range pl.rows(topicAudit) {
		for _, r := range p[1:] {
			seen[fmt.Sprint(r.Columns["event_id"])] = true
			if r.Columns["event_action"] != "user.login" || r.Columns["event_outcome"] != "failure" || r.Columns["user_name"] != "zoë" ||
				r.EventTime != 1_795_514_400_000 || r.Tenant != "acme" || r.DecodeError != nil {
				t.Errorf("stored: %v at %d, tenant %q, decode error %s", r.Columns, r.EventTime, r.Tenant, show(r.DecodeError))
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("stored events %v, want 2 of each", seen)
	}
	pl.verified()
}

// shipped is how one shipper sends: options of librdkafka, a key, an event.
type shipped struct {
	config     map[string]any
	key, event string
}

// section returns the YAML block of a section of the page.
func section(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## "+name+"\n")
	m := block.FindStringSubmatch(rest)
	if !ok || m == nil || m[1] != "yaml" {
		t.Fatalf("the page has no block of YAML for %s", name)
	}
	if err := yaml.Unmarshal([]byte(m[2]), into); err != nil {
		t.Fatal(err)
	}
}

// login puts the user's own values in place of the page's.
func (w *writer) login(conf map[string]any, ca, mechanism, name string) map[string]any {
	w.pl.t.Helper()
	if ca != "/etc/kafka/ca.pem" || name != "portal" {
		w.pl.t.Fatalf("the page names authority %q and user %q", ca, name)
	}
	conf["security.protocol"], conf["ssl.ca.location"] = "SASL_SSL", w.pl.p.KafkaCA
	conf["sasl.mechanism"], conf["sasl.username"], conf["sasl.password"] = mechanism, w.name, w.password
	return conf
}

// vector are the options that Vector's sink hands to librdkafka.
func (w *writer) vector() map[string]any {
	w.pl.t.Helper()
	var doc struct {
		Sinks struct {
			Sealstream struct {
				Compression string            `yaml:"compression"`
				Timeout     int               `yaml:"message_timeout_ms"`
				Options     map[string]string `yaml:"librdkafka_options"`
				TLS         struct {
					CA string `yaml:"ca_file"`
				} `yaml:"tls"`
				SASL struct {
					Mechanism string `yaml:"mechanism"`
					User      string `yaml:"username"`
				} `yaml:"sasl"`
			} `yaml:"sealstream"`
		} `yaml:"sinks"`
	}
	section(w.pl.t, "Vector", &doc)
	s := doc.Sinks.Sealstream
	conf := map[string]any{"compression.codec": s.Compression, "message.timeout.ms": s.Timeout}
	for k, v := range s.Options {
		conf[k] = v
	}
	if conf["partitioner"] != "murmur2_random" || conf["enable.idempotence"] != "true" || conf["acks"] != "all" {
		w.pl.t.Errorf("the page's options for Vector are %v", conf)
	}
	return w.login(conf, s.TLS.CA, s.SASL.Mechanism, s.SASL.User)
}

// filebeat says in librdkafka's words what Filebeat's output does.
func (w *writer) filebeat() map[string]any {
	w.pl.t.Helper()
	var doc struct {
		Output struct {
			Acks        int      `yaml:"required_acks"`
			Compression string   `yaml:"compression"`
			Most        int      `yaml:"max_message_bytes"`
			CAs         []string `yaml:"ssl.certificate_authorities"`
			Mechanism   string   `yaml:"sasl.mechanism"`
			User        string   `yaml:"username"`
		} `yaml:"output.kafka"`
	}
	section(w.pl.t, "Filebeat", &doc)
	o := doc.Output
	if o.Acks != -1 || len(o.CAs) != 1 {
		w.pl.t.Fatalf("the page's output for Filebeat is %+v", o)
	}
	conf := map[string]any{"acks": o.Acks, "compression.codec": o.Compression, "message.max.bytes": o.Most,
		"enable.idempotence": false, "partitioner": "fnv1a_random"}
	return w.login(conf, o.CAs[0], o.Mechanism, o.User)
}
