package main

import (
	_ "embed"
	"time"

	"github.com/sealstream/sealstream/schemas"
)

// configSource is this file: its comments are what `sealstream config --defaults`
// prints, so that the manual and the program cannot differ.
//
//go:embed config.go
var configSource string

// configVersion is the only format of the file there is.
const configVersion = 1

// Config is everything a process can be told. One file serves all roles; each reads
// its sections. Secrets are never in it: where one is needed, a key that ends in _file
// names a file of mode 0600. Each such key can also be given by an environment
// variable, its path in upper case: SEALSTREAM_KAFKA_SASL_PASSWORD_FILE.
type Config struct {
	// Format of this file. Required; the only one is 1.
	Version int `yaml:"version"`
	// The Kafka cluster. With `sealstream up` the embedded broker takes its place.
	Kafka KafkaConfig `yaml:"kafka"`
	// The schema registry that explains Avro values.
	Registry RegistryConfig `yaml:"registry"`
	// The topics that are sealed, without prefix. ledger.control is always one more. An
	// entry needs its topic only; the rest of it is then as shown here.
	Sources []SourceConfig `yaml:"sources"`
	// What our own producers write: ingest, generate and the API.
	Producer ProducerConfig `yaml:"producer"`
	// The role seal.
	Seal SealConfig `yaml:"seal"`
	// The role sink-postgres, and the database that the API and verify read.
	SinkPostgres PostgresConfig `yaml:"sink_postgres"`
	// The role api.
	API APIConfig `yaml:"api"`
	// Where the roles seal and sink-postgres answer /metrics, /healthz and /readyz when
	// they run without the API.
	Monitor MonitorConfig `yaml:"monitor"`
	// What `sealstream up` runs besides the roles.
	Embedded EmbeddedConfig `yaml:"embedded"`
	// The process's own log, on standard error.
	Log LogConfig `yaml:"log"`

	// embeddedAt is the base URL of the registry of a running up, empty elsewhere: there
	// a role can wait until the embedded broker's disk has everything.
	embeddedAt string
}

// KafkaConfig says how to reach a cluster.
type KafkaConfig struct {
	// host:port of some brokers; the others are found through them.
	Brokers []string `yaml:"brokers"`
	// Put before the name of every topic, consumer group and transactional id.
	Prefix string `yaml:"prefix"`
	// Name of this client in the brokers' logs and quotas.
	ClientID string `yaml:"client_id"`
	// Replicas of topics that `sealstream topics create` makes; -1 is the brokers' default.
	Replication int16 `yaml:"replication"`
	// Encryption of the connections.
	TLS TLSConfig `yaml:"tls"`
	// Authentication to the brokers.
	SASL SASLConfig `yaml:"sasl"`
	// Who the roles are to the brokers, where a role is not User:<role>. The printed ACLs
	// and the warning that somebody else may write sealed topics go by it.
	Principals PrincipalsConfig `yaml:"principals"`
}

// PrincipalsConfig names the principals of each role as the brokers know them, such as
// "User:sealer" or "User:CN=sealer,O=Example". Empty: User: and the name of the role.
type PrincipalsConfig struct {
	// Whoever writes source topics, but for ledger.control.
	Producer []string `yaml:"producer"`
	// Who runs sealstream ingest: it reads back what it brought in before.
	Ingest []string `yaml:"ingest"`
	// The role api.
	API []string `yaml:"api"`
	// The role seal, all of its members.
	Seal []string `yaml:"seal"`
	// The role sink-postgres.
	SinkPostgres []string `yaml:"sink_postgres"`
	// Who runs sealstream verify.
	Verify []string `yaml:"verify"`
	// Who runs sealstream topics, rejects and order.
	Operator []string `yaml:"operator"`
}

// TLSConfig says how a client of ours proves whom it talks to.
type TLSConfig struct {
	// Whether connections are encrypted.
	Enabled bool `yaml:"enabled"`
	// PEM file of the authorities to trust; empty: those of the system.
	CAFile string `yaml:"ca_file"`
	// PEM files of our own certificate and its key, for brokers that ask for one; both or none.
	// They are read at the start of a process.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// Name the server's certificate must have; empty: the host we connect to.
	ServerName string `yaml:"server_name"`
	// Oldest TLS that is spoken: "1.3", or "1.2" for brokers that know no better; empty: 1.3.
	MinVersion string `yaml:"min_version"`
}

// SASLConfig says who we are to the brokers.
type SASLConfig struct {
	// PLAIN (with TLS only), SCRAM-SHA-256 or SCRAM-SHA-512; empty: none.
	Mechanism string `yaml:"mechanism"`
	// User name.
	User string `yaml:"user"`
	// File that holds the password. It is read again for each new connection.
	PasswordFile string `yaml:"password_file"`
}

// RegistryConfig says how to reach a Confluent-compatible schema registry.
type RegistryConfig struct {
	// Base URL; empty: Avro values are stored as bytes, with a decode error.
	URL string `yaml:"url"`
	// User name for basic authentication; empty: none.
	User string `yaml:"user"`
	// File that holds the password.
	PasswordFile string `yaml:"password_file"`
	// PEM file of the authorities to trust; empty: those of the system.
	CAFile string `yaml:"ca_file"`
}

