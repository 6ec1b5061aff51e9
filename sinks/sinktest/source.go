package sinktest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// BaseTimeMs is the timestamp of records that [Event] makes: in November 2026.
const BaseTimeMs = 1_795_430_954_000

// Source makes the sealed records of one partition, as the seal stage would.
type Source struct {
	Partition sinks.Partition
	ID        ledger.ID
	Genesis   ledger.Genesis

	t      testing.TB
	chain  *ledger.Chain
	source int64 // next source offset
	sealed int64 // next offset of the sealed partition
	first  sinks.Record
}

// NewSource starts the ledger of a partition of topic, a sealed topic, salted.
func NewSource(t testing.TB, topic string, partition int32) *Source {
	t.Helper()
	keys, err := ledger.NewKeyring(map[uint32][]byte{1: bytes.Repeat([]byte{7}, 32)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return NewSourceWith(t, topic, partition, keys)
}

// NewSourceWith is NewSource with a keyring; nil seals unsalted.
func NewSourceWith(t testing.TB, topic string, partition int32, keys *ledger.Keyring) *Source {
	t.Helper()
	s := &Source{t: t, Partition: sinks.Partition{Topic: topic, ID: partition}, Genesis: ledger.Genesis{
		Name: "sinktest.example/log", Cluster: "sinktest", Source: "source-of-" + topic, SourceID: ledger.TopicID{1, 2, 3}, Partition: partition,
	}}
	chain, genesis, err := ledger.Start(s.Genesis, keys)
	if err != nil {
		t.Fatalf("start ledger: %v", err)
	}
	s.chain, s.ID = chain, chain.ID()
	s.first = s.open(&genesis)
	return s
}

// open makes a sealed record of what would be read back, and gives it the next offset.
func (s *Source) open(r *ledger.Record) sinks.Record {
	s.t.Helper()
	sealed, err := ledger.Open(r)
	if err != nil {
		s.t.Fatalf("open sealed record: %v", err)
	}
	out := sinks.Record{Offset: s.sealed, Sealed: sealed}
	s.sealed++
	return out
}

// First returns the genesis record, at sealed offset 0.
func (s *Source) First() sinks.Record { return s.first }

// Seal seals source records; their offsets are given here.
func (s *Source) Seal(rs ...ledger.Record) []sinks.Record {
	s.t.Helper()
	out := make([]sinks.Record, 0, len(rs))
	for i := range rs {
		r := rs[i]
		r.Offset = s.source
		s.source++
		seal, _, err := s.chain.Append(&r, nil)
		if err != nil {
			s.t.Fatalf("seal: %v", err)
		}
		if r.TimeMs = ledger.ClampTime(r.TimeMs); r.TimeMs == ledger.TimeOutOfRange {
			r.TimeMs = -1 // as a sealed record carries it
		}
		r.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)], ledger.Header{Name: ledger.SealHeader, Value: seal})
		out = append(out, s.open(&r))
	}
	return out
}

// Close closes the ledger and returns its last record.
func (s *Source) Close() sinks.Record {
	s.t.Helper()
	next := s.Genesis
	prev := s.chain.Previous()
	next.Start, next.Previous = s.source, &prev
	r, err := s.chain.Close(next)
	if err != nil {
		s.t.Fatalf("close ledger: %v", err)
	}
	return s.open(&r)
}

// Gap leaves an offset of the sealed partition out, as a transaction marker does.
func (s *Source) Gap() { s.sealed++ }

// Next is the offset of the sealed partition that the next record gets.
func (s *Source) Next() int64 { return s.sealed }

// Events seals n plain events.
func (s *Source) Events(n int) []sinks.Record {
	rs := make([]ledger.Record, n)
	for i := range rs {
		rs[i] = Event(int(s.source) + i)
	}
	return s.Seal(rs...)
}

// Batch makes the batch of consecutive records that begins at the offset of the first.
func (s *Source) Batch(rs []sinks.Record) sinks.Batch {
	return sinks.Batch{Partition: s.Partition, From: rs[0].Offset, Next: rs[len(rs)-1].Offset + 1, Records: rs}
}

