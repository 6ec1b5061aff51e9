package cloudtrail

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealstream/sealstream/schemas"
)

// Map says one CloudTrail record in ECS. Its errors name the member at fault.
//
// What is derived is shortened where a store would have to cut it; event.original has
// all of it. The event is not yet held to [schemas.ValidateAudit].
func Map(raw []byte) (*schemas.AuditEvent, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("not UTF-8: its bytes cannot be kept as text")
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, syntax(err)
	}
	switch {
	case r.EventID == "":
		return nil, errors.New("eventID: missing")
	case r.EventName == "":
		return nil, errors.New("eventName: missing")
	case r.EventSource == "":
		return nil, errors.New("eventSource: missing")
	}
	at, err := time.Parse(time.RFC3339, string(r.EventTime))
	if err != nil {
		return nil, errors.New("eventTime: missing, or not RFC 3339")
	}
	e := &schemas.AuditEvent{
		Timestamp:  at.UTC(),
		Event:      r.event(raw),
		Ecs:        &schemas.AuditEcs{Version: new(schemas.ECSVersion)},
		DataStream: &schemas.AuditDataStream{Type: new("logs"), Dataset: new(dataset), Namespace: new("default")},
		User:       r.user(),
		Source:     r.source(),
		Cloud:      r.cloud(),
		Error:      r.failure(),
		Audit:      &schemas.AuditFields{Actor: r.actor(), Object: r.object()},
	}
	if s := keyword(r.UserAgent); s != nil {
		e.UserAgent = &schemas.AuditUserAgent{Original: prose(r.UserAgent)}
	}
	if s := keyword(r.RequestID); s != nil {
		e.HTTP = &schemas.AuditHTTP{Request: &schemas.AuditHTTPRequest{ID: s}}
	}
	if s := keyword(r.UserIdentity.v.InvokedBy); s != nil {
		e.Service = &schemas.AuditService{Name: s}
	}
	r.target(e)
	e.Related = related(e)
	return e, nil
}

const dataset = "aws.cloudtrail"

// syntax keeps the position of a JSON error and leaves out what stands there.
func syntax(err error) error {
	var s *json.SyntaxError
	if errors.As(err, &s) {
		return fmt.Errorf("not JSON at byte %d", s.Offset)
	}
	return errors.New("not a JSON object")
}

func (r *record) event(raw []byte) schemas.AuditInfo {
	category, types := r.categories()
	outcome := r.outcome()
	return schemas.AuditInfo{
		ID: string(r.EventID), Kind: new("event"), Category: &category, Type: &types,
		Action: keyword(r.EventName), Outcome: &outcome, Reason: prose(r.ErrorMessage), Code: keyword(r.EventType),
		Dataset: new(dataset), Module: new("aws"), Provider: keyword(r.EventSource),
		Original: new(string(raw)),
	}
}

// outcome follows errorCode, and for sign-ins, which have none, what the console
// answered: {"ConsoleLogin": "Failure"}.
func (r *record) outcome() string {
	if r.ErrorCode != "" || r.ErrorMessage != "" {
		return "failure"
	}
	if r.service() == "signin" {
		var answer map[string]loose
		_ = json.Unmarshal(r.ResponseElements, &answer) // null, or of another form: no answer
		switch answer[string(r.EventName)] {
		case "Failure":
			return "failure"
		case "Success", "":
		default:
			return "unknown"
		}
	}
	return "success"
}

func (r *record) failure() *schemas.AuditError {
	if r.ErrorCode == "" && r.ErrorMessage == "" {
		return nil
	}
	return &schemas.AuditError{Code: keyword(r.ErrorCode), Message: prose(r.ErrorMessage)}
}

