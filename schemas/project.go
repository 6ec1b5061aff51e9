package schemas

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// timePath is the one path that is not a column but [Fields.Time].
const timePath = "@timestamp"

// node is one name on the way to a column.
type node struct {
	name string
	path string
	id   int    // dense over all nodes, indexes the seen set
	leaf bool   // ends a column's path
	col  Column // of a leaf
	slot int    // index in Fields.Values; -1: the event's time
	kids []*node
	hash [32]uint8 // by first and last byte and length: 1 + index of the first kid to compare; 0 = none
}

// find returns the kid of that name, or nil.
func (n *node) find(key []byte) *node {
	if len(key) == 0 {
		return nil
	}
	at := int(n.hash[bucket(key[0], key[len(key)-1], len(key))])
	if at == 0 {
		return nil
	}
	for _, k := range n.kids[at-1:] {
		if string(key) == k.name {
			return k
		}
	}
	return nil
}

func bucket(first, last byte, length int) int { return (int(first)*5 + int(last)*3 + length) & 31 }

// walk follows a name that may have dots in it ("event.action").
func (n *node) walk(key []byte) *node {
	for n != nil {
		i := 0
		for i < len(key) && key[i] != '.' {
			i++
		}
		if n = n.find(key[:i]); i == len(key) {
			return n
		}
		key = key[i+1:]
	}
	return nil
}

// maxNodes bounds the seen set of a run.
const maxNodes = 128

// buildTree makes the tree of a projection's paths and returns its number of nodes.
func buildTree(cols []Column) (root *node, nodes int) {
	root = &node{slot: -1}
	nodes = 1
	add := func(path string, leaf func(*node)) {
		at := root
		for name := range strings.SplitSeq(path, ".") {
			kid := at.named(name)
			if kid == nil {
				kid = &node{name: name, path: strings.TrimPrefix(at.path+"."+name, "."), id: nodes, slot: -1}
				at.kids = append(at.kids, kid)
				nodes++
			}
			at = kid
		}
		leaf(at)
	}
	add(timePath, func(n *node) { n.leaf, n.col = true, Column{Path: timePath, Type: TimeMs} })
	for i, c := range cols {
		add(c.Path, func(n *node) { n.leaf, n.col, n.slot = true, c, i })
	}
	root.index()
	return root, nodes
}

func (n *node) named(name string) *node {
	for _, k := range n.kids {
		if k.name == name {
			return k
		}
	}
	return nil
}

func (n *node) index() {
	for i := len(n.kids) - 1; i >= 0; i-- {
		k := n.kids[i]
		n.hash[bucket(k.name[0], k.name[len(k.name)-1], len(k.name))] = uint8(i + 1)
		k.index()
	}
}

// run is one projection under way. It lives on the caller's stack.
type run struct {
	dst   *Fields
	src   []byte // the whole value, nothing is written to it
	text  string // a copy of src that texts are cut from, made with the first one
	seen  [maxNodes / 64]uint64
	notes notes
}

// shareLimit is up to which size all texts of a value share one copy of it: one
// allocation for an event as most are, and no small text that keeps a huge one alive.
const shareLimit = 64 << 10

// meet marks a node as met and says whether it had been before.
func (r *run) meet(n *node) bool {
	bit := uint64(1) << (n.id & 63)
	before := r.seen[n.id>>6]&bit != 0
	r.seen[n.id>>6] |= bit
	return before
}

func (r *run) reset(columns int) {
	if len(r.dst.Values) != columns {
		r.dst.Values = make([]Value, columns)
	}
	r.dst.Time, r.dst.HasTime = 0, false
	for i := range r.dst.Values {
		v := &r.dst.Values[i]
		v.Set, v.Text, v.Int, v.List = false, "", 0, v.List[:0]
	}
}

// cut returns src[from:to] as a string.
func (r *run) cut(from, to int) string {
	if len(r.src) > shareLimit {
		return string(r.src[from:to])
	}
	if r.text == "" {
		r.text = string(r.src)
	}
	return r.text[from:to]
}

// number sets a leaf from a whole number.
func (r *run) number(n *node, v int64) {
	switch n.col.Type {
	case Int:
		r.value(n).Int = v
	case TimeMs:
		r.time(n, v)
	case Bool:
		r.note(n, "want true or false, found a number")
	case Text, TextList:
		r.string(n, strconv.FormatInt(v, 10))
	}
}

// time sets a leaf from milliseconds since 1970.
func (r *run) time(n *node, ms int64) {
	if ms < minTimeMs || ms > maxTimeMs {
		r.note(n, "outside the years 0001 to 9999")
		return
	}
	if n.slot < 0 {
		r.dst.Time, r.dst.HasTime = ms, true
		return
	}
	r.value(n).Int = ms
}

