package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// scanner holds the targets of one row's columns, in the order of listed.
type scanner struct {
	columns    []schemas.Column
	values     []any // pointers to pointers, nil for null
	targets    []any
	fixed      int
	id         [16]byte
	seq        int64
	leaf       []byte
	eventTime  time.Time
	recordTime *time.Time
	tenant     string
	decodeErr  *string
	frame      []byte
}

// newScanner makes a scanner of listFixed, then of extra columns whose targets extra
// sets, then of the projection.
func newScanner(extra ...string) *scanner {
	s := &scanner{columns: schemas.Columns(schemas.ProjectionVersion)}
	s.targets = []any{&s.id, &s.seq, &s.leaf, &s.eventTime, &s.recordTime, &s.tenant, &s.decodeErr, &s.frame}
	s.fixed = len(s.targets)
	s.targets = append(s.targets, make([]any, len(extra))...)
	for _, c := range s.columns {
		var target any
		switch c.Type {
		case schemas.TextList:
			target = new([]string)
		case schemas.Int:
			target = new(*int64)
		case schemas.Bool:
			target = new(*bool)
		case schemas.TimeMs:
			target = new(*time.Time)
		case schemas.Text:
			target = new(*string)
		}
		s.values = append(s.values, target)
		s.targets = append(s.targets, target)
	}
	return s
}

func (s *scanner) extra(targets ...any) { copy(s.targets[s.fixed:], targets) }

// bare is the row without what a payload gives.
func (s *scanner) bare() sinks.Event {
	e := sinks.Event{Ledger: s.id, Seq: uint64(s.seq), Time: s.eventTime.UTC(), Tenant: s.tenant, Fields: map[string]any{}}
	copy(e.LeafHash[:], s.leaf)
	if s.recordTime != nil {
		e.RecordTime = s.recordTime.UTC()
	}
	if s.decodeErr != nil {
		e.DecodeError = *s.decodeErr
	}
	return e
}

// event is the row as answers show it.
func (s *scanner) event(ctx context.Context, codec *schemas.Codec) sinks.Event {
	e := s.bare()
	for i, c := range s.columns {
		switch v := s.values[i].(type) {
		case **string:
			set(e.Fields, c.Path, *v)
		case **int64:
			set(e.Fields, c.Path, *v)
		case **bool:
			set(e.Fields, c.Path, *v)
		case **time.Time:
			if *v != nil {
				e.Fields[c.Path] = (*v).UTC().Format("2006-01-02T15:04:05.000Z07:00")
			}
		case *[]string:
			if *v != nil {
				e.Fields[c.Path] = append([]string(nil), *v...)
			}
		}
	}
	s.value(ctx, codec, &e)
	return e
}

func set[T any](m map[string]any, path string, v *T) {
	if v != nil {
		m[path] = *v
	}
}

// value makes the event's JSON from the frame. That it cannot be made hides nothing:
// the columns are there, and so is the frame.
func (s *scanner) value(ctx context.Context, codec *schemas.Codec, e *sinks.Event) {
	rec, err := ledger.ParseFrame(s.frame)
	if err != nil {
		e.DecodeError = "the stored frame is damaged: run verify"
		return
	}
	v, err := codec.JSON(ctx, rec.Value)
	var bad *schemas.DecodeError
	switch {
	case err == nil:
		e.Value = v
	case errors.As(err, &bad):
		if e.DecodeError == "" {
			e.DecodeError = bad.Reason
		}
	default:
		e.DecodeError = "the schema registry cannot be asked now, so the event's JSON is not shown"
	}
}
