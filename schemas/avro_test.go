package schemas

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/avro"
	"pgregory.net/rapid"
)

// foreignSchemas are writers' schemas as other teams have them: other orders, other
// types for known names, names by the property "ecs", maps where ECS has objects,
// recursion, everything Avro can say.
var foreignSchemas = []string{
	`{"type":"record","name":"Login","namespace":"com.acme","fields":[
		{"name":"user","type":{"type":"record","name":"U","fields":[{"name":"name","type":"string"},{"name":"id","type":"int"}]}},
		{"name":"event","type":["null",{"type":"record","name":"E","fields":[
			{"name":"severity","type":"int"},{"name":"category","type":{"type":"array","items":["null","string"]}},
			{"name":"action","type":{"type":"enum","name":"A","symbols":["login","logout"]}},{"name":"created","type":["string","long"]},
			{"name":"type","type":["string","null"]}]}]},
		{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}}]}`,
	`{"type":"record","name":"Flat","fields":[
		{"name":"who","type":["null","string"],"ecs":"user.id"},{"name":"what","type":"string","ecs":"event.action"},
		{"name":"score","type":"double","ecs":"event.severity"},{"name":"ratio","type":"float","ecs":"message"},
		{"name":"raw","type":"bytes","ecs":"event.code"},{"name":"pin","type":{"type":"fixed","name":"P","size":4},"ecs":"user.domain"},
		{"name":"ok","type":"boolean","ecs":"audit.actor.mfa"},{"name":"n","type":"null","ecs":"event.id"}]}`,
	`{"type":"record","name":"Maps","fields":[
		{"name":"event","type":{"type":"map","values":["null","string","long",{"type":"array","items":"string"}]}},
		{"name":"user","type":{"type":"map","values":{"type":"map","values":"string"}}},
		{"name":"audit","type":{"type":"map","values":{"type":"record","name":"In","fields":[{"name":"id","type":"string"},{"name":"type","type":"string"}]}}},
		{"name":"message","type":["null","boolean",{"type":"map","values":"int"}]}]}`,
	`{"type":"record","name":"Tree","fields":[{"name":"message","type":"string"},
		{"name":"user","type":["null","Tree"]},{"name":"kids","type":{"type":"array","items":"Tree"}}]}`,
	`{"type":"record","name":"Odd","fields":[{"name":"event","type":{"type":"record","name":"X","fields":[
		{"name":"category","type":{"type":"array","items":{"type":"array","items":"string"}}},
		{"name":"action","type":{"type":"array","items":{"type":"record","name":"Y","fields":[{"name":"a","type":"long"}]}}},
		{"name":"severity","type":{"type":"array","items":["long","boolean","string"]}},
		{"name":"type","type":["null","boolean","int",{"type":"array","items":["null","boolean","int"]}]},
		{"name":"nulls","type":{"type":"array","items":"null"}}]}}]}`,
	`{"type":"record","name":"Twice","fields":[{"name":"a","type":["null","string"],"ecs":"user.id"},{"name":"b","type":["null","string"],"ecs":"user.id"},
		{"name":"c","type":["null",{"type":"map","values":"string"}],"ecs":"user.target"},{"name":"d","type":["null",{"type":"map","values":"string"}],"ecs":"user.target"}]}`,
	`["null",{"type":"record","name":"InUnion","fields":[{"name":"message","type":"string"}]},{"type":"map","values":"string"}]`,
	`"string"`,
	`{"type":"record","name":"Empty","fields":[]}`,
}

// testSchema is a schema in both readings.
type testSchema struct {
	lib *avro.Schema
	op  *op
}

func testSchemas(t testing.TB) []testSchema {
	t.Helper()
	var out []testSchema
	root := columnsForm().root
	for _, text := range append([]string{AuditSchema(), DomainSchema()}, foreignSchemas...) {
		lib, err := avro.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		o, err := parseSchema(text, root)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, testSchema{lib, o})
	}
	return out
}

