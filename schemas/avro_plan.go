package schemas

import (
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/avro"
)

// wire is how Avro writes a value.
type wire uint8

const (
	wireNull wire = iota
	wireBool
	wireInt
	wireLong
	wireFloat
	wireDouble
	wireBytes
	wireString
	wireFixed
	wireEnum
	wireArray
	wireMap
	wireRecord
	wireUnion
)

// logical is what a number or bytes stand for, where JSON shows it in other words.
type logical uint8

const (
	logicalNone logical = iota
	logicalMillis
	logicalMicros
	logicalNanos
	logicalDate
	logicalDecimal
	logicalUUID // of fixed(16); in a string it is that string
)

// op is one schema compiled for walking its wire form. It never changes after compile.
type op struct {
	wire    wire
	logical logical
	size    int      // of a fixed
	scale   int      // of a decimal
	symbols []string // of an enum
	fields  []opField
	item    *op // of an array or map
	kinds   []*op
	at      *node // the place the fields' places were found for; nil: none
}

// opField is one field of a record.
type opField struct {
	name string // as JSON has it: the property "ecs", or the Avro name
	json bool   // a string that holds JSON text
	op   *op
	some *op   // of a union of null, first, and one other: that one
	at   *node // nil: no column wants it
}

// Bounds on a writer's schema text; the Avro library bounds the tree.
const maxSchemaText = 1 << 20

// parseSchema compiles a writer's schema for a projection. Its errors are bounded and
// name nothing of the schema but what is at fault in our words.
func parseSchema(text string, root *node) (*op, error) {
	if len(text) > maxSchemaText {
		return nil, fmt.Errorf("schema text longer than %d bytes", maxSchemaText)
	}
	s, err := avro.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse avro schema: %w", err)
	}
	c := compiler{named: map[string]*avro.SchemaNode{}, shared: map[string]*op{}}
	tree := s.Root()
	c.collect(tree)
	o := c.compile(tree, "", root)
	if c.err != nil {
		return nil, c.err
	}
	return o, nil
}

// compiler turns a schema tree into ops. Where no column can be found below, a named
// type is compiled once and shared, so a recursive schema ends and one that names its
// types twice per level does not double per level.
type compiler struct {
	named  map[string]*avro.SchemaNode
	shared map[string]*op
	ops    int
	err    error
}

// maxOps bounds a compiled schema: with names given by the property "ecs" a small text
// could ask for the same place ever again.
const maxOps = 1 << 16

// fullName is a definition's name with its namespace, which a name with dots carries
// in itself.
func fullName(n *avro.SchemaNode) string {
	if n.Namespace == "" || strings.Contains(n.Name, ".") {
		return n.Name
	}
	return n.Namespace + "." + n.Name
}

// inside is the namespace in which names within n are short for.
func inside(n *avro.SchemaNode, space string) string {
	if n.Name == "" {
		return space
	}
	full := fullName(n)
	return full[:max(strings.LastIndexByte(full, '.'), 0)]
}

// collect remembers every definition by its full name.
func (c *compiler) collect(n *avro.SchemaNode) {
	if n == nil {
		return
	}
	if n.Name != "" {
		c.named[fullName(n)] = n
	}
	for i := range n.Fields {
		c.collect(&n.Fields[i].Type)
	}
	for i := range n.Branches {
		c.collect(&n.Branches[i])
	}
	c.collect(n.Items)
	c.collect(n.Values)
}

// compile compiles n, which stands in the namespace space, for the place at.
func (c *compiler) compile(n *avro.SchemaNode, space string, at *node) *op {
	if c.ops++; c.ops > maxOps {
		c.err = errors.New("avro schema has too many fields")
		return &op{}
	}
	if w, ok := primitive(n.Type); ok {
		return &op{wire: w, at: at, logical: logicalOf(n), scale: n.Scale}
	}
	// A reference may be written short, within its namespace.
	if def := c.named[space+"."+n.Type]; def != nil {
		n = def
	} else if def := c.named[n.Type]; def != nil {
		n = def
	}
	space = inside(n, space)
	if at == nil && n.Name != "" {
		if o := c.shared[fullName(n)]; o != nil {
			return o
		}
	}
	o := &op{at: at, logical: logicalOf(n), scale: n.Scale}
	if at == nil && n.Name != "" {
		c.shared[fullName(n)] = o // before its fields, which may name it
	}
	switch n.Type {
	case "record", "error":
		o.wire = wireRecord
		c.fields(o, n, space, at)
	case "enum":
		o.wire, o.symbols = wireEnum, n.Symbols
	case "fixed":
		o.wire, o.size = wireFixed, n.Size
	case "array":
		// Only the elements of a column's own list are of use.
		o.wire = wireArray
		o.item = c.compile(n.Items, space, leafOnly(at))
	case "map":
		o.wire = wireMap
		o.item = c.compile(n.Values, space, nil)
	case "union":
		o.wire = wireUnion
		for i := range n.Branches {
			o.kinds = append(o.kinds, c.compile(&n.Branches[i], space, at))
		}
	default:
		c.err = errors.New("avro schema names a type that it does not define")
	}
	return o
}

func (c *compiler) fields(o *op, n *avro.SchemaNode, space string, at *node) {
	o.fields = make([]opField, len(n.Fields))
	for i := range n.Fields {
		f := &n.Fields[i]
		of := opField{name: f.Name}
		if name, ok := f.Props["ecs"].(string); ok && name != "" {
			of.name = name
		} else if f.Name == "timestamp" && at != nil && at.path == "" {
			of.name = timePath
		}
		of.json, _ = f.Props["json"].(bool)
		if at != nil && !at.leaf {
			of.at = at.walk([]byte(of.name))
		}
		of.op = c.compile(&f.Type, space, of.at)
		if k := of.op.kinds; len(k) == 2 && k[0].wire == wireNull {
			of.some = k[1]
		}
		o.fields[i] = of
	}
}

func leafOnly(n *node) *node {
	if n != nil && n.leaf {
		return n
	}
	return nil
}

func primitive(name string) (wire, bool) {
	switch name {
	case "null":
		return wireNull, true
	case "boolean":
		return wireBool, true
	case "int":
		return wireInt, true
	case "long":
		return wireLong, true
	case "float":
		return wireFloat, true
	case "double":
		return wireDouble, true
	case "bytes":
		return wireBytes, true
	case "string":
		return wireString, true
	}
	return 0, false
}

// logicalOf knows the logical types that JSON shows in other words; the rest are shown
// as what they are made of.
func logicalOf(n *avro.SchemaNode) logical {
	switch n.LogicalType {
	case "timestamp-millis":
		return logicalMillis
	case "timestamp-micros":
		return logicalMicros
	case "timestamp-nanos":
		return logicalNanos
	case "date":
		return logicalDate
	case "decimal":
		return logicalDecimal
	case "uuid":
		if n.Type == "fixed" {
			return logicalUUID
		}
	}
	return logicalNone
}
