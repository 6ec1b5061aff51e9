package schemas

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	hamba "github.com/hamba/avro/v2"
)

// shown is a projection for comparing: only what is set, by column name.
type shown map[string]any

// show checks what every projection promises, whatever the value was.
func show(t testing.TB, f *Fields) shown {
	t.Helper()
	cols := Columns(ProjectionVersion)
	if len(f.Values) != len(cols) {
		t.Fatalf("%d values for %d columns", len(f.Values), len(cols))
	}
	out := shown{}
	if f.HasTime {
		out["time"] = f.Time
		inYears(t, "time", f.Time)
	}
	for i, v := range f.Values {
		name := cols[i].Name
		if !v.Set {
			if v.Text != "" || v.Int != 0 || len(v.List) != 0 {
				t.Errorf("%s is unset but holds %+v", name, v)
			}
			continue
		}
		switch cols[i].Type {
		case Text:
			out[name] = v.Text
			storableText(t, name, v.Text, cols[i].Max)
		case TextList:
			out[name] = append([]string{}, v.List...)
			if len(v.List) > MaxList {
				t.Errorf("%s has %d elements", name, len(v.List))
			}
			for _, s := range v.List {
				storableText(t, name, s, cols[i].Max)
			}
		case Bool:
			out[name] = v.Int == 1
			if v.Int&^1 != 0 {
				t.Errorf("%s: %d is no boolean", name, v.Int)
			}
		case TimeMs:
			inYears(t, name, v.Int)
			out[name] = v.Int
		case Int:
			out[name] = v.Int
		}
	}
	return out
}

func storableText(t testing.TB, name, s string, limit int) {
	t.Helper()
	if !utf8.ValidString(s) || strings.Contains(s, "\x00") || len(s) > limit {
		t.Errorf("%s: %d bytes that PostgreSQL may refuse: %.40q", name, len(s), s)
	}
}

func inYears(t testing.TB, name string, ms int64) {
	t.Helper()
	if ms < minTimeMs || ms > maxTimeMs {
		t.Errorf("%s: %d ms", name, ms)
	}
}

// projected returns what Project makes of a value and the reason it gives.
func projected(t testing.TB, c *Codec, value []byte) (shown, string) {
	t.Helper()
	var f Fields
	f.Values = make([]Value, len(Columns(ProjectionVersion)))
	for i := range f.Values { // what an earlier value left behind
		f.Values[i] = Value{Set: true, Text: "old", Int: 7, List: []string{"old"}}
	}
	f.HasTime, f.Time = true, 7
	err := c.Project(context.Background(), value, &f)
	out := show(t, &f)
	var bad *DecodeError
	switch {
	case err == nil:
		return out, ""
	case !errors.As(err, &bad):
		t.Fatal(err)
	case len(bad.Reason) > 600 || bad.Reason == "":
		t.Errorf("reason of %d bytes: %s", len(bad.Reason), bad.Reason)
	case !bad.Partial && len(out) > 0:
		t.Errorf("not partial, but there is %v", out)
	}
	return out, bad.Reason
}

func TestColumnTable(t *testing.T) {
	cols := Columns(ProjectionVersion)
	names := map[string]bool{}
	paths := map[string]bool{}
	for _, text := range []string{AuditSchema(), DomainSchema()} {
		walkFields(t, text, func(path string, f *hamba.Field) { paths[path] = true })
	}
	for _, c := range cols {
		if c.Name != strings.ReplaceAll(c.Path, ".", "_") || names[c.Name] {
			t.Errorf("column %s of %s", c.Name, c.Path)
		}
		names[c.Name] = true
		if !paths[c.Path] {
			t.Errorf("%s is in no schema", c.Path)
		}
		if text := c.Type == Text || c.Type == TextList; text != (c.Max > 0) || c.Max > MaxProse {
			t.Errorf("%s: bound %d", c.Name, c.Max)
		}
	}
	for _, want := range []string{"event_id", "event_category", "event_action", "user_id", "source_ip", "audit_object_id", "aggregate_version", "organization_id"} {
		if !names[want] {
			t.Errorf("no column %s", want)
		}
	}
	if _, nodes := buildTree(cols); nodes > maxNodes {
		t.Errorf("%d nodes do not fit the seen set", nodes)
	}
	if Columns(0) != nil || Columns(2) != nil {
		t.Error("a version that never was has columns")
	}
	Columns(1)[0].Name = "changed"
	if Columns(1)[0].Name != "event_id" {
		t.Error("a caller changed the table")
	}
}

