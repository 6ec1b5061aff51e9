package schemas

import (
	"context"
	"errors"
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
	v1       projection
	resolver Resolver
}

// NewCodec makes a codec that asks r for the schemas of Avro values. A nil r knows none.
func NewCodec(r Resolver) *Codec {
	cols := Columns(ProjectionVersion)
	root, _ := buildTree(cols)
	return &Codec{v1: projection{root: root, columns: len(cols)}, resolver: r}
}

// Project fills dst from a value by the current [ProjectionVersion].
//
// A *DecodeError is final and says what the value does not give; dst then holds what
// it does give, which may be nothing. Any other error means that the registry could
// not be asked: dst is empty, and the caller tries again.
func (c *Codec) Project(ctx context.Context, value []byte, dst *Fields) error {
	return c.v1.projectJSON(value, dst)
}

// JSON returns the event as ECS JSON.
func (c *Codec) JSON(ctx context.Context, value []byte) ([]byte, error) {
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
	return value, nil
}
