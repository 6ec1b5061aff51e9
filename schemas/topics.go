package schemas

import (
	"math"
	"slices"
	"strconv"
)

// The topics every installation has, without the configured prefix.
const (
	TopicAudit   = "audit.events"
	TopicDomain  = "domain.events"
	TopicControl = "ledger.control"
	TopicRejects = "rejects"
)

// Limits that more than one topic shares.
const (
	// DefaultMaxMessageBytes is Kafka's own default of max.message.bytes.
	DefaultMaxMessageBytes = 1_048_588
	// SealRoom is what a sealed or set-aside record may be larger than its source:
	// the statement, its salt and the headers that say why a record was set aside.
	SealRoom = 64 << 10
	// HotPartitions is the partition count of a topic that carries events.
	HotPartitions = 12
	// Forever is a retention without end.
	Forever = -1

	defaultRetentionMs = 30 * 24 * 3600 * 1000
	anyTimestamp       = math.MaxInt64
)

// Codec of every producer of ours. Topics keep what producers send
// (compression.type=producer), so that no broker re-encodes evidence.
const Compression = "snappy"

// Role names what a process does, and so what it may touch.
type Role string

// The roles. Only RoleSeal may write a sealed topic: whoever else could, could
// append a perfect next statement.
const (
	RoleProducer     Role = "producer"
	RoleIngest       Role = "ingest" // `sealstream ingest`: it reads back what it has brought in before
	RoleSeal         Role = "seal"
	RoleSinkPostgres Role = "sink-postgres"
	RoleAPI          Role = "api"
	RoleVerify       Role = "verify"
	RoleOperator     Role = "operator"
)

// Roles lists every role in the order in which a record meets it.
func Roles() []Role {
	return []Role{RoleProducer, RoleIngest, RoleAPI, RoleSeal, RoleSinkPostgres, RoleVerify, RoleOperator}
}

// Source is one topic whose records are sealed. Zero numbers take the defaults.
type Source struct {
	Name            string // without prefix
	Partitions      int32  // 0 = HotPartitions
	MaxMessageBytes int32  // 0 = DefaultMaxMessageBytes
	RetentionMs     int64  // 0 = 30 days; Forever = no end
	Key             string // what the record key holds, for the printed table
	Product         bool   // only the product's own principals may write it
}

// DefaultSources are the three sources every installation starts with.
func DefaultSources() []Source {
	return []Source{
		{Name: TopicAudit, Key: "tenant and pseudonym of the actor"},
		{Name: TopicDomain, Key: "aggregate id"},
		{Name: TopicControl, Key: "kind and id", Partitions: 1, RetentionMs: Forever, Product: true},
	}
}

// KeepForever returns the sources with retention without end, as one-machine mode has it.
func KeepForever(sources []Source) []Source {
	out := slices.Clone(sources)
	for i := range out {
		out[i].RetentionMs = Forever
	}
	return out
}

// Topic is one topic as it must be on the cluster.
type Topic struct {
	Name   string // with prefix
	Base   string // without prefix
	Source string // of a sealed topic: its source with prefix; else empty

	Key, Value string // what they hold, for people
	Partitions int32
	Cleanup    string // cleanup.policy

	RetentionMs          int64
	RetentionBytes       int64
	MaxMessageBytes      int32
	TimestampType        string // message.timestamp.type
	TimestampBeforeMaxMs int64  // message.timestamp.before.max.ms
	TimestampAfterMaxMs  int64  // message.timestamp.after.max.ms

	Writers []Role
	Readers []Role
}

// Sealed says whether the topic holds sealed records.
func (t Topic) Sealed() bool { return t.Source != "" }

// Config returns the topic configuration by Kafka's names, to create the topic with
// and to compare an existing one against.
func (t Topic) Config() map[string]string {
	return map[string]string{
		"cleanup.policy":                  t.Cleanup,
		"retention.ms":                    strconv.FormatInt(t.RetentionMs, 10),
		"retention.bytes":                 strconv.FormatInt(t.RetentionBytes, 10),
		"max.message.bytes":               strconv.FormatInt(int64(t.MaxMessageBytes), 10),
		"message.timestamp.type":          t.TimestampType,
		"message.timestamp.before.max.ms": strconv.FormatInt(t.TimestampBeforeMaxMs, 10),
		"message.timestamp.after.max.ms":  strconv.FormatInt(t.TimestampAfterMaxMs, 10),
		"compression.type":                "producer",
	}
}

// SealedName is the sealed topic of a source; a prefix stays where it is.
func SealedName(source string) string { return source + ".sealed" }

// Topics is the whole table: for each source the source itself and its sealed topic,
// then the rejects. prefix goes before every name.
//
// Every topic takes any record timestamp: evidence is never refused for its clock.
// Compaction is never used here: it would drop records that statements count.
func Topics(prefix string, sources []Source) []Topic {
	out := make([]Topic, 0, 2*len(sources)+1)
	widest := int32(DefaultMaxMessageBytes)
	for _, s := range sources {
		s = s.withDefaults()
		widest = max(widest, s.MaxMessageBytes)
		src := base(prefix, s.Name)
		src.Key, src.Value = s.Key, "event, Avro or JSON"
		src.Partitions, src.MaxMessageBytes, src.RetentionMs = s.Partitions, s.MaxMessageBytes, s.RetentionMs
		src.Writers = []Role{RoleProducer, RoleIngest, RoleAPI}
		src.Readers = []Role{RoleIngest, RoleSeal}
		if s.Product {
			src.Writers = []Role{RoleAPI, RoleOperator}
			src.Readers = []Role{RoleSeal}
		}
		sealed := base(prefix, SealedName(s.Name))
		sealed.Source, sealed.Key, sealed.Value = src.Name, s.Key, "the source value byte for byte, header seal last"
		sealed.Partitions, sealed.MaxMessageBytes, sealed.RetentionMs = s.Partitions, s.MaxMessageBytes+SealRoom, Forever
		sealed.Writers = []Role{RoleSeal}
		sealed.Readers = []Role{RoleSeal, RoleSinkPostgres, RoleVerify, RoleOperator, RoleAPI} // the API for verification jobs
		out = append(out, src, sealed)
	}
	rej := base(prefix, TopicRejects)
	rej.Key, rej.Value = "sink and source coordinates", "original bytes, headers say why"
	rej.Partitions, rej.MaxMessageBytes, rej.RetentionMs = 1, widest+SealRoom, Forever
	rej.Writers = []Role{RoleSinkPostgres}
	rej.Readers = []Role{RoleVerify, RoleOperator, RoleAPI}
	return append(out, rej)
}

func (s Source) withDefaults() Source {
	if s.Partitions == 0 {
		s.Partitions = HotPartitions
	}
	if s.MaxMessageBytes == 0 {
		s.MaxMessageBytes = DefaultMaxMessageBytes
	}
	if s.RetentionMs == 0 {
		s.RetentionMs = defaultRetentionMs
	}
	if s.Key == "" {
		s.Key = "chosen by its producers"
	}
	return s
}

func base(prefix, name string) Topic {
	return Topic{
		Name: prefix + name, Base: name,
		Cleanup: "delete", RetentionBytes: Forever,
		TimestampType: "CreateTime", TimestampBeforeMaxMs: anyTimestamp, TimestampAfterMaxMs: anyTimestamp,
	}
}
