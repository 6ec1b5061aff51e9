package schemas

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// jsonToAvro appends the Avro body of an event in ECS JSON, for the schema that o was
// made of: one of ours, whose unions are all "null or something". It is the strict side
// of the language, for events that are still with their sender: what the projection
// would mark is refused here. Members that the schema does not have are left out.
//
// Every error is a [FieldError].
func jsonToAvro(dst []byte, o *op, value []byte) ([]byte, error) {
	p := jsonParser{scan: scan{b: value}}
	rec := &slot{sub: make([]slot, len(o.fields))}
	i, err := p.top()
	if err == nil {
		i, err = p.members(o, rec, "", i, 0)
	}
	if err == nil {
		err = p.tail(i)
	}
	switch {
	case p.refused != nil:
		return nil, p.refused
	case err != nil:
		return nil, &FieldError{Problem: err.Error(), Fix: "send one JSON object"}
	case p.badUTF:
		return nil, &FieldError{Problem: "text that is not UTF-8", Fix: "encode all text as UTF-8"}
	}
	w := avroWriter{b: value, out: dst}
	w.record(o, rec, "")
	if w.refused != nil {
		return nil, w.refused
	}
	return w.out, nil
}

// slot says where in the JSON text a field's value stands.
type slot struct {
	set      bool
	nested   bool // given as an object
	from, to int
	sub      []slot          // of a record, parallel to its fields
	entries  []entry         // of a map
	keys     map[string]bool // of entries
}

// entry is one member of a map.
type entry struct {
	key      string
	from, to int
}

// jsonParser sorts the members of a JSON text into slots.
type jsonParser struct {
	scan
	refused *FieldError
}

// refuse stops the scan; the reason is kept apart because a scan error has a position
// and this one has a name.
func (p *jsonParser) refuse(at int, path, problem, fix string) (int, *jsonError) {
	p.refused = &FieldError{Field: path, Problem: problem, Fix: fix}
	return at, p.fail(at, problem)
}

// members sorts the members of the object at i into the slots of rec, whose own path
// is at.
func (p *jsonParser) members(o *op, rec *slot, at string, i, depth int) (int, *jsonError) {
	return p.object(i, depth, func(k0, k1 int, info strInfo, j int) (int, *jsonError) {
		key := p.b[k0:k1]
		if info&strEscaped != 0 {
			key = []byte(unquote(key, info))
		}
		return p.place(o, rec, member{base: at, key: key, at: j, depth: depth})
	})
}

// member is one member on its way to a slot.
type member struct {
	base, name string // what has been walked of its path
	key        []byte // what is left of its name
	at         int    // its value
	depth      int
}

// path is put together only when someone needs to read it.
func (m *member) path() string {
	if m.base == "" || m.name == "" {
		return m.base + m.name
	}
	return m.base + "." + m.name
}

func (m member) down(name string, rest []byte) member {
	if m.name != "" {
		m.base = m.path()
	}
	m.name, m.key = name, rest
	return m
}

// place finds a member's field: by its whole name, or along its dots.
func (p *jsonParser) place(o *op, rec *slot, m member) (int, *jsonError) {
	for i := range o.fields {
		if f := &o.fields[i]; f.name == string(m.key) {
			return p.field(some(f.op), &rec.sub[i], m.down(f.name, nil))
		}
	}
	head, rest, dotted := bytes.Cut(m.key, []byte("."))
	for i := range o.fields {
		f := &o.fields[i]
		if !dotted || f.name != string(head) {
			continue
		}
		kind, s := some(f.op), &rec.sub[i]
		switch kind.wire {
		case wireRecord:
			s.open(kind)
			return p.place(kind, s, m.down(f.name, rest))
		case wireMap:
			s.set = true
			return p.entry(s, m.down(f.name, nil).down(string(rest), nil), string(rest))
		}
	}
	return p.skip(m.at, m.depth+1)
}

func (s *slot) open(o *op) {
	s.set = true
	if s.sub == nil {
		s.sub = make([]slot, len(o.fields))
	}
}

