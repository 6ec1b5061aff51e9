package schemas

import (
	"context"
	_ "embed"
	"fmt"
	"sync"

	"github.com/twmb/avro"
)

//go:embed audit_event.avsc
var auditSchema string

//go:embed domain_event.avsc
var domainSchema string

// AuditSchema is the text of audit_event.avsc, to register and to generate from.
func AuditSchema() string { return auditSchema }

// DomainSchema is the text of domain_event.avsc.
func DomainSchema() string { return domainSchema }

// form is one of our schemas, ready for use: to encode, to write as JSON, to project.
// Made once, then only read.
type form struct {
	schema *avro.Schema
	op     *op
}

var (
	auditForm  = sync.OnceValue(func() *form { return mustForm(auditSchema) })
	domainForm = sync.OnceValue(func() *form { return mustForm(domainSchema) })
)

// mustForm panics on a schema that is part of this package and broken: no test would
// have passed.
func mustForm(text string) *form {
	o, err := parseSchema(text, columnsForm().root)
	if err != nil {
		panic("schemas: " + err.Error())
	}
	return &form{schema: avro.MustParse(text), op: o}
}

// AppendAvro appends the event as Avro, without a frame. Times lose what is below a
// millisecond.
func (e *AuditEvent) AppendAvro(dst []byte) ([]byte, error) { return auditForm().append(dst, e) }

// AppendAvro appends the event as Avro, without a frame. Times lose what is below a
// millisecond.
func (e *DomainEvent) AppendAvro(dst []byte) ([]byte, error) { return domainForm().append(dst, e) }

// UnmarshalAvro reads an event written with exactly this schema, without a frame. For
// other writers' schemas see [Codec.Audit].
func (e *AuditEvent) UnmarshalAvro(b []byte) error { *e = AuditEvent{}; return auditForm().read(b, e) }

// UnmarshalAvro reads an event written with exactly this schema, without a frame. For
// other writers' schemas see [Codec.Domain].
func (e *DomainEvent) UnmarshalAvro(b []byte) error {
	*e = DomainEvent{}
	return domainForm().read(b, e)
}

// MarshalJSON returns the event in ECS form: objects nested, what is nil left out, the
// fields in the schema's order.
func (e *AuditEvent) MarshalJSON() ([]byte, error) { return auditForm().json(e) }

// MarshalJSON returns the event in ECS form: objects nested, what is nil left out, the
// fields in the schema's order.
func (e *DomainEvent) MarshalJSON() ([]byte, error) { return domainForm().json(e) }

// UnmarshalJSON reads an event in ECS form, nested or with dots in its names. Members
// that the schema does not have are left out. An error is a *[FieldError].
func (e *AuditEvent) UnmarshalJSON(b []byte) error {
	*e = AuditEvent{}
	return auditForm().readJSON(b, e)
}

// UnmarshalJSON reads an event in ECS form, nested or with dots in its names. Members
// that the schema does not have are left out. An error is a *[FieldError].
func (e *DomainEvent) UnmarshalJSON(b []byte) error {
	*e = DomainEvent{}
	return domainForm().readJSON(b, e)
}

// Audit reads a value of either form, written with any schema, by the names of its
// fields. Errors are those of [Codec.JSON], or a *[FieldError].
func (c *Codec) Audit(ctx context.Context, value []byte) (*AuditEvent, error) {
	e := new(AuditEvent)
	if err := c.read(ctx, value, e.UnmarshalJSON); err != nil {
		return nil, err
	}
	return e, nil
}

// Domain is [Codec.Audit] for domain events.
func (c *Codec) Domain(ctx context.Context, value []byte) (*DomainEvent, error) {
	e := new(DomainEvent)
	if err := c.read(ctx, value, e.UnmarshalJSON); err != nil {
		return nil, err
	}
	return e, nil
}

func (c *Codec) read(ctx context.Context, value []byte, unmarshal func([]byte) error) error {
	text, err := c.JSON(ctx, value)
	if err != nil {
		return err
	}
	return unmarshal(text)
}

func (f *form) append(dst []byte, event any) ([]byte, error) {
	out, err := f.schema.AppendEncode(dst, event)
	if err != nil {
		return nil, fmt.Errorf("encode event as avro: %w", err)
	}
	return out, nil
}

func (f *form) read(b []byte, event any) error {
	rest, err := f.schema.Decode(b, event)
	if err != nil {
		return fmt.Errorf("decode avro event: %w", err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("decode avro event: %d bytes behind the record", len(rest))
	}
	return nil
}

func (f *form) json(event any) ([]byte, error) {
	b, err := f.append(nil, event)
	if err != nil {
		return nil, err
	}
	return avroToJSON(nil, f.op, b)
}

func (f *form) readJSON(b []byte, event any) error {
	body, err := jsonToAvro(nil, f.op, b)
	if err != nil {
		return err
	}
	return f.read(body, event)
}
