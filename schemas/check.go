package schemas

import (
	"context"
	"time"
)

// Outline is what a producer must know of an event to write it.
type Outline struct {
	ID        string    // event.id
	Action    string    // event.action
	Actor     string    // user.id, else user.name, else user.email; empty when none is given
	Aggregate string    // aggregate.id, of domain events
	Time      time.Time // "@timestamp", in UTC
}

// CheckAudit holds an audit event to the rules of [ValidateAudit] and says what it is,
// for callers that pass its bytes on and do not need the event itself. It takes exactly
// what [Codec.Audit] and then ValidateAudit take; its errors are theirs. dst is filled
// when the error is nil.
//
// An event in the usual words is read in one pass over its bytes. Whatever that pass is
// not certain to be good goes the long way, so that there is one place where events are
// refused and explained.
func (c *Codec) CheckAudit(ctx context.Context, value []byte, now time.Time, dst *Outline) error {
	if quickCheck(auditCheck(), value, now, dst) {
		return nil
	}
	e, err := c.Audit(ctx, value)
	if err != nil {
		return err
	}
	if err := ValidateAudit(e, now); err != nil {
		return err
	}
	*dst = Outline{ID: e.Event.ID, Action: first(e.Event.Action), Time: e.Timestamp}
	if u := e.User; u != nil {
		dst.Actor = first(u.ID, u.Name, u.Email)
	}
	return nil
}

// CheckDomain is [Codec.CheckAudit] for domain events.
func (c *Codec) CheckDomain(ctx context.Context, value []byte, now time.Time, dst *Outline) error {
	if quickCheck(domainCheck(), value, now, dst) {
		return nil
	}
	e, err := c.Domain(ctx, value)
	if err != nil {
		return err
	}
	if err := ValidateDomain(e, now); err != nil {
		return err
	}
	*dst = Outline{ID: e.Event.ID, Action: first(e.Event.Action), Aggregate: e.Aggregate.ID, Time: e.Timestamp}
	if u := e.User; u != nil {
		dst.Actor = first(u.ID, u.Name, u.Email)
	}
	return nil
}

// first returns the first text that is there and not empty.
func first(texts ...*string) string {
	for _, t := range texts {
		if t != nil && *t != "" {
			return *t
		}
	}
	return ""
}
