package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrClosed says that a ledger has its close and takes nothing more.
var ErrClosed = errors.New("ledger is closed")

// Chain is the append side of one ledger: it makes the statements. One goroutine at
// a time may use it. It keeps nothing but what the head and the genesis give back,
// so losing it in a crash loses nothing: [Resume] makes the same chain again.
type Chain struct {
	id      ID
	genesis Genesis
	salter  *Salter // nil seals unsalted
	saltKey uint32
	// closing says that the chain may only be closed: it has no salt key to go on with.
	closing bool
	at      Mark
	commits committer
	// leaf is 0x00 and the statement under construction; what is constant in the
	// ledger's events is written once.
	leaf [1 + StatementSize]byte
}

// Mark is a point of a chain that [Chain.Reset] goes back to: what an aborted
// transaction sealed never happened.
type Mark struct {
	seq    uint64 // of the head
	head   Hash
	next   int64
	closed bool
}

// Start begins a ledger: it returns the chain behind its genesis and the genesis
// record to write. With a keyring that has keys, events are salted with the active one.
func Start(g Genesis, k *Keyring) (*Chain, Record, error) {
	body, err := g.Body()
	if err != nil {
		return nil, Record{}, fmt.Errorf("start ledger: %w", err)
	}
	c, err := newChain(IDOf(body), g, k, k.Active())
	if err != nil {
		return nil, Record{}, fmt.Errorf("start ledger: %w", err)
	}
	r := c.marker(KindGenesis, body)
	return c, r, nil
}

func newChain(id ID, g Genesis, k *Keyring, saltKey uint32) (*Chain, error) {
	c := &Chain{id: id, genesis: g, saltKey: saltKey, commits: newCommitter()}
	c.at.next = g.Start
	if saltKey != 0 {
		salter, err := k.Salter(id, saltKey)
		if err != nil {
			return nil, err
		}
		c.salter = salter
	}
	st := Statement{Kind: KindEvent, Flags: c.flags(), Partition: uint32(g.Partition), Ledger: id, Topic: g.SourceID, SaltKey: saltKey}
	st.Put((*[StatementSize]byte)(c.leaf[1:]))
	return c, nil
}

// flags are those of genesis and close, and of events before their own bit is added.
func (c *Chain) flags() uint16 {
	if c.genesis.EventIDs {
		return FlagEventID
	}
	return 0
}

// Append seals one source record and returns the value of its seal header, 200 bytes
// or 216 with the salt, carved from slab, and the rest of slab's story: pass slab2
// to the next call, and slab[:0] again once the records it served are written. When
// slab has no room a new one is made; what was carved before stays valid. Without
// that it allocates nothing. A timestamp out of range is written as [TimeOutOfRange].
// It fails, changing nothing, when the offset falls, or lies before the start.
func (c *Chain) Append(src *Record, slab []byte) (seal, slab2 []byte, err error) {
	if c.at.closed {
		return nil, slab, fmt.Errorf("append to ledger %s: %w", c.id, ErrClosed)
	}
	if c.closing {
		return nil, slab, fmt.Errorf("append to ledger %s: the chain was made to close it only", c.id)
	}
	if src.Offset == math.MaxInt64 {
		return nil, slab, fmt.Errorf("append to ledger %s: source offset 2^63-1 leaves none to go on at", c.id)
	}
	if src.Offset < c.at.next {
		return nil, slab, fmt.Errorf("append to ledger %s: source offset %d is below %d, where it goes on", c.id, src.Offset, c.at.next)
	}
	seq := c.at.seq + 1
	salt := c.commits.salt()
	if c.salter != nil {
		c.salter.put(salt, seq)
	}
	commitment := c.commits.commit(src)

	b := c.leaf[1:]
	flags := c.flags()
	if src.LogAppendTime {
		flags |= FlagLogAppendTime
	}
	binary.BigEndian.PutUint16(b[atFlags:], flags)
	binary.BigEndian.PutUint64(b[atSeq:], seq)
	copy(b[atPrev:], c.at.head[:])
	binary.BigEndian.PutUint64(b[atTime:], uint64(ClampTime(src.TimeMs)))
	binary.BigEndian.PutUint32(b[atEpoch:], uint32(src.LeaderEpoch))
	binary.BigEndian.PutUint64(b[atOffset:], uint64(src.Offset))
	if c.genesis.EventIDs && c.saltKey != 0 {
		id := eventIDOf(src.Headers)
		copy(b[atEventID:], id[:])
	}
	copy(b[atCommitment:], commitment[:])
	c.at = Mark{seq: seq, head: sha256.Sum256(c.leaf[:]), next: src.Offset + 1}

	n := len(slab)
	if cap(slab)-n < StatementSize+saltSize {
		slab, n = make([]byte, 0, slabSize), 0
	}
	slab = append(slab, b...)
	if c.salter != nil {
		slab = append(slab, salt...)
	}
	return slab[n:len(slab):len(slab)], slab, nil
}

