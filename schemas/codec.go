package schemas

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrUnknownSchema is what a [Resolver] wraps when the registry has no such id: asking
// again will not help. Every other error of a resolver means: try later.
var ErrUnknownSchema = errors.New("no such schema id")

// Resolver looks schemas up by the id in a Confluent frame.
type Resolver interface {
	// Schema returns the schema text of an id.
	Schema(ctx context.Context, id uint32) (string, error)
}

// DecodeError says that a value is not, or not wholly, what a schema explains. Reason
// names fields and positions, never content, and is the same for the same bytes and
// schema; it is at most a few hundred bytes long.
//
// Partial: the value could be read, and everything but what Reason names is there.
// Otherwise nothing could be read. In both cases [Fields] is what a store should keep,
// together with Reason.
type DecodeError struct {
	Reason  string
	Partial bool
}

func (e *DecodeError) Error() string { return e.Reason }

// projection is the compiled form of Columns(version).
type projection struct {
	root    *node
	columns int
}

// Codec reads event values. It is safe for concurrent use.
type Codec struct {
	v1      projection
	schemas schemaCache
}

// NewCodec makes a codec that asks r for the schemas of Avro values; nil knows none.
func NewCodec(r Resolver) *Codec {
	cols := Columns(ProjectionVersion)
	root, _ := buildTree(cols)
	return &Codec{
		v1:      projection{root: root, columns: len(cols)},
		schemas: schemaCache{resolver: r, root: root, now: time.Now, known: map[uint32]schemaEntry{}},
	}
}

// Project fills dst from a value by the current [ProjectionVersion]. dst keeps no part
// of value.
//
// A *DecodeError is final and says what the value does not give; dst then holds what
// it does give, which may be nothing. Any other error means that the registry could
// not be asked: dst is empty, and the caller tries again.
//
// The rules of version 1, which no release may change:
//
//   - A field may be nested, or named with dots, or both. Given twice, the last one
//     counts and the value is marked (Partial). JSON null is the same as absent.
//   - Text takes a string; a number or boolean as it is written; of a list the first
//     element, marked if there are more. A list takes a single value as a list of one
//     and keeps its first 64 elements. An object where a value should be is marked.
//   - NUL and bytes that are no UTF-8 become U+FFFD, marked. A text longer than its
//     column's Max is cut at a rune, marked.
//   - A whole number may be written as 3, 3.0, 3e0 or "3"; a boolean as true or "true".
//   - A time is RFC 3339 text, or milliseconds since 1970 as a number. One outside the
//     years 0001 to 9999, or one that is no time, is absent and marked; the other
//     fields are there all the same.
//   - JSON that is no JSON, Avro that ends early or has bytes behind its end, an
//     unknown schema id, nesting deeper than 64: nothing is there (not Partial).
func (c *Codec) Project(ctx context.Context, value []byte, dst *Fields) error {
	id, body, isAvro := SplitFrame(value)
	if !isAvro && !cutFrame(value) {
		return c.v1.projectJSON(value, dst)
	}
	o, err := c.schema(ctx, id, isAvro)
	if err != nil {
		(&run{dst: dst}).reset(c.v1.columns)
		return err
	}
	return c.v1.projectAvro(o, body, dst)
}

// JSON returns the event as ECS JSON. A value that is JSON already is returned as it
// is, or, when its text is not all UTF-8, as a copy with U+FFFD for what is not. The
// errors are those of [Codec.Project], except that no *DecodeError is Partial.
func (c *Codec) JSON(ctx context.Context, value []byte) ([]byte, error) {
	id, body, isAvro := SplitFrame(value)
	if !isAvro && !cutFrame(value) {
		return validJSON(value)
	}
	o, err := c.schema(ctx, id, isAvro)
	if err != nil {
		return nil, err
	}
	return avroToJSON(nil, o, body)
}

// cutFrame tells the beginning of a frame that ends too soon.
func cutFrame(value []byte) bool { return len(value) > 0 && value[0] == 0 && len(value) < FrameSize }

func (c *Codec) schema(ctx context.Context, id uint32, whole bool) (*op, error) {
	if !whole {
		return nil, &DecodeError{Reason: "avro: the value ends inside its frame"}
	}
	return c.schemas.get(ctx, id)
}

func validJSON(value []byte) ([]byte, error) {
	s := scan{b: value}
	i, err := s.top()
	if err == nil {
		i, err = s.skip(i, 0)
	}
	if err == nil {
		err = s.tail(i)
	}
	if err != nil {
		return nil, &DecodeError{Reason: err.Error()}
	}
	if s.badUTF {
		return []byte(toUTF8(string(value))), nil
	}
	return value, nil
}

// schemaCache remembers what ids mean. An id never changes its meaning, so what was
// found stays; that the registry does not know an id is believed for a short while,
// so that a flood of such records does not become a flood of requests.
type schemaCache struct {
	resolver Resolver
	root     *node
	now      func() time.Time

	mu    sync.RWMutex
	known map[uint32]schemaEntry
}

// schemaEntry is a compiled schema, or why there is none.
type schemaEntry struct {
	op    *op
	err   *DecodeError
	until time.Time // zero: for good
}

const (
	maxKnownSchemas = 1024 // any one makes room for the next
	unknownFor      = 10 * time.Second
)

func (c *schemaCache) get(ctx context.Context, id uint32) (*op, error) {
	c.mu.RLock()
	e, ok := c.known[id]
	c.mu.RUnlock()
	if !ok || !e.until.IsZero() && c.now().After(e.until) {
		var err error
		if e, err = c.ask(ctx, id); err != nil {
			return nil, fmt.Errorf("resolve schema id %d: %w", id, err)
		}
		c.put(id, e)
	}
	if e.err != nil {
		return nil, e.err
	}
	return e.op, nil
}

// ask turns an answer of the registry into an entry. Several callers may ask for the
// same id at once; they get the same answer.
func (c *schemaCache) ask(ctx context.Context, id uint32) (schemaEntry, error) {
	unknown := schemaEntry{
		err:   &DecodeError{Reason: fmt.Sprintf("avro: the registry has no schema id %d", id)},
		until: c.now().Add(unknownFor),
	}
	if c.resolver == nil {
		return unknown, nil
	}
	text, err := c.resolver.Schema(ctx, id)
	switch {
	case errors.Is(err, ErrUnknownSchema):
		return unknown, nil
	case err != nil:
		return schemaEntry{}, err
	}
	o, err := parseSchema(text, c.root)
	if err != nil {
		// The library's words are left out: they may change with its version, and the
		// reason is kept beside the row that verify derives again.
		return schemaEntry{err: &DecodeError{Reason: fmt.Sprintf("avro: schema id %d cannot be read", id)}}, nil
	}
	return schemaEntry{op: o}, nil
}

func (c *schemaCache) put(id uint32, e schemaEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[id]; !ok && len(c.known) >= maxKnownSchemas {
		for other := range c.known {
			delete(c.known, other)
			break
		}
	}
	c.known[id] = e
}
