package ledger

// track is one ledger as far as it was read.
type track struct {
	state LedgerState
	// end is 1 + the highest seq that was read or is known to be missing.
	end uint64
	// holes are the seqs below end that are missing, up to maxHoles runs of them.
	holes []hole
	// tips are the records that the next one may stand behind, the one used last
	// first. Two exist behind a fork or a record out of its place.
	tips [2]tip
	// closedAt is 1 + the seq of the close, 0 without one.
	closedAt uint64
	// ended says that the successor is known, by the close or by its own genesis.
	ended bool
	// announcer is the ledger whose close, with the leaf hash announced, names this one
	// as its successor; nil when none does.
	announcer *track
	announced Hash
	// unreadable counts the records since the last placed one that could not be read;
	// each stands in for one record that would otherwise be missing.
	unreadable uint64

	partition uint32
	// fixed says that the genesis body is known; topic and eventIDs are what it says.
	fixed    bool
	topic    TopicID
	eventIDs uint16

	salters   *Salter // of saltersID, nil when that master is not held
	saltersID uint32
}

// hole is the seqs [lo, hi).
type hole struct{ lo, hi uint64 }

const (
	// maxHoles bounds the memory that a hostile partition can take: beyond it the
	// oldest hole is forgotten, and a record that fills it is called a fork.
	maxHoles = 1024
	// maxExtras bounds the ledgers that do not belong and are followed all the same.
	maxExtras = 1024
)

// tip is a record that another may stand behind. live is false for an unused tip.
type tip struct {
	live      bool
	next      uint64 // the seq behind it
	claimed   uint64 // the seq behind the one it claims: next, unless its seq was altered
	ledger    ID     // the ledger it claims
	leaf      Hash   // what prev must be there; zeros before a genesis
	at        int64  // sealed offset of the record
	offset    uint64 // the lowest source offset that may follow
	saltKey   uint32 // the lowest salt key id that may follow
	topic     TopicID
	eventIDs  uint16
	flagged   bool // the record has a finding
	displaced bool // the record has, or stands in a run behind, an EXTRA finding
	outside   bool // the record stands behind a close
	closed    bool // the record is a close
	likeClose ID   // of an event that looks like a close: the ledger it would announce
	doubt     *doubt
}

// doubt is a contradiction between a tip's record (right) and the one before it
// (left): one of the two was altered. The next link tells which.
type doubt struct {
	left, right               uint64
	leftAt, rightAt           int64
	leftFlagged, rightFlagged bool
	fields                    string
}

// use makes tip i the one used last.
func (t *track) use(i int) {
	if i == 1 {
		t.tips[0], t.tips[1] = t.tips[1], t.tips[0]
	}
}

// front returns the index of the tip at the end of what was read, or -1.
func (t *track) front() int {
	for i := range t.tips {
		if t.tips[i].live && t.tips[i].next == t.end {
			return i
		}
	}
	return -1
}

// fill says whether seq is missing so far, and that it no longer is.
func (t *track) fill(seq uint64) bool {
	for i, h := range t.holes {
		if seq < h.lo || seq >= h.hi {
			continue
		}
		rest := t.holes[:i:i]
		if h.lo < seq {
			rest = append(rest, hole{h.lo, seq})
		}
		if seq+1 < h.hi {
			rest = append(rest, hole{seq + 1, h.hi})
		}
		t.holes = append(rest, t.holes[i+1:]...)
		return true
	}
	return false
}

// miss notes that everything from end up to seq is missing.
func (t *track) miss(seq uint64) {
	if len(t.holes) == maxHoles {
		t.holes = append(t.holes[:0], t.holes[1:]...)
	}
	t.holes = append(t.holes, hole{t.end, seq})
	t.end = seq
}

// fix takes what a genesis body says about every record of the ledger.
func (t *track) fix(m *marker) {
	t.state.Genesis = string(m.raw)
	t.fixed = true
	t.topic = m.body.SourceID
	t.partition = uint32(m.body.Partition)
	if m.body.EventIDs {
		t.eventIDs = FlagEventID
	}
}

// faults names what differs from what is constant in the ledger.
func (t *track) faults(faults []string, st *Statement) []string {
	if st.Partition != t.partition {
		faults = merge(faults, "source partition")
	}
	if t.fixed && st.Topic != t.topic {
		faults = merge(faults, "source topic id")
	}
	if t.fixed && st.Flags&FlagEventID != t.eventIDs {
		faults = merge(faults, "flags bit 1")
	}
	return faults
}

// salter returns what derives the salts of a key id, nil when it cannot be had.
func (t *track) salter(k *Keyring, id uint32) *Salter {
	if id == 0 {
		return nil
	}
	if id != t.saltersID {
		t.saltersID = id
		t.salters, _ = k.Salter(t.state.ID, id) // nil says it all
	}
	if t.salters == nil {
		t.state.SaltsUnchecked++
	}
	return t.salters
}
