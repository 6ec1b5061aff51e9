package schemas

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
