package schemas

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	hamba "github.com/hamba/avro/v2"
	"pgregory.net/rapid"
)

// fill draws a value of one of the event types: every field may be there or not, texts
// hold anything UTF-8 can, times any millisecond that both forms can write.
func fill(t *rapid.T, v reflect.Value, path string) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.UnixMilli(rapid.Int64Range(minTimeMs, maxTimeMs).Draw(t, path)).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Pointer:
		if rapid.IntRange(0, 2).Draw(t, path+"?") == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), path)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, path+"#"), 3))
		for i := range v.Len() {
			fill(t, v.Index(i), path)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(rapid.MapOfN(text(), text(), 0, 3).Draw(t, path)))
	case reflect.String:
		s := text()
		switch path[strings.LastIndexByte(path, '.')+1:] {
		case "Payload", "Order", "Details":
			s = rapid.OneOf(text(), jsonDoc(3))
		}
		v.SetString(s.Draw(t, path))
	case reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, path))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, path))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, path))
	default:
		t.Fatalf("%s: no generator for %s", path, v.Type())
	}
}

func text() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringN(0, 12, 40), rapid.Just("enc:v1:k7:AAECAwQ="), rapid.Just("a\x00b"), rapid.Just("\"\\/\b\u2028\U0001F600"))
}

// jsonDoc draws JSON text.
func jsonDoc(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		b, err := json.Marshal(jsonValue(t, depth))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	})
}

func jsonValue(t *rapid.T, depth int) any {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.OneOf(rapid.Just(0.0), rapid.Just(-7.0), rapid.Float64Range(-1e9, 1e9)).Draw(t, "number")
	case 3:
		return text().Draw(t, "text")
	case 4:
		out := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "members") {
			out[text().Draw(t, "name")] = jsonValue(t, depth-1)
		}
		return out
	}
	out := make([]any, rapid.IntRange(0, 3).Draw(t, "elements"))
	for i := range out {
		out[i] = jsonValue(t, depth-1)
	}
	return out
}

func drawAudit(t *rapid.T) *AuditEvent {
	e := new(AuditEvent)
	fill(t, reflect.ValueOf(e).Elem(), "AuditEvent")
	return e
}

func drawDomain(t *rapid.T) *DomainEvent {
	e := new(DomainEvent)
	fill(t, reflect.ValueOf(e).Elem(), "DomainEvent")
	return e
}

// event is what both generated types can do.
type event interface {
	AppendAvro(dst []byte) ([]byte, error)
	UnmarshalAvro(b []byte) error
	json.Marshaler
	json.Unmarshaler
}

// TestFormsMeanTheSame: an event goes through either form, and from one into the other
// in both directions, and comes back equal; JSON is canonical.
func TestFormsMeanTheSame(t *testing.T) {
	t.Run("audit", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { sameInBothForms(t, drawAudit(t), func() event { return new(AuditEvent) }) })
	})
	t.Run("domain", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { sameInBothForms(t, drawDomain(t), func() event { return new(DomainEvent) }) })
	})
}

func sameInBothForms(t *rapid.T, e event, blank func() event) {
	body, err := e.AppendAvro([]byte("head"))
	if err != nil {
		t.Fatal(err)
	}
	if string(body[:4]) != "head" {
		t.Fatalf("what stood before is lost: %q", body[:4])
	}
	body = body[4:]
	fromAvro := blank()
	if err := fromAvro.UnmarshalAvro(body); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(e, fromAvro); d != "" {
		t.Fatalf("through Avro: %s", d)
	}
	text, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(text) {
		t.Fatalf("not JSON: %s", text)
	}
	fromJSON := blank()
	if err := fromJSON.UnmarshalJSON(text); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if d := cmp.Diff(e, fromJSON); d != "" {
		t.Fatalf("through JSON: %s\n%s", d, text)
	}
	// JSON -> Avro -> JSON, by the bytes: maps aside, whose order Avro does not keep.
	again, err := fromJSON.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(decodeAny(t, text), decodeAny(t, again)); d != "" {
		t.Fatalf("canonical form: %s", d)
	}
	// Dots instead of objects say the same.
	flat := blank()
	dotted := dotted(t, text)
	if err := flat.UnmarshalJSON(dotted); err != nil {
		t.Fatalf("%v in %s", err, dotted)
	}
	if d := cmp.Diff(stripEmpty(t, e), stripEmpty(t, flat)); d != "" {
		t.Fatalf("with dots: %s\n%s", d, dotted)
	}
}

