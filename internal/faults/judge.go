package faults

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// Charge is a kind of broken promise.
type Charge string

// The charges. All but Doubled and Rejected are always faults: an idempotent
// producer's retry across kill -9 of the embedded broker may double a source record,
// and poison is set aside.
const (
	Lost        Charge = "lost"           // acknowledged, and not in the source log
	Moved       Charge = "moved"          // acknowledged at another place than where it is
	Unrecorded  Charge = "unrecorded"     // a read of event content that was answered and not written down
	Doubled     Charge = "doubled"        // one event id in two source records
	Unsealed    Charge = "unsealed"       // in the source log, and no statement about it
	SealedTwice Charge = "sealed twice"   // two statements about one source record
	OutOfOrder  Charge = "out of order"   // sealed behind a later record of its partition
	Strange     Charge = "strange"        // a statement about a record the source does not hold
	Altered     Charge = "altered"        // sealed with other bytes or another time than the source has
	BadLink     Charge = "bad link"       // a finding of the ledger's verifier
	OffsetAhead Charge = "offset ahead"   // the stored offset is past a record that was neither stored nor set aside
	RowAhead    Charge = "row ahead"      // a row at or above the stored offset
	NotStored   Charge = "not stored"     // at or above the stored offset, although everything should have caught up
	StoredTwice Charge = "stored twice"   // two rows of one ledger and seq, or of one sealed record
	StoredWrong Charge = "stored wrong"   // a row that says other than the sealed record at its place
	Rejected    Charge = "rejected"       // set aside
	RejectedFor Charge = "reject and row" // set aside, and stored all the same
)

// Verdict is what the oracle found.
type Verdict struct {
	Acked, Source, Sealed, Rows, Sightings int
	Counts                                 map[Charge]int
	DoubledIDs                             []string // event ids that stand twice
	reasons                                map[string]int
	samples                                map[Charge][]string
}

// samplesKept bounds what is printed of one charge.
const samplesKept = 5

func (v *Verdict) find(c Charge, format string, args ...any) {
	v.Counts[c]++
	if len(v.samples[c]) < samplesKept {
		v.samples[c] = append(v.samples[c], fmt.Sprintf(format, args...))
	}
}

// Expected says which counts are no fault in a case.
type Expected struct {
	MayDouble  bool   // the broker was killed under a producer
	Rejects    int    // records that must have been set aside, each once or more
	Reason     string // why all of them were
	Constraint string // and which constraint said so
}

// Faults says what is wrong, most telling first; empty means that all promises were kept.
func (v *Verdict) Faults(want Expected) []string {
	var out []string
	for _, c := range slices.Sorted(maps.Keys(v.Counts)) {
		if c == Rejected || c == Doubled && want.MayDouble {
			continue
		}
		out = append(out, fmt.Sprintf("%d %s: %s", v.Counts[c], c, strings.Join(v.samples[c], "; ")))
	}
	if n := v.Counts[Rejected]; n != want.Rejects {
		out = append(out, fmt.Sprintf("%d set aside, want %d: %s", n, want.Rejects, strings.Join(v.samples[Rejected], "; ")))
	}
	for _, why := range slices.Sorted(maps.Keys(v.reasons)) {
		if !strings.HasPrefix(why, want.Reason+" ") || !strings.Contains(why, "constraint "+want.Constraint) {
			out = append(out, fmt.Sprintf("%d set aside for %q, want reason %s of constraint %s", v.reasons[why], why, want.Reason, want.Constraint))
		}
	}
	switch {
	case v.Source == 0:
		out = append(out, "nothing was judged: the source log is empty")
	case v.Acked == 0:
		out = append(out, "nothing was judged: no producer reported an acknowledged event")
	}
	return out
}

// Doubles says which source records stand twice.
func (v *Verdict) Doubles() []string { return v.samples[Doubled] }

