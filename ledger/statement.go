package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// StatementSize is the length of a statement in bytes.
const StatementSize = 200

// Kind says what a statement is about.
type Kind uint8

// The three kinds.
const (
	KindGenesis Kind = 1
	KindEvent   Kind = 2
	KindClose   Kind = 3
)

// The two flags. Every other bit is reserved and must be zero.
const (
	// FlagLogAppendTime: the source record's timestamp was set by the broker.
	FlagLogAppendTime uint16 = 1 << 0
	// FlagEventID: the genesis says "fields event-id". Constant in a ledger, and
	// set in its genesis and close too.
	FlagEventID uint16 = 1 << 1
)

const (
	magic     = "SEALST01"
	suite     = 1 // SHA-256 for commitment, leaf and tree
	flagsMask = FlagLogAppendTime | FlagEventID
)

// Where the fields are; docs/ledger-format.md section 1.
const (
	atKind       = 8
	atSuite      = 9
	atFlags      = 10
	atPartition  = 12
	atLedger     = 16
	atSeq        = 32
	atPrev       = 40
	atTime       = 72
	atEpoch      = 80
	atTopic      = 88
	atOffset     = 104
	atEventID    = 112
	atCommitment = 160
	atSaltKey    = 196
)

// Statement holds the fields of a 200-byte statement; docs/ledger-format.md
// section 1 gives their places.
type Statement struct {
	Kind       Kind
	Flags      uint16
	Partition  uint32
	Ledger     ID
	Seq        uint64
	Prev       Hash
	TimeMs     int64
	Epoch      int32
	Topic      TopicID
	Offset     uint64
	EventID    [16]byte
	Commitment Hash
	SaltKey    uint32
}

// Put writes all 200 bytes. It writes what it is given: only [Chain] makes
// statements, and [ParseStatement] judges them.
func (s *Statement) Put(dst *[StatementSize]byte) {
	*dst = [StatementSize]byte{}
	copy(dst[:], magic)
	dst[atKind] = byte(s.Kind)
	dst[atSuite] = suite
	binary.BigEndian.PutUint16(dst[atFlags:], s.Flags)
	binary.BigEndian.PutUint32(dst[atPartition:], s.Partition)
	copy(dst[atLedger:], s.Ledger[:])
	binary.BigEndian.PutUint64(dst[atSeq:], s.Seq)
	copy(dst[atPrev:], s.Prev[:])
	binary.BigEndian.PutUint64(dst[atTime:], uint64(s.TimeMs))
	binary.BigEndian.PutUint32(dst[atEpoch:], uint32(s.Epoch))
	copy(dst[atTopic:], s.Topic[:])
	binary.BigEndian.PutUint64(dst[atOffset:], s.Offset)
	copy(dst[atEventID:], s.EventID[:])
	copy(dst[atCommitment:], s.Commitment[:])
	binary.BigEndian.PutUint32(dst[atSaltKey:], s.SaltKey)
}

// ParseStatement reads a statement and refuses everything that no ledger of this
// version can hold: it applies every rule of docs/ledger-format.md section 1 that
// needs neither the record nor a neighbour. Errors name the field and the rule,
// never the bytes.
func ParseStatement(b []byte) (Statement, error) {
	var s Statement
	if len(b) != StatementSize {
		return s, fmt.Errorf("statement: must be exactly %d bytes, not %d", StatementSize, len(b))
	}
	if string(b[:atKind]) != magic {
		return s, errors.New("statement: version tag is not " + magic)
	}
	if b[atSuite] != suite {
		return s, errors.New("statement: suite is not 1")
	}
	if !zero(b[84:88]) || !zero(b[128:160]) || !zero(b[192:196]) {
		return s, errors.New("statement: reserved bytes are not zero")
	}
	s.get(b)
	if err := s.check(); err != nil {
		return Statement{}, fmt.Errorf("statement: %w", err)
	}
	return s, nil
}

