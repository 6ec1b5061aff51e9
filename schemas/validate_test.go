package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func testNow() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

func goodAudit() *AuditEvent {
	return &AuditEvent{
		Timestamp: testNow(),
		Event:     AuditInfo{ID: "0190c6f0-7d3a-7cc1-9d53-1f2e3d4c5b6a", Kind: new("event"), Action: new("role.grant"), Category: &[]string{"iam"}, Type: &[]string{"user", "change"}, Outcome: new("success")},
		User:      &AuditUser{ID: new("u-1")},
	}
}

func goodDomain() *DomainEvent {
	return &DomainEvent{
		Timestamp: testNow(),
		Event:     DomainInfo{ID: "e-1", Action: new("order.placed")},
		Aggregate: DomainAggregate{Type: "order", ID: "o-7", Version: 1},
		Payload:   new(`{"total":12}`),
	}
}

func TestValidateAudit(t *testing.T) {
	if err := ValidateAudit(goodAudit(), testNow()); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		bend func(e *AuditEvent)
		want string // empty: taken
	}{
		{"no id", func(e *AuditEvent) { e.Event.ID = "" }, "event.id: missing"},
		{"id with a space", func(e *AuditEvent) { e.Event.ID = "a b" }, "event.id: not an id"},
		{"id not ASCII", func(e *AuditEvent) { e.Event.ID = "é" }, "event.id: not an id"},
		{"long id", func(e *AuditEvent) { e.Event.ID = strings.Repeat("a", 129) }, "event.id: not an id"},
		{"longest id", func(e *AuditEvent) { e.Event.ID = strings.Repeat("a", 128) }, ""},
		{"no time", func(e *AuditEvent) { e.Timestamp = time.Time{} }, "@timestamp: missing"},
		{"seconds for milliseconds", func(e *AuditEvent) { e.Timestamp = time.UnixMilli(testNow().Unix()) }, "@timestamp: before 2000-01-01"},
		{"first time", func(e *AuditEvent) { e.Timestamp = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }, ""},
		{"last time", func(e *AuditEvent) { e.Timestamp = testNow().Add(24 * time.Hour) }, ""},
		{"future", func(e *AuditEvent) { e.Timestamp = testNow().Add(24*time.Hour + 1) }, "@timestamp: more than 24 hours ahead"},
		{"created in the future", func(e *AuditEvent) { e.Event.Created = new(testNow().Add(25 * time.Hour)) }, "event.created: more than 24 hours ahead"},
		{"ingested before", func(e *AuditEvent) { e.Event.Ingested = new(time.UnixMilli(0)) }, "event.ingested: before 2000-01-01"},
		{"no action", func(e *AuditEvent) { e.Event.Action = nil }, "event.action: missing"},
		{"empty action", func(e *AuditEvent) { e.Event.Action = new("") }, "event.action: empty"},
		{"long action", func(e *AuditEvent) { e.Event.Action = new(strings.Repeat("a", 257)) }, "event.action: longer than 256 bytes"},
		{"kind", func(e *AuditEvent) { e.Event.Kind = new("events") }, `event.kind: "events" is not known to ECS 9.4.0 (use one of alert, asset`},
		{"outcome", func(e *AuditEvent) { e.Event.Outcome = new("ok") }, `event.outcome: "ok" is not known to ECS 9.4.0 (use one of failure, success, unknown)`},
		{"category", func(e *AuditEvent) { e.Event.Category = &[]string{"iam", "audit"} }, `event.category: "audit" is no category of ECS 9.4.0`},
		{"pair", func(e *AuditEvent) {
			e.Event.Category = &[]string{"authentication"}
			e.Event.Type = &[]string{"creation"}
		}, `event.type: "creation" does not go with event.category authentication in ECS 9.4.0 (use one of end, info, start, or another category)`},
		{"no such type", func(e *AuditEvent) { e.Event.Type = &[]string{"login"} }, `event.type: "login" does not go with event.category iam`},
		{"category without its type", func(e *AuditEvent) { e.Event.Category = &[]string{"iam", "process"}; e.Event.Type = &[]string{"user"} }, `event.category: "process" goes with none of event.type user`},
		{"type without category", func(e *AuditEvent) { e.Event.Category = nil }, "event.category: missing, though event.type is given"},
		{"category alone", func(e *AuditEvent) { e.Event.Type = nil }, ""},
		{"neither", func(e *AuditEvent) { e.Event.Category, e.Event.Type = nil, nil }, ""},
		{"several of both", func(e *AuditEvent) {
			e.Event.Category = &[]string{"iam", "configuration"}
			e.Event.Type = &[]string{"user", "access"}
		}, ""},
		{"long secret category", func(e *AuditEvent) { e.Event.Category = &[]string{strings.Repeat("x", 99)} }, `event.category: "` + strings.Repeat("x", 32) + `..." is no category`},
		{"NUL", func(e *AuditEvent) { e.User.Name = new("a\x00") }, "user.name: bytes that text cannot hold are replaced"},
		{"long name", func(e *AuditEvent) { e.User.Name = new(strings.Repeat("n", 1025)) }, "user.name: cut to 1024 bytes"},
		{"ciphertext", func(e *AuditEvent) { e.User.Name = new("enc:v1:k7:AAEC") }, ""},
		{"labels", func(e *AuditEvent) {
			m := map[string]string{}
			for i := range 257 {
				m[strings.Repeat("a", i)] = ""
			}
			e.Labels = &m
		}, "labels: more than 256 of them"},
		{"tags", func(e *AuditEvent) { e.Tags = new(make([]string, 257)) }, "tags: more than 256 of them"},
		{"order", func(e *AuditEvent) { e.Audit = &AuditFields{Order: new("resume it")} }, "audit.order: not JSON"},
		{"details", func(e *AuditEvent) { e.Audit = &AuditFields{Details: new(`{"a":1}}`)} }, "audit.details: not JSON"},
	}
	for _, test := range tests {
		e := goodAudit()
		test.bend(e)
		err := ValidateAudit(e, testNow())
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		var field *FieldError
		if err != nil && !errors.As(err, &field) {
			t.Errorf("%s: %T", test.name, err)
		}
	}
	e := goodAudit()
	e.Event.ID, e.Event.Outcome = "", new("ok")
	if err := ValidateAudit(e, testNow()); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two faults: %v", err)
	}
}