// agree is the proof that the walk over the wire form reads what the library reads:
// both accept the body or both do not; the JSON says what the library decoded; and
// projecting the body is projecting that JSON.
func agree(t testing.TB, s testSchema, body []byte) {
	t.Helper()
	var lib any
	rest, libErr := s.lib.Decode(body, &lib)
	if libErr == nil && len(rest) > 0 {
		libErr = errors.New("bytes behind the record")
	}
	text, err := avroToJSON(nil, s.op, body)
	var bad *DecodeError
	if err != nil && !errors.As(err, &bad) {
		t.Fatal(err)
	}
	tree, isTree := reference(lib).(map[string]any)
	if isTree && tree["timestamp"] != nil {
		tree["@timestamp"] = tree["timestamp"]
		delete(tree, "timestamp")
	}
	if libErr == nil && !isTree {
		libErr = errors.New("no record") // nothing that events can be made of
	}
	if (err == nil) != (libErr == nil) {
		if err != nil && (strings.Contains(bad.Reason, tooDeep) || strings.Contains(bad.Reason, "can hold") || strings.Contains(bad.Reason, "too long")) {
			return // our bounds are narrower
		}
		t.Fatalf("ours: %v\nlibrary: %v\nbody %x", err, libErr, body)
	}
	var f Fields
	projErr := columnsForm().projectAvro(s.op, body, &f)
	got := show(t, &f)
	if err != nil {
		if !errors.As(projErr, &bad) || bad.Partial || bad.Reason != err.Error() || len(got) > 0 {
			t.Fatalf("projected %v, %v where JSON says %v", got, projErr, err)
		}
		return
	}
	var mine any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&mine); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	renamed := dropNull(renameECS(s.lib, tree))
	if d := cmp.Diff(renamed, dropNull(normal(mine, renamed))); d != "" {
		t.Fatalf("library - ours +: %s", d)
	}
	var viaJSON Fields
	jsonErr := columnsForm().projectJSON(text, &viaJSON)
	if d := cmp.Diff(show(t, &viaJSON), got); d != "" {
		t.Fatalf("via JSON - direct +: %s\n%s", d, text)
	}
	replaced := bytes.Contains(text, []byte("\uFFFD"))
	if !replaced && fmt.Sprint(jsonErr) != fmt.Sprint(projErr) {
		t.Fatalf("via JSON %v\ndirect %v\n%s", jsonErr, projErr, text)
	}
}

// reference turns what the library decoded into what JSON decodes to.
func reference(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, sub := range v {
			out[string([]rune(k))] = reference(sub)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = reference(v[i])
		}
		return out
	case string:
		return string([]rune(v))
	case []byte:
		if s := string(v); s == string([]rune(s)) {
			return s
		}
		return base64.StdEncoding.EncodeToString(v)
	case int32:
		return float64(v)
	case int64:
		return json.Number(strconv.FormatInt(v, 10))
	case float32:
		return real64(float64(v))
	case float64:
		return real64(v)
	case time.Time:
		if y := v.Year(); y >= 1 && y <= 9999 {
			return v.Format("2006-01-02T15:04:05.000Z07:00")
		}
		return json.Number(strconv.FormatInt(v.UnixMilli(), 10))
	}
	return v
}

func real64(f float64) any {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(fmt.Sprintf("%+v", f), "+") + "inity"
	}
	return f
}

// renameECS gives the top fields the names that the property "ecs" says.
func renameECS(s *avro.Schema, tree map[string]any) map[string]any {
	out := maps.Clone(tree)
	for _, f := range s.Root().Fields { // in order: of two of one name, the last there is counts
		name, ok := f.Props["ecs"].(string)
		if !ok || name == "@timestamp" {
			continue
		}
		if delete(out, f.Name); tree[f.Name] != nil {
			out[name] = tree[f.Name]
		}
	}
	return out
}

// normal brings numbers and embedded JSON of ours to what want has in their place.
func normal(v, want any) any {
	switch v := v.(type) {
	case map[string]any:
		if text, ok := want.(string); ok { // embedded JSON text
			var sub any
			d := json.NewDecoder(strings.NewReader(text))
			d.UseNumber()
			if d.Decode(&sub) == nil && cmp.Equal(sub, any(v)) {
				return text
			}
		}
		sub, _ := want.(map[string]any)
		for k := range v {
			v[k] = normal(v[k], sub[k])
		}
	case []any:
		if text, ok := want.(string); ok {
			var sub any
			d := json.NewDecoder(strings.NewReader(text))
			d.UseNumber()
			if d.Decode(&sub) == nil && cmp.Equal(sub, any(v)) {
				return text
			}
		}
		sub, _ := want.([]any)
		for i := range v {
			if i < len(sub) {
				v[i] = normal(v[i], sub[i])
			}
		}
	case json.Number:
		if _, ok := want.(float64); ok {
			f, _ := v.Float64()
			return f
		}
	}
	return v
}

func dropNull(v any) any {
	if m, ok := v.(map[string]any); ok {
		for k, sub := range m {
			if sub == nil {
				delete(m, k)
				continue
			}
			m[k] = dropNull(sub)
		}
	}
	if l, ok := v.([]any); ok {
		for i := range l {
			l[i] = dropNull(l[i])
		}
	}
	return v
}

