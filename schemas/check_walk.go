package schemas

import (
	"bytes"
	"math/bits"
	"strconv"
	"time"
)

// quickCheck looks at one JSON event in one pass and says whether it is certain to be
// good; then dst is filled. It must never take what [ValidateAudit] or [ValidateDomain]
// would not: when in doubt, it doubts.
func quickCheck(p *quickPlan, value []byte, now time.Time, dst *Outline) bool {
	w := quickWalk{scan: scan{b: value}, plan: p, limit: now.Add(MaxFuture)}
	i, err := w.top()
	if err == nil {
		i, err = w.members(&p.root, i, 0)
	}
	if err == nil {
		err = w.tail(i)
	}
	if err != nil || w.badUTF || w.given&p.required != p.required || !w.together() {
		return false
	}
	dst.ID, dst.Action = string(w.texts[roleID]), string(w.texts[roleAction])
	dst.Aggregate = string(w.texts[roleAggregateID])
	dst.Time = time.UnixMilli(w.time).UTC()
	dst.Actor = ""
	for _, r := range [...]role{roleUserID, roleUserName, roleUserEmail} {
		if len(w.texts[r]) > 0 {
			dst.Actor = string(w.texts[r])
			break
		}
	}
	return true
}

// quickWalk is one quick check under way. It lives on its caller's stack.
type quickWalk struct {
	scan
	plan  *quickPlan
	limit time.Time

	met   [5]uint64 // places met
	given uint32    // roles met
	texts [roleTime][]byte
	time  int64

	categories, types uint32 // of the event, as bits
	// Where the payload stands when it is text, which is JSON or not as content_type says.
	from, to int
}

// doubt ends the quick check.
func (w *quickWalk) doubt(at int) (int, *jsonError) { return at, w.fail(at, "not certain") }

// maxEntries is how many members of a map are compared with each other.
const maxEntries = 32

func (w *quickWalk) members(p *place, i, depth int) (int, *jsonError) {
	return w.object(i, depth, func(k0, k1 int, info strInfo, j int) (int, *jsonError) {
		if info&strEscaped != 0 {
			return w.doubt(k0)
		}
		kid, ok := p.find(w.b[k0:k1])
		if !ok {
			return w.doubt(k0)
		}
		return w.member(kid, j, depth)
	})
}

// find returns the place of a member's name, which may have dots, or nil when the
// schema has none. ok is false for an entry of a map named with dots.
func (p *place) find(name []byte) (kid *place, ok bool) {
	if kid = p.kid(name); kid != nil {
		return kid, true
	}
	for {
		dot := bytes.IndexByte(name, '.')
		if dot < 0 {
			return p.kid(name), true
		}
		if p = p.kid(name[:dot]); p == nil || p.kind != placeRecord {
			return nil, p == nil || p.kind != placeMap
		}
		name = name[dot+1:]
	}
}

// member takes the value at j, whose place is p; nil means that the schema has none.
func (w *quickWalk) member(p *place, j, depth int) (int, *jsonError) {
	kind := w.kind(j)
	if p == nil || kind == jsonNull || kind == jsonNone {
		return w.skip(j, depth+1)
	}
	bit := uint64(1) << (p.id & 63)
	if w.met[p.id>>6]&bit != 0 {
		return w.doubt(j)
	}
	w.met[p.id>>6] |= bit
	w.given |= 1 << p.role
	switch p.kind {
	case placeRecord, placeMap:
		if kind != jsonObject {
			return w.doubt(j)
		}
		if p.kind == placeMap {
			return w.entries(j, depth+1)
		}
		return w.members(p, j, depth+1)
	case placeList:
		if kind == jsonArray {
			return w.list(p, j, depth+1)
		}
		return w.text(p, j)
	case placeText:
		return w.text(p, j)
	case placeJSON:
		if kind == jsonString {
			return w.embedded(p, j)
		}
		return w.skip(j, depth+1)
	}
	return w.scalar(p, j)
}

// entries takes a map of texts, each name once.
func (w *quickWalk) entries(i, depth int) (int, *jsonError) {
	var names [maxEntries][2]int
	n := 0
	return w.object(i, depth, func(k0, k1 int, info strInfo, j int) (int, *jsonError) {
		switch w.kind(j) {
		case jsonNull, jsonNone:
			return w.skip(j, depth+1)
		case jsonObject, jsonArray:
			return w.doubt(j)
		}
		if n == maxEntries || info&strEscaped != 0 {
			return w.doubt(k0)
		}
		for _, o := range names[:n] {
			if string(w.b[o[0]:o[1]]) == string(w.b[k0:k1]) {
				return w.doubt(k0)
			}
		}
		names[n] = [2]int{k0, k1}
		n++
		return w.skip(j, depth+1)
	})
}