// Event is a plain audit event, number n.
func Event(n int) ledger.Record {
	value := fmt.Sprintf(`{"@timestamp":"2026-11-23T12:00:00.%03dZ","event":{"id":"0190c6f0-7d3a-7cc1-9d53-%012x","kind":"event",`+
		`"category":["iam"],"type":["user","change"],"action":"role.grant","outcome":"success"},`+
		`"user":{"id":"u-%d","name":"alice"},"source":{"ip":"10.1.2.3"},"audit":{"object":{"type":"role","id":"r-%d"}}}`, n%1000, n, n%7, n%3)
	return ledger.Record{
		Key: fmt.Appendf(nil, "acme/%d", n%7), Value: []byte(value), TimeMs: BaseTimeMs + int64(n),
		Headers: []ledger.Header{{Name: "ce_tenant", Value: []byte("acme")}}, LeaderEpoch: 3,
	}
}

// OddRecords are records that Kafka carries and that no sink may choke on. Their names
// are for test output.
func OddRecords() map[string]ledger.Record {
	at := func(ms int64) ledger.Record { r := Event(1); r.TimeMs = ms; return r }
	with := func(key, value []byte) ledger.Record {
		return ledger.Record{Key: key, Value: value, TimeMs: BaseTimeMs}
	}
	event := func(fields string) ledger.Record {
		return with(nil, []byte(`{"@timestamp":"2026-11-23T12:00:00Z","event":{"id":"x","action":"a"},`+fields+`}`))
	}
	long := bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz012345"), 8<<10) // 256 KiB
	headers := with([]byte("k"), []byte(`{}`))
	for i := range 200 {
		headers.Headers = append(headers.Headers, ledger.Header{Name: fmt.Sprint("h", i%3), Value: []byte{byte(i)}})
	}
	bad := with([]byte{0xff, 0}, []byte(`{}`))
	bad.Headers = []ledger.Header{{Name: "\xff\x00", Value: nil}, {Name: "", Value: []byte{}}, {Name: "ce_tenant", Value: []byte("a\x00b")}}
	sealed := with(nil, []byte(`{}`))
	sealed.Headers = []ledger.Header{{Name: ledger.SealHeader, Value: make([]byte, ledger.StatementSize)}}
	tenants := Event(1)
	tenants.Headers = append(tenants.Headers, ledger.Header{Name: "ce_tenant", Value: []byte("other")})
	return map[string]ledger.Record{
		"no timestamp":          at(-1),
		"before 1970":           at(-5000),
		"before 1970, -2":       at(-2),
		"zero timestamp":        at(0),
		"year 9999":             at(253_402_300_799_999),
		"year 2199":             at(7_258_118_399_999),
		"out of range":          at(ledger.TimeOutOfRange),
		"smallest kept":         at(-ledger.MaxTimeMs),
		"largest kept":          at(ledger.MaxTimeMs),
		"last ms of 2019":       at(1_577_836_799_999),
		"first ms of 2020":      at(1_577_836_800_000),
		"last ms of 2099":       at(4_102_444_799_999),
		"first ms of 2100":      at(4_102_444_800_000),
		"null key and value":    with(nil, nil),
		"empty key and value":   with([]byte{}, []byte{}),
		"64 KB key":             with(long[:64<<10], []byte(`{}`)),
		"neither Avro nor JSON": with(nil, []byte("hello")),
		"invalid UTF-8":         with(nil, []byte("{\"user\":{\"id\":\"\xff\xfe\"}}")),
		"NUL in a text":         event(`"user":{"id":"a\u0000b"}`),
		"lone surrogate":        event(`"user":{"id":"\ud800"}`),
		"unknown schema":        with(nil, []byte{0, 0, 1, 0, 0, 9, 9}),
		"huge texts":            event(`"message":"` + string(long) + `","user":{"id":"` + string(long) + `","name":"` + string(long) + `"},"organization":{"id":"` + string(long) + `"}`),
		"huge lists":            event(`"tags":[` + string(bytes.Repeat([]byte(`"t",`), 9999)) + `"t"]`),
		"wrong types":           event(`"user":7,"source":{"ip":[1,2]},"message":{"a":1}`),
		"payload time odd":      with(nil, []byte(`{"@timestamp":"99999-01-01T00:00:00Z","event":{"id":"x"}}`)),
		"payload time year 1":   with(nil, []byte(`{"@timestamp":"0001-01-01T00:00:00Z","event":{"id":"x"}}`)),
		"200 headers":           headers,
		"bad header bytes":      bad,
		"a seal of its own":     sealed,
		"two tenants":           tenants,
	}
}

// Records is how many records the source has made, its genesis included.
func (s *Source) Records() int { return int(s.chain.Seq()) + 1 }