// TestWalkAgreesWithLibrary: on whole events of our own schemas.
func TestWalkAgreesWithLibrary(t *testing.T) {
	all := testSchemas(t)
	rapid.Check(t, func(r *rapid.T) {
		a, err := drawAudit(r).AppendAvro(nil)
		if err != nil {
			r.Fatal(err)
		}
		agree(t, all[0], a)
		d, err := drawDomain(r).AppendAvro(nil)
		if err != nil {
			r.Fatal(err)
		}
		agree(t, all[1], d)
	})
}

// TestWalkAgreesOnForeignSchemas: on bytes that the schema itself leads to, right and
// slightly wrong.
func TestWalkAgreesOnForeignSchemas(t *testing.T) {
	all := testSchemas(t)
	rapid.Check(t, func(r *rapid.T) {
		s := rapid.SampledFrom(all).Draw(r, "schema")
		body := drawBody(r, s.op, nil, 4)
		switch rapid.IntRange(0, 3).Draw(r, "fault") {
		case 1:
			body = body[:rapid.IntRange(0, len(body)).Draw(r, "cut")]
		case 2:
			if len(body) > 0 {
				body[rapid.IntRange(0, len(body)-1).Draw(r, "at")] ^= byte(1 << rapid.IntRange(0, 7).Draw(r, "bit"))
			}
		case 3:
			body = append(body, rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(r, "behind")...)
		}
		agree(t, s, body)
	})
}

// drawBody writes any value that fits a schema.
func drawBody(r *rapid.T, o *op, b []byte, depth int) []byte {
	long := func(v int64) { b = appendLong(b, v) }
	str := func() {
		s := rapid.OneOf(text(), rapid.SampledFrom([]string{"id", "type", "action", "user.id", "target", "target.id", "object", "\xff"})).Draw(r, "s")
		long(int64(len(s)))
		b = append(b, s...)
	}
	switch o.wire {
	case wireNull:
	case wireBool:
		b = append(b, rapid.SampledFrom([]byte{0, 1}).Draw(r, "b"))
	case wireInt:
		long(int64(rapid.Int32().Draw(r, "i")))
	case wireLong:
		long(rapid.OneOf(rapid.Int64(), rapid.Int64Range(0, 2e12)).Draw(r, "l"))
	case wireFloat:
		b = append(b, rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(r, "f")...)
	case wireDouble:
		b = append(b, rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(r, "d")...)
	case wireBytes, wireString:
		str()
	case wireFixed:
		b = append(b, rapid.SliceOfN(rapid.Byte(), o.size, o.size).Draw(r, "x")...)
	case wireEnum:
		long(int64(rapid.IntRange(0, len(o.symbols)-1).Draw(r, "symbol")))
	case wireRecord:
		for i := range o.fields {
			b = drawBody(r, o.fields[i].op, b, depth-1)
		}
	case wireUnion:
		k := rapid.IntRange(0, len(o.kinds)-1).Draw(r, "branch")
		if depth <= 0 {
			k = 0
		}
		long(int64(k))
		b = drawBody(r, o.kinds[k], b, depth-1)
	case wireArray, wireMap:
		for range rapid.IntRange(0, 2).Draw(r, "blocks") {
			n := rapid.IntRange(1, 2).Draw(r, "n")
			if depth <= 0 {
				break
			}
			sized := rapid.Bool().Draw(r, "sized")
			at := len(b)
			for range n {
				if o.wire == wireMap {
					str()
				}
				b = drawBody(r, o.item, b, depth-1)
			}
			block := append([]byte(nil), b[at:]...)
			b = b[:at]
			if sized {
				long(int64(-n))
				long(int64(len(block)))
			} else {
				long(int64(n))
			}
			b = append(b, block...)
		}
		long(0)
	}
	return b
}

func appendLong(b []byte, v int64) []byte {
	u := uint64(v<<1) ^ uint64(v>>63)
	for u >= 0x80 {
		b = append(b, byte(u)|0x80)
		u >>= 7
	}
	return append(b, byte(u))
}

// FuzzAvro is [agree] on hostile bytes.
func FuzzAvro(f *testing.F) {
	all := testSchemas(f)
	for seed := range 4 {
		a, _ := rapid.Custom(drawAudit).Example(seed).AppendAvro(nil)
		f.Add(uint8(0), a)
		d, _ := rapid.Custom(drawDomain).Example(seed).AppendAvro(nil)
		f.Add(uint8(1), d)
		for i, s := range all {
			f.Add(uint8(i), rapid.Custom(func(r *rapid.T) []byte {
				rapid.Bool().Draw(r, "") // a schema without fields draws nothing else
				return drawBody(r, s.op, nil, 4)
			}).Example(seed))
		}
	}
	f.Add(uint8(5), bytes.Repeat([]byte{2, 'm', 2}, 100))
	f.Add(uint8(6), []byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		agree(t, all[int(which)%len(all)], body)
	})
}
