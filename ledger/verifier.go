package ledger

import "fmt"

// VerifierOptions say what is verified.
type VerifierOptions struct {
	// Topic is the sealed topic's name, for [Finding].Where.
	Topic string
	// Partition is the number of the sealed partition, which is the source partition's.
	Partition int32
	// Keys, when set, lets the verifier derive the salts again whose master is held: a
	// salt that fits its commitment but is not the derived one is then found too.
	Keys *Keyring
	// Source, when set, says what every genesis in the partition must say: its Name and
	// Source are compared where they are not empty, the other fields are not.
	Source *Genesis
	// Partial says that reading starts behind records that are known to be gone, as
	// after a purge: what lies before the first record is then no finding.
	Partial bool
}

// Verifier judges the records of one sealed partition, read in order from its start.
// The package comment has its rules. One goroutine at a time may use it; its memory
// does not grow with the records read.
type Verifier struct {
	opts    VerifierOptions
	tracks  map[ID]*track
	order   []*track // in order of appearance
	last    *track   // where the last record was placed; a close moves it to the successor
	extras  int      // tracks of ledgers that do not belong
	orphans uint64   // unreadable records before the first readable one

	sealed  Sealed // the record at hand
	at      int64  // and its offset
	commits committer
	derived Salt
	out     []Finding
}

// NewVerifier returns a verifier for one sealed partition. Call [Verifier.Next] with
// each record and [Verifier.Finish] at the end.
func NewVerifier(opts VerifierOptions) *Verifier {
	return &Verifier{opts: opts, tracks: map[ID]*track{}, commits: newCommitter()}
}

// LedgerState is what was read of one ledger. The chain cannot see that its newest
// records were cut off: compare Size and Head with what is remembered elsewhere.
type LedgerState struct {
	ID ID
	// Genesis is the genesis body, empty when neither the genesis nor the close that
	// announces it could be read.
	Genesis string
	// Size is 1 + the highest seq read, Head the leaf hash of the record that has it.
	Size uint64
	Head Hash
	// Records counts the records read: Size when none is missing and none too many.
	Records uint64
	// Closed says that the close was read, or the genesis of a successor.
	Closed bool
	// Extra says that the ledger does not belong into this partition.
	Extra bool
	// SaltsUnchecked counts the salted records whose salt could not be derived,
	// because its master is not held.
	SaltsUnchecked uint64
}

// Ledgers returns the state of each ledger seen, in order of appearance.
func (v *Verifier) Ledgers() []LedgerState {
	var states []LedgerState
	for _, t := range v.order {
		if t.state.Records > 0 {
			states = append(states, t.state)
		}
	}
	return states
}

// Next judges the next record as committed and returns what is wrong, mostly nil. Any
// input is taken, and after a finding it goes on. A finding may be about an earlier
// record: which of two neighbours was altered shows only in the record after them.
// It keeps nothing of r.
func (v *Verifier) Next(r *Record) []Finding {
	v.out, v.at = nil, r.Offset
	s := &v.sealed
	if err := s.split(r); err != nil {
		v.unreadable(err)
		return v.out
	}
	commitment := v.commitment(s, &s.Salt)
	var m *marker
	if s.Statement.Kind != KindEvent {
		m = readMarker(s, commitment)
	}
	p := v.place(s, m)
	if p.track == nil {
		return v.out
	}
	var faults []string
	if p.fault != "" {
		faults = append(faults, p.fault)
	}
	if m != nil {
		faults = m.faults(faults, s, &p)
	} else {
		faults = v.eventFaults(faults, s, &p, commitment)
	}
	faults = p.track.faults(faults, &s.Statement)
	if s.Statement.TimeMs != TimeOutOfRange && r.TimeMs != s.Statement.TimeMs {
		faults = append(faults, "record timestamp")
	}
	v.link(s, &p, m, faults)
	return v.out
}

