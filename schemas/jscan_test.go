package schemas

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// FuzzJSON holds the scanner to encoding/json: they accept the same objects, and every
// column holds what encoding/json's reading leads to.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		benchJSON, `{}`, `{"event":{"action":"a","category":["b",null,1]},"user.id":1.50,"@timestamp":"2026-11-23T10:15:42.123Z"}`,
		`{"event.action":"a","event":{"action":"b"}}`, `{"message":"\ud83d\ude00\ud83d\u0000"}`, "{\"message\":\"\xff\"}",
		`{"event":{"severity":1e400},"aggregate":{"version":"12"},"audit":{"actor":{"mfa":"true"}}}`, `[[[]]]`, "\xef\xbb\xbf{}", `{"a":-0.0e-0}`,
	} {
		f.Add([]byte(s))
	}
	c := NewCodec(nil)
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > 0 && value[0] == 0 {
			return
		}
		got, reason := projected(t, c, value)
		trimmed := bytes.TrimLeft(value, " \t\r\n")
		object := len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(value)
		deep := strings.Contains(reason, tooDeep)
		if refused := strings.HasPrefix(reason, "json: "); refused == object && !deep {
			t.Fatalf("encoding/json says %v, we say %q", object, reason)
		}
		out, err := c.JSON(t.Context(), value)
		if object && !deep {
			if err != nil || !json.Valid(out) || !utf8.Valid(out) {
				t.Fatalf("JSON: %v", err)
			}
			if reason == "" {
				if d := cmp.Diff(naive(t, value), got); d != "" {
					t.Fatalf("encoding/json - ours +: %s", d)
				}
			}
		}
		// The strict side takes nothing that the other refuses, and is stable.
		var e AuditEvent
		if err := e.UnmarshalJSON(value); err == nil {
			text, err := e.MarshalJSON()
			if err != nil || !object {
				t.Fatalf("unmarshalled, but %v (object: %v)", err, object)
			}
			var again AuditEvent
			if err := again.UnmarshalJSON(text); err != nil {
				t.Fatalf("%v in our own %s", err, text)
			}
			if d := cmp.Diff(e, again); d != "" {
				t.Fatal(d)
			}
		}
	})
}

// naive projects by way of encoding/json and maps, for values without marks.
func naive(t *testing.T, value []byte) shown {
	t.Helper()
	var tree map[string]any
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	out := shown{}
	if v := lookUp(tree, timePath); v != nil {
		out["time"] = naiveTime(t, v)
	}
	for _, c := range Columns(ProjectionVersion) {
		v := lookUp(tree, c.Path)
		list, isList := v.([]any)
		var some []any
		for _, e := range list {
			if e != nil {
				some = append(some, e)
			}
		}
		switch {
		case v == nil || isList && len(some) == 0 && c.Type != TextList:
			continue
		case isList && c.Type != TextList:
			v = some[0]
		case !isList:
			some = []any{v}
		}
		switch c.Type {
		case Text:
			out[c.Name] = plain(v)
		case TextList:
			texts := []string{}
			for _, e := range some {
				texts = append(texts, plain(e))
			}
			if len(texts) > 0 {
				out[c.Name] = texts
			}
		case Int:
			n, _ := wholeNumber(plain(v))
			out[c.Name] = n
		case Bool:
			out[c.Name] = plain(v) == "true"
		case TimeMs:
			out[c.Name] = naiveTime(t, v)
		}
	}
	return out
}

func naiveTime(t *testing.T, v any) int64 {
	t.Helper()
	if l, ok := v.([]any); ok {
		for _, e := range l {
			if e != nil {
				return naiveTime(t, e)
			}
		}
	}
	if n, ok := v.(json.Number); ok {
		ms, _ := wholeNumber(n.String())
		return ms
	}
	ms, ok := parseTime([]byte(plain(v)))
	if !ok {
		t.Fatalf("%v is no time, but was not marked", v)
	}
	return ms
}

func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return map[bool]string{true: "true", false: "false"}[v]
	}
	return "?"
}

// lookUp finds a path in a tree whose names may have dots.
func lookUp(tree any, path string) any {
	m, ok := tree.(map[string]any)
	if !ok {
		return nil
	}
	var found any
	for k, v := range m {
		if k == path && v != nil {
			found = v
		} else if rest, ok := strings.CutPrefix(path, k+"."); ok {
			if sub := lookUp(v, rest); sub != nil {
				found = sub
			}
		}
	}
	return found
}

// TestScannerOnDrawnJSON: whatever encoding/json writes is read.
func TestScannerOnDrawnJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := jsonDoc(4).Draw(t, "doc")
		s := scan{b: []byte(doc)}
		end, err := s.skip(0, 0)
		if err != nil || end != len(doc) {
			t.Fatalf("%v at %d of %s", err, end, doc)
		}
		for i := range len(doc) { // every cut is noticed, but for numbers
			c := scan{b: []byte(doc[:i])}
			if end, err := c.skip(0, 0); err == nil && c.kind(0) != jsonNumber {
				t.Fatalf("cut at %d, read to %d: %s", i, end, doc)
			}
		}
	})
}

func TestStringsAsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		b := appendString([]byte("x"), s)[1:]
		var back string
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%v in %q", err, b)
		}
		if want := string([]rune(s)); back != want {
			t.Fatalf("%q came back as %q", want, back)
		}
		sc := scan{b: b}
		end, info, err := sc.str(0)
		if err != nil || end != len(b) {
			t.Fatal(err)
		}
		if got := unquote(b[1:end-1], info); got != back {
			t.Fatalf("we read %q, encoding/json %q", got, back)
		}
	})
}
