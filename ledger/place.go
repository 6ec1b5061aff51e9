package ledger

import "fmt"

// place is where a record belongs: its ledger, its seq, and the record it stands behind.
type place struct {
	track *track // nil: already judged, and not followed
	seq   uint64
	// behind is the index of the tip it stands behind, -1 for none.
	behind int
	link   linkState
	// fault is the field that was altered when the record was placed by its prev.
	fault string
	// verdict and detail are the finding about a record out of its place.
	verdict Verdict
	detail  string
	// outside says that it stands behind a close: it moves no end.
	outside   bool
	displaced bool
}

// linkState says how a record's prev relates to the leaf hash of the record before.
type linkState int

const (
	linkUnknown linkState = iota // the record before was not read
	linkHolds
	linkBroken
)

// place finds where a record belongs. Gaps are reported here.
func (v *Verifier) place(s *Sealed, m *marker) place {
	st := &s.Statement
	id := st.Ledger
	if st.Kind == KindGenesis && m.genuine {
		id = m.id
	}
	t := v.last
	if t == nil || t.state.ID != id {
		t = v.tracks[id]
	}
	var p place
	if t == nil {
		p = v.placeStranger(s, m, id)
	} else {
		p = v.placeIn(t, st)
	}
	if p.track != nil && p.verdict == "" && st.Kind == KindGenesis && m.genuine {
		if field := v.foreign(&m.body); field != "" {
			p.track.state.Extra = true
			p.verdict, p.detail = Extra, "the genesis of another log: "+field+" is not what this partition must have"
		}
	}
	return p
}

// foreign names the first field of a genesis body that this partition cannot have.
func (v *Verifier) foreign(g *Genesis) string {
	want := v.opts.Source
	switch {
	case g.Partition != v.opts.Partition:
		return "partition"
	case want != nil && want.Name != "" && want.Name != g.Name:
		return "name"
	case want != nil && want.Source != "" && want.Source != g.Source:
		return "source"
	}
	return ""
}

// placeIn places a record in the ledger it names.
func (v *Verifier) placeIn(t *track, st *Statement) place {
	p := place{track: t, seq: st.Seq, behind: -1}
	if !t.placeByLink(st, &p) {
		if t.closedAt != 0 && t.closedAt == t.end && st.Seq >= t.end {
			p.outside = true
			p.verdict, p.detail = Extra, "stands behind the close of its ledger"
			return p
		}
		t.placeBySeq(st, &p)
	}
	v.judgeSeq(t, &p)
	return p
}

// placeByLink places a record whose prev is the leaf hash of a tip: it was sealed
// behind that one, whatever its seq says.
func (t *track) placeByLink(st *Statement, p *place) bool {
	for i := range t.tips {
		if c := &t.tips[i]; c.live && !c.closed && c.leaf == st.Prev && (c.next == st.Seq || c.claimed == st.Seq) {
			p.behind, p.link = i, linkHolds
			if c.next != st.Seq && st.Seq > t.end {
				t.miss(st.Seq) // the numbering jumped, and the record that did it has its finding
			}
			return true
		}
	}
	for i := range t.tips {
		if c := &t.tips[i]; c.live && !c.closed && c.leaf == st.Prev && c.next > 0 {
			p.behind, p.link = i, linkHolds
			p.seq, p.fault = c.next, "seq"
			return true
		}
	}
	return false
}

// placeBySeq places a record by its seq alone.
func (t *track) placeBySeq(st *Statement, p *place) {
	for i := range t.tips {
		if c := &t.tips[i]; c.live && !c.closed && c.next == st.Seq {
			p.behind, p.link = i, linkBroken
			return
		}
	}
	if st.Seq >= t.end {
		p.behind = t.front() // with a gap between, or what could not be read
	}
}

// judgeSeq finds gaps, forks, and records out of their order.
func (v *Verifier) judgeSeq(t *track, p *place) {
	if p.behind >= 0 && p.link != linkUnknown {
		p.displaced = t.tips[p.behind].displaced
		p.outside = t.tips[p.behind].outside
	}
	if p.outside {
		return
	}
	if p.seq >= t.end {
		v.gap(t, p.seq, "")
		return
	}
	switch missing := t.fill(p.seq); {
	case missing && !p.displaced:
		p.displaced = true
		p.verdict, p.detail = Extra, "out of order: stands behind a record of a higher seq, and fills the gap found there"
	case !missing && p.fault == "":
		p.verdict, p.detail = Fork, "a second record of this seq"
		if p.seq+1 == t.state.Size && v.sealed.Leaf() == t.state.Head {
			p.detail = "a second record of this seq, with the same statement"
		}
	}
}

// gap reports the seqs from the end up to seq that no unreadable record stands in
// for, and moves the end there.
func (v *Verifier) gap(t *track, seq uint64, why string) {
	if n := seq - t.end; n > t.unreadable {
		n -= t.unreadable
		first := t.end + t.unreadable
		detail := fmt.Sprintf("1 record missing: seq %d", first)
		if n > 1 {
			detail = fmt.Sprintf("%d records missing: seq %d to %d", n, first, seq-1)
		}
		v.find(Gap, t, first, v.at, detail+why)
		t.miss(seq)
	}
	t.end = seq
	t.unreadable = 0
}