// Finish says that no record follows, and returns what was still in doubt.
func (v *Verifier) Finish() []Finding {
	v.out = nil
	for _, t := range v.order {
		for i := range t.tips {
			v.settle(t, &t.tips[i])
		}
		if by := t.announcer; by != nil && t.state.Records == 0 && t.unreadable == 0 && by.tips[0].leaf == t.announced {
			v.find(Missing, t, 0, by.tips[0].at, "the close before it announces this ledger, and its genesis is not there")
		}
	}
	return v.out
}

// find adds a finding about seq of a ledger, seen in the record at a sealed offset.
func (v *Verifier) find(verdict Verdict, t *track, seq uint64, at int64, detail string) {
	f := Finding{Verdict: verdict, Seq: seq, Where: fmt.Sprintf("%s/%d@%d", v.opts.Topic, v.opts.Partition, at), Detail: detail}
	if t != nil {
		f.Ledger = t.state.ID
	}
	v.out = append(v.out, f)
}

// unreadable takes a record that has no statement to place it by: it stands in for
// the next seq of the ledger at hand.
func (v *Verifier) unreadable(err error) {
	t := v.last
	if t == nil {
		v.find(Altered, nil, v.orphans, v.at, "unreadable: "+err.Error())
		v.orphans++
		return
	}
	v.find(Altered, t, t.end+t.unreadable, v.at, "unreadable: "+err.Error())
	t.unreadable++
}

// commitment is what the statement would commit to, had it this salt.
func (v *Verifier) commitment(s *Sealed, salt *Salt) Hash {
	copy(v.commits.salt(), salt[:])
	return v.commits.commit(&s.Source)
}

// eventFaults names what is wrong with an event by itself.
func (v *Verifier) eventFaults(faults []string, s *Sealed, p *place, commitment Hash) []string {
	st := &s.Statement
	fits := commitment == st.Commitment
	switch salter := p.track.salter(v.opts.Keys, st.SaltKey); {
	case salter == nil && !fits:
		faults = append(faults, "commitment to key, headers, value and salt")
	case salter != nil:
		salter.put(v.derived[:], p.seq)
		if v.derived != s.Salt {
			faults = append(faults, "salt is not the derived one")
			fits = fits || v.commitment(s, &v.derived) == st.Commitment
		}
		if !fits {
			faults = append(faults, "commitment to key, headers and value")
		}
	}
	want := [16]byte{}
	if st.Flags&FlagEventID != 0 && st.SaltKey != 0 {
		want = eventIDOf(s.Source.Headers)
	}
	if st.EventID != want {
		faults = append(faults, "event-id slot")
	}
	return faults
}

// marker is a genesis or close and what it says besides its statement.
type marker struct {
	body    Genesis
	raw     []byte
	id      ID    // of the body
	err     error // why the body cannot be read
	fits    bool  // key, headers and value are those committed to
	genuine bool  // fits and readable: the body is the one that was sealed
}

func readMarker(s *Sealed, commitment Hash) *marker {
	m := &marker{fits: commitment == s.Statement.Commitment}
	if m.body, m.err = s.markerBody(); m.err == nil {
		m.raw = s.Source.Headers[0].Value
		m.id = IDOf(m.raw)
		m.genuine = m.fits
	}
	return m
}

// faults names what is wrong with a genesis or close by itself.
func (m *marker) faults(faults []string, s *Sealed, p *place) []string {
	if !m.fits {
		faults = append(faults, "commitment to key, headers and value")
	}
	if m.err != nil {
		return append(faults, m.err.Error())
	}
	return merge(faults, s.markerFaults(&m.body, p.track.state.ID, p.seq)...)
}

// merge appends what is not yet among the faults.
func merge(faults []string, more ...string) []string {
next:
	for _, m := range more {
		for _, f := range faults {
			if f == m {
				continue next
			}
		}
		faults = append(faults, m)
	}
	return faults
}
