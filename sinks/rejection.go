package sinks

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealstream/sealstream/ledger"
)

// Names of the headers that say why a record is in the rejects topic. They stand in
// this order, all of them, behind the headers of the sealed record (whose last one
// is "seal"); like the seal header they are known by position, so that a record that
// came with headers of the same names is not mistaken for one of ours.
const (
	headerVersion   = "reject.version"
	headerSink      = "reject.sink"
	headerTopic     = "reject.topic"
	headerPartition = "reject.partition"
	headerOffset    = "reject.offset"
	headerLedger    = "reject.ledger"
	headerSeq       = "reject.seq"
	headerReason    = "reject.reason"
	headerCode      = "reject.code"
	headerText      = "reject.text"
	headerAttempts  = "reject.attempts"
	headerFirst     = "reject.first_time"
	headerLast      = "reject.last_time"

	rejectVersion = "1"

	// MaxRejectionText bounds the text of a rejection in bytes.
	MaxRejectionText = 512
	maxLabel         = 64
)

func rejectionHeaderNames() []string {
	return []string{headerVersion, headerSink, headerTopic, headerPartition, headerOffset, headerLedger, headerSeq,
		headerReason, headerCode, headerText, headerAttempts, headerFirst, headerLast}
}

// Headers returns all headers of the record that carries r into the rejects topic:
// those of the sealed record, its seal, then why it was set aside. No header of ours
// shows what the record holds.
func (r Rejection) Headers() []ledger.Header {
	s := &r.Record.Statement
	seal := slices.Clone(r.Record.Raw[:])
	if s.SaltKey != 0 {
		seal = append(seal, r.Record.Salt[:]...)
	}
	hs := slices.Concat(r.Record.Source.Headers, []ledger.Header{{Name: ledger.SealHeader, Value: seal}})
	values := []string{
		rejectVersion, Text(r.Sink, maxLabel), r.Partition.Topic, strconv.Itoa(int(r.Partition.ID)), strconv.FormatInt(r.Record.Offset, 10),
		s.Ledger.String(), strconv.FormatUint(s.Seq, 10), Text(r.Reason, maxLabel), Text(r.Code, maxLabel), Text(r.Detail, MaxRejectionText),
		strconv.Itoa(r.Attempts), stamp(r.First), stamp(r.Last),
	}
	for i, name := range rejectionHeaderNames() {
		hs = append(hs, ledger.Header{Name: name, Value: []byte(values[i])})
	}
	return hs
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Text makes s fit for headers, log lines and text columns: valid UTF-8 without NUL
// characters (each run of bad bytes and each NUL becomes U+FFFD), and at most limit
// bytes, cut between characters.
func Text(s string, limit int) string {
	const bad = "\uFFFD"
	s = strings.ToValidUTF8(s, bad)
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", bad)
	}
	if len(s) <= limit {
		return s
	}
	for limit > 0 && s[limit]&0xC0 == 0x80 {
		limit--
	}
	return s[:limit]
}

// ParseRejection reads the headers of a record of the rejects topic. The Rejection's
// Record has offset, headers, statement and salt; key, value and timestamp are for
// the caller to fill in from the same record. It shares memory with hs.
func ParseRejection(hs []ledger.Header) (Rejection, error) {
	names := rejectionHeaderNames()
	n := len(hs) - len(names)
	if n < 1 {
		return Rejection{}, fmt.Errorf("rejects record has %d headers: want a sealed record's and %d more", len(hs), len(names))
	}
	p := fields{m: make(map[string]string, len(names))}
	for i, name := range names {
		if hs[n+i].Name != name {
			return Rejection{}, fmt.Errorf("rejects record: header %d from the end is not %s", len(names)-i, name)
		}
		p.m[name] = string(hs[n+i].Value)
	}
	if v := p.m[headerVersion]; v != rejectVersion {
		return Rejection{}, fmt.Errorf("rejects record: %s is %q, this program knows %s", headerVersion, Text(v, maxLabel), rejectVersion)
	}
	r := Rejection{
		Sink:      p.text(headerSink, maxLabel),
		Partition: Partition{Topic: p.text(headerTopic, 249), ID: int32(p.int(headerPartition, 31))},
		Code:      p.text(headerCode, maxLabel),
		Reason:    p.text(headerReason, maxLabel),
		Detail:    p.text(headerText, MaxRejectionText),
		Attempts:  int(p.int(headerAttempts, 31)),
		First:     p.time(headerFirst),
		Last:      p.time(headerLast),
	}
	r.Record.Offset = p.int(headerOffset, 63)
	if p.err != nil {
		return Rejection{}, p.err
	}
	if err := unseal(&r.Record.Sealed, hs[:n]); err != nil {
		return Rejection{}, err
	}
	s := &r.Record.Statement
	if p.m[headerLedger] != s.Ledger.String() || p.m[headerSeq] != strconv.FormatUint(s.Seq, 10) {
		return Rejection{}, fmt.Errorf("rejects record: %s and %s do not name the record of its seal", headerLedger, headerSeq)
	}
	return r, nil
}

// unseal splits the headers of a sealed record into the source's and the seal.
func unseal(s *ledger.Sealed, hs []ledger.Header) error {
	last := hs[len(hs)-1]
	n := len(s.Raw)
	if last.Name != ledger.SealHeader || len(last.Value) != n && len(last.Value) != n+len(s.Salt) {
		return errors.New("rejects record: the header before the reject headers is not a seal")
	}
	st, err := ledger.ParseStatement(last.Value[:n])
	if err != nil {
		return fmt.Errorf("rejects record: seal: %w", err)
	}
	if (st.SaltKey != 0) != (len(last.Value) > n) {
		return errors.New("rejects record: the seal's length does not fit its salt key id")
	}
	s.Statement, s.Source.Headers = st, hs[:len(hs)-1]
	copy(s.Raw[:], last.Value)
	copy(s.Salt[:], last.Value[n:])
	return nil
}

// fields reads header values and keeps the first error.
type fields struct {
	m   map[string]string
	err error
}

func (p *fields) fail(name, want string) {
	if p.err == nil {
		p.err = fmt.Errorf("rejects record: header %s is not %s", name, want)
	}
}

func (p *fields) text(name string, limit int) string {
	v := p.m[name]
	if Text(v, limit) != v {
		p.fail(name, fmt.Sprintf("text of at most %d bytes", limit))
	}
	return v
}

func (p *fields) int(name string, bits int) int64 {
	v, err := strconv.ParseUint(p.m[name], 10, bits)
	if err != nil || strconv.FormatUint(v, 10) != p.m[name] {
		p.fail(name, "a number")
	}
	return int64(v)
}

func (p *fields) time(name string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, p.m[name])
	if err != nil {
		p.fail(name, "an RFC 3339 time")
	}
	return t.UTC()
}
