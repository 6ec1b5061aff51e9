package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// encoder turns sealed records into rows in PostgreSQL's binary form: a count of
// columns, then each as its length (-1 for null) and its bytes. COPY takes rows in
// that form, and query results come in it too, so that the auditor compares what is
// stored with what should be stored byte by byte.
//
// A row is a pure function of the sealed record, its place, the tenant rule and, for
// Avro values, the schema that its id names. Everything Kafka can carry has a row:
// projected texts are made storable by schemas, times are clamped here.
type encoder struct {
	codec   *schemas.Codec
	tenants Tenants
	columns []schemas.Column
	fields  schemas.Fields
	buf     []byte
}

func newEncoder(codec *schemas.Codec, tenants Tenants) *encoder {
	return &encoder{codec: codec, tenants: tenants, columns: schemas.Columns(schemas.ProjectionVersion)}
}

// row appends one row to the buffer. Its error means that the schema registry could
// not be asked; the buffer is then as it was.
func (e *encoder) row(ctx context.Context, p sinks.Partition, r *sinks.Record) error {
	s := &r.Statement
	e.fields.HasTime = false
	event, reason := s.Kind == ledger.KindEvent, ""
	if event {
		var bad *schemas.DecodeError
		if err := e.codec.Project(ctx, r.Source.Value, &e.fields); errors.As(err, &bad) {
			reason = bad.Reason
		} else if err != nil {
			return fmt.Errorf("project %s@%d: %w", p, r.Offset, err)
		}
	}
	b := binary.BigEndian.AppendUint16(e.buf, uint16(len(e.columns)+fixedCount))
	b = appendBytes(b, s.Ledger[:])
	b = appendInt64(b, int64(s.Seq))
	b = appendTime(b, eventTime(&e.fields, s.TimeMs))
	if ms, ok := recordTime(s.TimeMs); ok {
		b = appendTime(b, ms)
	} else {
		b = appendNull(b)
	}
	b = appendInt64(b, r.Offset)
	b = appendInt32(b, monthOf(s.TimeMs).days())
	b = appendInt32(b, p.ID)
	b = appendInt16(b, int16(s.Kind))
	b = appendInt16(b, schemas.ProjectionVersion)
	b = appendText(b, p.Topic)
	b = appendText(b, e.tenants.of(p.Topic, r.Source.Headers))
	leaf := ledger.LeafHash(&r.Raw)
	b = appendBytes(b, leaf[:])
	b = appendBytes(b, r.Raw[:])
	if s.SaltKey != 0 {
		b = appendBytes(b, r.Salt[:])
	} else {
		b = appendNull(b)
	}
	at := len(b)
	b = ledger.AppendFrame(append(b, 0, 0, 0, 0), &r.Source)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	if reason != "" {
		b = appendText(b, reason)
	} else {
		b = appendNull(b)
	}
	for i := range e.columns {
		if !event || !e.fields.Values[i].Set {
			b = appendNull(b)
			continue
		}
		b = appendValue(b, e.columns[i].Type, &e.fields.Values[i])
	}
	e.buf = b
	return nil
}

func appendValue(b []byte, t schemas.ColumnType, v *schemas.Value) []byte {
	switch t {
	case schemas.TextList:
		return appendList(b, v.List)
	case schemas.Int:
		return appendInt64(b, v.Int)
	case schemas.Bool:
		return append(b, 0, 0, 0, 1, byte(v.Int&1))
	case schemas.TimeMs:
		return appendTime(b, v.Int)
	default:
		return appendText(b, v.Text)
	}
}

func appendNull(b []byte) []byte { return append(b, 0xFF, 0xFF, 0xFF, 0xFF) }

func appendBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func appendText(b []byte, v string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func appendInt16(b []byte, v int16) []byte {
	return binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 2), uint16(v))
}

func appendInt32(b []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 4), uint32(v))
}

func appendInt64(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v))
}

// appendTime appends a timestamptz: microseconds since 2000.
func appendTime(b []byte, ms int64) []byte { return appendInt64(b, (ms-epoch2000)*1000) }

// appendList appends a text[] as array_send writes it: no dimension when empty, no
// nulls, lower bound 1.
func appendList(b []byte, v []string) []byte {
	const oidText = 25
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	dims := uint32(0)
	if len(v) > 0 {
		dims = 1
	}
	b = binary.BigEndian.AppendUint32(b, dims)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, oidText)
	if dims > 0 {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = binary.BigEndian.AppendUint32(b, 1)
	}
	for _, s := range v {
		b = appendText(b, s)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

const (
	epoch2000 = 946_684_800_000     // 2000-01-01 in milliseconds since 1970
	minTimeMs = -62_135_596_800_000 // 0001-01-01
	maxTimeMs = 253_402_300_799_999 // the last millisecond of 9999
	dayMs     = 24 * 60 * 60 * 1000
)

// recordTime tells whether a record's timestamp is one.
func recordTime(ms int64) (int64, bool) {
	return ms, ms != -1 && ms >= minTimeMs && ms <= maxTimeMs
}

// eventTime is the time a row is listed under: the payload's if it has a usable one,
// else the record's, else 1970. A row must have one, or listings would lose it.
func eventTime(f *schemas.Fields, recordMs int64) int64 {
	if f.HasTime {
		return f.Time
	}
	if ms, ok := recordTime(recordMs); ok {
		return ms
	}
	return 0
}

// month is a calendar month that has a partition, counted from year 0, or odd.
type month int32

// odd is the partition of records without a timestamp in [2020, 2100). It is written
// as January 1970 and holds everything before 2020.
const odd month = 1970 * 12

// monthOf returns the month of a record timestamp, in UTC.
func monthOf(ms int64) month {
	if ms < 1_577_836_800_000 || ms >= 4_102_444_800_000 {
		return odd
	}
	y, m, _ := time.UnixMilli(ms).UTC().Date()
	return month(y*12 + int(m) - 1)
}

func (m month) first() time.Time {
	return time.Date(int(m)/12, time.Month(m%12)+1, 1, 0, 0, 0, 0, time.UTC)
}

// days is the month's first day as a date of PostgreSQL: days since 2000.
func (m month) days() int32 { return int32((m.first().UnixMilli() - epoch2000) / dayMs) }

func (m month) String() string { return m.first().Format(time.DateOnly) }
