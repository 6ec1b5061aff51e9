package schemas

// projectAvro fills dst from an Avro body written with the schema that o was made of.
// It walks the wire form once, in place: what no column wants is passed over.
func (p *projection) projectAvro(o *op, body []byte, dst *Fields) error {
	w := avroWalk{wireReader: wireReader{b: body}, run: run{dst: dst, src: body}}
	w.reset(p.columns)
	if w.top(o, p.root); w.wireReader.err == nil && w.i != len(body) {
		w.fail("bytes behind the end of the record")
	}
	if err := w.wireReader.err; err != nil {
		w.reset(p.columns)
		return &DecodeError{Reason: err.Error()}
	}
	if e := w.run.err(); e != nil {
		return e
	}
	return nil
}

// avroWalk projects while it reads.
type avroWalk struct {
	wireReader
	run
}

const notRecord = "the schema is no record"

// top takes the outermost value, which must be a record or a map, a union's too.
func (w *avroWalk) top(o *op, root *node) {
	for depth := 0; o.wire == wireUnion; depth++ {
		k := w.index(len(o.kinds))
		if k < 0 {
			return
		}
		o = o.kinds[k]
	}
	if o.wire != wireRecord && o.wire != wireMap {
		w.fail(notRecord)
		return
	}
	w.value(o, root, 0)
}

// value takes one value whose place is n. Only places that a column wants come here.
func (w *avroWalk) value(o *op, n *node, depth int) {
	if n == nil {
		w.skip(o, depth)
		return
	}
	if depth > MaxDepth {
		w.fail(tooDeep)
		return
	}
	switch o.wire {
	case wireUnion:
		if k := w.index(len(o.kinds)); k >= 0 {
			w.value(o.kinds[k], n, depth)
		}
	case wireRecord:
		if n.leaf {
			w.note(n, "want a value, found an object")
			w.skip(o, depth)
			return
		}
		w.record(o, n, depth)
	case wireMap:
		if n.leaf {
			w.note(n, "want a value, found an object")
			w.skip(o, depth)
			return
		}
		w.mapping(o, n, depth)
	case wireArray:
		if !n.leaf {
			w.skip(o, depth)
			return
		}
		w.list(o, n, depth)
	default:
		if !n.leaf {
			w.skip(o, depth)
			return
		}
		w.scalar(o, n)
	}
}

func (w *avroWalk) record(o *op, n *node, depth int) {
	if !w.spend(len(o.fields)) {
		return
	}
	known := o.at == n
	for i := range o.fields {
		if w.wireReader.err != nil {
			return
		}
		f := &o.fields[i]
		kind := f.op
		if f.some != nil && w.i < len(w.b) { // nearly every field: null, or not
			switch w.b[w.i] {
			case 0:
				w.i++
				continue
			case 2:
				w.i++
				kind = f.some
			}
		}
		at := f.at
		if !known {
			at = n.walk([]byte(f.name))
		}
		w.member(kind, at, depth, false)
	}
}

// mapping takes a map as JSON shows it: an object whose names may have dots.
func (w *avroWalk) mapping(o *op, n *node, depth int) {
	for c := w.block(); c > 0; c = w.block() {
		for ; c > 0 && w.wireReader.err == nil; c-- {
			key := w.bytes()
			at := n.find(key)
			if at == nil {
				at = n.walk(key)
			}
			w.member(o.item, at, depth, true)
		}
	}
}

// member takes a field's or entry's value and watches for places met twice. A null entry
// is met, as it is in JSON, where a null field does not appear.
func (w *avroWalk) member(o *op, at *node, depth int, entry bool) {
	if at == nil {
		w.skip(o, depth+1)
		return
	}
	for o.wire == wireUnion {
		k := w.index(len(o.kinds))
		if k < 0 {
			return
		}
		o = o.kinds[k]
	}
	switch {
	case o.wire == wireNull:
		if entry && at.leaf && w.meet(at) {
			w.again(at)
		}
		return
	case at.leaf:
		if w.meet(at) {
			w.again(at)
		}
	case o.wire == wireRecord || o.wire == wireMap:
		if w.meet(at) {
			w.note(at, "object given more than once")
		}
	}
	w.value(o, at, depth+1)
}

// list takes an array at a column's place; see jsonWalk.leafValue, which it must match.
func (w *avroWalk) list(o *op, n *node, depth int) {
	count := 0
	for c := w.block(); c > 0; c = w.block() {
		for ; c > 0 && w.wireReader.err == nil; c-- {
			item := o.item
			for item.wire == wireUnion {
				k := w.index(len(item.kinds))
				if k < 0 {
					return
				}
				item = item.kinds[k]
			}
			switch item.wire {
			case wireNull:
				continue
			case wireArray:
				w.note(n, "a list inside a list")
				w.skip(item, depth+1)
				continue
			}
			if !w.element(n, &count) {
				w.skip(item, depth+1)
				continue
			}
			w.value(item, n, depth+1)
		}
	}
}

// scalar takes a value that is neither list nor object to a column.
func (w *avroWalk) scalar(o *op, n *node) {
	switch o.wire {
	case wireBool:
		if b := w.bool(); w.wireReader.err == nil {
			w.flag(n, b)
		}
	case wireInt, wireLong:
		v := w.whole(o)
		if w.wireReader.err == nil {
			w.numberOf(o, n, v)
		}
	case wireFloat, wireDouble:
		f := w.real(o)
		if w.wireReader.err == nil {
			w.realOf(n, f)
		}
	case wireEnum:
		if k := w.index(len(o.symbols)); k >= 0 {
			w.run.string(n, o.symbols[k])
		}
	case wireString:
		b := w.bytes()
		if w.wireReader.err == nil {
			w.textAt(n, w.i-len(b), w.i)
		}
	case wireBytes, wireFixed:
		b := w.octets(o)
		if w.wireReader.err == nil {
			w.run.string(n, bytesText(o, b))
		}
	}
}

func (w *wireReader) whole(o *op) int64 {
	if o.wire == wireInt {
		return w.int()
	}
	return w.long()
}

func (w *wireReader) real(o *op) float64 {
	if o.wire == wireFloat {
		return w.float()
	}
	return w.double()
}

func (w *wireReader) octets(o *op) []byte {
	if o.wire == wireFixed {
		return w.take(o.size)
	}
	return w.bytes()
}

// numberOf takes a whole number, which may stand for a time or a date.
func (w *avroWalk) numberOf(o *op, n *node, v int64) {
	switch {
	case o.logical.isTime() && n.col.Type == TimeMs:
		w.time(n, timeMs(o.logical, v))
		return
	case o.logical.isTime():
		if ms := timeMs(o.logical, v); ms >= minTimeMs && ms <= maxTimeMs {
			w.run.string(n, string(appendTime(nil, ms)))
			return
		}
	case o.logical == logicalDate:
		if d, ok := dateText(v); ok {
			w.run.string(n, d)
			return
		}
	}
	w.number(n, v)
}

// realOf takes a number with a fraction as JSON would show it.
func (w *avroWalk) realOf(n *node, f float64) {
	text, isNumber := floatText(f)
	if isNumber && n.col.Type != Text && n.col.Type != TextList {
		v, ok := wholeNumber(text)
		if !ok {
			w.note(n, "not a whole number of 64 bits")
			return
		}
		w.number(n, v)
		return
	}
	w.run.string(n, text)
}
