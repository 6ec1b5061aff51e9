package schemas

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FieldError says what is wrong with one field and what to do about it. It shows no
// content, except short values of closed lists (kind, category, type, outcome).
type FieldError struct {
	Field   string // ECS path; empty: the event as a whole
	Problem string
	Fix     string
}

func (e *FieldError) Error() string {
	s := e.Problem
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Fix != "" {
		s += " (" + e.Fix + ")"
	}
	return s
}

// Bounds of a valid event.
const (
	MaxEventID  = 128            // bytes of event.id
	MaxFuture   = 24 * time.Hour // how far a payload time may be ahead
	MaxActions  = 256            // bytes of event.action and event.dataset
	MaxLabels   = 256            // members of labels and metadata, elements of tags
	ciphertext  = "enc:v1:"      // begins a field that was encrypted before it was sent
	earliestMs  = 946_684_800_000
	earliestDay = "2000-01-01"
)

// ValidateAudit holds an audit event to the rules for events that are still with their
// sender. What passes is projected without a mark. now is the time to measure the
// future by. The error joins up to a few *[FieldError].
//
// The rules: event.id is 1 to 128 bytes of printable ASCII without spaces (a UUID of
// version 4 or 7 is advised: only those can be found through a proof later);
// "@timestamp" and the other times lie between 2000-01-01 and now + 24 h; event.action
// is given; kind, category, type and outcome have values of ECS 9.4, and types go with
// their categories.
func ValidateAudit(e *AuditEvent, now time.Time) error {
	v := validator{now: now}
	v.info(e.Timestamp, &e.Event)
	v.size("tags", e.Tags, nil)
	v.size("labels", nil, e.Labels)
	if e.Audit != nil {
		v.jsonText("audit.order", e.Audit.Order)
		v.jsonText("audit.details", e.Audit.Details)
	}
	if len(v.errs) == 0 {
		v.projection(auditForm(), e)
	}
	return errors.Join(v.errs...)
}

// ValidateDomain is [ValidateAudit] for domain events. Beside the rules there:
// aggregate.type and aggregate.id are given, aggregate.version is 1 or more, and
// payload is JSON unless content_type says otherwise or it is ciphertext.
func ValidateDomain(e *DomainEvent, now time.Time) error {
	v := validator{now: now}
	v.info(e.Timestamp, infoOf(&e.Event))
	v.given("aggregate.type", e.Aggregate.Type, MaxActions)
	v.given("aggregate.id", e.Aggregate.ID, MaxKeyword)
	if e.Aggregate.Version < 1 {
		v.fail("aggregate.version", "must be 1 or more", "give the aggregate's version after the change")
	}
	v.size("tags", e.Tags, nil)
	v.size("labels", nil, e.Labels)
	v.size("metadata", nil, e.Metadata)
	if e.ContentType == nil {
		v.jsonText("payload", e.Payload)
	}
	if len(v.errs) == 0 {
		v.projection(domainForm(), e)
	}
	return errors.Join(v.errs...)
}

// infoOf copies what the rules look at and the two generated types have in common.
func infoOf(d *DomainInfo) *AuditInfo {
	return &AuditInfo{
		ID: d.ID, Kind: d.Kind, Category: d.Category, Type: d.Type, Action: d.Action, Outcome: d.Outcome,
		Dataset: d.Dataset, Created: d.Created, Ingested: d.Ingested,
	}
}

type validator struct {
	now  time.Time
	errs []error
}

func (v *validator) fail(field, problem, fix string) {
	v.errs = append(v.errs, &FieldError{Field: field, Problem: problem, Fix: fix})
}

func (v *validator) info(at time.Time, e *AuditInfo) {
	switch {
	case e.ID == "":
		v.fail("event.id", "missing", "give each event an id of its own, a UUID of version 7 best")
	case len(e.ID) > MaxEventID || strings.ContainsFunc(e.ID, func(r rune) bool { return r <= ' ' || r > '~' }):
		v.fail("event.id", "not an id", "give a UUID, or 1 to 128 bytes of printable ASCII without spaces")
	}
	v.time("@timestamp", &at)
	v.time("event.created", e.Created)
	v.time("event.ingested", e.Ingested)
	if e.Action == nil {
		v.fail("event.action", "missing", "say what was done, such as user.login")
	} else {
		v.given("event.action", *e.Action, MaxActions)
	}
	if e.Dataset != nil {
		v.given("event.dataset", *e.Dataset, MaxActions)
	}
	v.oneOf("event.kind", e.Kind, Kinds())
	v.oneOf("event.outcome", e.Outcome, Outcomes())
	if err := checkCategories(deref(e.Category), deref(e.Type)); err != nil {
		v.errs = append(v.errs, err)
	}
}

func deref(p *[]string) []string {
	if p == nil {
		return nil
	}
	return *p
}

func (v *validator) given(field, s string, limit int) {
	switch {
	case s == "":
		v.fail(field, "empty", "give it")
	case len(s) > limit:
		v.fail(field, "longer than "+strconv.Itoa(limit)+" bytes", "shorten it")
	}
}

func (v *validator) oneOf(field string, s *string, allowed []string) {
	if s != nil && !slices.Contains(allowed, *s) {
		v.fail(field, quoted(*s)+" is not known to ECS "+ECSVersion, "use one of "+strings.Join(allowed, ", "))
	}
}

// time holds a payload time to [2000-01-01, now + 24 h]: outside of it a clock or a
// unit is wrong (seconds, microseconds), and the event would hide in an odd corner.
func (v *validator) time(field string, t *time.Time) {
	switch {
	case t == nil:
	case t.IsZero():
		v.fail(field, "missing", "give the time it happened, such as 2026-11-23T10:15:42.123Z")
	case t.UnixMilli() < earliestMs:
		v.fail(field, "before "+earliestDay, "give RFC 3339, or milliseconds since 1970; seconds are too small")
	case t.After(v.now.Add(MaxFuture)):
		v.fail(field, "more than 24 hours ahead", "give RFC 3339, or milliseconds since 1970; check the sender's clock")
	}
}

func (v *validator) size(field string, list *[]string, m *map[string]string) {
	n := len(deref(list))
	if m != nil {
		n = len(*m)
	}
	if n > MaxLabels {
		v.fail(field, "more than "+strconv.Itoa(MaxLabels)+" of them", "send what identifies the event; the rest belongs into a payload")
	}
}

func (v *validator) jsonText(field string, s *string) {
	if s == nil || strings.HasPrefix(*s, ciphertext) {
		return
	}
	sc := scan{b: []byte(*s)}
	end, err := sc.skip(sc.space(0), 0)
	if err == nil {
		err = sc.tail(end)
	}
	if err != nil || sc.badUTF {
		v.fail(field, "not JSON", "give JSON text, nested at most 64 deep")
	}
}

// columnsForm is the projection that validation tries an event with.
var columnsForm = sync.OnceValue(func() *projection {
	cols := Columns(ProjectionVersion)
	root, _ := buildTree(cols)
	return &projection{root: root, columns: len(cols)}
})

// projection refuses what a store would have to cut or replace.
func (v *validator) projection(f *form, event any) {
	body, err := f.append(nil, event)
	if err != nil {
		v.errs = append(v.errs, err)
		return
	}
	var dst Fields
	var bad *DecodeError
	if err := columnsForm().projectAvro(f.op, body, &dst); errors.As(err, &bad) {
		v.fail("", bad.Reason, "keep texts within their bounds and free of NUL")
	}
}
