package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	genesisTag  = "SEALST01/genesis"
	genesisLine = "sealstream/genesis/v1"
)

// Genesis is what a ledger's genesis body says: which log it is, what it seals from
// where on, and which ledger it follows.
type Genesis struct {
	// Name is the public host and path of the log, set once: at most 200 bytes of
	// [a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._~-]+)*
	Name string
	// Cluster is the Kafka cluster id: [A-Za-z0-9._-]{1,128}
	Cluster string
	// Source is the source topic's name, SourceID its id (never zero), Partition
	// the number of both the source and the sealed partition.
	Source    string
	SourceID  TopicID
	Partition int32
	// Start is the first source offset this ledger may hold.
	Start int64
	// EventIDs says that statements carry event ids ("fields event-id").
	EventIDs bool
	// Previous names the ledger this one follows, nil for none.
	Previous *Previous
}

// Previous names a ledger as it was before its close.
type Previous struct {
	Ledger ID
	Size   uint64 // statements before the close, so the close's seq; at least 1
	Leaf   Hash   // leaf hash of seq Size-1, so the close's prev
}

// String returns the form that [ParsePrevious] takes; nil is "none".
func (p *Previous) String() string {
	if p == nil {
		return "none"
	}
	return p.Ledger.String() + " " + strconv.FormatUint(p.Size, 10) + " " + base64.StdEncoding.EncodeToString(p.Leaf[:])
}

// ParsePrevious takes "none", which gives nil, or "<ledger id> <size> <base64 leaf
// hash>" with one space each.
func ParsePrevious(s string) (*Previous, error) {
	if s == "none" {
		return nil, nil
	}
	parts := strings.Split(s, " ")
	if len(parts) != 3 {
		return nil, errors.New(`previous: want "none" or "<ledger id> <size> <base64 leaf hash>"`)
	}
	var p Previous
	if len(parts[0]) != 32 || parse16(p.Ledger[:], parts[0]) != nil {
		return nil, errors.New("previous: ledger id must be 32 lower-case hexadecimal digits")
	}
	size, ok := parseDecimal(parts[1], math.MaxInt64)
	if !ok || size == 0 {
		return nil, errors.New("previous: size must be a decimal from 1 to 2^63-1 without leading zeros")
	}
	p.Size = size
	leaf, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	// DecodeString skips CR and LF, which are not part of the form.
	if err != nil || len(leaf) != len(p.Leaf) || len(parts[2]) != 44 {
		return nil, errors.New("previous: leaf hash must be 32 bytes in standard base64 with padding")
	}
	p.Leaf = Hash(leaf)
	return &p, nil
}

// Body returns the genesis body, the bytes that the ledger id is a hash of. Errors
// name the field that no ledger may have so.
func (g Genesis) Body() ([]byte, error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("genesis body: %w", err)
	}
	fields := "none"
	if g.EventIDs {
		fields = "event-id"
	}
	var b bytes.Buffer
	b.WriteString(genesisLine + "\n")
	for _, line := range [...][2]string{
		{"name", g.Name},
		{"cluster", g.Cluster},
		{"source", g.Source},
		{"source-id", g.SourceID.String()},
		{"partition", strconv.FormatInt(int64(g.Partition), 10)},
		{"start", strconv.FormatInt(g.Start, 10)},
		{"fields", fields},
		{"previous", g.Previous.String()},
	} {
		b.WriteString(line[0] + " " + line[1] + "\n")
	}
	return b.Bytes(), nil
}

func (g *Genesis) check() error {
	switch {
	case !validName(g.Name):
		return errors.New("name must match [a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._~-]+)* and have at most 200 bytes")
	case !validToken(g.Cluster, 128):
		return errors.New("cluster must match [A-Za-z0-9._-]{1,128}")
	case !validToken(g.Source, 249) || g.Source == "." || g.Source == "..":
		return errors.New("source must be a Kafka topic name")
	case g.SourceID == TopicID{}:
		return errors.New("source-id must not be zero: the cluster gives no topic ids")
	case g.Partition < 0:
		return errors.New("partition must not be negative")
	case g.Start < 0:
		return errors.New("start must not be negative")
	case g.Previous != nil && (g.Previous.Size == 0 || g.Previous.Size > math.MaxInt64):
		return errors.New("previous: size must be from 1 to 2^63-1")
	}
	return nil
}