// get reads the fields of 200 bytes without judging them.
func (s *Statement) get(b []byte) {
	_ = b[StatementSize-1]
	s.Kind = Kind(b[atKind])
	s.Flags = binary.BigEndian.Uint16(b[atFlags:])
	s.Partition = binary.BigEndian.Uint32(b[atPartition:])
	s.Ledger = ID(b[atLedger:])
	s.Seq = binary.BigEndian.Uint64(b[atSeq:])
	s.Prev = Hash(b[atPrev:])
	s.TimeMs = int64(binary.BigEndian.Uint64(b[atTime:]))
	s.Epoch = int32(binary.BigEndian.Uint32(b[atEpoch:]))
	s.Topic = TopicID(b[atTopic:])
	s.Offset = binary.BigEndian.Uint64(b[atOffset:])
	s.EventID = [16]byte(b[atEventID:])
	s.Commitment = Hash(b[atCommitment:])
	s.SaltKey = binary.BigEndian.Uint32(b[atSaltKey:])
}

// check applies the rules that need the fields of this statement only.
func (s *Statement) check() error {
	switch {
	case s.Kind < KindGenesis || s.Kind > KindClose:
		return errors.New("kind is not 1, 2 or 3")
	case s.Flags&^flagsMask != 0:
		return errors.New("flags bits 2 to 15 are not zero")
	case s.Partition > math.MaxInt32:
		return errors.New("source partition is above 2^31-1")
	case s.Seq > math.MaxInt64:
		return errors.New("seq is above 2^63-1")
	case (s.Seq == 0) != (s.Kind == KindGenesis):
		return errors.New("seq 0 and kind 1 go together or not at all")
	case s.Seq == 0 && s.Prev != Hash{}:
		return errors.New("prev of seq 0 is not zero")
	case s.TimeMs != ClampTime(s.TimeMs):
		return errors.New("record timestamp is out of range and not written as out of range")
	case s.Topic == TopicID{}:
		return errors.New("source topic id is zero")
	case s.Offset > math.MaxInt64:
		return errors.New("source offset is above 2^63-1")
	}
	if s.Kind != KindEvent {
		return s.checkMarker()
	}
	if s.EventID == ([16]byte{}) {
		return nil
	}
	switch {
	case s.Flags&FlagEventID == 0:
		return errors.New("event-id slot is set and flags bit 1 is not")
	case s.SaltKey == 0:
		return errors.New("event-id slot is set in an unsalted statement")
	case !isEventID(s.EventID):
		return errors.New("event-id slot is not a UUID of version 4 or 7")
	}
	return nil
}

// checkMarker applies what holds for genesis and close: they are about no source record.
func (s *Statement) checkMarker() error {
	switch {
	case s.Flags&FlagLogAppendTime != 0:
		return errors.New("flags bit 0 is set on a genesis or close")
	case s.TimeMs != -1:
		return errors.New("record timestamp of a genesis or close is not -1")
	case s.Epoch != -1:
		return errors.New("source leader epoch of a genesis or close is not -1")
	case s.EventID != [16]byte{}:
		return errors.New("event-id slot is set on a genesis or close")
	case s.SaltKey != 0:
		return errors.New("salt key id of a genesis or close is not 0")
	}
	return nil
}

// next is the source offset at which sealing goes on behind this statement: the
// genesis offset itself, or the one after an event's.
func (s *Statement) next() uint64 {
	if s.Kind == KindEvent {
		return s.Offset + 1
	}
	return s.Offset
}

// LeafHash is the RFC 6962 leaf hash, SHA-256(0x00 || statement): the next
// statement's prev, and the leaf of the ledger's Merkle tree.
func LeafHash(stmt *[StatementSize]byte) Hash {
	var b [1 + StatementSize]byte
	copy(b[1:], stmt[:])
	return sha256.Sum256(b[:])
}

// ClampTime returns ms, or [TimeOutOfRange] when its magnitude is above [MaxTimeMs].
func ClampTime(ms int64) int64 {
	if ms > MaxTimeMs || ms < -MaxTimeMs {
		return TimeOutOfRange
	}
	return ms
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
