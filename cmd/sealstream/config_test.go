package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func load(t *testing.T, text string, environ map[string]string) (*Config, error) {
	t.Helper()
	return loadConfig(write(t, t.TempDir(), "sealstream.yaml", text), func(k string) string { return environ[k] })
}

// TestDefaultsAreTheManual: what `config --defaults` prints has every key with its
// documentation, and reads back as the defaults.
func TestDefaultsAreTheManual(t *testing.T) {
	r := sealstream(t, "config", "--defaults")
	r.want(t, exitDone)
	cfg, err := load(t, r.stdout, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	if d := cmp.Diff(&want, cfg, cmpopts.IgnoreUnexported(Config{})); d != "" {
		t.Errorf("read back (-default +read):\n%s", d)
	}
	docs, err := comments()
	if err != nil {
		t.Fatal(err)
	}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		previous := ""
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.IsExported() {
				continue
			}
			name := typ.Name() + "." + f.Name
			doc := docs[name]
			// A field right below a documented one may share its words.
			if doc == "" && previous == "" {
				t.Errorf("%s has no documentation, and neither has the field before it", name)
			}
			previous = doc
			if first, _, _ := strings.Cut(doc, "\n"); doc != "" && !strings.Contains(r.stdout, "# "+first) {
				t.Errorf("the documentation of %s is not printed: %q", name, first)
			}
			if key := f.Tag.Get("yaml"); key == "" || !strings.Contains(r.stdout, key+":") {
				t.Errorf("the key %q of %s is not printed", key, name)
			}
			if f.Type.Kind() == reflect.Struct {
				walk(f.Type)
			} else if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
				walk(f.Type.Elem())
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

// TestConfigPrintsWhatItRead: the effective configuration reads back as itself.
func TestConfigPrintsWhatItRead(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "c.yaml", `version: 1
kafka:
  brokers: [a:9092, "b:9093"]
  prefix: "12.x-"
  tls: {enabled: true, ca_file: ca.pem}
  sasl: {mechanism: SCRAM-SHA-512, user: "yes", password_file: secrets/kafka}
sources:
  - {topic: hr.events, tenant: acme, partitions: 3, max_message_bytes: 2048, retention: forever}
seal: {name: ledger.example.com/audit, transaction_interval: 250ms}
api:
  listen: 127.0.0.1:0
  issuers:
    - {name: "https://id.example.com", audience: sealstream, algorithms: [ES256], jwks_url: "https://id.example.com/keys"}
log: {level: debug, format: json}
`)
	first := sealstream(t, "config", "--config", file)
	first.want(t, exitDone, "ca_file: "+filepath.Join(dir, "ca.pem"), "password_file: "+filepath.Join(dir, "secrets/kafka"),
		"retention: forever", "transaction_interval: 250ms", `user: "yes"`)
	again := sealstream(t, "config", "--config", write(t, t.TempDir(), "c.yaml", first.stdout))
	if d := cmp.Diff(first.stdout, again.stdout); d != "" {
		t.Errorf("(-first +again):\n%s", d)
	}
	var cfg Config
	if err := parseConfig([]byte(first.stdout), &cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Sources[0].Tenant != "acme" || len(cfg.Sources) != 1 || cfg.API.Issuers[0].Algorithms[0] != "ES256" {
		t.Errorf("read back: %+v", cfg)
	}
}

// TestConfigIsStrict: each line of a mistake is named, and no content of the file is
// repeated: somebody may have put a secret there.
func TestConfigIsStrict(t *testing.T) {
	const canary = "canary-9b1d"
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "version: 1\nkafka:\n  password: " + canary, `line 3: unknown field "password"`},
		{"unknown section", "version: 1\n" + canary[:6] + ": 1", "line 2: unknown field"},
		{"twice", "version: 1\nlog: {level: info}\nlog: {level: warn}", "line 3:"},
		{"no version", "log: {level: info}", "version is missing"},
		{"other version", "version: 2\nfuture: {x: 1}", "version is 2: this program reads version 1"},
		{"version of another kind", "version: one", "line 1:"},
		{"wrong kind", "version: 1\nkafka: {brokers: " + canary + "}", "line 2:"},
		{"bad duration", "version: 1\nseal:\n  stall_after: " + canary, "line 3: seal.stall_after: want a duration"},
		{"bare number for a duration", "version: 1\nseal: {stall_after: 30}", "line 2: seal.stall_after: want a duration"},
		{"not YAML", "version: 1\nkafka: [" + canary, "line"},
		{"two documents", "version: 1\n---\nversion: 1\n", "second document"},
		{"empty", "", "version is missing"},
	} {
		_, err := load(t, c.text, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want an error with %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error repeats the file: %v", c.name, err)
		}
	}
	if _, err := loadConfig(filepath.Join(t.TempDir(), "none.yaml"), os.Getenv); err == nil || !strings.Contains(err.Error(), "config --defaults") {
		t.Errorf("missing file: %v", err)
	}
	big := write(t, t.TempDir(), "big.yaml", "version: 1\n#"+strings.Repeat("x", maxConfigBytes))
	if _, err := loadConfig(big, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("big file: %v", err)
	}
}