// Judge compares what the logs and the table hold with what was promised.
func Judge(e *Evidence) *Verdict {
	v := &Verdict{Acked: len(e.Acked), Sightings: len(e.Sightings), Counts: map[Charge]int{}, samples: map[Charge][]string{}, reasons: map[string]int{}}
	for _, f := range e.Links {
		v.find(BadLink, "%s %s seq %d at %s: %s", f.Verdict, f.Ledger, f.Seq, f.Where, f.Detail)
	}
	v.judgeSources(e)
	judged := map[sinks.Partition]bool{}
	for _, topic := range slices.Sorted(maps.Keys(e.SourceIDs)) {
		// A partition may have events and no statement, or a genesis and no event.
		for _, p := range append(partitions(e.Sources), partitions(e.Sealed)...) {
			src := sinks.Partition{Topic: topic, ID: p.ID}
			sealed := sinks.Partition{Topic: schemas.SealedName(topic), ID: p.ID}
			if (p == src || p == sealed) && !judged[sealed] {
				judged[sealed] = true
				v.judgeSealed(e, src, sealed)
			}
		}
	}
	for _, p := range partitions(e.Sealed) {
		if !judged[p] {
			v.find(Strange, "%s holds %d statements and has no source", p, len(e.Sealed[p]))
		}
		v.judgeRows(e, p)
	}
	for _, p := range partitions(e.Rows) {
		if _, ok := e.Sealed[p]; !ok {
			v.find(StoredWrong, "%d rows say they come from %s, which does not exist", len(e.Rows[p]), p)
		}
	}
	v.judgeSightings(e)
	return v
}

// partitions lists the keys of a map by topic and number, so that reports repeat.
func partitions[T any](m map[sinks.Partition]T) []sinks.Partition {
	return slices.SortedFunc(maps.Keys(m), func(a, b sinks.Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
	})
}

// judgeSources looks for acknowledged events in the source log, and for doubled ones.
func (v *Verdict) judgeSources(e *Evidence) {
	type place struct {
		p      sinks.Partition
		offset int64
	}
	first := map[string]place{}
	at := map[place]string{}
	reads := 0
	for _, p := range partitions(e.Sources) {
		for _, ev := range e.Sources[p] {
			v.Source++
			if ev.Read {
				reads++
			}
			if ev.ID == "" {
				continue
			}
			here := place{p, ev.Offset}
			at[here] = ev.ID
			if before, ok := first[ev.ID]; ok {
				v.DoubledIDs = append(v.DoubledIDs, ev.ID)
				v.find(Doubled, "%s at %s@%d and %s@%d", ev.ID, before.p, before.offset, p, ev.Offset)
				continue
			}
			first[ev.ID] = here
		}
	}
	if reads < e.Answered {
		v.find(Unrecorded, "%d reads were answered, %d are written down", e.Answered, reads)
	}
	for _, a := range e.Acked {
		if at[place{a.Partition, a.Offset}] == a.ID {
			continue
		}
		if is, ok := first[a.ID]; ok && a.Offset < 0 {
			continue
		} else if ok {
			v.find(Moved, "%s was acknowledged at %s@%d and is at %s@%d", a.ID, a.Partition, a.Offset, is.p, is.offset)
		} else {
			v.find(Lost, "%s, acknowledged at %s@%d", a.ID, a.Partition, a.Offset)
		}
	}
}

// judgeSealed holds the statements of one sealed partition against its source.
func (v *Verdict) judgeSealed(e *Evidence, src, sealed sinks.Partition) {
	events := e.Sources[src]
	index := make(map[int64]int, len(events))
	for i := range events {
		index[events[i].Offset] = i
	}
	seen := make([]bool, len(events))
	last := int64(-1)
	for _, st := range e.Sealed[sealed] {
		if st.Kind != ledger.KindEvent {
			continue
		}
		v.Sealed++
		i, ok := index[st.Source]
		switch {
		case !ok:
			v.find(Strange, "%s@%d speaks of offset %d, which %s does not hold", sealed, st.Offset, st.Source, src)
			continue
		case seen[i]:
			v.find(SealedTwice, "%s@%d is the second statement about offset %d", sealed, st.Offset, st.Source)
			continue
		case st.Source < last:
			v.find(OutOfOrder, "%s@%d speaks of offset %d behind one about %d", sealed, st.Offset, st.Source, last)
		}
		seen[i] = true
		last = max(last, st.Source)
		switch {
		case st.Topic != e.SourceIDs[src.Topic]:
			v.find(Strange, "%s@%d speaks of topic id %s, %s has %s", sealed, st.Offset, st.Topic, src.Topic, e.SourceIDs[src.Topic])
		case st.Frame != events[i].Frame:
			v.find(Altered, "%s@%d differs from offset %d in key, headers or value", sealed, st.Offset, st.Source)
		case st.TimeMs != events[i].TimeMs:
			v.find(Altered, "%s@%d says time %d, offset %d has %d", sealed, st.Offset, st.TimeMs, st.Source, events[i].TimeMs)
		}
	}
	for i := range events {
		if !seen[i] {
			v.find(Unsealed, "%s@%d %s", src, events[i].Offset, events[i].ID)
		}
	}
}

