package schemas

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
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

func TestLogicalTypes(t *testing.T) {
	tests := []struct{ typ, body, json string }{
		{`{"type":"long","logicalType":"timestamp-millis"}`, "\xc4\x13", `"1970-01-01T00:00:01.250Z"`},
		{`{"type":"long","logicalType":"timestamp-micros"}`, "\x01", `"1969-12-31T23:59:59.999Z"`},
		{`{"type":"long","logicalType":"timestamp-nanos"}`, "\x80\x89\x7a", `"1970-01-01T00:00:00.001Z"`},
		{`{"type":"long","logicalType":"timestamp-millis"}`, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", `-9223372036854775808`},
		{`{"type":"int","logicalType":"date"}`, "\x01", `"1969-12-31"`},
		{`{"type":"int","logicalType":"date"}`, "\xff\xff\xff\xff\x0f", `-2147483648`},
		{`{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}`, "\x04\x04\xd2", `"12.34"`},
		{`{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}`, "\x02\xff", `"-0.01"`},
		{`{"type":"bytes","logicalType":"decimal","precision":6}`, "\x02\x07", `"7"`},
		{`{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}`, "\x00", `""`},
		{`{"type":"fixed","name":"D","size":1,"logicalType":"decimal","precision":2,"scale":1}`, "\x80", `"-12.8"`},
		{`{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}`, "\x01\x90\xc6\xf0\x7d\x3a\x7c\xc1\x9d\x53\x1f\x2e\x3d\x4c\x5b\x6a", `"0190c6f0-7d3a-7cc1-9d53-1f2e3d4c5b6a"`},
		{`{"type":"string","logicalType":"uuid"}`, "\x02x", `"x"`},
		{`{"type":"bytes","logicalType":"unheard-of"}`, "\x04\xff\x00", `"/wA="`},
		{`"bytes"`, "\x06{a}", `"{a}"`},
	}
	for _, test := range tests {
		o, err := parseSchema(`{"type":"record","name":"R","fields":[{"name":"message","type":`+test.typ+`}]}`, columnsForm().root)
		if err != nil {
			t.Fatal(err)
		}
		got, err := avroToJSON(nil, o, []byte(test.body))
		if want := `{"message":` + test.json + `}`; err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", test.typ, got, err, want)
		}
		var f Fields
		if err := columnsForm().projectAvro(o, []byte(test.body), &f); err != nil {
			t.Error(err)
		}
		if got := show(t, &f)["message"]; got != strings.Trim(test.json, `"`) {
			t.Errorf("%s: projected %v", test.typ, got)
		}
	}
}

// TestHostileAvro: a few bytes that claim much cost little, and deep ones end.
func TestHostileAvro(t *testing.T) {
	billion := appendLong(nil, 1<<30)
	doubling := `{"type":"record","name":"R0","fields":[]}`
	for i := 1; i < 40; i++ {
		doubling = fmt.Sprintf(`{"type":"record","name":"R%d","fields":[{"name":"a","type":%s},{"name":"b","type":"R%d"}]}`, i, doubling, i-1)
	}
	tests := []struct {
		name, schema string
		body         []byte
		want         string
	}{
		{"billions of nulls", `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"null"}}]}`, append(billion, 0), "more elements than the bytes can hold"},
		{"nulls in many lists", `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":{"type":"array","items":"null"}}}]}`,
			append(append([]byte{0x80, 0x10}, bytes.Repeat([]byte{0x80, 0x40, 0}, 1024)...), 0), "more elements than the bytes can hold"},
		{"billions of entries", `{"type":"record","name":"R","fields":[{"name":"labels","type":{"type":"map","values":"null"}}]}`, append(billion, 0), "more elements than the bytes can hold"},
		{"a string of 1 GB", `{"type":"record","name":"R","fields":[{"name":"message","type":"string"}]}`, billion, "the bytes end inside a value"},
		{"a negative length", `{"type":"record","name":"R","fields":[{"name":"message","type":"string"}]}`, []byte{1}, "a length out of range"},
		{"the least block count", `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"null"}}]}`, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, "a block count out of range"},
		{"a number without end", `{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}`, bytes.Repeat([]byte{0xff}, 20), "not a number"},
		{"an int of 33 bits", `{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}`, appendLong(nil, 1<<32), "not a number of 32 bits"},
		{"no such branch", `{"type":"record","name":"R","fields":[{"name":"message","type":["null","string"]}]}`, []byte{4}, "a branch or symbol that the schema has not"},
		{"bytes behind", `{"type":"record","name":"R","fields":[]}`, []byte{0}, "bytes behind the end of the record"},
		{"too deep", `{"type":"record","name":"R","fields":[{"name":"x","type":["null","R"]}]}`, append(bytes.Repeat([]byte{2}, 100), 0), tooDeep},
		{"a schema that doubles", doubling, nil, ""},
		{"long names", `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":{"type":"record","name":"I","fields":[{"name":"` + strings.Repeat("n", 4000) + `","type":"boolean"}]}}}]}`,
			append(append(appendLong(nil, 4000), make([]byte, 4000)...), 0), "too long as JSON"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o, err := parseSchema(test.schema, columnsForm().root)
			if err != nil {
				t.Fatal(err)
			}
			var f Fields
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = avroToJSON(nil, o, test.body)
			projErr := columnsForm().projectAvro(o, test.body, &f)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("as JSON: %v, want %q", err, test.want)
			}
			if test.name != "long names" && (projErr == nil || !strings.Contains(projErr.Error(), test.want)) {
				t.Errorf("projected: %v", projErr)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
				t.Errorf("%d bytes allocated for %d", got, len(test.body))
			}
		})
	}
}