func decodeAny(t *rapid.T, b []byte) any {
	var v any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// dotted writes an event's objects as names with dots. JSON texts and maps stay.
func dotted(t *rapid.T, b []byte) []byte {
	out := map[string]any{}
	flatten(out, "", decodeAny(t, b).(map[string]any))
	text, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func flatten(out map[string]any, at string, m map[string]any) {
	for k, v := range m {
		path := strings.TrimPrefix(at+"."+k, ".")
		sub, isObject := v.(map[string]any)
		switch path {
		case "payload", "audit.order", "audit.details", "labels", "metadata":
			isObject = false
		}
		if isObject {
			flatten(out, path, sub)
		} else {
			out[path] = v
		}
	}
}

// stripEmpty compares events that differ only in objects without members, which a name
// with dots cannot say.
func stripEmpty(t *rapid.T, e event) any {
	text, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return prune(decodeAny(t, text), "")
}

func prune(v any, path string) any {
	m, ok := v.(map[string]any)
	if !ok || strings.HasSuffix(path, "payload") || strings.HasSuffix(path, "order") || strings.HasSuffix(path, "details") {
		return v
	}
	out := map[string]any{}
	for k, sub := range m {
		sub = prune(sub, path+"."+k)
		if o, isObject := sub.(map[string]any); isObject && len(o) == 0 && k != "labels" && k != "metadata" {
			continue
		}
		out[k] = sub
	}
	return out
}

func TestCanonicalJSON(t *testing.T) {
	e := &DomainEvent{
		Timestamp: time.Date(2026, 11, 23, 10, 15, 42, 123456789, time.FixedZone("", 3600)),
		Event:     DomainInfo{ID: "e-1", Action: new("order.placed")},
		Aggregate: DomainAggregate{Type: "order", ID: "o-7", Version: 3},
		Payload:   new(`{"total": 12.50}`),
		Metadata:  &map[string]string{"schema.rev": "4"},
	}
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	// encoding/json compacts what a Marshaler returns; the payload's space is its doing.
	want := `{"@timestamp":"2026-11-23T09:15:42.123Z","event":{"id":"e-1","action":"order.placed"},` +
		`"aggregate":{"type":"order","id":"o-7","version":3},"payload":{"total":12.50},"metadata":{"schema.rev":"4"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if own, err := e.MarshalJSON(); err != nil || !strings.Contains(string(own), `"payload":{"total": 12.50}`) {
		t.Errorf("the payload's own bytes: %s, %v", own, err)
	}
}

func TestUnmarshalJSONRefuses(t *testing.T) {
	const good = `{"@timestamp":"2026-11-23T10:15:42Z","event":{"id":"e-1"}`
	tests := []struct{ name, json, want string }{
		{"no object", `[1]`, "want one object, found a list"},
		{"cut", good, "object without an end"},
		{"two objects", good + `}{}`, "something stands behind the object"},
		{"no id", `{"@timestamp":0,"event":{}}`, "event.id: missing"},
		{"no event", `{"@timestamp":0}`, "event: missing"},
		{"no time", `{"event":{"id":"e-1"}}`, "@timestamp: missing"},
		{"time is none", `{"@timestamp":"yesterday","event":{"id":"e-1"}}`, "@timestamp: not a time"},
		{"time out of range", `{"@timestamp":99999999999999999,"event":{"id":"e-1"}}`, "@timestamp: outside the years"},
		{"object for text", good + `,"user":{"name":{}}}`, "user.name: want one value, found an object"},
		{"text for object", good + `,"user":"bob"}`, "user: want an object, found text"},
		{"twice", good + `,"user":{"name":"a","name":"b"}}`, "user.name: given more than once"},
		{"twice, with dots", good + `,"user":{"name":"a"},"user.name":"b"}`, "user.name: given more than once"},
		{"twice, escaped", good + `,"user":{"name":"a","n\u0061me":"b"}}`, "user.name: given more than once"},
		{"object twice", good + `,"user":{"name":"a"},"user":{"id":"b"}}`, "user: given more than once"},
		{"list of two", good + `,"user":{"name":["a","b"]}}`, "user.name: want one value, found a list of 2"},
		{"list of lists", good + `,"event.category":[["iam"]]}`, "event.category: want one value, found a list"},
		{"severity", good + `,"event.severity":"high"}`, "event.severity: not a whole number"},
		{"severity, 65 bits", good + `,"event.severity":18446744073709551616}`, "event.severity: not a whole number"},
		{"score", good + `,"event.risk_score":"x"}`, "event.risk_score: not a number"},
		{"mfa", good + `,"audit.actor.mfa":1}`, "audit.actor.mfa: not a boolean"},
		{"label", good + `,"labels":{"a":{"b":1}}}`, "labels.a: want text, found an object"},
		{"label twice", good + `,"labels":{"a":"1"},"labels.a":"2"}`, "labels.a: given more than once"},
		{"bytes", good + ",\"message\":\"\xff\"}", "text that is not UTF-8"},
		{"deep", good + `,"x":` + strings.Repeat(`[`, 64) + strings.Repeat(`]`, 64) + `}`, "nested deeper than 64"},
	}
	for _, test := range tests {
		var e AuditEvent
		err := e.UnmarshalJSON([]byte(test.json))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestUnmarshalJSONTakes(t *testing.T) {
	const in = `{"@timestamp":"2026-11-23 11:15:42.1239+01:00","event.id":7,"event":{"category":"iam","severity":"3","risk_score":1e2},
		"user":{"name":["bob"],"roles":[null,"a",true]},"labels":{"a.b":1,"c":null},"labels.d.e":"f","unknown":{"x":[{}]},
		"audit.actor":{"mfa":"true"},"audit.order":{"a": 1}, "message": null}`
	var e AuditEvent
	if err := e.UnmarshalJSON([]byte(in)); err != nil {
		t.Fatal(err)
	}
	want := AuditEvent{
		Timestamp: time.Date(2026, 11, 23, 10, 15, 42, 123e6, time.UTC),
		Event:     AuditInfo{ID: "7", Category: &[]string{"iam"}, Severity: new(int64(3)), RiskScore: new(100.0)},
		User:      &AuditUser{Name: new("bob"), Roles: &[]string{"a", "true"}},
		Labels:    &map[string]string{"a.b": "1", "d.e": "f"},
		Audit:     &AuditFields{Actor: &AuditActor{Mfa: new(true)}, Order: new(`{"a": 1}`)},
	}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
}

func TestNumbersJSONHasNot(t *testing.T) {
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, math.Copysign(0, -1), 1e21, 1e-7} {
		e := AuditEvent{Timestamp: time.UnixMilli(0).UTC(), Event: AuditInfo{ID: "e", RiskScore: &f}}
		text, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var back AuditEvent
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if got := *back.Event.RiskScore; math.Float64bits(got) != math.Float64bits(f) && !(math.IsNaN(f) && math.IsNaN(got)) {
			t.Errorf("%v came back as %v", f, got)
		}
	}
}

// TestGeneratedTypes fails when the Go types no longer fit the .avsc beside them; the
// test in ../tools compares the files byte for byte with what the generator makes.
func TestGeneratedTypes(t *testing.T) {
	for text, typ := range map[string]reflect.Type{AuditSchema(): reflect.TypeFor[AuditEvent](), DomainSchema(): reflect.TypeFor[DomainEvent]()} {
		s, err := hamba.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		sameShape(t, s, typ, typ.Name(), map[string]bool{})
	}
}

func sameShape(t *testing.T, s hamba.Schema, typ reflect.Type, path string, seen map[string]bool) {
	t.Helper()
	if u, ok := s.(*hamba.UnionSchema); ok {
		if typ.Kind() != reflect.Pointer || len(u.Types()) != 2 || u.Types()[0].Type() != hamba.Null {
			t.Errorf("%s: %s for %s", path, typ, s)
			return
		}
		sameShape(t, u.Types()[1], typ.Elem(), path, seen)
		return
	}
	if r, ok := s.(*hamba.RefSchema); ok {
		s = r.Schema()
	}
	want := map[hamba.Type]string{hamba.String: "string", hamba.Long: "int64", hamba.Double: "float64", hamba.Boolean: "bool", hamba.Array: "[]string", hamba.Map: "map[string]string"}[s.Type()]
	if p, ok := s.(*hamba.PrimitiveSchema); ok && p.Logical() != nil {
		want = "time.Time"
	}
	rec, isRecord := s.(*hamba.RecordSchema)
	if !isRecord {
		if typ.String() != want {
			t.Errorf("%s: Go has %s, the schema %s", path, typ, s)
		}
		return
	}
	if typ.Name() != rec.Name() || typ.NumField() != len(rec.Fields()) {
		t.Errorf("%s: Go has %s with %d fields, the schema %s with %d", path, typ, typ.NumField(), rec.FullName(), len(rec.Fields()))
		return
	}
	if seen[rec.FullName()] {
		return
	}
	seen[rec.FullName()] = true
	for i, f := range rec.Fields() {
		if tag := typ.Field(i).Tag.Get("avro"); tag != f.Name() {
			t.Errorf("%s: Go field %q stands where the schema has %q", path, tag, f.Name())
			continue
		}
		sameShape(t, f.Type(), typ.Field(i).Type, path+"."+f.Name(), seen)
	}
}

// TestSchemasCanGrow: behind the first block every field is nullable with a default, so
// that old readers read new events and new readers old ones.
func TestSchemasCanGrow(t *testing.T) {
	required := map[string]bool{
		"timestamp": true, "event": true, "event.id": true,
		"aggregate": true, "aggregate.type": true, "aggregate.id": true, "aggregate.version": true,
	}
	for _, text := range []string{AuditSchema(), DomainSchema()} {
		walkFields(t, text, func(path string, f *hamba.Field) {
			if u, ok := f.Type().(*hamba.UnionSchema); ok != !required[path] || ok && (!u.Nullable() || !f.HasDefault() || f.Default() != nil) {
				t.Errorf("%s: %s", path, f.Type())
			}
		})
	}
}

// TestPersonalFields: what may say who someone is carries the tag, and is text without
// a logical type, so that ciphertext fits.
func TestPersonalFields(t *testing.T) {
	personal := []string{
		"user.id", "user.name", "user.email", "user.full_name", "user.effective.id", "user.target.name", "user.changes.email",
		"client.user.email", "client.ip", "source.ip", "source.address", "destination.ip", "source.geo.city_name", "user_agent.original",
		"device.id", "event.original", "event.reason", "message", "related.user", "related.ip", "error.message", "url.path",
		"audit.object.id", "audit.object.name", "audit.actor.session_id", "audit.actor.credential_id", "audit.query.text",
		"audit.change.approver", "payload", "aggregate.id", "file.path",
	}
	tagged := map[string]bool{}
	for _, text := range []string{AuditSchema(), DomainSchema()} {
		walkFields(t, text, func(path string, f *hamba.Field) {
			tags, ok := f.Prop("confluent:tags").([]any)
			if !ok {
				return
			}
			if len(tags) != 1 || tags[0] != "PII" {
				t.Errorf("%s: tags %v", path, tags)
			}
			tagged[path] = true
			s := f.Type().String()
			if strings.Contains(s, "logicalType") || !strings.Contains(s, `"string"`) {
				t.Errorf("%s: ciphertext does not fit %s", path, s)
			}
		})
	}
	for _, path := range personal {
		if !tagged[path] {
			t.Errorf("%s is not tagged", path)
		}
	}
	for _, path := range []string{"event.id", "event.action", "organization.id", "labels", "metadata", "event.outcome"} {
		if tagged[path] {
			t.Errorf("%s is tagged, but must stay readable", path)
		}
	}
}

func walkFields(t *testing.T, text string, visit func(path string, f *hamba.Field)) {
	t.Helper()
	// A cache of its own: the package's default one is shared by all tests.
	s, err := hamba.ParseWithCache(text, "", &hamba.SchemaCache{})
	if err != nil {
		t.Fatal(err)
	}
	var walk func(s hamba.Schema, at string)
	walk = func(s hamba.Schema, at string) {
		switch s := s.(type) {
		case *hamba.UnionSchema:
			for _, k := range s.Types() {
				walk(k, at)
			}
		case *hamba.RefSchema:
			walk(s.Schema(), at)
		case *hamba.RecordSchema:
			for _, f := range s.Fields() {
				path := strings.TrimPrefix(at+"."+f.Name(), ".")
				visit(path, f)
				walk(f.Type(), path)
			}
		}
	}
	walk(s, "")
}