// judgeRows holds the rows of one sealed partition against its statements.
func (v *Verdict) judgeRows(e *Evidence, p sinks.Partition) {
	type key struct {
		ledger ledger.ID
		seq    uint64
	}
	stored, aside := e.Stored[p], map[int64]bool{}
	for _, r := range e.Rejects[p] {
		aside[r.Offset] = true
		v.reasons[r.Reason+" "+r.Detail]++
	}
	ids, at := map[key]bool{}, map[int64]Row{}
	for _, r := range e.Rows[p] {
		v.Rows++
		k := key{r.Ledger, r.Seq}
		if _, ok := at[r.Offset]; ok || ids[k] {
			v.find(StoredTwice, "%s seq %d, %s@%d", r.Ledger, r.Seq, p, r.Offset)
			continue
		}
		ids[k], at[r.Offset] = true, r
		if r.Offset >= stored {
			v.find(RowAhead, "%s@%d has a row, the stored offset is %d", p, r.Offset, stored)
		}
	}
	for _, st := range e.Sealed[p] {
		r, ok := at[st.Offset]
		delete(at, st.Offset)
		switch {
		case aside[st.Offset]:
			v.find(Rejected, "%s@%d", p, st.Offset)
			delete(aside, st.Offset)
			if ok {
				v.find(RejectedFor, "%s@%d", p, st.Offset)
			}
		case !ok && st.Offset < stored:
			v.find(OffsetAhead, "%s@%d has no row, the stored offset is %d", p, st.Offset, stored)
		case !ok:
			v.find(NotStored, "%s@%d, the stored offset is %d", p, st.Offset, stored)
		case r.Ledger != st.Ledger || r.Seq != st.Seq || r.Leaf != st.Leaf:
			v.find(StoredWrong, "the row of %s@%d is of %s seq %d", p, st.Offset, r.Ledger, r.Seq)
		}
	}
	for off := range aside {
		v.find(Strange, "the rejects topic speaks of %s@%d, where there is no sealed record", p, off)
	}
	for _, r := range e.Rejects[p] {
		if i, ok := slices.BinarySearchFunc(e.Sealed[p], r.Offset, func(st Statement, off int64) int { return cmp.Compare(st.Offset, off) }); ok && e.Sealed[p][i].Frame != r.Frame {
			v.find(Altered, "%s@%d was set aside with other bytes than were sealed", p, r.Offset)
		}
	}
	for off, r := range at {
		v.find(StoredWrong, "a row of %s seq %d says %s@%d, where there is no sealed record", r.Ledger, r.Seq, p, off)
	}
}

// judgeSightings checks that, at every look, the rows were exactly the records below
// the stored offset: what is below never changes, so the final log can judge the past.
func (v *Verdict) judgeSightings(e *Evidence) {
	aside := map[sinks.Partition]map[int64]bool{}
	for p, rs := range e.Rejects {
		aside[p] = map[int64]bool{}
		for _, r := range rs {
			aside[p][r.Offset] = true
		}
	}
	for _, s := range e.Sightings {
		want := 0
		for _, st := range e.Sealed[s.Partition] {
			if st.Offset >= s.Next {
				break
			}
			if !aside[s.Partition][st.Offset] {
				want++
			}
		}
		when := s.At.Format("15:04:05.000")
		if s.Rows < want {
			v.find(OffsetAhead, "%s at %s: stored offset %d and %d rows, %d records lie below it", s.Partition, when, s.Next, s.Rows, want)
		}
		if s.Rows > want || s.Last >= s.Next {
			v.find(RowAhead, "%s at %s: stored offset %d and %d rows up to %d, %d records lie below it", s.Partition, when, s.Next, s.Rows, s.Last, want)
		}
	}
}
