package generate

import "github.com/sealstream/sealstream/schemas"

// auditAction is one thing that is done, with one outcome.
type auditAction struct {
	action, category string
	types            []string
	object           string // audit.object.type
	provider         string
	weight           float64 // by day; nights see services more than people
	people           bool    // services do not do it
	failed           bool
	reason           string
	retries          int // a failure is followed by up to so many more
	target           bool
	rows             bool
}

func (a *auditAction) weightAt(night bool) float64 {
	if night && a.people {
		return a.weight / 3
	}
	return a.weight
}

func auditActions() []auditAction {
	return []auditAction{
		{action: "user.login", category: "authentication", types: []string{"start"}, object: "session", provider: "idp", weight: 14, people: true},
		{action: "user.login", category: "authentication", types: []string{"start"}, object: "session", provider: "idp", weight: 1.2, people: true, failed: true, reason: "wrong password", retries: 4},
		{action: "user.login", category: "authentication", types: []string{"start"}, object: "session", provider: "idp", weight: 0.02, people: true, failed: true, reason: "account locked", retries: 60},
		{action: "user.logout", category: "session", types: []string{"end"}, object: "session", provider: "idp", weight: 9, people: true},
		{action: "mfa.challenge", category: "authentication", types: []string{"info"}, object: "factor", provider: "idp", weight: 6, people: true},
		{action: "mfa.challenge", category: "authentication", types: []string{"info"}, object: "factor", provider: "idp", weight: 0.3, people: true, failed: true, reason: "code expired", retries: 2},
		{action: "role.grant", category: "iam", types: []string{"user", "change"}, object: "role", provider: "iam", weight: 0.6, people: true, target: true},
		{action: "role.revoke", category: "iam", types: []string{"user", "change"}, object: "role", provider: "iam", weight: 0.4, people: true, target: true},
		{action: "user.create", category: "iam", types: []string{"user", "creation"}, object: "user", provider: "iam", weight: 0.3, people: true, target: true},
		{action: "user.delete", category: "iam", types: []string{"user", "deletion"}, object: "user", provider: "iam", weight: 0.2, people: true, target: true},
		{action: "group.add-member", category: "iam", types: []string{"group", "change"}, object: "group", provider: "iam", weight: 0.5, people: true, target: true},
		{action: "record.read", category: "database", types: []string{"access"}, object: "record", provider: "crm", weight: 30, rows: true},
		{action: "record.export", category: "database", types: []string{"access"}, object: "record", provider: "crm", weight: 1, rows: true},
		{action: "record.change", category: "database", types: []string{"change"}, object: "record", provider: "crm", weight: 12, rows: true},
		{action: "file.download", category: "file", types: []string{"access"}, object: "file", provider: "drive", weight: 7},
		{action: "file.delete", category: "file", types: []string{"deletion"}, object: "file", provider: "drive", weight: 1},
		{action: "config.change", category: "configuration", types: []string{"change"}, object: "setting", provider: "console", weight: 1.5},
		{action: "secret.read", category: "configuration", types: []string{"access"}, object: "secret", provider: "vault", weight: 4},
		{action: "secret.read", category: "configuration", types: []string{"access"}, object: "secret", provider: "vault", weight: 0.2, failed: true, reason: "no grant", retries: 1},
		{action: "key.rotate", category: "configuration", types: []string{"change"}, object: "key", provider: "vault", weight: 0.3},
		{action: "api.call", category: "api", types: []string{"access", "allowed"}, object: "endpoint", provider: "gateway", weight: 18},
		{action: "api.call", category: "api", types: []string{"access", "denied"}, object: "endpoint", provider: "gateway", weight: 0.8, failed: true, reason: "scope missing", retries: 2},
		{action: "deploy.start", category: "package", types: []string{"installation"}, object: "release", provider: "ci", weight: 0.6},
	}
}

// auditTemplate prepares what this actor doing that looks like.
func (g *Generator) auditTemplate(who, what int) *template {
	a, act := &g.world.actors[who], &g.audit[what]
	outcome := "success"
	if act.failed {
		outcome = "failure"
	}
	dataset := act.provider + ".audit"
	e := &schemas.AuditEvent{
		Timestamp: markTime(),
		Event: schemas.AuditInfo{
			ID: markID, Category: &[]string{act.category}, Type: &act.types, Action: &act.action,
			Outcome: &outcome, Dataset: &dataset, Reason: optional(act.reason),
		},
		Organization: &schemas.AuditOrganization{ID: &a.tenant},
		User:         &schemas.AuditUser{ID: &a.id, Name: &a.name},
		Source:       &schemas.AuditSource{IP: &a.ip},
		Audit: &schemas.AuditFields{
			Actor:  &schemas.AuditActor{Type: new(kindOf(a)), SessionID: new(markSession)},
			Object: &schemas.AuditObject{Type: &act.object, ID: new(act.object + "-" + markNumber)},
		},
	}
	if act.category == "api" {
		e.Audit.Actor.SessionID = nil
		e.HTTP = &schemas.AuditHTTP{Request: &schemas.AuditHTTPRequest{Method: new("GET")}, Response: &schemas.AuditHTTPResponse{StatusCode: new(map[bool]int64{false: 200, true: 403}[act.failed])}}
	}
	if act.action == "user.login" {
		e.Audit.Actor.Mfa = &a.mfa
		e.User.Email = optional(a.email)
		e.UserAgent = &schemas.AuditUserAgent{Original: &a.agent}
	}
	if a.admin {
		e.Audit.Actor.IsPrivileged = &a.admin
	}
	if act.target {
		t := &g.world.actors[(who*7+what*31)%len(g.world.actors)]
		e.User.Target = &schemas.AuditOtherUser{ID: &t.id}
	}
	if act.rows {
		e.Audit.Data = &schemas.AuditData{Rows: new(int64(what)*int64(who%9) + 1)}
	}
	return g.prepare(e, prepared{stream: schemas.TopicAudit, actor: a, action: act.action, schemaID: g.o.AuditSchemaID, key: a.key})
}

func kindOf(a *actor) string {
	if a.service {
		return "service"
	}
	return "user"
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