// TestProjectionV1 freezes the rules of version 1: rows in the field were made by them,
// and verify derives them again. A change here needs a new version instead.
func TestProjectionV1(t *testing.T) {
	long := strings.Repeat("x", MaxKeyword-1)
	many := strings.TrimSuffix(strings.Repeat(`"a",`, MaxList+1), ",")
	sixtyFour := make([]string, MaxList)
	for i := range sixtyFour {
		sixtyFour[i] = "a"
	}
	tests := []struct {
		name, json string
		want       shown
		reason     string
	}{
		{"nothing", `{}`, shown{}, ""},
		{"nested", `{"event":{"action":"a","category":["iam","web"]},"user":{"target":{"id":"7"}}}`,
			shown{"event_action": "a", "event_category": []string{"iam", "web"}, "user_target_id": "7"}, ""},
		{"dotted", `{"event.action":"a","user.target":{"id":"7"},"user":{"effective.id":"8"}}`,
			shown{"event_action": "a", "user_target_id": "7", "user_effective_id": "8"}, ""},
		{"escaped names and text", `{"\u0065vent":{"action":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}}`,
			shown{"event_action": "\"\\/\b\f\n\r\té😀"}, ""},
		{"half a surrogate", `{"message":"\ud83d-\udE00\ud83d\u0041"}`, shown{"message": "�-��A"}, ""},
		{"null is absent", `{"event":{"action":null,"category":[null]},"user":null,"@timestamp":null}`, shown{}, ""},
		{"space around", " \n\t{ \"message\" : \"m\" }\r\n", shown{"message": "m"}, ""},
		{"other members", `{"a":[1,{"b":null}],"event":{"x":{"action":"no"},"action":"yes"},"userx":{"id":1}}`, shown{"event_action": "yes"}, ""},
		{"names that are no paths", `{"":1,".":2,"event.":3,".event":4,"event..action":5,"event.action.x":6,"event":{"":7}}`, shown{}, ""},
		{"scalar where an object belongs", `{"event":"x","user":[{"id":"1"}],"source":7}`, shown{}, ""},

		{"number for text", `{"user":{"id":42,"name":-1.50e3}}`, shown{"user_id": "42", "user_name": "-1.50e3"}, ""},
		{"boolean for text", `{"user":{"id":true}}`, shown{"user_id": "true"}, ""},
		{"one for a list", `{"event":{"category":"iam","type":7}}`, shown{"event_category": []string{"iam"}, "event_type": []string{"7"}}, ""},
		{"empty list", `{"event":{"category":[],"action":[]}}`, shown{}, ""},
		{"list of one for one", `{"event":{"action":["a"]}}`, shown{"event_action": "a"}, ""},
		{"list for one", `{"event":{"action":["a","b","c"]}}`, shown{"event_action": "a"}, "event.action: want one value, found a list, its first counts"},
		{"list of lists", `{"event":{"category":[["x"],"iam"]}}`, shown{"event_category": []string{"iam"}}, "event.category: a list inside a list"},
		{"object for one", `{"event":{"action":{"id":"x"}}}`, shown{}, "event.action: want a value, found an object"},
		{"object in a list", `{"event":{"category":[{"a":1},"iam"]}}`, shown{"event_category": []string{"iam"}}, "event.category: want a value, found an object"},
		{"list too long", `{"event":{"category":[` + many + `]}}`, shown{"event_category": sixtyFour}, "event.category: more than 64 elements, the rest is left out"},

		{"whole numbers", `{"event":{"severity":-9223372036854775808},"aggregate":{"version":"12"},"audit":{"data":{"rows":3.0e2}},"http":{"response":{"status_code":200}}}`,
			shown{"event_severity": int64(-1 << 63), "aggregate_version": int64(12), "audit_data_rows": int64(300), "http_response_status_code": int64(200)}, ""},
		{"no whole numbers", `{"event":{"severity":1.5},"aggregate":{"version":9223372036854775808},"audit":{"data":{"rows":"+1"}},"http":{"response":{"status_code":true}}}`,
			shown{}, "event.severity: not a whole number of 64 bits; aggregate.version: not a whole number of 64 bits; audit.data.rows: not a whole number of 64 bits; http.response.status_code: want a number, found a boolean"},
		{"booleans", `{"audit":{"actor":{"mfa":true,"is_privileged":"false"}}}`, shown{"audit_actor_mfa": true, "audit_actor_is_privileged": false}, ""},
		{"no booleans", `{"audit":{"actor":{"mfa":1,"is_privileged":"yes"}}}`, shown{},
			"audit.actor.mfa: want true or false, found a number; audit.actor.is_privileged: want true or false, found text"},

		{"time", `{"@timestamp":"2026-11-23T10:15:42.123456+01:00"}`, shown{"time": int64(1795425342123)}, ""},
		{"time as milliseconds", `{"@timestamp":1795425342123,"event":{"created":-1}}`, shown{"time": int64(1795425342123), "event_created": int64(-1)}, ""},
		{"first and last time", `{"@timestamp":"0001-01-01T00:00:00Z","event":{"created":"9999-12-31T23:59:59.999999Z"}}`,
			shown{"time": int64(-62135596800000), "event_created": int64(253402300799999)}, ""},
		{"time out of range", `{"@timestamp":"0001-01-01T00:00:00+00:01","message":"m","event":{"created":253402300800000}}`, shown{"message": "m"},
			"@timestamp: outside the years 0001 to 9999; event.created: outside the years 0001 to 9999"},
		{"no time", `{"@timestamp":"2026-02-30T00:00:00Z","message":"m"}`, shown{"message": "m"}, "@timestamp: not a time in RFC 3339 and not milliseconds"},
		{"time is an object", `{"@timestamp":{"a":1},"message":"m"}`, shown{"message": "m"}, "@timestamp: want a value, found an object"},
		{"time is a boolean", `{"@timestamp":false}`, shown{}, "@timestamp: want a number, found a boolean"},

		{"twice", `{"event":{"action":"a","action":"b"}}`, shown{"event_action": "b"}, "event.action: given more than once, the last one counts"},
		{"nested and dotted", `{"event.action":"a","event":{"action":"b","id":"1"}}`, shown{"event_action": "b", "event_id": "1"}, "event.action: given more than once, the last one counts"},
		{"object twice", `{"event":{"action":"a"},"event":{"id":"1"}}`, shown{"event_action": "a", "event_id": "1"}, "event: object given more than once"},
		{"twice, then null", `{"event":{"action":"a","action":null}}`, shown{}, "event.action: given more than once, the last one counts"},
		{"time twice", `{"@timestamp":1,"@timestamp":"x"}`, shown{}, "@timestamp: given more than once, the last one counts; @timestamp: not a time in RFC 3339 and not milliseconds"},
		{"list twice", `{"event":{"type":["a","b"],"type":["c"]}}`, shown{"event_type": []string{"c"}}, "event.type: given more than once, the last one counts"},

		{"NUL", `{"event":{"action":"a\u0000b","category":["\u0000"]}}`, shown{"event_action": "a�b", "event_category": []string{"�"}},
			"event.action: bytes that text cannot hold are replaced; event.category: bytes that text cannot hold are replaced"},
		{"not UTF-8", "{\"event\":{\"action\":\"a\xff\xfeb\"}}", shown{"event_action": "a��b"}, "event.action: bytes that text cannot hold are replaced; text that is not UTF-8"},
		{"not UTF-8, elsewhere", "{\"x\xff\":\"\xc0\",\"message\":\"m\"}", shown{"message": "m"}, "text that is not UTF-8"},
		{"as long as may be", `{"user":{"id":"` + long + `x"}}`, shown{"user_id": long + "x"}, ""},
		{"too long", `{"user":{"id":"` + long + `xy"}}`, shown{"user_id": long + "x"}, "user.id: cut to 1024 bytes"},
		{"cut at a rune", `{"user":{"id":"` + long + `é"}}`, shown{"user_id": long}, "user.id: cut to 1024 bytes"},
		{"far too long", `{"user":{"id":"` + long + strings.Repeat("é", 200000) + `"}}`, shown{"user_id": long}, "user.id: cut to 1024 bytes"},
		{"too long number", `{"user":{"id":1` + strings.Repeat("0", 2000) + `}}`, shown{"user_id": "1" + strings.Repeat("0", 1023)}, "user.id: cut to 1024 bytes"},
		{"prose", `{"message":"` + strings.Repeat("y", MaxProse+1) + `"}`, shown{"message": strings.Repeat("y", MaxProse)}, "message: cut to 8192 bytes"},
		{"ciphertext", `{"user":{"id":"enc:v1:k7:AAEC+/=="},"source":{"ip":"enc:v1:k7:AAEC"}}`, shown{"user_id": "enc:v1:k7:AAEC+/==", "source_ip": "enc:v1:k7:AAEC"}, ""},
		{"many marks", `{"event":{"id":{},"kind":{},"action":{},"outcome":{},"reason":{},"code":{}}}`, shown{},
			"event.id: want a value, found an object; event.kind: want a value, found an object; event.action: want a value, found an object; event.outcome: want a value, found an object; and 2 more"},

		{"empty", "", shown{}, "json: byte 0: want one object, found nothing"},
		{"space only", " ", shown{}, "json: byte 1: want one object, found nothing"},
		{"list", `[]`, shown{}, "json: byte 0: want one object, found a list"},
		{"text", `"a"`, shown{}, "json: byte 0: want one object, found text"},
		{"binary", "\x01\x02", shown{}, "json: byte 0: neither a JSON object nor framed Avro"},
		{"byte order mark", "\ufeff{}", shown{}, "json: byte 0: neither a JSON object nor framed Avro"},
		{"cut", `{"message":"m"`, shown{}, "json: byte 14: object without an end"},
		{"something behind", `{"message":"m"}x`, shown{}, "json: byte 15: something stands behind the object"},
		{"frame cut", "\x00\x00\x01", shown{}, "avro: the value ends inside its frame"},
		{"unknown id", "\x00\x00\x00\x00\x09", shown{}, "avro: the registry has no schema id 9"},
	}
	c := NewCodec(nil)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, reason := projected(t, c, []byte(test.json))
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
			if reason != test.reason {
				t.Errorf("reason %q\n  want %q", reason, test.reason)
			}
		})
	}
}