// TestBadValuesAreNamed gives each key a value that cannot be.
func TestBadValuesAreNamed(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"kafka: {brokers: [localhost]}", "kafka.brokers[0]"},
		{"kafka: {brokers: ['a:b']}", "kafka.brokers[0]"},
		{"kafka: {prefix: 'a b'}", "kafka.prefix"},
		{"kafka: {replication: 0}", "kafka.replication"},
		{"kafka: {tls: {ca_file: x}}", "kafka.tls.enabled"},
		{"kafka: {tls: {enabled: true, cert_file: x}}", "kafka.tls.key_file"},
		{"kafka: {sasl: {user: x}}", "kafka.sasl.mechanism"},
		{"kafka: {sasl: {mechanism: GSSAPI, user: x, password_file: y}}", `"GSSAPI"`},
		{"kafka: {sasl: {mechanism: PLAIN, user: x, password_file: y}}", "in clear"},
		{"kafka: {sasl: {mechanism: SCRAM-SHA-256}}", "password_file"},
		{"registry: {url: 'ftp://x'}", "registry.url"},
		{"registry: {url: 'http://u:p@x'}", "registry.password_file"},
		{"registry: {url: 'http://x', user: u}", "registry.password_file"},
		{"sources: [{topic: 'a/b', partitions: 1, max_message_bytes: 2000, retention: 1h}]", "sources[0].topic"},
		{"sources: [{topic: ledger.control, partitions: 1, max_message_bytes: 2000, retention: 1h}]", "product's own"},
		{"sources: [{topic: a.sealed, partitions: 1, max_message_bytes: 2000, retention: 1h}]", "sealed"},
		{"sources: [{topic: a, tenant: 'x y', partitions: 1, max_message_bytes: 2000, retention: 1h}]", "sources[0].tenant"},
		{"sources: [{topic: a, partitions: 0}]", "sources[0].partitions"},
		{"sources: [{topic: a, max_message_bytes: 0}]", "sources[0].max_message_bytes"},
		{"sources: [{topic: a, retention: ''}]", "sources[0].retention"},
		{"sources: [{partitions: 3}]", "sources[0].topic"},
		{"producer: {tenant: ''}", "producer.tenant"},
		{"producer: {delivery_timeout: 1ms}", "producer.delivery_timeout"},
		{"seal: {name: 'Example.com'}", "seal.name"},
		{"seal: {slot: ''}", "seal.slot"},
		{"seal: {transaction_interval: 1m}", "seal.transaction_interval"},
		{"seal: {stall_after: 1ms}", "seal.stall_after"},
		{"sink_postgres: {slot: 'a/b'}", "sink_postgres.slot"},
		{"sink_postgres: {workers: 0}", "sink_postgres.workers"},
		{"sink_postgres: {batch_records: 0}", "sink_postgres.batch_records"},
		{"sink_postgres: {batch_bytes: 1}", "sink_postgres.batch_bytes"},
		{"sink_postgres: {queue_bytes: 1}", "sink_postgres.queue_bytes"},
		{"sink_postgres: {linger: 1h}", "sink_postgres.linger"},
		{"api: {listen: '8080'}", "api.listen"},
		{"api: {listen: '0.0.0.0:8080'}", "reachable from other machines"},
		{"api: {listen: ':8080'}", "reachable from other machines"},
		{"api: {cert_file: x}", "api.key_file"},
		{"api: {issuers: [{name: x, audience: y, algorithms: [HS256], jwks_url: z}]}", `"HS256"`},
		{"api: {issuers: [{name: x, audience: y, algorithms: [], jwks_url: z}]}", "algorithms is empty"},
		{"api: {issuers: [{name: x, audience: y, algorithms: [ES256]}]}", "jwks_url and jwks_file"},
		{"api: {issuers: [{name: x, algorithms: [ES256], jwks_url: z}]}", "audience"},
		{"api: {limits: {items: -1}}", "api.limits"},
		{"monitor: {listen: '0.0.0.0:1'}", "monitor.listen"},
		{"embedded: {kafka_ports: [1, 2]}", "embedded.kafka_ports"},
		{"embedded: {postgres_port: 70000}", "port 70000"},
		{"embedded: {fsync_every: 0s}", "embedded.fsync_every"},
		{"embedded: {stop_timeout: 0s}", "embedded.stop_timeout"},
		{"log: {level: loud}", "log.level"},
		{"log: {format: xml}", "log.format"},
	} {
		_, err := load(t, "version: 1\n"+c.text, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want an error with %q", c.text, err, c.want)
		}
	}
}