// flag sets a leaf from a truth value.
func (r *run) flag(n *node, b bool) {
	switch n.col.Type {
	case Bool:
		v := r.value(n)
		v.Int = 0
		if b {
			v.Int = 1
		}
	case Int, TimeMs:
		r.note(n, "want a number, found a boolean")
	case Text, TextList:
		r.string(n, strconv.FormatBool(b))
	}
}

// string sets a leaf from text, as its column's type wants it.
func (r *run) string(n *node, s string) {
	switch n.col.Type {
	case Text:
		r.value(n).Text = r.storable(n, s)
	case TextList:
		v := r.value(n)
		v.List = append(v.List, r.storable(n, s))
	case Int:
		i, ok := wholeNumber(s)
		if !ok {
			r.note(n, "not a whole number of 64 bits")
			return
		}
		r.value(n).Int = i
	case Bool:
		if s != "true" && s != "false" {
			r.note(n, "want true or false, found text")
			return
		}
		r.flag(n, s == "true")
	case TimeMs:
		r.timeText(n, []byte(s))
	}
}

func (r *run) value(n *node) *Value {
	v := &r.dst.Values[n.slot]
	v.Set = true
	return v
}

// storable makes a text that every store takes: UTF-8 without NUL, not longer than
// its column's bound. What is lost is noted; the evidence itself is not touched.
func (r *run) storable(n *node, s string) string {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		r.note(n, "bytes that text cannot hold are replaced")
		s = strings.ReplaceAll(toUTF8(s), "\x00", "\uFFFD")
	}
	if len(s) > n.col.Max {
		r.note(n, "cut to "+strconv.Itoa(n.col.Max)+" bytes")
		end := n.col.Max
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = strings.Clone(s[:end])
	}
	return s
}

// toUTF8 puts U+FFFD in the place of each byte that is part of no rune.
func toUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// element counts one element of a list at a column's place and says whether it is to
// be taken: one for a column of one value, [MaxList] for a list.
func (r *run) element(n *node, count *int) bool {
	*count++
	limit, what := 1, "want one value, found a list, its first counts"
	if n.col.Type == TextList {
		limit, what = MaxList, "more than 64 elements, the rest is left out"
	}
	if *count == limit+1 {
		r.note(n, what)
	}
	return *count <= limit
}

// wholeNumber takes a JSON number with a whole value: 3, -3, 3.0, 3e2.
func wholeNumber(s string) (int64, bool) {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return v, s[0] != '+'
	}
	sc := scan{b: []byte(s)}
	if end, whole, err := sc.number(0); err != nil || whole || end != len(s) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != float64(int64(f)) || f < -1<<53 || f > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// notes collects what a projection could not take as it stood: a bounded text of
// paths from the table and words of ours, never of the payload.
type notes struct {
	n    int
	list [maxNotes]note
}

type note struct {
	n    *node
	what string
}

const maxNotes = 4

func (r *run) note(n *node, what string) {
	if r.notes.n < maxNotes {
		r.notes.list[r.notes.n] = note{n, what}
	}
	r.notes.n++
}

// err returns what the notes amount to, nil when there are none.
func (r *run) err() *DecodeError {
	if r.notes.n == 0 {
		return nil
	}
	reason := ""
	for i, n := range r.notes.list[:min(r.notes.n, maxNotes)] {
		if i > 0 {
			reason += "; "
		}
		if n.n.path != "" {
			reason += n.n.path + ": "
		}
		reason += n.what
	}
	if more := r.notes.n - maxNotes; more > 0 {
		reason += "; and " + strconv.Itoa(more) + " more"
	}
	return &DecodeError{Reason: reason, Partial: true}
}

// again makes room for a field's second value. Parsers differ in which one they take,
// so it is noted; here the last one counts, as in most.
func (r *run) again(n *node) {
	r.note(n, "given more than once, the last one counts")
	if n.slot < 0 {
		r.dst.Time, r.dst.HasTime = 0, false
		return
	}
	v := &r.dst.Values[n.slot]
	v.Set, v.Text, v.Int, v.List = false, "", 0, v.List[:0]
}

// textAt takes src[from:to], text as it stands. A text of megabytes for a column that
// keeps a kilobyte is not copied: what can be stored and one rune more is enough to see
// that it was cut.
func (r *run) textAt(n *node, from, to int) {
	if limit := n.col.Max; limit > 0 && to-from > limit+utf8.UTFMax {
		end := from + limit + utf8.UTFMax
		for i := 1; i < utf8.UTFMax && !utf8.RuneStart(r.src[end]); i++ {
			end--
		}
		to = end
	}
	r.string(n, r.cut(from, to))
}

// timeText sets a leaf from RFC 3339 text.
func (r *run) timeText(n *node, b []byte) {
	ms, ok := parseTime(b)
	if !ok {
		r.note(n, "not a time in RFC 3339 and not milliseconds")
		return
	}
	r.time(n, ms)
}
