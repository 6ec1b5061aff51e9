package main

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealstream/sealstream/api/auth"
	"github.com/sealstream/sealstream/schemas"
)

// checks collects what is wrong with a configuration; every line names the key, what
// is wrong and what to do.
type checks struct{ problems []string }

func (c *checks) must(ok bool, format string, args ...any) {
	if !ok {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	}
}

// check says what is wrong with values that are wrong whatever the role. What a role
// needs and does not have is that role's own complaint.
func (cfg *Config) check() []string {
	c := &checks{}
	c.must(cfg.Version == configVersion, "version is %d: this program reads version %d; write it as the first line", cfg.Version, configVersion)
	cfg.checkKafka(c)
	cfg.checkSources(c)
	cfg.checkRoles(c)
	cfg.checkAPI(c)
	cfg.checkEmbedded(c)
	c.must(slices.Contains([]string{"debug", "info", "warn", "error"}, cfg.Log.Level), "log.level is %q: want debug, info, warn or error", cfg.Log.Level)
	c.must(slices.Contains([]string{"text", "json"}, cfg.Log.Format), "log.format is %q: want text or json", cfg.Log.Format)
	return c.problems
}

func (cfg *Config) checkKafka(c *checks) {
	k := &cfg.Kafka
	for i, b := range k.Brokers {
		_, port, err := net.SplitHostPort(b)
		c.must(err == nil && portNumber(port), "kafka.brokers[%d] is %q: want host:port", i, b)
	}
	c.must(topicName(k.Prefix+"x"), "kafka.prefix is %q: want letters, digits, '.', '_' and '-'", k.Prefix)
	c.must(k.Replication == -1 || k.Replication > 0, "kafka.replication is %d: want -1 or a number of replicas", k.Replication)
	c.must((k.TLS.CertFile == "") == (k.TLS.KeyFile == ""), "kafka.tls.cert_file and kafka.tls.key_file: give both or none")
	c.must(k.TLS.Enabled || k.TLS == (TLSConfig{}), "kafka.tls: files or a server name are given, but enabled is false: set kafka.tls.enabled to true")
	c.must(slices.Contains([]string{"", "1.2", "1.3"}, k.TLS.MinVersion), "kafka.tls.min_version is %q: want 1.3, or 1.2 for old brokers", k.TLS.MinVersion)
	for _, r := range schemas.Roles() {
		for _, p := range k.principals(r) {
			kind, name, ok := strings.Cut(p, ":")
			c.must(ok && kind != "" && name != "" && p != "User:*" && !strings.ContainsAny(p, "'\n"), "kafka.principals: %q of the role %s: want User:NAME, as the brokers know it", p, r)
		}
	}
	switch k.SASL.Mechanism {
	case "":
		c.must(k.SASL == (SASLConfig{}), "kafka.sasl: a user or password is given, but no mechanism: set kafka.sasl.mechanism")
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		c.must(k.SASL.User != "" && k.SASL.PasswordFile != "", "kafka.sasl: user and password_file are both needed with %s", k.SASL.Mechanism)
		c.must(k.SASL.Mechanism != "PLAIN" || k.TLS.Enabled, "kafka.sasl.mechanism PLAIN sends the password in clear: set kafka.tls.enabled to true, or use SCRAM-SHA-512")
	default:
		c.must(false, "kafka.sasl.mechanism is %q: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", k.SASL.Mechanism)
	}
	if r := cfg.Registry; r.URL != "" {
		u, err := url.Parse(r.URL)
		c.must(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "registry.url: want http://host:port or https://host")
		c.must(err != nil || u.User == nil, "registry.url holds a user or a password: use registry.user and registry.password_file")
		c.must((r.User == "") == (r.PasswordFile == ""), "registry.user and registry.password_file: give both or none")
	}
}