// some is the one kind of a union that is not null; any other type is itself.
func some(o *op) *op {
	if o.wire != wireUnion {
		return o
	}
	for _, k := range o.kinds {
		if k.wire != wireNull {
			return k
		}
	}
	return o
}

// field takes the value of a field whose whole name has been found.
func (p *jsonParser) field(o *op, s *slot, m member) (int, *jsonError) {
	kind := p.kind(m.at)
	if kind == jsonNull || kind == jsonNone {
		return p.skip(m.at, m.depth+1)
	}
	const once = "give it once, nested or with dots"
	if o.wire == wireRecord || o.wire == wireMap {
		if kind != jsonObject {
			return p.refuse(m.at, m.path(), "want an object, found "+kind.String(), "see the field list of the schema")
		}
		if s.nested {
			return p.refuse(m.at, m.path(), "given more than once", once)
		}
		s.nested, s.set = true, true
		if o.wire == wireRecord {
			s.open(o)
			return p.members(o, s, m.path(), m.at, m.depth+1)
		}
		return p.object(m.at, m.depth+1, func(k0, k1 int, info strInfo, j int) (int, *jsonError) {
			key := unquote(p.b[k0:k1], info)
			sub := m.down(key, nil)
			sub.at, sub.depth = j, m.depth+1
			return p.entry(s, sub, key)
		})
	}
	if s.set {
		return p.refuse(m.at, m.path(), "given more than once", once)
	}
	end, err := p.skip(m.at, m.depth+1)
	s.set, s.from, s.to = true, m.at, end
	return end, err
}

// entry takes one member of a map, whose name may have dots of its own.
func (p *jsonParser) entry(s *slot, m member, key string) (int, *jsonError) {
	switch k := p.kind(m.at); k {
	case jsonNull:
		return p.skip(m.at, m.depth+1)
	case jsonObject, jsonArray:
		return p.refuse(m.at, m.path(), "want text, found "+k.String(), "write it as text, or use a field of the schema")
	}
	if s.keys[key] {
		return p.refuse(m.at, m.path(), "given more than once", "give it once")
	}
	if s.keys == nil {
		s.keys = map[string]bool{}
	}
	s.keys[key] = true
	end, err := p.skip(m.at, m.depth+1)
	s.entries = append(s.entries, entry{key: key, from: m.at, to: end})
	return end, err
}

// avroWriter writes slots as Avro. After the first refusal it stands still.
type avroWriter struct {
	b       []byte
	out     []byte
	refused *FieldError
}

func (w *avroWriter) refuse(path, problem, fix string) {
	if w.refused == nil {
		w.refused = &FieldError{Field: path, Problem: problem, Fix: fix}
	}
}

func (w *avroWriter) long(v int64) { w.out = binary.AppendVarint(w.out, v) }

func (w *avroWriter) bytes(s string) {
	w.long(int64(len(s)))
	w.out = append(w.out, s...)
}

func (w *avroWriter) record(o *op, rec *slot, path string) {
	for i := range o.fields {
		if w.refused != nil {
			return
		}
		f, s := &o.fields[i], &rec.sub[i]
		if !s.set && f.some != nil {
			w.out = append(w.out, 0)
			continue
		}
		w.union(f, s, strings.TrimPrefix(path+"."+f.name, "."))
	}
}

// union writes which kind of a field's type follows, then the value.
func (w *avroWriter) union(f *opField, s *slot, path string) {
	o := f.op
	if o.wire == wireUnion {
		want := some(o)
		if !s.set {
			want = nil
		}
		for i, k := range o.kinds {
			if k == want || want == nil && k.wire == wireNull {
				w.long(int64(i))
			}
		}
		if want == nil {
			return
		}
		o = want
	} else if !s.set {
		w.refuse(path, "missing", "give it")
		return
	}
	switch o.wire {
	case wireRecord:
		w.record(o, s, path)
	case wireMap:
		w.mapping(s, path)
	case wireArray:
		w.list(o.item, s, path)
	default:
		w.one(o, s, path, f.json)
	}
}

