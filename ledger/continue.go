package ledger

import "fmt"

// Continue is [Resume] for a ledger whose genesis can no longer be read, because the
// beginning of the sealed partition was purged: the head alone says all that goes
// into the next statement. What only the genesis tells, name and cluster, is not
// checked.
func Continue(head *Sealed, k *Keyring) (*Chain, error) {
	st := &head.Statement
	if st.Kind == KindClose {
		return nil, fmt.Errorf("continue ledger %s: %w", st.Ledger, ErrClosed)
	}
	c, err := newChain(st.Ledger, genesisOf(st), k, max(k.Active(), st.SaltKey))
	if err != nil {
		return nil, fmt.Errorf("continue ledger %s at seq %d: %w", st.Ledger, st.Seq, err)
	}
	c.at = Mark{seq: st.Seq, head: head.Leaf(), next: int64(st.next())}
	return c, nil
}

// Closing returns a chain that can do nothing but close the ledger of head: it needs
// no salt master, so a ledger can be closed by whoever is left.
func Closing(head *Sealed) (*Chain, error) {
	st := &head.Statement
	if st.Kind == KindClose {
		return nil, fmt.Errorf("close ledger %s: %w", st.Ledger, ErrClosed)
	}
	c, err := newChain(st.Ledger, genesisOf(st), nil, 0)
	if err != nil {
		return nil, fmt.Errorf("close ledger %s: %w", st.Ledger, err)
	}
	c.at = Mark{seq: st.Seq, head: head.Leaf(), next: int64(st.next())}
	return c, nil
}

// genesisOf is as much of a ledger's genesis as its statements repeat.
func genesisOf(st *Statement) Genesis {
	return Genesis{SourceID: st.Topic, Partition: int32(st.Partition), EventIDs: st.Flags&FlagEventID != 0}
}