func (cfg *Config) checkSources(c *checks) {
	seen := map[string]bool{schemas.TopicControl: true, schemas.TopicRejects: true}
	for i, s := range cfg.Sources {
		at := fmt.Sprintf("sources[%d]", i)
		c.must(topicName(cfg.Kafka.Prefix+s.Topic), "%s.topic is %q: want 1 to 249 letters, digits, '.', '_' and '-', prefix included", at, s.Topic)
		c.must(!seen[s.Topic], "%s.topic %s is there twice, or is one of the product's own", at, s.Topic)
		c.must(!strings.HasSuffix(s.Topic, schemas.SealedName("")), "%s.topic %s ends like a sealed topic: those are not sealed again", at, s.Topic)
		seen[s.Topic] = true
		c.must(s.Tenant == "" || tenantName(s.Tenant), "%s.tenant is %q: want 1 to 64 of A-Z a-z 0-9 . _ -, or nothing", at, s.Tenant)
		c.must(s.Partitions >= 1 && s.Partitions <= 1000, "%s.partitions is %d: want 1 to 1000", at, s.Partitions)
		c.must(s.MaxMessageBytes >= 1024 && s.MaxMessageBytes <= 512<<20, "%s.max_message_bytes is %d: want 1024 to %d", at, s.MaxMessageBytes, 512<<20)
		_, err := s.retentionMs()
		c.must(err == nil, "%s.retention is %q: want a duration such as 720h, or forever", at, s.Retention)
	}
	c.must(tenantName(cfg.Producer.Tenant), "producer.tenant is %q: want 1 to 64 of A-Z a-z 0-9 . _ -", cfg.Producer.Tenant)
	c.must(cfg.Producer.DeliveryTimeout >= time.Second && cfg.Producer.DeliveryTimeout <= 10*time.Minute, "producer.delivery_timeout is %s: want 1s to 10m", cfg.Producer.DeliveryTimeout)
}

func (cfg *Config) checkRoles(c *checks) {
	s, p := &cfg.Seal, &cfg.SinkPostgres
	c.must(s.Name == "" || len(s.Name) <= 200 && logName().MatchString(s.Name), "seal.name is %q: want a host name and path in lower case, such as ledger.example.com/audit", s.Name)
	c.must(slotName().MatchString(s.Slot), "seal.slot is %q: want 1 to 64 letters, digits, '.', '_' and '-'", s.Slot)
	c.must(s.TransactionInterval >= 5*time.Millisecond && s.TransactionInterval <= 5*time.Second, "seal.transaction_interval is %s: want 5ms to 5s", s.TransactionInterval)
	c.must(s.StallAfter >= time.Second, "seal.stall_after is %s: want 1s or more", s.StallAfter)
	c.must(slotName().MatchString(p.Slot), "sink_postgres.slot is %q: want 1 to 64 letters, digits, '.', '_' and '-'", p.Slot)
	c.must(p.Workers >= 1 && p.Workers <= 64, "sink_postgres.workers is %d: want 1 to 64", p.Workers)
	c.must(p.BatchRecords >= 1 && p.BatchRecords <= 100_000, "sink_postgres.batch_records is %d: want 1 to 100000", p.BatchRecords)
	c.must(p.BatchBytes >= 1<<16 && p.BatchBytes <= 256<<20, "sink_postgres.batch_bytes is %d: want %d to %d", p.BatchBytes, 1<<16, 256<<20)
	c.must(p.QueueBytes >= p.BatchBytes, "sink_postgres.queue_bytes is %d: want at least batch_bytes, %d", p.QueueBytes, p.BatchBytes)
	c.must(p.Linger >= 0 && p.Linger <= 10*time.Second, "sink_postgres.linger is %s: want 0s to 10s", p.Linger)
	c.must(cfg.Monitor.Listen == "" || loopback(cfg.Monitor.Listen), "monitor.listen is %q: want a loopback address and a port, such as 127.0.0.1:9464", cfg.Monitor.Listen)
}