// ParseGenesis reads a genesis body: exactly the lines that [Genesis.Body] writes,
// in that order, each ending in LF. Errors name the line, not its content.
func ParseGenesis(body []byte) (Genesis, error) {
	var g Genesis
	p := lineParser{rest: string(body)}
	p.version(genesisLine)
	g.Name = p.field("name")
	g.Cluster = p.field("cluster")
	g.Source = p.field("source")
	id, err := ParseTopicID(p.field("source-id"))
	p.want(err == nil, "source-id", "must be a lower-case hyphenated UUID")
	g.SourceID = id
	n, ok := parseDecimal(p.field("partition"), math.MaxInt32)
	p.want(ok, "partition", "must be a decimal of at most 2^31-1 without leading zeros")
	g.Partition = int32(n)
	n, ok = parseDecimal(p.field("start"), math.MaxInt64)
	p.want(ok, "start", "must be a decimal of at most 2^63-1 without leading zeros")
	g.Start = int64(n)
	fields := p.field("fields")
	p.want(fields == "none" || fields == "event-id", "fields", "must be none or event-id")
	g.EventIDs = fields == "event-id"
	if g.Previous, err = ParsePrevious(p.field("previous")); err != nil && p.err == nil {
		p.err = err
	}
	p.end()
	if p.err == nil {
		p.err = g.check()
	}
	if p.err != nil {
		return Genesis{}, fmt.Errorf("genesis body: %w", p.err)
	}
	return g, nil
}

// lineParser takes "key value" lines in a fixed order; the first error stays.
type lineParser struct {
	rest string
	err  error
}

func (p *lineParser) line() string {
	line, rest, ok := strings.Cut(p.rest, "\n")
	if !ok && p.err == nil {
		p.err = errors.New("cut short, or a line does not end in LF")
	}
	p.rest = rest
	return line
}

func (p *lineParser) version(want string) {
	if p.line() != want && p.err == nil {
		p.err = errors.New("first line must be " + want)
	}
}

func (p *lineParser) field(key string) string {
	value, ok := strings.CutPrefix(p.line(), key+" ")
	p.want(ok, key, "line is not where it must be")
	return value
}

func (p *lineParser) want(ok bool, key, rule string) {
	if !ok && p.err == nil {
		p.err = errors.New(key + " " + rule)
	}
}

func (p *lineParser) end() {
	if p.rest != "" && p.err == nil {
		p.err = errors.New("bytes behind the last line")
	}
}

// IDOf is the ledger id of a genesis body: the first 16 bytes of
// SHA-256("SEALST01/genesis" || body).
func IDOf(body []byte) ID {
	h := sha256.New()
	h.Write([]byte(genesisTag))
	h.Write(body)
	var sum Hash
	h.Sum(sum[:0])
	return ID(sum[:16])
}

// parseDecimal takes digits only, without leading zeros, up to and including limit.
func parseDecimal(s string, limit uint64) (uint64, bool) {
	if len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= limit
}

// validName says whether s matches [a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._~-]+)* within 200 bytes.
func validName(s string) bool {
	if len(s) > 200 {
		return false
	}
	host, path, hasPath := strings.Cut(s, "/")
	host, port, hasPort := strings.Cut(host, ":")
	if !only(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") || (hasPort && !only(port, "0123456789")) {
		return false
	}
	for hasPath {
		var segment string
		segment, path, hasPath = strings.Cut(path, "/")
		if !only(segment, "abcdefghijklmnopqrstuvwxyz0123456789._~-") {
			return false
		}
	}
	return true
}

// validToken says whether s matches [A-Za-z0-9._-]{1,limit}.
func validToken(s string, limit int) bool {
	return len(s) <= limit && only(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
}

// only says whether s is not empty and has no other bytes than those in set.
func only(s, set string) bool {
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