func (w *quickWalk) list(p *place, i, depth int) (int, *jsonError) {
	n := 0
	return w.array(i, depth, func(j int) (int, *jsonError) {
		if n++; p.items > 0 && n > p.items {
			return w.doubt(j)
		}
		return w.text(p, j)
	})
}

// text takes a text, or a number or boolean, which count as their text.
func (w *quickWalk) text(p *place, j int) (int, *jsonError) {
	var b []byte
	end, escaped := j, false
	switch w.kind(j) {
	case jsonString:
		var info strInfo
		var err *jsonError
		if end, info, err = w.str(j); err != nil {
			return end, err
		}
		b, escaped = w.b[j+1:end-1], info&strEscaped != 0
	case jsonNumber, jsonBool:
		var err *jsonError
		if end, err = w.skip(j, 0); err != nil {
			return end, err
		}
		b = w.b[j:end]
	default:
		return w.doubt(j)
	}
	if escaped && (p.max > 0 || p.role != roleNone) {
		b = []byte(unquote(b, strEscaped))
		if bytes.IndexByte(b, 0) >= 0 {
			return w.doubt(j)
		}
	}
	if p.max > 0 && len(b) > p.max || p.role != roleNone && !w.rule(p.role, b) {
		return w.doubt(j)
	}
	return end, nil
}

// rule holds a text to the rules.
func (w *quickWalk) rule(r role, b []byte) bool {
	if r < roleTime {
		w.texts[r] = b
	}
	switch r {
	case roleID:
		return len(b) >= 1 && len(b) <= MaxEventID && printable(b)
	case roleAction, roleDataset, roleAggregateType:
		return len(b) >= 1 && len(b) <= MaxActions
	case roleAggregateID:
		return len(b) >= 1 && len(b) <= MaxKeyword
	case roleKind:
		return w.plan.kinds[string(b)]
	case roleOutcome:
		return w.plan.outcomes[string(b)]
	case roleCategory:
		c, ok := w.plan.categories[string(b)]
		w.categories |= 1 << c
		return ok
	case roleType:
		t := w.plan.types[string(b)]
		w.types |= t
		return t != 0
	}
	return true
}

func printable(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// embedded takes a text that must hold JSON or ciphertext.
func (w *quickWalk) embedded(p *place, j int) (int, *jsonError) {
	end, _, err := w.str(j)
	switch {
	case err != nil:
		return end, err
	case p.role == rolePayload:
		w.from, w.to = j, end
	case !w.holdsJSON(j, end):
		return w.doubt(j)
	}
	return end, nil
}

func (w *quickWalk) holdsJSON(from, to int) bool {
	text := unquote(w.b[from+1:to-1], strEscaped)
	v := validator{}
	v.jsonText("", &text)
	return len(v.errs) == 0
}

// scalar takes a value that is not text.
func (w *quickWalk) scalar(p *place, j int) (int, *jsonError) {
	kind := w.kind(j)
	switch {
	case p.kind == placeBool && kind == jsonBool:
		return w.literal(j)
	case p.kind == placeTime && kind == jsonString:
		end, info, err := w.str(j)
		if err != nil {
			return end, err
		}
		ms, ok := parseTime(w.b[j+1 : end-1])
		if !ok || info != 0 || !w.happened(p.role, ms) {
			return w.doubt(j)
		}
		return end, nil
	case kind != jsonNumber || p.kind == placeBool:
		return w.doubt(j)
	}
	end, whole, err := w.number(j)
	if err != nil {
		return end, err
	}
	if p.kind == placeDouble {
		if _, err := strconv.ParseFloat(string(w.b[j:end]), 64); err != nil {
			return w.doubt(j)
		}
		return end, nil
	}
	if !whole || end-j >= 19 {
		return w.doubt(j)
	}
	v := smallNumber(w.b[j:end])
	if p.kind == placeTime && !w.happened(p.role, v) || p.role == roleVersion && v < 1 {
		return w.doubt(j)
	}
	return end, nil
}

// happened holds a time to its bounds.
func (w *quickWalk) happened(r role, ms int64) bool {
	if ms < minTimeMs || ms > maxTimeMs {
		return false
	}
	if r == roleTime {
		w.time = ms
	}
	return r == roleNone || ms >= earliestMs && !time.UnixMilli(ms).After(w.limit)
}

// together looks at the rules about several fields.
func (w *quickWalk) together() bool {
	if w.types != 0 {
		fit := uint32(0)
		for c := w.categories; c != 0; c &= c - 1 {
			mask := w.plan.expected[bits.TrailingZeros32(c)]
			if mask&w.types == 0 {
				return false
			}
			fit |= mask
		}
		if w.types&^fit != 0 {
			return false
		}
	}
	return w.to == 0 || w.given&(1<<roleContentType) != 0 || w.holdsJSON(w.from, w.to)
}