func TestDepth(t *testing.T) {
	c := NewCodec(nil)
	nest := func(open, end string, n int) []byte {
		return []byte(`{"message":"m","x":` + strings.Repeat(open, n) + "1" + strings.Repeat(end, n) + `}`)
	}
	for _, kind := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
		if _, reason := projected(t, c, nest(kind[0], kind[1], MaxDepth-1)); reason != "" {
			t.Errorf("64 levels: %s", reason)
		}
		for _, n := range []int{MaxDepth, 100, 1_000_000} {
			if _, reason := projected(t, c, nest(kind[0], kind[1], n)); !strings.Contains(reason, "nested deeper than 64 levels") {
				t.Errorf("%d levels of %s: %q", n+1, kind[0], reason)
			}
		}
	}
	// Along the table too, where every level is known to it.
	if _, reason := projected(t, c, []byte(`{"event":{"action":`+strings.Repeat("[", 64)+strings.Repeat("]", 64)+`}}`)); !strings.Contains(reason, "nested deeper") {
		t.Errorf("lists at a column's place: %q", reason)
	}
}

// TestHugeValues: a value of 21 MB is projected like any other, and what is kept of it
// does not keep the value alive.
func TestHugeValues(t *testing.T) {
	c := NewCodec(nil)
	huge := []byte(`{"event":{"action":"a"},"payload":"` + strings.Repeat("z", 21<<20) + `","user":{"name":"` + strings.Repeat("n", 1<<20) + `"}}`)
	got, reason := projected(t, c, huge)
	want := shown{"event_action": "a", "user_name": strings.Repeat("n", MaxKeyword)}
	if d := cmp.Diff(want, got); d != "" || reason != "user.name: cut to 1024 bytes" {
		t.Errorf("%s %q", d, reason)
	}
	var f Fields
	allocated := testing.AllocsPerRun(1, func() { _ = c.Project(context.Background(), huge, &f) })
	if allocated > 20 {
		t.Errorf("%v allocations", allocated)
	}
	if out, err := c.JSON(context.Background(), huge); err != nil || &out[0] != &huge[0] {
		t.Errorf("JSON was copied: %v", err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_ = c.Project(context.Background(), huge, &f)
	runtime.ReadMemStats(&after)
	if size := after.TotalAlloc - before.TotalAlloc; size > 64<<10 {
		t.Errorf("%d bytes allocated for a value of 22 MB", size)
	}
}

// TestFieldsDoNotShareMemory: the caller may use the value's memory again.
func TestFieldsDoNotShareMemory(t *testing.T) {
	c := NewCodec(nil)
	value := []byte(`{"event":{"action":"user.login","category":["iam"]}}`)
	var f Fields
	if err := c.Project(t.Context(), value, &f); err != nil {
		t.Fatal(err)
	}
	for i := range value {
		value[i] = 'X'
	}
	if d := cmp.Diff(shown{"event_action": "user.login", "event_category": []string{"iam"}}, show(t, &f)); d != "" {
		t.Error(d)
	}
}

func TestJSONOfJSON(t *testing.T) {
	c := NewCodec(nil)
	for in, want := range map[string]string{
		` {"a":1,"a":2}`:   ` {"a":1,"a":2}`,
		"{\"a\":\"\xff\"}": "{\"a\":\"�\"}",
		`{"a":"\u0000"}`:   `{"a":"\u0000"}`,
	} {
		got, err := c.JSON(t.Context(), []byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "1", "{", "{}{}", "{\"a\":\"\n\"}", "\x00", "\x00abcdefg", `{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":1e}`, `{'a':1}`, `{"a":1,}`, `{"a" 1}`, `{"a":nul}`, `{"a":"\x41"}`, `{"a":"\u12g4"}`, `{"a":[1,]}`, `{"a":[1 2]}`} {
		got, err := c.JSON(t.Context(), []byte(in))
		var bad *DecodeError
		if !errors.As(err, &bad) || bad.Partial || got != nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// TestReasonsShowNoContent: a reason goes into a column and into answers.
func TestReasonsShowNoContent(t *testing.T) {
	c := NewCodec(nil)
	const secret = "hunter2"
	for _, format := range []string{
		`{"user":{"name":{"%s":1}}}`, `{"%s`, `{"user":{"id":"%s\u0000"}}`, `{"event":{"severity":"%s"}}`, `{"@timestamp":"%s"}`,
		`{"audit":{"actor":{"mfa":"%s"}}}`, `%s`, `{"a":"%s"}%s`, `{"a":"\q%s"}`,
	} {
		value := []byte(strings.ReplaceAll(format, "%s", secret))
		_, reason := projected(t, c, value)
		if reason == "" || strings.Contains(reason, secret) {
			t.Errorf("%s: %q", value, reason)
		}
		var e AuditEvent
		if err := e.UnmarshalJSON(value); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func ExampleCodec_Project() {
	codec := NewCodec(nil)
	var fields Fields
	err := codec.Project(context.Background(), []byte(`{"event":{"action":"user.login"},"user.id":"u-1"}`), &fields)
	for i, column := range Columns(ProjectionVersion) {
		if v := fields.Values[i]; v.Set {
			fmt.Println(column.Name, v.Text)
		}
	}
	fmt.Println(err)
	// Output:
	// event_action user.login
	// user_id u-1
	// <nil>
}