func TestSecretsComeByFile(t *testing.T) {
	const canary = "canary-3e77"
	cfg, err := load(t, "version: 1\nkafka: {sasl: {mechanism: SCRAM-SHA-512, user: u, password_file: here}}",
		map[string]string{"SEALSTREAM_KAFKA_SASL_PASSWORD_FILE": "/from/env", "SEALSTREAM_SINK_POSTGRES_WRITER_URL_FILE": "/w"})
	if err != nil || cfg.Kafka.SASL.PasswordFile != "/from/env" || cfg.SinkPostgres.WriterURLFile != "/w" {
		t.Errorf("%+v, %v", cfg, err)
	}
	_, err = load(t, "version: 1", map[string]string{"SEALSTREAM_KAFKA_SASL_PASSWORD": canary})
	if err == nil || !strings.Contains(err.Error(), "SEALSTREAM_KAFKA_SASL_PASSWORD_FILE") || strings.Contains(err.Error(), canary) {
		t.Errorf("secret in the environment: %v", err)
	}
}

// TestI12ConfigShowsNoSecret prints a configuration whose files all hold a canary.
func TestI12ConfigShowsNoSecret(t *testing.T) {
	const canary = "canary-c0de"
	dir := t.TempDir()
	secret := write(t, dir, "secret", canary)
	file := write(t, dir, "c.yaml", `version: 1
kafka: {brokers: ["127.0.0.1:1"], tls: {enabled: true, cert_file: secret, key_file: secret}, sasl: {mechanism: PLAIN, user: u, password_file: secret}}
registry: {url: "http://x", user: u, password_file: secret}
producer: {pseudonym_key_file: secret}
sink_postgres: {writer_url_file: secret, reader_url_file: secret, owner_url_file: secret}
api: {local_key_file: secret}
embedded: {postgres_url_file: secret}
`)
	r := sealstream(t, "config", "--config", file)
	r.want(t, exitDone, secret)
	if strings.Contains(r.stdout+r.stderr, canary) {
		t.Error("a secret is printed")
	}
	for _, args := range [][]string{
		{"topics", "check"}, {"database", "migrate"}, {"ingest", "--format", "ndjson", file}, {"generate"}, {"token", "--role", "admin"},
		{"run", "seal"}, {"run", "sink-postgres"}, {"run", "api"}, {"verify"}, {"rejects", "list"},
	} {
		r := sealstream(t, append(args, "--config", file)...)
		if r.code == exitDone {
			t.Errorf("%v works with files of nonsense", args)
		}
		if strings.Contains(r.stdout+r.stderr, canary) {
			t.Errorf("%v prints a secret:\n%s%s", args, r.stdout, r.stderr)
		}
	}
}

func TestScalarText(t *testing.T) {
	for s, want := range map[string]string{
		"plain": "plain", "a/b.c-d_e": "a/b.c-d_e", "": `""`, "true": `"true"`, "No": `"No"`, "12": `"12"`, "1e3": `"1e3"`,
		"a: b": `"a: b"`, "#x": `"#x"`, "-": `"-"`, "ä": `"ä"`, "a\nb": `"a\nb"`, "*": `"*"`, "null": `"null"`,
	} {
		if got := text(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
	var b bytes.Buffer
	cfg := defaultConfig()
	cfg.Kafka.Prefix = "0x10"
	if err := printConfig(&b, &cfg, false); err != nil {
		t.Fatal(err)
	}
	back := defaultConfig()
	if err := parseConfig(b.Bytes(), &back); err != nil || back.Kafka.Prefix != "0x10" {
		t.Errorf("prefix %q, %v", back.Kafka.Prefix, err)
	}
}

func FuzzParseConfig(f *testing.F) {
	var b bytes.Buffer
	cfg := defaultConfig()
	if err := printConfig(&b, &cfg, true); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("version: 1\nkafka: {brokers: [a:1]}\n"))
	f.Add([]byte("version: 1\n---\n"))
	f.Add([]byte("{version: 1, sources: [{topic: a}]}"))
	f.Add([]byte("version: &a 1\nlog: *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg := defaultConfig()
		if parseConfig(text, &cfg) != nil {
			return
		}
		cfg.check() // must not panic on anything that can be read
		var out bytes.Buffer
		if err := printConfig(&out, &cfg, false); err != nil {
			t.Fatal(err)
		}
		var back Config
		if err := parseConfig(out.Bytes(), &back); err != nil {
			t.Fatalf("what was printed cannot be read: %v\n%s", err, out.String())
		}
	})
}
