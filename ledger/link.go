package ledger

import (
	"fmt"
	"strings"
)

// link compares a placed record with the one it stands behind, reports what is known
// to be wrong with it, and makes it a tip. A contradiction between the two whose
// guilty side is not known yet becomes a doubt.
func (v *Verifier) link(s *Sealed, p *place, m *marker, faults []string) {
	t, st := p.track, &s.Statement
	next := tip{
		live: true, next: p.seq + 1, claimed: st.Seq + 1, ledger: st.Ledger, leaf: s.Leaf(), at: v.at,
		offset: st.next(), saltKey: st.SaltKey, topic: st.Topic, eventIDs: st.Flags & FlagEventID,
		displaced: p.displaced, outside: p.outside, closed: st.Kind == KindClose,
	}
	var clash []string
	var behind *tip
	if p.behind >= 0 {
		behind = &t.tips[p.behind]
		clash = t.clash(behind, st, p.link)
		if p.link == linkUnknown {
			v.settle(t, behind)
		} else {
			v.resolve(t, behind, p.link == linkHolds)
		}
	}
	if p.link == linkHolds {
		// This record's prev covers the one before: what contradicts is this one.
		faults, clash = merge(faults, clash...), nil
		if behind.next > 0 {
			next.topic, next.eventIDs = behind.topic, behind.eventIDs
		}
	}
	next.flagged = v.report(p, faults)
	if len(clash) > 0 {
		next.doubt = &doubt{
			left: behind.next - 1, leftAt: behind.at, leftFlagged: behind.flagged,
			right: p.seq, rightAt: v.at, rightFlagged: next.flagged,
			fields: strings.Join(clash, ", "),
		}
		if m != nil && m.genuine && !next.flagged {
			v.resolve(t, &next, true) // the body of a close repeats its prev: it is the true one
		}
	}
	if st.Kind == KindEvent && s.Source.Key == nil && s.Source.Value == nil &&
		len(s.Source.Headers) == 1 && s.Source.Headers[0].Name == CloseHeader {
		next.likeClose = IDOf(s.Source.Headers[0].Value)
	}
	v.push(p, next)
	v.advance(p, m, st, next.leaf)
}

// report adds the finding about a record that is wrong by itself, or out of its
// place, and says whether there is one.
func (v *Verifier) report(p *place, faults []string) bool {
	differs := "differs in: " + strings.Join(faults, ", ")
	switch {
	case p.verdict != "" && len(faults) > 0:
		v.find(p.verdict, p.track, p.seq, v.at, p.detail+"; "+differs)
	case p.verdict != "":
		v.find(p.verdict, p.track, p.seq, v.at, p.detail)
	case len(faults) > 0:
		v.find(Altered, p.track, p.seq, v.at, differs)
	}
	return p.verdict != "" || len(faults) > 0
}

// clash names the fields in which a statement contradicts the one it stands behind.
func (t *track) clash(behind *tip, st *Statement, link linkState) []string {
	if behind.next == 0 {
		return nil // nothing stands before a genesis
	}
	var fields []string
	if link == linkBroken {
		fields = append(fields, "prev")
	}
	exact := st.Kind == KindClose && link != linkUnknown
	if st.Offset < behind.offset || (exact && st.Offset != behind.offset) {
		fields = append(fields, "source offset")
	}
	if st.Kind == KindEvent && st.SaltKey < behind.saltKey {
		fields = append(fields, "salt key id")
	}
	if !t.fixed && st.Topic != behind.topic {
		fields = append(fields, "source topic id")
	}
	if !t.fixed && st.Flags&FlagEventID != behind.eventIDs {
		fields = append(fields, "flags bit 1")
	}
	return fields
}

// resolve ends the doubt of a tip by the link behind it. If that holds, the tip's own
// statement is the true one and the record before it was altered; else the tip's was,
// which explains both.
func (v *Verifier) resolve(t *track, c *tip, holds bool) {
	d := c.doubt
	if d == nil {
		return
	}
	c.doubt = nil
	switch {
	case holds && !d.leftFlagged:
		v.find(Altered, t, d.left, d.leftAt, fmt.Sprintf("differs in: statement: seq %d was sealed behind another one (%s)", d.right, d.fields))
	case !holds && !d.rightFlagged:
		v.find(Altered, t, d.right, d.rightAt, "differs in: "+d.fields)
		c.flagged = true
	}
}

// settle ends the doubt of a tip that no link follows.
func (v *Verifier) settle(t *track, c *tip) {
	d := c.doubt
	if d == nil {
		return
	}
	c.doubt = nil
	if d.leftFlagged || d.rightFlagged {
		return
	}
	v.find(Altered, t, d.right, d.rightAt, fmt.Sprintf("differs in: %s: this record or seq %d before it was altered, and no later record tells which", d.fields, d.left))
}

// push makes next the tip used last, in place of the one it stands behind.
func (v *Verifier) push(p *place, next tip) {
	t := p.track
	if p.behind >= 0 {
		t.use(p.behind)
		t.tips[0] = next
		return
	}
	v.settle(t, &t.tips[1])
	t.tips[1] = t.tips[0]
	t.tips[0] = next
}

// advance moves the state of the ledger onto the placed record.
func (v *Verifier) advance(p *place, m *marker, st *Statement, leaf Hash) {
	t := p.track
	if p.verdict != Extra || v.last == nil {
		v.last = t
	}
	t.state.Records++
	if p.outside {
		return
	}
	if p.seq >= t.end {
		t.end = p.seq + 1
	}
	if p.seq >= t.state.Size {
		t.state.Size, t.state.Head = p.seq+1, leaf
	}
	switch {
	case st.Kind == KindGenesis && m.genuine && !t.fixed:
		t.fix(m)
	case st.Kind == KindClose:
		t.closedAt = p.seq + 1
		t.state.Closed = true
		if m.genuine {
			v.announce(t, m, leaf)
			v.sourceGap(t, m, st)
		}
	}
}

// sourceGap reports what lies between a genuine close, which says where sealing would
// have gone on, and the successor's start, when both are about one source topic. A close
// with a finding does not say it.
func (v *Verifier) sourceGap(t *track, m *marker, st *Statement) {
	topic := st.Topic
	if t.fixed {
		topic = t.topic
	}
	start := uint64(m.body.Start)
	if topic != m.body.SourceID || start <= st.Offset || t.tips[0].flagged {
		return
	}
	v.find(Gap, v.tracks[m.id], 0, v.at, fmt.Sprintf(
		"source offsets %d to %d are in no ledger: the source had lost them before they were sealed; at most %d records, since markers of transactions take offsets too",
		st.Offset, start-1, start-st.Offset))
}

// announce follows the successor that a close names before its genesis is read.
func (v *Verifier) announce(t *track, m *marker, leaf Hash) {
	t.ended = true
	if next, ok := v.tracks[m.id]; ok {
		v.last = next
		return
	}
	next := &track{announcer: t, announced: leaf}
	next.state.ID = m.id
	next.tips[0].live = true
	next.fix(m)
	v.tracks[m.id] = next
	v.order = append(v.order, next)
	v.last = next
}