// user says who acted. For an assumed role that is the role, with the name of the
// session as its session; a service of AWS has no user.
func (r *record) user() *schemas.AuditUser {
	u := r.UserIdentity.v
	name := keyword(u.UserName)
	i := u.SessionContext.v.Issuer.v
	switch {
	case name != nil:
	case i.UserName != "":
		name = keyword(i.UserName)
	case u.Type == "Root":
		name = new("root")
	case u.Type == "FederatedUser":
		name = keyword(loose(afterSlash(string(u.ARN))))
	}
	id := keyword(u.PrincipalID)
	if id == nil {
		id = keyword(firstOf(u.OnBehalfOf.v.UserID, u.ARN))
	}
	if id == nil && name == nil {
		return nil
	}
	out := &schemas.AuditUser{ID: id, Name: name}
	if i.ARN != "" && u.Type == "AssumedRole" {
		out.Effective = &schemas.AuditOtherUser{ID: keyword(i.ARN), Name: keyword(i.UserName)}
	}
	return out
}

func (r *record) actor() *schemas.AuditActor {
	u := r.UserIdentity.v
	a := &schemas.AuditActor{Type: new("user"), CredentialID: keyword(firstOf(u.AccessKeyID, u.CredentialID))}
	switch {
	case u.Type == "AWSService" || u.InvokedBy != "":
		a.Type = new("service")
	case u.Type == "" && u.AccountID == "":
		a.Type = nil
	case u.AccountID == "anonymous" || u.AccountID == "ANONYMOUS_PRINCIPAL":
		a.Type = new("anonymous")
	}
	if u.Type == "Root" {
		a.IsPrivileged = new(true)
	}
	switch firstOf(r.AdditionalEventData.v.MFAUsed, u.SessionContext.v.Attributes.v.MFA) {
	case "Yes", "true":
		a.Mfa = new(true)
	case "No", "false":
		a.Mfa = new(false)
	}
	switch key := string(u.AccessKeyID); {
	case r.EventName == "ConsoleLogin":
		a.AuthMethod = new("console")
	case strings.HasPrefix(key, "AKIA"):
		a.AuthMethod = new("access_key")
	case strings.HasPrefix(key, "ASIA"):
		a.AuthMethod = new("temporary_credentials")
	}
	if _, name, ok := strings.Cut(string(u.PrincipalID), ":"); ok {
		a.SessionID = keyword(loose(name))
	}
	return a
}

// source takes an address for one only if it is one: calls that AWS makes for others
// come from names such as cloudformation.amazonaws.com.
func (r *record) source() *schemas.AuditSource {
	address := keyword(r.SourceIPAddress)
	if address == nil {
		return nil
	}
	s := &schemas.AuditSource{Address: address}
	if _, err := netip.ParseAddr(*address); err == nil {
		s.IP = address
	}
	return s
}

func (r *record) cloud() *schemas.AuditCloud {
	c := &schemas.AuditCloud{Provider: new("aws"), Region: keyword(r.AWSRegion), Service: &schemas.AuditCloudService{Name: keyword(loose(r.service()))}}
	if id := keyword(firstOf(r.RecipientAccountID, r.UserIdentity.v.AccountID)); id != nil {
		c.Account = &schemas.AuditCloudAccount{ID: id}
	}
	return c
}

// related gathers the names and addresses of the event, to pivot on.
func related(e *schemas.AuditEvent) *schemas.AuditRelated {
	var users, ips []string
	add := func(to *[]string, s *string) {
		if s != nil && !slices.Contains(*to, *s) {
			*to = append(*to, *s)
		}
	}
	if u := e.User; u != nil {
		add(&users, u.ID)
		add(&users, u.Name)
		if u.Target != nil {
			add(&users, u.Target.Name)
		}
	}
	if e.Source != nil {
		add(&ips, e.Source.IP)
	}
	if len(users)+len(ips) == 0 {
		return nil
	}
	out := new(schemas.AuditRelated)
	if len(users) > 0 {
		out.User = &users
	}
	if len(ips) > 0 {
		out.IP = &ips
	}
	return out
}

func firstOf(all ...loose) loose {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

func afterSlash(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

// keyword and prose shorten to what the columns keep; empty is absent.
func keyword(s loose) *string { return bounded(string(s), schemas.MaxKeyword) }
func prose(s loose) *string   { return bounded(string(s), schemas.MaxProse) }

func bounded(s string, limit int) *string {
	if s == "" {
		return nil
	}
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	if len(s) > limit {
		for !utf8.RuneStart(s[limit]) {
			limit--
		}
		s = s[:limit]
	}
	return &s
}