func (w *avroWriter) mapping(s *slot, path string) {
	if len(s.entries) > 0 {
		w.long(int64(len(s.entries)))
	}
	for _, e := range s.entries {
		w.bytes(e.key)
		text, ok := w.text(e.from, e.to)
		if !ok {
			w.refuse(path, "want text", "write it in quotes")
		}
		w.bytes(text)
	}
	w.long(0)
}

// list writes an array of scalars; a single value is a list of one.
func (w *avroWriter) list(item *op, s *slot, path string) {
	spans := elements(w.b, s)
	if len(spans) > 0 {
		w.long(int64(len(spans)))
	}
	for _, e := range spans {
		w.scalar(item, e, path)
	}
	w.long(0)
}

// elements returns where the elements of a list stand, nulls left out.
func elements(b []byte, s *slot) []slot {
	sc := scan{b: b}
	if sc.kind(s.from) != jsonArray {
		return []slot{*s}
	}
	var out []slot
	// The text has been scanned before, so there is no error to come.
	_, _ = sc.array(s.from, 0, func(j int) (int, *jsonError) {
		end, err := sc.skip(j, 0)
		if sc.kind(j) != jsonNull {
			out = append(out, slot{set: true, from: j, to: end})
		}
		return end, err
	})
	return out
}

// one writes a single value; a list of one is taken for its element.
func (w *avroWriter) one(o *op, s *slot, path string, isJSON bool) {
	sc := scan{b: w.b}
	if isJSON && sc.kind(s.from) != jsonString {
		w.bytes(string(w.b[s.from:s.to]))
		return
	}
	e := *s
	if sc.kind(s.from) == jsonArray {
		list := elements(w.b, s)
		if len(list) != 1 {
			w.refuse(path, fmt.Sprintf("want one value, found a list of %d", len(list)), "give one value")
			return
		}
		e = list[0]
	}
	w.scalar(o, e, path)
}

// scalar writes a value that must be neither list nor object.
func (w *avroWriter) scalar(o *op, e slot, path string) {
	text, ok := w.text(e.from, e.to)
	if !ok {
		sc := scan{b: w.b}
		w.refuse(path, "want one value, found "+sc.kind(e.from).String(), "give text, a number or a boolean")
		return
	}
	switch o.wire {
	case wireString:
		w.bytes(text)
	case wireLong:
		w.whole(o, e, text, path)
	case wireDouble:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			w.refuse(path, "not a number", "give a number such as 7.5")
			return
		}
		w.out = binary.LittleEndian.AppendUint64(w.out, math.Float64bits(f))
	case wireBool:
		if text != "true" && text != "false" {
			w.refuse(path, "not a boolean", "give true or false")
			return
		}
		b := byte(0)
		if text == "true" {
			b = 1
		}
		w.out = append(w.out, b)
	}
}

// text returns a scalar as text: a string's content, a number or boolean as written.
func (w *avroWriter) text(from, to int) (string, bool) {
	sc := scan{b: w.b}
	switch sc.kind(from) {
	case jsonString:
		_, info, _ := sc.str(from)
		return unquote(w.b[from+1:to-1], info), true
	case jsonNumber, jsonBool:
		return string(w.b[from:to]), true
	}
	return "", false
}

// whole writes a whole number or a time.
func (w *avroWriter) whole(o *op, e slot, text, path string) {
	if o.logical == logicalMillis {
		w.time(e, text, path)
		return
	}
	v, ok := wholeNumber(text)
	if !ok {
		w.refuse(path, "not a whole number of 64 bits", "give a whole number")
		return
	}
	w.long(v)
}

func (w *avroWriter) time(e slot, text, path string) {
	var ms int64
	var ok bool
	if w.b[e.from] == '"' {
		ms, ok = parseTime([]byte(text))
	} else {
		ms, ok = wholeNumber(text)
	}
	switch {
	case !ok:
		w.refuse(path, "not a time", "give RFC 3339, such as 2026-11-23T10:15:42.123Z, or milliseconds since 1970")
	case ms < minTimeMs || ms > maxTimeMs:
		w.refuse(path, "outside the years 0001 to 9999", "give the time it happened")
	default:
		w.long(ms)
	}
}
