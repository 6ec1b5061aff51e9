package schemas

// projectJSON fills dst from one JSON object in ECS form.
func (p *projection) projectJSON(value []byte, dst *Fields) error {
	w := jsonWalk{scan: scan{b: value}, run: run{dst: dst, src: value}}
	w.reset(p.columns)
	i, err := w.top()
	if err == nil {
		i, err = w.members(p.root, i, 0)
	}
	if err == nil {
		err = w.tail(i)
	}
	if err != nil {
		w.reset(p.columns)
		return &DecodeError{Reason: err.Error()}
	}
	if w.badUTF {
		w.note(p.root, "text that is not UTF-8")
	}
	if e := w.err(); e != nil {
		return e
	}
	return nil
}

// jsonWalk projects while it scans: one pass, no tree.
type jsonWalk struct {
	scan
	run
}

// members walks the object at i, whose place in the table is n.
func (w *jsonWalk) members(n *node, i, depth int) (int, *jsonError) {
	return w.object(i, depth, func(k0, k1 int, info strInfo, j int) (int, *jsonError) {
		return w.member(w.key(n, k0, k1, info), j, depth)
	})
}

// key finds a member's place: directly, or along the dots in its name.
func (w *jsonWalk) key(n *node, k0, k1 int, info strInfo) *node {
	key := w.b[k0:k1]
	if info&strEscaped != 0 {
		key = []byte(unquote(key, info))
	}
	if k := n.find(key); k != nil {
		return k
	}
	return n.walk(key)
}

// member takes the value at j, whose place is n; nil means that no column wants it.
func (w *jsonWalk) member(n *node, j, depth int) (int, *jsonError) {
	switch {
	case n == nil:
		return w.skip(j, depth+1)
	case n.leaf:
		if w.meet(n) {
			w.again(n)
		}
		return w.leafValue(n, j, depth)
	case w.kind(j) != jsonObject: // not as ECS has it, and no column wants it
		return w.skip(j, depth+1)
	}
	if w.meet(n) {
		w.note(n, "object given more than once")
	}
	return w.members(n, j, depth+1)
}

// leafValue takes the value of a column's field.
func (w *jsonWalk) leafValue(n *node, j, depth int) (int, *jsonError) {
	if w.kind(j) != jsonArray {
		return w.scalar(n, j, depth)
	}
	count := 0
	return w.array(j, depth+1, func(j int) (int, *jsonError) {
		if k := w.kind(j); k == jsonNull || k == jsonArray {
			if k == jsonArray {
				w.note(n, "a list inside a list")
			}
			return w.skip(j, depth+2)
		}
		if !w.element(n, &count) {
			return w.skip(j, depth+2)
		}
		return w.scalar(n, j, depth+1)
	})
}

// scalar takes one value that is no list.
func (w *jsonWalk) scalar(n *node, j, depth int) (int, *jsonError) {
	switch w.kind(j) {
	case jsonString:
		end, info, err := w.str(j)
		if err == nil {
			w.body(n, j+1, end-1, info)
		}
		return end, err
	case jsonNumber:
		end, whole, err := w.scan.number(j)
		if err == nil {
			w.numberAt(n, j, end, whole)
		}
		return end, err
	case jsonBool:
		end, err := w.literal(j)
		if err == nil {
			w.flag(n, w.b[j] == 't')
		}
		return end, err
	case jsonObject:
		w.note(n, "want a value, found an object")
	}
	return w.skip(j, depth+1)
}

// body takes the string body b[from:to].
func (w *jsonWalk) body(n *node, from, to int, info strInfo) {
	switch {
	case info&strEscaped != 0:
		w.run.string(n, unquote(w.b[from:to], info))
	case n.col.Type == Text && info == 0 && to-from <= n.col.Max:
		// The usual case: ASCII without escapes, which the scan has proven storable.
		w.value(n).Text = w.cut(from, to)
	case n.col.Type == TimeMs:
		w.timeText(n, w.b[from:to])
	default:
		w.textAt(n, from, to)
	}
}

// numberAt takes the number b[from:to].
func (w *jsonWalk) numberAt(n *node, from, to int, whole bool) {
	if n.col.Type == Text || n.col.Type == TextList {
		w.run.string(n, w.cut(from, to))
		return
	}
	if whole && to-from < 19 {
		w.run.number(n, smallNumber(w.b[from:to]))
		return
	}
	v, ok := wholeNumber(w.cut(from, to))
	if !ok {
		w.note(n, "not a whole number of 64 bits")
		return
	}
	w.run.number(n, v)
}

// smallNumber reads an optional minus and up to 18 digits.
func smallNumber(b []byte) (v int64) {
	neg := b[0] == '-'
	if neg {
		b = b[1:]
	}
	for _, c := range b {
		v = v*10 + int64(c-'0')
	}
	if neg {
		return -v
	}
	return v
}