// SourceConfig is one topic whose records are sealed. What an entry leaves out, but for
// its topic, is as `sealstream config --defaults` shows it.
type SourceConfig struct {
	// Name without prefix. A compacted topic is refused: it forgets evidence.
	Topic string `yaml:"topic"`
	// Whose its events are. Empty: the record header ce_tenant says it, so whoever may
	// write to the topic may claim any tenant. The payload is never asked.
	Tenant string `yaml:"tenant"`
	// What `sealstream topics create` makes it with; existing topics are not changed.
	// Left out, this and the next two are what the defaults show.
	Partitions int32 `yaml:"partitions"`
	// Limit of one record batch in bytes (max.message.bytes).
	MaxMessageBytes int32 `yaml:"max_message_bytes"`
	// How long the source keeps events, such as 720h, or "forever". The sealed topic
	// keeps them for ever.
	Retention string `yaml:"retention"`
}

// ProducerConfig is about records that we write to source topics.
type ProducerConfig struct {
	// Tenant of events that `ingest` and `generate` write, and of tokens of the role ingest.
	Tenant string `yaml:"tenant"`
	// File with the key (32 bytes, raw or hexadecimal) under which actors get their
	// pseudonyms in record keys. Processes that share it keep an actor's events in order.
	PseudonymKeyFile string `yaml:"pseudonym_key_file"`
	// How long a record is tried before it is reported as not acknowledged.
	DeliveryTimeout time.Duration `yaml:"delivery_timeout"`
}

// SealConfig is the role seal.
type SealConfig struct {
	// Name of this installation's log, in every ledger for ever: host name and path in
	// lower case, such as ledger.example.com/audit. Changing it stops every partition.
	// Required for `sealstream run seal`; `sealstream up` makes one of its own at the
	// first start.
	Name string `yaml:"name"`
	// Identity of this member, such as "1": it keeps it over restarts, and no two
	// members that run at the same time share one.
	Slot string `yaml:"slot"`
	// Directory of the salt masters: <number>.key, 32 raw bytes, mode 0600. Back it up:
	// without them commitments cannot be checked by salt, and sealing stops.
	SaltDir string `yaml:"salt_dir"`
	// Number of the salt master for new ledgers; 0: the highest there is.
	SaltKey uint32 `yaml:"salt_key"`
	// Whether statements carry event ids that are UUIDs, for ledgers begun from now on.
	// An id makes an event findable in a proof, and a guess at erased content harder to
	// tell from no guess: off unless it is needed.
	EventIDs bool `yaml:"event_ids"`
	// Length of a transaction under load: shorter seals sooner, longer costs less.
	TransactionInterval time.Duration `yaml:"transaction_interval"`
	// After how long without recovered partitions an alarm is raised.
	StallAfter time.Duration `yaml:"stall_after"`
}

// PostgresConfig is the role sink-postgres and its readers.
type PostgresConfig struct {
	// File with the URL of the database as role sealstream_writer: for the sink. Its user
	// and password, and the reader's, are read again for each new connection.
	WriterURLFile string `yaml:"writer_url_file"`
	// File with the URL as role sealstream_reader: for the API and for verify.
	ReaderURLFile string `yaml:"reader_url_file"`
	// File with the URL as role sealstream_jobs: where the API keeps the verifications it
	// is asked for; empty: it takes none.
	JobsURLFile string `yaml:"jobs_url_file"`
	// File with the URL as a role that may create roles and tables: for `sealstream
	// database migrate`. Roles that run do not need it.
	OwnerURLFile string `yaml:"owner_url_file"`
	// Identity of this member; see seal.slot.
	Slot string `yaml:"slot"`
	// Batches written at the same time.
	Workers int `yaml:"workers"`
	// Most events, and most bytes, in one transaction.
	BatchRecords int `yaml:"batch_records"`
	BatchBytes   int `yaml:"batch_bytes"`
	// How long to wait for a fuller batch.
	Linger time.Duration `yaml:"linger"`
	// Most bytes read ahead and not yet stored: memory while the database is away.
	QueueBytes int `yaml:"queue_bytes"`
}

// APIConfig is the role api.
type APIConfig struct {
	// host:port to listen on; port 0 takes a free one. Beyond loopback TLS is required.
	// Empty: 127.0.0.1:8080, and with up a free port when another program has that one.
	Listen string `yaml:"listen"`
	// PEM files for TLS 1.3; both or none. They are read again when they change.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// Who may issue access tokens (RFC 9068).
	Issuers []IssuerConfig `yaml:"issuers"`
	// File with the key of the built-in issuer of one-machine mode; empty: none.
	// Whoever can read it can make any token.
	LocalKeyFile string `yaml:"local_key_file"`
	// What one caller, and all together, may ask for.
	Limits LimitsConfig `yaml:"limits"`
}

