package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The acts of the product that are evidence themselves: events of ledger.control, in
// JSON, with the action in event.action and in the header ce_type.
const (
	ActionOrderResume    = "order.resume"
	ActionAccessRead     = "access.read"
	ActionKeyAnnounce    = "key.announce"
	ActionSchemaRegister = "schema.register"
	ActionVerifyStart    = "verify.start"
	ActionVerifyCancel   = "verify.cancel"
)

// ControlDataset is event.dataset of every control event.
const ControlDataset = "sealstream.control"

// ControlAction is one row of the table of control events.
type ControlAction struct {
	Name     string // event.action
	Category string // event.category
	Type     string // event.type
	Object   string // audit.object.type
	Doc      string // what it records
}

// ControlActions is the table: no control event has another action.
func ControlActions() []ControlAction {
	return []ControlAction{
		{ActionOrderResume, "configuration", "change", "partition", "an operator lets a stopped partition go on; audit.order is the order"},
		{ActionAccessRead, "database", "access", "events", "someone read event content; audit.query, audit.data"},
		{ActionKeyAnnounce, "configuration", "creation", "key", "a key came into use; audit.details"},
		{ActionSchemaRegister, "configuration", "creation", "schema", "a schema was registered; audit.details"},
		{ActionVerifyStart, "process", "start", "verification", "someone asked for a verification; audit.details is of what"},
		{ActionVerifyCancel, "process", "end", "verification", "someone cancelled a verification; audit.details"},
	}
}

// Act is what every control event says: who, when, on what.
type Act struct {
	ID        string    // the event's id, a UUID of version 7
	Time      time.Time // when it was done
	Tenant    string    // whose events it touched; empty: the installation's
	Actor     string    // the principal, as its token or the operating system names it
	ActorType string    // user or service; user when empty
	Object    string    // id of the object: a topic and partition, a key id, a subject
	Reason    string    // why, in the actor's words
	Failed    bool      // it was tried and came to nothing
}

// Read says what was asked of event content and what was answered.
type Read struct {
	Query   string // the question: route and parameters, no more
	Rows    int64  // how many events the answer has
	Digest  string // SHA-256 of the answer, hexadecimal
	Purpose string // what for, as the reader said; may be empty
}

// OrderResume makes the event of an operator's order. order is the JSON object of
// processors.Order; whether it fits a partition is for the seal to judge.
func OrderResume(a Act, order json.RawMessage) (*AuditEvent, error) {
	if !embeds(order, 2) || order[0] != '{' {
		return nil, errors.New("audit.order: not a JSON object")
	}
	e, err := a.event(ActionOrderResume)
	if err != nil {
		return nil, err
	}
	e.Audit.Order = new(string(order))
	return e, nil
}

// AccessRead makes the event of a read, to be written before the answer is given.
func AccessRead(a Act, r Read) (*AuditEvent, error) {
	e, err := a.event(ActionAccessRead)
	if err != nil {
		return nil, err
	}
	e.Audit.Query = &AuditQuery{Text: optional(r.Query), Digest: optional(r.Digest)}
	e.Audit.Data = &AuditData{Rows: &r.Rows, Purpose: optional(r.Purpose)}
	return e, nil
}

// Announce makes an event of an action whose particulars are a JSON object under
// audit.details: [ActionKeyAnnounce], [ActionSchemaRegister], [ActionVerifyStart],
// [ActionVerifyCancel].
func Announce(action string, a Act, details json.RawMessage) (*AuditEvent, error) {
	switch action {
	case ActionKeyAnnounce, ActionSchemaRegister, ActionVerifyStart, ActionVerifyCancel:
	default:
		return nil, fmt.Errorf("action %q has no details", action)
	}
	if !embeds(details, 2) || details[0] != '{' {
		return nil, errors.New("audit.details: not a JSON object")
	}
	e, err := a.event(action)
	if err != nil {
		return nil, err
	}
	e.Audit.Details = new(string(details))
	return e, nil
}

// event fills in what is the same for every act.
func (a Act) event(action string) (*AuditEvent, error) {
	row, err := controlAction(action)
	if err != nil {
		return nil, err
	}
	if a.ID == "" || a.Actor == "" || a.Time.IsZero() {
		return nil, fmt.Errorf("%s: a control event needs an id, a time and an actor", action)
	}
	outcome, actorType := "success", a.ActorType
	if a.Failed {
		outcome = "failure"
	}
	if actorType == "" {
		actorType = "user"
	}
	e := &AuditEvent{
		Timestamp: a.Time.UTC().Truncate(time.Millisecond),
		Event: AuditInfo{
			ID: a.ID, Kind: new("event"), Action: new(action), Outcome: &outcome,
			Category: &[]string{row.Category}, Type: &[]string{row.Type}, Reason: optional(a.Reason),
			Dataset: new(ControlDataset), Module: new("sealstream"), Provider: new("sealstream"),
		},
		Ecs:  &AuditEcs{Version: new(ECSVersion)},
		User: &AuditUser{ID: &a.Actor},
		Audit: &AuditFields{
			Actor:  &AuditActor{Type: &actorType},
			Object: &AuditObject{Type: &row.Object, ID: optional(a.Object), Tenant: optional(a.Tenant)},
		},
	}
	if a.Tenant != "" {
		e.Organization = &AuditOrganization{ID: &a.Tenant}
	}
	return e, nil
}

func controlAction(name string) (ControlAction, error) {
	for _, row := range ControlActions() {
		if row.Name == name {
			return row, nil
		}
	}
	return ControlAction{}, fmt.Errorf("action %q is not in the table of control events", name)
}

// optional is nil for an empty text.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
