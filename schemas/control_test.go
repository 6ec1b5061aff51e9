package schemas

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testAct() Act {
	return Act{ID: "0190c6f0-7d3a-7cc1-9d53-1f2e3d4c5b6a", Time: time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.FixedZone("", 3600)), Tenant: "acme", Actor: "ops@acme.example", Object: "audit.events/3", Reason: "topic was made again"}
}

func TestControlEvents(t *testing.T) {
	order := json.RawMessage(`{"id": "o-1", "source":"audit.events","partition":3}`)
	resume, err := OrderResume(testAct(), order)
	if err != nil {
		t.Fatal(err)
	}
	read := testAct()
	read.Object, read.Reason, read.Failed, read.ActorType = "", "", true, "service"
	access, err := AccessRead(read, Read{Query: "GET /v1/events?actor=u-1", Rows: 17, Digest: "ab12", Purpose: "case 7"})
	if err != nil {
		t.Fatal(err)
	}
	const head = `{"@timestamp":"2026-11-24T11:00:00.123Z","event":{"id":"0190c6f0-7d3a-7cc1-9d53-1f2e3d4c5b6a","kind":"event",`
	const tail = `"dataset":"sealstream.control","module":"sealstream","provider":"sealstream"},"ecs":{"version":"9.4.0"},"organization":{"id":"acme"},"user":{"id":"ops@acme.example"},`
	for want, e := range map[string]*AuditEvent{
		head + `"category":["configuration"],"type":["change"],"action":"order.resume","outcome":"success","reason":"topic was made again",` + tail +
			`"audit":{"actor":{"type":"user"},"object":{"type":"partition","id":"audit.events/3","tenant":"acme"},"order":` + string(order) + `}}`: resume,
		head + `"category":["database"],"type":["access"],"action":"access.read","outcome":"failure",` + tail +
			`"audit":{"actor":{"type":"service"},"object":{"type":"events","tenant":"acme"},"data":{"rows":17,"purpose":"case 7"},"query":{"text":"GET /v1/events?actor=u-1","digest":"ab12"}}}`: access,
	} {
		got, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, string(got)); d != "" {
			t.Error(d)
		}
		if err := ValidateAudit(e, testNow()); err != nil {
			t.Error(err)
		}
	}
}

// TestControlTable: every action of the table can be made, is valid, and no other can.
func TestControlTable(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range ControlActions() {
		e, err := testAct().event(row.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := ValidateAudit(e, testNow()); err != nil || row.Doc == "" || seen[row.Name] {
			t.Errorf("%s: %v", row.Name, err)
		}
		seen[row.Name] = true
	}
	for _, name := range []string{ActionOrderResume, ActionAccessRead, ActionKeyAnnounce, ActionSchemaRegister, ActionVerifyStart, ActionVerifyCancel} {
		if !seen[name] {
			t.Errorf("%s is not in the table", name)
		}
	}
	if _, err := testAct().event("user.login"); err == nil {
		t.Error("any action will do")
	}
}

func TestControlRefuses(t *testing.T) {
	good := json.RawMessage(`{"subject":"audit.events-value","id":7}`)
	for _, action := range []string{ActionKeyAnnounce, ActionSchemaRegister, ActionVerifyStart, ActionVerifyCancel} {
		e, err := Announce(action, testAct(), good)
		if err != nil || *e.Event.Action != action || *e.Audit.Details != string(good) {
			t.Errorf("%s: %v", action, err)
		}
	}
	for name, try := range map[string]func(a Act) error{
		"an order that is a list":      func(a Act) error { _, err := OrderResume(a, json.RawMessage(`[]`)); return err },
		"an order that is no JSON":     func(a Act) error { _, err := OrderResume(a, json.RawMessage(`{`)); return err },
		"no order":                     func(a Act) error { _, err := OrderResume(a, nil); return err },
		"details that are text":        func(a Act) error { _, err := Announce(ActionKeyAnnounce, a, json.RawMessage(`"x"`)); return err },
		"details of an order":          func(a Act) error { _, err := Announce(ActionOrderResume, a, good); return err },
		"an order without an id":       func(a Act) error { a.ID = ""; _, err := OrderResume(a, good); return err },
		"an order without an actor":    func(a Act) error { a.Actor = ""; _, err := OrderResume(a, good); return err },
		"a read without a time":        func(a Act) error { a.Time = time.Time{}; _, err := AccessRead(a, Read{}); return err },
		"a registration without actor": func(a Act) error { a.Actor = ""; _, err := Announce(ActionSchemaRegister, a, good); return err },
	} {
		if err := try(testAct()); err == nil || strings.Contains(err.Error(), "audit.events-value") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