// IssuerConfig is one authority whose tokens are taken.
type IssuerConfig struct {
	// The iss claim, compared exactly.
	Name string `yaml:"name"`
	// What aud must contain: the name this server has at the issuer.
	Audience string `yaml:"audience"`
	// Signature algorithms, some of ES256, ES384, EdDSA, PS256, RS256.
	Algorithms []string `yaml:"algorithms"`
	// Where the public keys are: an https URL, or a file; one of the two.
	JWKSURL  string `yaml:"jwks_url"`
	JWKSFile string `yaml:"jwks_file"`
	// Claims that hold the tenant and the roles.
	TenantClaim string `yaml:"tenant_claim"`
	RolesClaim  string `yaml:"roles_claim"`
	// Word that the scope claim must have; empty: none.
	Scope string `yaml:"scope"`
}

// LimitsConfig bounds the API. 0 takes the default in the comment.
type LimitsConfig struct {
	// Bytes of one body after decompression; 32 MiB.
	BodyBytes int64 `yaml:"body_bytes"`
	// Bytes of one event; 1 MiB less 16 KiB.
	ItemBytes int `yaml:"item_bytes"`
	// Events in one body; 10000.
	Items int `yaml:"items"`
	// Requests a second of one caller; 200.
	Rate float64 `yaml:"rate"`
	// Requests a caller may save up; 400.
	Burst int `yaml:"burst"`
	// Requests worked on at the same time; 128.
	Concurrent int `yaml:"concurrent"`
	// Of these, requests of one caller; a quarter.
	PerCaller int `yaml:"per_caller"`
	// Requests a second without a good token from one address; 5.
	StrangerRate float64 `yaml:"stranger_rate"`
	// Time-out of one read; 15s.
	QueryTimeout time.Duration `yaml:"query_timeout"`
}

// MonitorConfig is the listener of roles that run without the API.
type MonitorConfig struct {
	// host:port, loopback only; empty: none.
	Listen string `yaml:"listen"`
}

// EmbeddedConfig is what `sealstream up` runs besides the roles. Port 0 takes a free
// one at the first start and keeps it.
type EmbeddedConfig struct {
	// The three listeners of the broker, on 127.0.0.1.
	KafkaPorts []int `yaml:"kafka_ports"`
	// Longest time that an acknowledged record is not on disk. Answers of the API wait for it.
	FsyncEvery time.Duration `yaml:"fsync_every"`
	// The schema registry, on 127.0.0.1.
	RegistryPort int `yaml:"registry_port"`
	// The PostgreSQL server, on 127.0.0.1.
	PostgresPort int `yaml:"postgres_port"`
	// File with the superuser URL of a PostgreSQL server to use instead; empty: run one.
	PostgresURLFile string `yaml:"postgres_url_file"`
	// Directory of PostgreSQL's own programs; empty: search, then download.
	PostgresBinDir string `yaml:"postgres_bin_dir"`
	// Whether PostgreSQL may be downloaded from Maven Central when the machine has
	// none; the checksum is verified.
	PostgresDownload bool `yaml:"postgres_download"`
	// Where downloads are kept; empty: the user's cache directory.
	CacheDir string `yaml:"cache_dir"`
	// Whether the first start writes a few sample events.
	Sample bool `yaml:"sample"`
	// How long a stop may take before what is left is cut off.
	StopTimeout time.Duration `yaml:"stop_timeout"`
}

// LogConfig is the process's own log.
type LogConfig struct {
	// debug, info, warn or error.
	Level string `yaml:"level"`
	// text or json.
	Format string `yaml:"format"`
}

// defaultSource is what an entry of sources means that only has a topic.
func defaultSource(topic string) SourceConfig {
	return SourceConfig{Topic: topic, Partitions: schemas.HotPartitions, MaxMessageBytes: schemas.DefaultMaxMessageBytes, Retention: "720h"}
}

// defaultConfig is what an empty file means.
func defaultConfig() Config {
	return Config{
		Version: configVersion,
		Kafka: KafkaConfig{Brokers: []string{}, ClientID: "sealstream", Replication: -1, Principals: PrincipalsConfig{
			Producer: []string{}, Ingest: []string{}, API: []string{}, Seal: []string{}, SinkPostgres: []string{}, Verify: []string{}, Operator: []string{}}},
		Sources:  []SourceConfig{defaultSource(schemas.TopicAudit), defaultSource(schemas.TopicDomain)},
		Producer: ProducerConfig{Tenant: "default", DeliveryTimeout: 15 * time.Second},
		Seal: SealConfig{Slot: "1",
			TransactionInterval: 100 * time.Millisecond, StallAfter: 30 * time.Second},
		SinkPostgres: PostgresConfig{Slot: "1", Workers: 2, BatchRecords: 5000, BatchBytes: 8 << 20,
			Linger: 50 * time.Millisecond, QueueBytes: 32 << 20},
		API: APIConfig{Issuers: []IssuerConfig{}},
		Embedded: EmbeddedConfig{KafkaPorts: []int{0, 0, 0}, FsyncEvery: 100 * time.Millisecond, PostgresDownload: true,
			Sample: true, StopTimeout: 20 * time.Second},
		Log: LogConfig{Level: "info", Format: "text"},
	}
}