func TestSchemaTexts(t *testing.T) {
	root := columnsForm().root
	bad := map[string]string{
		"not JSON":     `{`,
		"JSON Schema":  `{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}`,
		"unknown type": `{"type":"record","name":"R","fields":[{"name":"a","type":"com.acme.Missing"}]}`,
		"too long":     `"string"` + strings.Repeat(" ", maxSchemaText),
	}
	again := `{"name":"f0","ecs":"user","type":{"type":"record","name":"U","fields":[`
	for i := range 400 {
		again += fmt.Sprintf(`%s{"name":"g%d","ecs":"target","type":%s}`, strings.Repeat(",", min(i, 1)), i, map[bool]string{true: `{"type":"record","name":"T","fields":[{"name":"id","type":["null","string"]}]}`, false: `"T"`}[i == 0])
	}
	again += `]}}`
	for i := 1; i < 400; i++ {
		again += fmt.Sprintf(`,{"name":"f%d","ecs":"user","type":"U"}`, i)
	}
	bad["the same place ever again"] = `{"type":"record","name":"R","fields":[` + again + `]}`
	for name, text := range bad {
		if _, err := parseSchema(text, root); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for name, text := range map[string]string{
		"dotted name":     `{"type":"record","name":"com.acme.R","fields":[{"name":"user","type":{"type":"record","name":"U","fields":[{"name":"id","type":"string"}]}},{"name":"b","type":["null","U"]},{"name":"c","type":["null","com.acme.U"]}]}`,
		"namespace":       `{"type":"record","name":"R","namespace":"com.acme","fields":[{"name":"user","type":{"type":"record","name":"U","namespace":"org","fields":[{"name":"id","type":"string"}]}},{"name":"b","type":["null","org.U"]},{"name":"c","type":["null","R"]}]}`,
		"without a space": `{"type":"record","name":"R","fields":[{"name":"user","type":{"type":"record","name":"U","fields":[{"name":"id","type":"string"}]}},{"name":"b","type":["null","U"]},{"name":"c","type":["null","R"]}]}`,
	} {
		o, err := parseSchema(text, root)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := avroToJSON(nil, o, []byte("\x02x\x00\x00"))
		if err != nil || string(got) != `{"user":{"id":"x"}}` {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestCodecReadsFrames(t *testing.T) {
	e := &AuditEvent{Timestamp: time.UnixMilli(1795425342123).UTC(), Event: AuditInfo{ID: "e-1", Action: new("user.login")}, User: &AuditUser{ID: new("u-1")}}
	body, err := e.AppendAvro(nil)
	if err != nil {
		t.Fatal(err)
	}
	value := AppendFrame(nil, 0x01020304, body)
	if !bytes.Equal(value[:FrameSize], []byte{0, 1, 2, 3, 4}) || !bytes.Equal(value[FrameSize:], body) {
		t.Fatalf("frame % x", value[:FrameSize])
	}
	if id, rest, ok := SplitFrame(value); !ok || id != 0x01020304 || !bytes.Equal(rest, body) {
		t.Fatalf("split: %x %v", id, ok)
	}
	for _, v := range [][]byte{nil, {0}, {0, 1, 2, 3}, {1, 0, 0, 0, 0}, []byte("{\"a\":1}")} {
		if _, _, ok := SplitFrame(v); ok {
			t.Errorf("% x is a frame", v)
		}
	}
	c := NewCodec(registry{0x01020304: AuditSchema()})
	got, reason := projected(t, c, value)
	want := shown{"time": int64(1795425342123), "event_id": "e-1", "event_action": "user.login", "user_id": "u-1"}
	if d := cmp.Diff(want, got); d != "" || reason != "" {
		t.Errorf("%s %s", d, reason)
	}
	text, err := c.JSON(t.Context(), value)
	if err != nil || string(text) != `{"@timestamp":"2026-11-23T09:15:42.123Z","event":{"id":"e-1","action":"user.login"},"user":{"id":"u-1"}}` {
		t.Errorf("%s, %v", text, err)
	}
	for _, v := range [][]byte{value, text} {
		back, err := c.Audit(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, back); d != "" {
			t.Error(d)
		}
	}
	if _, err := c.Domain(t.Context(), value); err == nil {
		t.Error("an audit event passes for a domain event")
	}
}

// registry is a resolver over a table.
type registry map[uint32]string

func (r registry) Schema(_ context.Context, id uint32) (string, error) {
	if s, ok := r[id]; ok {
		return s, nil
	}
	return "", fmt.Errorf("id %d: %w", id, ErrUnknownSchema)
}

// moody is a registry that counts and fails as told.
type moody struct {
	asked map[uint32]int
	err   error
	text  string
}

func (m *moody) Schema(_ context.Context, id uint32) (string, error) {
	m.asked[id]++
	return m.text, m.err
}

func TestSchemaCache(t *testing.T) {
	m := &moody{asked: map[uint32]int{}}
	c := NewCodec(m)
	now := time.Unix(0, 0)
	c.schemas.now = func() time.Time { return now }
	project := func(id uint32) error {
		var f Fields
		err := c.Project(t.Context(), AppendFrame(nil, id, []byte("\x02m")), &f)
		show(t, &f)
		return err
	}
	var bad *DecodeError

	// A registry that cannot be asked is asked again, and the error is no verdict.
	down := errors.New("connection refused")
	m.err = down
	for range 2 {
		if err := project(1); !errors.Is(err, down) || errors.As(err, &bad) {
			t.Fatalf("unreachable: %v", err)
		}
	}
	if m.asked[1] != 2 {
		t.Errorf("asked %d times", m.asked[1])
	}
	// An unknown id is believed for a while.
	m.err = fmt.Errorf("404: %w", ErrUnknownSchema)
	for range 3 {
		if err := project(1); !errors.As(err, &bad) || bad.Partial {
			t.Fatalf("unknown: %v", err)
		}
	}
	if m.asked[1] != 3 {
		t.Errorf("asked %d times", m.asked[1])
	}
	now = now.Add(unknownFor + 1)
	m.err, m.text = nil, `{"type":"record","name":"R","fields":[{"name":"message","type":"string"}]}`
	for range 3 {
		if err := project(1); err != nil {
			t.Fatal(err)
		}
	}
	if m.asked[1] != 4 {
		t.Errorf("asked %d times", m.asked[1])
	}
	// A schema that cannot be read stays so.
	m.text = "{"
	for range 2 {
		if err := project(2); !errors.As(err, &bad) || bad.Reason != "avro: schema id 2 cannot be read" {
			t.Fatalf("bad schema: %v", err)
		}
	}
	if m.asked[2] != 1 {
		t.Errorf("asked %d times", m.asked[2])
	}
	// Memory is bounded, whatever ids come.
	for id := range uint32(3 * maxKnownSchemas) {
		_ = project(id)
	}
	if n := len(c.schemas.known); n > maxKnownSchemas {
		t.Errorf("%d schemas kept", n)
	}
}

// TestPlacesMetTwice: two fields of one record may claim the same place.
func TestPlacesMetTwice(t *testing.T) {
	text := foreignSchemas[5]
	if !strings.Contains(text, `"Twice"`) {
		t.Fatal("the schemas moved")
	}
	c := NewCodec(registry{1: text})
	entry := "\x02\x02\x04id\x02"
	got, reason := projected(t, c, AppendFrame(nil, 1, []byte("\x02\x02x\x02\x02y"+entry+"v\x00"+entry+"w\x00")))
	want := "user.id: given more than once, the last one counts; user.target: object given more than once; user.target.id: given more than once, the last one counts"
	if d := cmp.Diff(shown{"user_id": "y", "user_target_id": "w"}, got); d != "" || reason != want {
		t.Errorf("%s %q", d, reason)
	}
}
