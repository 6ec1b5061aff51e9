package ledger

import (
	"fmt"
	"math"
)

// Resume continues a ledger behind head, the last data record of its sealed
// partition; g is the ledger's genesis. The caller has checked the commitment. The
// salt key id never falls: when head was salted with a higher key than the active
// one, that key goes on, and a *[KeyError] says that it is not held. A head that
// is a close gives [ErrClosed].
func Resume(head *Sealed, g Genesis, k *Keyring) (*Chain, error) {
	body, err := g.Body()
	if err != nil {
		return nil, fmt.Errorf("resume ledger: %w", err)
	}
	st := &head.Statement
	id := IDOf(body)
	switch {
	case st.Ledger != id:
		return nil, fmt.Errorf("resume ledger %s: the head belongs to ledger %s", id, st.Ledger)
	case st.Partition != uint32(g.Partition) || st.Topic != g.SourceID || (st.Flags&FlagEventID != 0) != g.EventIDs:
		return nil, fmt.Errorf("resume ledger %s: partition, topic id or flags of the head are not those of the genesis", id)
	case st.Offset < uint64(g.Start) || (st.Kind == KindGenesis && st.Offset != uint64(g.Start)):
		return nil, fmt.Errorf("resume ledger %s: the head's source offset lies before the genesis start", id)
	}
	return Continue(head, k)
}

// Continue is [Resume] for a ledger whose genesis can no longer be read, because the
// beginning of the sealed partition was purged: the head alone says all that goes
// into the next statement. What only the genesis tells, name and cluster, is not
// checked.
func Continue(head *Sealed, k *Keyring) (*Chain, error) {
	return behind(head, k, max(k.Active(), head.Statement.SaltKey))
}

// Closing returns a chain that can do nothing but close the ledger of head: it needs
// no salt master, so a ledger can be closed by whoever is left.
func Closing(head *Sealed) (*Chain, error) {
	c, err := behind(head, nil, 0)
	if err != nil {
		return nil, err
	}
	c.closing = true
	return c, nil
}

// behind makes the chain whose last statement is head's. A statement repeats as much
// of its genesis as the next one needs.
func behind(head *Sealed, k *Keyring, saltKey uint32) (*Chain, error) {
	st := &head.Statement
	if st.Kind == KindClose {
		return nil, fmt.Errorf("continue ledger %s: %w", st.Ledger, ErrClosed)
	}
	if st.next() > math.MaxInt64 {
		return nil, fmt.Errorf("continue ledger %s: source offset 2^63-1 of the head leaves none to go on at", st.Ledger)
	}
	g := Genesis{SourceID: st.Topic, Partition: int32(st.Partition), EventIDs: st.Flags&FlagEventID != 0}
	c, err := newChain(st.Ledger, g, k, saltKey)
	if err != nil {
		return nil, fmt.Errorf("continue ledger %s at seq %d: %w", st.Ledger, st.Seq, err)
	}
	c.at = Mark{seq: st.Seq, head: head.Leaf(), next: int64(st.next())}
	return c, nil
}
