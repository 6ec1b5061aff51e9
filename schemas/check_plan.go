package schemas

import (
	"strings"
	"sync"
)

// placeKind is what the quick check wants to find at a place.
type placeKind uint8

const (
	placeRecord placeKind = iota
	placeMap
	placeList // of texts
	placeText
	placeJSON // text that holds JSON, or the JSON itself
	placeLong
	placeDouble
	placeBool
	placeTime
)

// place is one field of one of our schemas, under one path: where a type is used in
// two fields, each has its own places.
type place struct {
	name  string
	kind  placeKind
	id    int  // dense, indexes the set of places met
	max   int  // bytes of a text, or of one in a list, that a column takes; 0: no column
	items int  // most elements of a list; 0: any number
	role  role // what the rules want of it
	kids  []place
	first [64]uint8 // by first and last byte and length: 1 + index of the first kid; 0 = none
	next  uint8     // 1 + index of the next kid with the same bytes and length; 0 = none
}

// role is what the rules, or the outline, want of a place.
type role uint8

const (
	roleNone role = iota
	roleID
	roleAction
	roleUserID
	roleUserName
	roleUserEmail
	roleAggregateType
	roleAggregateID
	roleTime // the last one whose content is kept
	roleOtherTime
	roleDataset
	roleKind
	roleOutcome
	roleCategory
	roleType
	roleVersion
	rolePayload
	roleContentType
	roles // how many there are
)

func roleOf(path string) role {
	switch path {
	case "event.id":
		return roleID
	case "event.action":
		return roleAction
	case "user.id":
		return roleUserID
	case "user.name":
		return roleUserName
	case "user.email":
		return roleUserEmail
	case "aggregate.type":
		return roleAggregateType
	case "aggregate.id":
		return roleAggregateID
	case timePath:
		return roleTime
	case "event.created", "event.ingested":
		return roleOtherTime
	case "event.dataset":
		return roleDataset
	case "event.kind":
		return roleKind
	case "event.outcome":
		return roleOutcome
	case "event.category":
		return roleCategory
	case "event.type":
		return roleType
	case "aggregate.version":
		return roleVersion
	case "payload":
		return rolePayload
	case "content_type":
		return roleContentType
	}
	return roleNone
}

// quickPlan is one of our schemas with the rules, ready for the quick check. Made once,
// then only read.
type quickPlan struct {
	root     place
	required uint32 // roles that must be met, as bits

	kinds, outcomes map[string]bool
	categories      map[string]uint8  // index in expected
	types           map[string]uint32 // each a bit
	expected        []uint32          // by category: the types that go with it
}

var (
	auditCheck = sync.OnceValue(func() *quickPlan {
		return makePlan(auditForm(), roleID, roleAction, roleTime)
	})
	domainCheck = sync.OnceValue(func() *quickPlan {
		return makePlan(domainForm(), roleID, roleAction, roleTime, roleAggregateType, roleAggregateID, roleVersion)
	})
)

// makePlan panics on a schema of ours that the quick check was not made for: no test
// would have passed.
func makePlan(f *form, required ...role) *quickPlan {
	p := &quickPlan{kinds: map[string]bool{}, outcomes: map[string]bool{}, categories: map[string]uint8{}, types: map[string]uint32{}}
	places := 0
	p.root = placeOf(f.op, "", "", &places)
	if places > 64*len(quickWalk{}.met) {
		panic("schemas: too many fields for the quick check")
	}
	for _, r := range required {
		p.required |= 1 << r
	}
	for _, k := range Kinds() {
		p.kinds[k] = true
	}
	for _, o := range Outcomes() {
		p.outcomes[o] = true
	}
	for i, c := range Categories() {
		p.categories[c] = uint8(i)
		mask := uint32(0)
		for _, t := range expectedTypes(c) {
			if p.types[t] == 0 {
				p.types[t] = 1 << len(p.types)
			}
			mask |= p.types[t]
		}
		p.expected = append(p.expected, mask)
	}
	if len(p.types) > 32 {
		panic("schemas: too many event types for the quick check")
	}
	return p
}

func placeOf(o *op, name, path string, places *int) place {
	p := place{name: name, id: *places, role: roleOf(path)}
	*places++
	o = some(o)
	switch o.wire {
	case wireRecord:
		p.kind = placeRecord
		p.fields(o, path, places)
	case wireMap:
		p.kind = placeMap
	case wireArray:
		p.kind = placeList
		if path == "tags" {
			p.items = MaxLabels
		}
	case wireString:
		p.kind = placeText
	case wireLong:
		p.kind = placeLong
		if o.logical == logicalMillis {
			p.kind = placeTime
		}
	case wireDouble:
		p.kind = placeDouble
	case wireBool:
		p.kind = placeBool
	default:
		panic("schemas: the quick check does not know the type of " + path)
	}
	if at := columnsForm().root.walk([]byte(path)); at != nil && at.leaf {
		p.column(at, path)
	}
	return p
}

// column holds a place to its column, whose type must be the field's own: what the
// projection would have to turn into something else is not for the quick check.
func (p *place) column(at *node, path string) {
	want := map[ColumnType]placeKind{Text: placeText, TextList: placeList, Int: placeLong, Bool: placeBool, TimeMs: placeTime}
	if want[at.col.Type] != p.kind {
		panic("schemas: column and field " + path + " have different types")
	}
	switch p.kind {
	case placeText:
		p.max = at.col.Max
	case placeList:
		p.max, p.items = at.col.Max, MaxList
	}
}

func (p *place) fields(o *op, path string, places *int) {
	p.kids = make([]place, len(o.fields))
	for i := range o.fields {
		f := &o.fields[i]
		if strings.Contains(f.name, ".") || f.name == "" || i == 255 {
			panic("schemas: the quick check cannot tell the fields of " + path + " apart")
		}
		p.kids[i] = placeOf(f.op, f.name, strings.TrimPrefix(path+"."+f.name, "."), places)
		if f.json {
			p.kids[i].kind = placeJSON
		}
		at := &p.first[bucketOf([]byte(f.name))]
		p.kids[i].next, *at = *at, uint8(i+1)
	}
}

func bucketOf(name []byte) int {
	return (int(name[0])*5 + int(name[len(name)-1])*3 + len(name)) & 63
}

// kid returns the field of that name, or nil.
func (p *place) kid(name []byte) *place {
	if len(name) == 0 {
		return nil
	}
	for i := p.first[bucketOf(name)]; i != 0; {
		k := &p.kids[i-1]
		if string(name) == k.name {
			return k
		}
		i = k.next
	}
	return nil
}