// placeStranger places a record of a ledger not seen so far.
func (v *Verifier) placeStranger(s *Sealed, m *marker, id ID) place {
	st := &s.Statement
	genesis := st.Kind == KindGenesis
	if v.fresh() {
		t := v.follow(id, st, m)
		if !t.fixed {
			t.partition = uint32(v.opts.Partition)
		}
		v.begin(t, st, m)
		return v.placeIn(t, st)
	}
	if genesis && m.err == nil && m.body.Previous != nil {
		if a := v.tracks[m.body.Previous.Ledger]; a != nil && v.succeeds(a, m) {
			return v.placeIn(v.follow(id, st, m), st)
		}
	}
	if p, ok := v.placeMisnamed(s, m); ok {
		return p
	}
	detail := "a record of a ledger that has no business here; what follows on it is not counted again"
	if genesis {
		detail = "a second genesis that no close announces; what follows on it is not counted again"
	}
	if v.extras == maxExtras {
		v.find(Extra, &track{state: LedgerState{ID: id}}, st.Seq, v.at, detail)
		return place{}
	}
	v.extras++
	t := v.follow(id, st, m)
	t.state.Extra = true
	if !genesis {
		t.miss(st.Seq)
	}
	p := v.placeIn(t, st)
	p.verdict, p.detail = Extra, detail
	return p
}

// fresh says that no ledger that belongs here was seen.
func (v *Verifier) fresh() bool {
	for _, t := range v.order {
		if !t.state.Extra {
			return false
		}
	}
	return true
}

// placeMisnamed places a record whose ledger id was altered: it was sealed behind the
// record at hand, or it is an altered genesis where one is due.
func (v *Verifier) placeMisnamed(s *Sealed, m *marker) (place, bool) {
	st, t := &s.Statement, v.last
	p := place{track: t, behind: -1, fault: "ledger id"}
	if st.Kind == KindGenesis {
		if t.announcer == nil || t.state.Records > 0 || m.genuine {
			return p, false
		}
		p.behind, p.link = 0, linkHolds
		v.judgeSeq(t, &p)
		return p, true
	}
	for i := range t.tips {
		if c := &t.tips[i]; c.live && !c.closed && c.next > 0 && c.leaf == st.Prev {
			p.behind, p.link, p.seq = i, linkHolds, c.next
			if c.ledger == st.Ledger {
				p.fault = "" // the one before it has the same wrong id, and its finding
			}
			v.judgeSeq(t, &p)
			return p, true
		}
	}
	return p, false
}

// follow makes the track of a ledger whose first record is at hand.
func (v *Verifier) follow(id ID, st *Statement, m *marker) *track {
	t := &track{partition: st.Partition}
	t.state.ID = id
	t.tips[0].live = true
	if m != nil && st.Kind == KindGenesis && m.genuine {
		t.fix(m)
	}
	v.tracks[id] = t
	v.order = append(v.order, t)
	return t
}

// begin judges what lies before the first readable record of the partition.
func (v *Verifier) begin(t *track, st *Statement, m *marker) {
	t.unreadable = v.orphans
	switch {
	case v.opts.Partial:
		t.end = st.Seq
	case st.Kind != KindGenesis || !m.genuine:
	case v.orphans == 0 && m.body.Previous != nil:
		p := m.body.Previous
		before := &track{state: LedgerState{ID: p.Ledger}}
		v.find(Gap, before, 0, v.at, fmt.Sprintf("%d records missing: the whole ledger that the first genesis here follows, and its close", p.Size+1))
	}
}

// succeeds says whether the genesis at hand follows ledger a, and reports the close
// that should stand between.
func (v *Verifier) succeeds(a *track, m *marker) bool {
	p := m.body.Previous
	if a.ended {
		return false
	}
	if a.closedAt != 0 { // the close was read, but not what it announces
		a.ended = true
		return true
	}
	i := a.front()
	switch {
	case p.Size+1 == a.end && i >= 0 && a.tips[i].flagged && a.tips[i].likeClose != (ID{}):
		// The close, altered so that it reads as an event; it has its finding.
	case p.Size+1 == a.end && i >= 0 && a.tips[i].likeClose == m.id:
		v.find(Altered, a, p.Size, a.tips[i].at, "differs in: kind: the genesis behind it says that this is the close")
	case p.Size < a.end:
		return false
	default:
		if p.Size == a.end && i >= 0 {
			v.resolve(a, &a.tips[i], p.Leaf == a.tips[i].leaf)
			if p.Leaf != a.tips[i].leaf && !a.tips[i].flagged {
				v.find(Altered, a, p.Size-1, a.tips[i].at, "leaf hash is not the one that the genesis of the successor names")
			}
		}
		v.gap(a, p.Size+1, ", the close among them")
	}
	a.ended = true
	a.state.Closed = true
	return true
}
