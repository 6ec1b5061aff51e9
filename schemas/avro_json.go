package schemas

import (
	"strconv"
	"unicode/utf8"
)

// avroToJSON appends the JSON form of an Avro body written with the schema that o was
// made of: records and maps as objects, nulls left out, names as the schema has them or
// its property "ecs" says. Two map entries of one name stay two members.
func avroToJSON(dst []byte, o *op, body []byte) ([]byte, error) {
	w := jsonWriter{wireReader: wireReader{b: body}, out: dst, limit: len(dst) + maxGrowth*len(body) + freeGrowth}
	for o.wire == wireUnion {
		k := w.index(len(o.kinds))
		if k < 0 {
			break
		}
		o = o.kinds[k]
	}
	if w.err == nil && o.wire != wireRecord && o.wire != wireMap {
		w.fail(notRecord)
	}
	if w.err == nil {
		w.value(o, 0, false)
	}
	if w.err == nil && w.i != len(body) {
		w.fail("bytes behind the end of the record")
	}
	if w.err != nil {
		return nil, &DecodeError{Reason: w.err.Error()}
	}
	return w.out, nil
}

// Bounds on how much longer JSON may be than Avro: names are written out, and a hostile
// schema may have long ones.
const (
	maxGrowth  = 32
	freeGrowth = 64 << 10
)

// jsonWriter writes while it reads.
type jsonWriter struct {
	wireReader
	out   []byte
	limit int
}

func (w *jsonWriter) value(o *op, depth int, isJSON bool) {
	if depth > MaxDepth {
		w.fail(tooDeep)
		return
	}
	if len(w.out) > w.limit {
		w.fail("too long as JSON")
		return
	}
	switch o.wire {
	case wireNull:
		w.out = append(w.out, "null"...)
	case wireBool:
		w.out = strconv.AppendBool(w.out, w.bool())
	case wireInt, wireLong:
		w.number(o, w.whole(o))
	case wireFloat, wireDouble:
		text, isNumber := floatText(w.real(o))
		if isNumber {
			w.out = append(w.out, text...)
		} else {
			w.out = appendString(w.out, text)
		}
	case wireEnum:
		if k := w.index(len(o.symbols)); k >= 0 {
			w.out = appendString(w.out, o.symbols[k])
		}
	case wireString:
		w.text(w.bytes(), depth, isJSON)
	case wireBytes, wireFixed:
		w.text([]byte(bytesText(o, w.octets(o))), depth, isJSON)
	case wireUnion:
		if k := w.index(len(o.kinds)); k >= 0 {
			w.value(o.kinds[k], depth, isJSON)
		}
	case wireRecord:
		w.record(o, depth)
	case wireMap:
		w.mapping(o, depth)
	case wireArray:
		w.list(o, depth)
	}
}

// number writes a whole number, a time as RFC 3339, a date as such.
func (w *jsonWriter) number(o *op, v int64) {
	if o.logical.isTime() {
		if ms := timeMs(o.logical, v); ms >= minTimeMs && ms <= maxTimeMs {
			w.out = append(w.out, '"')
			w.out = append(appendTime(w.out, ms), '"')
			return
		}
	} else if o.logical == logicalDate {
		if d, ok := dateText(v); ok {
			w.out = appendString(w.out, d)
			return
		}
	}
	w.out = strconv.AppendInt(w.out, v, 10)
}

// text writes a string, or the object or list that it is the text of.
func (w *jsonWriter) text(b []byte, depth int, isJSON bool) {
	if isJSON && embeds(b, depth) {
		w.out = append(w.out, b...)
		return
	}
	w.out = appendString(w.out, string(b))
}

// embeds says whether a JSON text stands in JSON as itself: one object or list, in
// UTF-8, without white space around it, that does not get too deep at its place.
func embeds(b []byte, depth int) bool {
	if len(b) == 0 || b[0] != '{' && b[0] != '[' {
		return false
	}
	s := scan{b: b}
	end, err := s.skip(0, depth)
	return err == nil && end == len(b) && !s.badUTF
}

func (w *jsonWriter) record(o *op, depth int) {
	if !w.spend(len(o.fields)) {
		return
	}
	w.out = append(w.out, '{')
	first := true
	for i := range o.fields {
		f := &o.fields[i]
		kind := w.branch(f.op)
		if w.err != nil {
			return
		}
		if kind.wire == wireNull {
			continue
		}
		first = w.comma(first)
		w.out = append(appendString(w.out, f.name), ':')
		w.value(kind, depth+1, f.json)
	}
	w.out = append(w.out, '}')
}

// branch reads which kind of a union follows; a type that is no union is itself.
func (w *jsonWriter) branch(o *op) *op {
	for o.wire == wireUnion {
		k := w.index(len(o.kinds))
		if k < 0 {
			return o
		}
		o = o.kinds[k]
	}
	return o
}

func (w *jsonWriter) mapping(o *op, depth int) {
	w.out = append(w.out, '{')
	first := true
	for n := w.block(); n > 0; n = w.block() {
		for ; n > 0 && w.err == nil; n-- {
			first = w.comma(first)
			w.out = append(appendString(w.out, string(w.bytes())), ':')
			w.value(o.item, depth+1, false)
		}
	}
	w.out = append(w.out, '}')
}

func (w *jsonWriter) list(o *op, depth int) {
	w.out = append(w.out, '[')
	first := true
	for n := w.block(); n > 0; n = w.block() {
		for ; n > 0 && w.err == nil; n-- {
			first = w.comma(first)
			w.value(o.item, depth+1, false)
		}
	}
	w.out = append(w.out, ']')
}

func (w *jsonWriter) comma(first bool) bool {
	if !first {
		w.out = append(w.out, ',')
	}
	return false
}

// appendString appends s as a JSON string: shortest escapes, U+FFFD for what is no
// UTF-8, nothing escaped that needs not be, so that the same text is always the same bytes.
func appendString(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[from:i]...), "\uFFFD"...)
				from = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