// slabSize in bytes holds the seals of about 300 records.
const slabSize = 64 << 10

// Previous is what the genesis of this ledger's successor must name if the ledger is
// closed now.
func (c *Chain) Previous() Previous {
	return Previous{Ledger: c.id, Size: c.at.seq + 1, Leaf: c.at.head}
}

// Close ends the ledger and returns its close record, which must be written in one
// transaction with the successor's genesis, directly before it. successor.Previous
// must be what [Chain.Previous] returned.
func (c *Chain) Close(successor Genesis) (Record, error) {
	if c.at.closed {
		return Record{}, fmt.Errorf("close ledger %s: %w", c.id, ErrClosed)
	}
	if successor.Previous == nil || *successor.Previous != c.Previous() {
		return Record{}, fmt.Errorf("close ledger %s: the successor's previous must be %q", c.id, new(c.Previous()))
	}
	if successor.Partition != c.genesis.Partition {
		return Record{}, fmt.Errorf("close ledger %s: the successor must have partition %d", c.id, c.genesis.Partition)
	}
	body, err := successor.Body()
	if err != nil {
		return Record{}, fmt.Errorf("close ledger %s: successor: %w", c.id, err)
	}
	return c.marker(KindClose, body), nil
}

// marker makes the genesis or close record and moves the head onto it.
func (c *Chain) marker(kind Kind, body []byte) Record {
	r := Record{Headers: []Header{{Name: markerHeader(kind), Value: body}}, TimeMs: -1, LeaderEpoch: -1}
	st := Statement{
		Kind: kind, Flags: c.flags(), Partition: uint32(c.genesis.Partition), Ledger: c.id,
		TimeMs: -1, Epoch: -1, Topic: c.genesis.SourceID, Offset: uint64(c.at.next),
		Commitment: Commit(&Salt{}, AppendFrame(nil, &r)),
	}
	if kind == KindClose {
		st.Seq, st.Prev = c.at.seq+1, c.at.head
		c.at.closed = true
	}
	var raw [StatementSize]byte
	st.Put(&raw)
	r.Headers = append(r.Headers, Header{Name: SealHeader, Value: raw[:]})
	c.at.seq, c.at.head = st.Seq, LeafHash(&raw)
	return r
}

// ID returns the ledger's id.
func (c *Chain) ID() ID { return c.id }

// Next returns the source offset at which sealing goes on.
func (c *Chain) Next() int64 { return c.at.next }

// Seq returns the seq of the head, the last statement made.
func (c *Chain) Seq() uint64 { return c.at.seq }

// Head returns the leaf hash of the head.
func (c *Chain) Head() Hash { return c.at.head }

// Mark returns the present point.
func (c *Chain) Mark() Mark { return c.at }

// Reset goes back to a point of this same chain.
func (c *Chain) Reset(m Mark) { c.at = m }