func TestValidateDomain(t *testing.T) {
	if err := ValidateDomain(goodDomain(), testNow()); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		bend func(e *DomainEvent)
		want string
	}{
		{"id", func(e *DomainEvent) { e.Event.ID = "" }, "event.id: missing"},
		{"action", func(e *DomainEvent) { e.Event.Action = nil }, "event.action: missing"},
		{"outcome", func(e *DomainEvent) { e.Event.Outcome = new("ok") }, "event.outcome"},
		{"dataset", func(e *DomainEvent) { e.Event.Dataset = new("") }, "event.dataset: empty"},
		{"created", func(e *DomainEvent) { e.Event.Created = new(time.UnixMilli(0)) }, "event.created: before"},
		{"ingested", func(e *DomainEvent) { e.Event.Ingested = new(time.UnixMilli(0)) }, "event.ingested: before"},
		{"kind", func(e *DomainEvent) { e.Event.Kind = new("x") }, "event.kind"},
		{"pair", func(e *DomainEvent) { e.Event.Category, e.Event.Type = &[]string{"file"}, &[]string{"user"} }, "event.type"},
		{"type", func(e *DomainEvent) { e.Aggregate.Type = "" }, "aggregate.type: empty"},
		{"aggregate id", func(e *DomainEvent) { e.Aggregate.ID = "" }, "aggregate.id: empty"},
		{"long aggregate id", func(e *DomainEvent) { e.Aggregate.ID = strings.Repeat("a", 1025) }, "aggregate.id: longer than 1024 bytes"},
		{"version", func(e *DomainEvent) { e.Aggregate.Version = 0 }, "aggregate.version: must be 1 or more"},
		{"payload", func(e *DomainEvent) { e.Payload = new("<xml/>") }, "payload: not JSON"},
		{"deep payload", func(e *DomainEvent) { e.Payload = new(strings.Repeat("[", 65) + strings.Repeat("]", 65)) }, "payload: not JSON"},
		{"payload of another type", func(e *DomainEvent) { e.Payload, e.ContentType = new("<xml/>"), new("application/xml") }, ""},
		{"encrypted payload", func(e *DomainEvent) { e.Payload = new("enc:v1:k7:AAEC") }, ""},
		{"no payload", func(e *DomainEvent) { e.Payload = nil }, ""},
		{"metadata", func(e *DomainEvent) { e.Metadata = &map[string]string{"a": "b"} }, ""},
	}
	for _, test := range tests {
		e := goodDomain()
		test.bend(e)
		err := ValidateDomain(e, testNow())
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// TestCategoryTable counts the table against ECS 9.4: 20 categories with 81 pairs, of
// 17 types. The hash is over the sorted lines "category/type" of event.category in
// generated/ecs/ecs_flat.yml of elastic/ecs at b85f757.
func TestCategoryTable(t *testing.T) {
	var types, lines []string
	pairs := 0
	for _, c := range Categories() {
		ok := expectedTypes(c)
		if len(ok) == 0 {
			t.Errorf("%s has no types", c)
		}
		pairs += len(ok)
		types = append(types, ok...)
		for _, typ := range ok {
			lines = append(lines, c+"/"+typ)
			if err := checkCategories([]string{c}, []string{typ}); err != nil {
				t.Error(err)
			}
		}
	}
	slices.Sort(types)
	want := []string{"access", "admin", "allowed", "change", "connection", "creation", "deletion", "denied", "end", "error", "group", "indicator", "info", "installation", "protocol", "start", "user"}
	if got := slices.Compact(types); !slices.Equal(got, want) { // "device" is a type that no category expects
		t.Errorf("types %v", got)
	}
	if len(Categories()) != 20 || pairs != 81 {
		t.Errorf("%d categories, %d pairs", len(Categories()), pairs)
	}
	slices.Sort(lines)
	if sum := sha256.Sum256([]byte(strings.Join(lines, "\n"))); hex.EncodeToString(sum[:]) != "dd63e74a50f8981ff9e91917670f5025ca44d3f9f4dcbdcc4006de5c383ce232" {
		t.Errorf("the table is not that of ECS: %x", sum)
	}
	if expectedTypes("audit") != nil {
		t.Error("a category that ECS has not")
	}
}

func TestFieldErrorText(t *testing.T) {
	for want, e := range map[string]FieldError{
		"user.id: missing (give it)": {"user.id", "missing", "give it"},
		"not JSON":                   {"", "not JSON", ""},
	} {
		if e.Error() != want {
			t.Errorf("%q, want %q", e.Error(), want)
		}
	}
}