func (cfg *Config) checkAPI(c *checks) {
	a := &cfg.API
	_, port, err := net.SplitHostPort(a.Listen)
	c.must(a.Listen == "" || err == nil && (port == "0" || portNumber(port)), "api.listen is %q: want host:port", a.Listen)
	c.must((a.CertFile == "") == (a.KeyFile == ""), "api.cert_file and api.key_file: give both or none")
	c.must(a.CertFile != "" || err != nil || loopback(a.Listen), "api.listen %s is reachable from other machines: give api.cert_file and api.key_file, or listen on 127.0.0.1", a.Listen)
	for i, is := range a.Issuers {
		at := fmt.Sprintf("api.issuers[%d]", i)
		c.must(is.Name != "" && is.Audience != "", "%s: name and audience are both needed", at)
		c.must((is.JWKSURL == "") != (is.JWKSFile == ""), "%s: give one of jwks_url and jwks_file", at)
		c.must(len(is.Algorithms) > 0, "%s.algorithms is empty: give some of %v", at, auth.Algorithms())
		for _, alg := range is.Algorithms {
			c.must(slices.Contains(auth.Algorithms(), alg), "%s.algorithms has %q: want some of %v", at, alg, auth.Algorithms())
		}
	}
	l := a.Limits
	c.must(min(l.BodyBytes, int64(l.ItemBytes), int64(l.Items), int64(l.Burst), int64(l.Concurrent), int64(l.PerCaller)) >= 0 && l.Rate >= 0 && l.StrangerRate >= 0 && l.QueryTimeout >= 0, "api.limits: a number is negative: 0 takes the default")
}

func (cfg *Config) checkEmbedded(c *checks) {
	e := &cfg.Embedded
	c.must(len(e.KafkaPorts) == 3, "embedded.kafka_ports has %d ports: want 3", len(e.KafkaPorts))
	for _, p := range append([]int{e.RegistryPort, e.PostgresPort}, e.KafkaPorts...) {
		c.must(p >= 0 && p <= 65535, "embedded: port %d: want 0 to 65535", p)
	}
	c.must(e.FsyncEvery >= 5*time.Millisecond && e.FsyncEvery <= 10*time.Second, "embedded.fsync_every is %s: want 5ms to 10s", e.FsyncEvery)
	c.must(e.StopTimeout >= time.Second, "embedded.stop_timeout is %s: want 1s or more", e.StopTimeout)
}

func (s *SourceConfig) retentionMs() (int64, error) {
	if s.Retention == "forever" {
		return schemas.Forever, nil
	}
	d, err := time.ParseDuration(s.Retention)
	if err != nil || d < time.Minute {
		return 0, fmt.Errorf("retention %q: want a duration of a minute or more, or forever", s.Retention)
	}
	return d.Milliseconds(), nil
}

// sources is the table's form of the configured sources, the control topic last.
func (cfg *Config) sources() []schemas.Source {
	keys := map[string]string{}
	var control schemas.Source
	for _, s := range schemas.DefaultSources() {
		keys[s.Name] = s.Key
		if s.Name == schemas.TopicControl {
			control = s
		}
	}
	var out []schemas.Source
	for _, s := range cfg.Sources {
		ms, _ := s.retentionMs() // checked
		out = append(out, schemas.Source{Name: s.Topic, Partitions: s.Partitions, MaxMessageBytes: s.MaxMessageBytes, RetentionMs: ms, Key: keys[s.Topic]})
	}
	return append(out, control)
}

func (cfg *Config) topics() []schemas.Topic { return schemas.Topics(cfg.Kafka.Prefix, cfg.sources()) }

// limit is max.message.bytes of a source topic, given with its prefix.
func (cfg *Config) limits() map[string]int {
	m := map[string]int{}
	for _, t := range cfg.topics() {
		m[t.Name] = int(t.MaxMessageBytes)
	}
	return m
}

func portNumber(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0 && n < 65536
}

func loopback(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != "0" && !portNumber(port) {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func topicName(s string) bool {
	return len(s) <= 249 && regexp.MustCompile(`^[A-Za-z0-9._-]+$`).MatchString(s) && s != "." && s != ".."
}

func tenantName(s string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`).MatchString(s)
}

func slotName() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`) }

func logName() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._~-]+)*$`)
}
