package processors_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
)

func orderRecord(t testing.TB, ceType, action string, o *processors.Order) ledger.Record {
	t.Helper()
	v, err := json.Marshal(map[string]any{"event": map[string]any{"action": action}, "audit": map[string]any{"order": o}})
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Record{Value: v, Headers: []ledger.Header{{Name: "ce_type", Value: []byte(ceType)}}}
}

func TestParseOrder(t *testing.T) {
	good := processors.Order{ID: "01J", Source: "audit.events", Partition: 3, OutputID: "ec397815-f3c3-1977-2e1f-30384f523bd5",
		End: 7, Leaf: processors.NoneReadable, Previous: "none", Reason: "restored from backup", By: "ops"}
	if o, ok := processors.ParseOrder(orderRecord(t, processors.OrderAction, processors.OrderAction, &good)); !ok || o != good {
		t.Fatalf("got %+v, %v", o, ok)
	}
	for what, change := range map[string]func(*processors.Order){
		"id":        func(o *processors.Order) { o.ID = "" },
		"source":    func(o *processors.Order) { o.Source = "" },
		"partition": func(o *processors.Order) { o.Partition = -1 },
		"leaf":      func(o *processors.Order) { o.Leaf = "" },
		"reason":    func(o *processors.Order) { o.Reason = " " },
		"previous":  func(o *processors.Order) { o.Previous = "x" },
	} {
		o := good
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s wrong: error %v does not name it", what, err)
		}
		if _, ok := processors.ParseOrder(orderRecord(t, processors.OrderAction, processors.OrderAction, &o)); ok {
			t.Errorf("%s wrong: still an order", what)
		}
	}
	if _, ok := processors.ParseOrder(orderRecord(t, "access.read", processors.OrderAction, &good)); ok {
		t.Error("an event of another type was taken for an order")
	}
	if _, ok := processors.ParseOrder(orderRecord(t, processors.OrderAction, "access.read", &good)); ok {
		t.Error("an event of another action was taken for an order")
	}
}

func FuzzParseOrder(f *testing.F) {
	f.Add([]byte(`{"event":{"action":"order.resume"},"audit":{"order":{"id":"1","source":"s","output_id":"x","leaf":"none readable","previous":"none","reason":"r"}}}`))
	f.Add([]byte(`{"audit":{"order":null}}`))
	f.Fuzz(func(t *testing.T, v []byte) {
		o, ok := processors.ParseOrder(ledger.Record{Value: v, Headers: []ledger.Header{{Name: "ce_type", Value: []byte(processors.OrderAction)}}})
		if ok && o.Validate() != nil {
			t.Fatalf("took an order that does not validate: %+v", o)
		}
	})
}
