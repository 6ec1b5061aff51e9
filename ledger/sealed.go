package ledger

import (
	"errors"
	"fmt"
	"strings"
)

// Sealed is a sealed record taken apart: the source record as it was committed,
// and the statement about it.
type Sealed struct {
	// Source is the source record: key, value, and the headers without the last. Its
	// offset, leader epoch and LogAppendTime come from the statement. TimeMs is the
	// sealed record's own, which is the source's, and -1 where the statement says
	// [TimeOutOfRange].
	Source    Record
	Statement Statement
	Raw       [StatementSize]byte // the statement's bytes, as they are in the record
	Salt      Salt                // zeros when Statement.SaltKey is 0
}

// Open takes a sealed record apart. The last header must be the seal, its value 200
// bytes in an unsalted statement and 216 in a salted one, the statement must obey
// every rule that needs no neighbour, and a genesis or close must have null key and
// value, one header with a genesis body besides the seal, and a statement that says
// what its body says. The commitment is not checked: see [Sealed.CheckCommitment].
// The result shares memory with r. Errors name what is wrong, never contents.
func Open(r *Record) (Sealed, error) {
	var s Sealed
	if err := s.split(r); err != nil {
		return Sealed{}, fmt.Errorf("sealed record: %w", err)
	}
	if s.Statement.Kind == KindEvent {
		return s, nil
	}
	g, err := s.markerBody()
	if err != nil {
		return Sealed{}, fmt.Errorf("sealed record: %w", err)
	}
	if faults := s.markerFaults(&g, s.ownID(), s.Statement.Seq); len(faults) > 0 {
		return Sealed{}, fmt.Errorf("sealed record: statement and %s body differ in %s", markerHeader(s.Statement.Kind), strings.Join(faults, ", "))
	}
	return s, nil
}

// split finds the statement and the source record, and judges the statement alone.
func (s *Sealed) split(r *Record) error {
	n := len(r.Headers) - 1
	if n < 0 || r.Headers[n].Name != SealHeader {
		return errors.New("the last header is not " + SealHeader)
	}
	seal := r.Headers[n].Value
	if len(seal) != StatementSize && len(seal) != StatementSize+saltSize {
		return fmt.Errorf("%s header has %d bytes, not %d or %d", SealHeader, len(seal), StatementSize, StatementSize+saltSize)
	}
	stmt, err := ParseStatement(seal[:StatementSize])
	if err != nil {
		return err
	}
	s.Salt = Salt{}
	switch salted := len(seal) > StatementSize; {
	case salted && stmt.SaltKey == 0:
		return errors.New("a salt stands behind a statement whose salt key id is 0")
	case !salted && stmt.SaltKey != 0:
		return errors.New("salt key id is not 0 and no salt stands behind the statement")
	case salted:
		s.Salt = Salt(seal[StatementSize:])
	}
	s.Raw = [StatementSize]byte(seal)
	s.Statement = stmt
	s.Source = Record{
		Key: r.Key, Value: r.Value, Headers: r.Headers[:n:n],
		TimeMs: r.TimeMs, Offset: int64(stmt.Offset), LeaderEpoch: stmt.Epoch,
		LogAppendTime: stmt.Flags&FlagLogAppendTime != 0,
	}
	return nil
}

// markerBody judges the shape of a genesis or close and reads its genesis body.
func (s *Sealed) markerBody() (Genesis, error) {
	name := markerHeader(s.Statement.Kind)
	if s.Source.Key != nil || s.Source.Value != nil {
		return Genesis{}, errors.New(name + ": key or value is not null")
	}
	h := s.Source.Headers
	if len(h) != 1 || h[0].Name != name || h[0].Value == nil {
		return Genesis{}, errors.New(name + ": headers are not exactly " + name + " and " + SealHeader)
	}
	g, err := ParseGenesis(h[0].Value)
	if err != nil {
		return Genesis{}, fmt.Errorf("%s: %w", name, err)
	}
	return g, nil
}

// ownID is the id this record's ledger must have: a genesis is the hash of its body.
func (s *Sealed) ownID() ID {
	if s.Statement.Kind == KindGenesis {
		return IDOf(s.GenesisBody())
	}
	return s.Statement.Ledger
}

// markerFaults names the fields in which a genesis or close statement and its body
// g differ, for ledger id and place seq: a genesis says what its body says, and the
// previous in a close's body names this ledger as it was before the close.
func (s *Sealed) markerFaults(g *Genesis, id ID, seq uint64) []string {
	var faults []string
	fault := func(bad bool, field string) {
		if bad {
			faults = append(faults, field)
		}
	}
	st := &s.Statement
	fault(st.Ledger != id, "ledger id")
	fault(st.Partition != uint32(g.Partition), "source partition")
	if st.Kind == KindGenesis {
		fault(st.Topic != g.SourceID, "source topic id")
		fault(st.Offset != uint64(g.Start), "source offset")
		fault((st.Flags&FlagEventID != 0) != g.EventIDs, "flags bit 1")
		return faults
	}
	p := g.Previous
	if p == nil {
		return append(faults, "previous")
	}
	fault(p.Ledger != id, "previous ledger id")
	fault(p.Size != seq, "previous size")
	fault(p.Leaf != st.Prev, "previous leaf hash")
	return faults
}

// Leaf is the leaf hash of the statement as it is in the record.
func (s *Sealed) Leaf() Hash { return LeafHash(&s.Raw) }

// CheckCommitment says whether key, headers, value and salt are those that the
// statement commits to.
func (s *Sealed) CheckCommitment() bool {
	c := newCommitter()
	copy(c.salt(), s.Salt[:])
	return c.commit(&s.Source) == s.Statement.Commitment
}

// GenesisBody returns the genesis body of a genesis record, nil for other kinds.
func (s *Sealed) GenesisBody() []byte { return s.body(KindGenesis) }

// CloseBody returns the successor's genesis body of a close record, nil for other kinds.
func (s *Sealed) CloseBody() []byte { return s.body(KindClose) }

func (s *Sealed) body(k Kind) []byte {
	if s.Statement.Kind != k || len(s.Source.Headers) != 1 || s.Source.Headers[0].Name != markerHeader(k) {
		return nil
	}
	return s.Source.Headers[0].Value
}

func markerHeader(k Kind) string {
	if k == KindClose {
		return CloseHeader
	}
	return GenesisHeader
}
