package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSplitKeepsBytesAndPlaces(t *testing.T) {
	s := splitter{items: 10, itemBytes: 100, depth: 8}
	body := " [ {\"a\" : 1.0e+2 }\n,\t{\"a\":\"\\u00e9\\\\\\\"]}\"},null, [ {} ] ,{}]\n"
	got, bad := s.document([]byte(body))
	if bad != nil {
		t.Fatal(bad)
	}
	var texts []string
	for _, p := range got {
		texts = append(texts, fmt.Sprintf("%s %v", p.value, p.err != nil))
	}
	want := []string{`{"a" : 1.0e+2 } false`, `{"a":"\u00e9\\\"]}"} false`, `null true`, `[ {} ] true`, `{} false`}
	if strings.Join(texts, "|") != strings.Join(want, "|") {
		t.Errorf("pieces %q, want %q", texts, want)
	}
}

func TestSplitSharesTheBodysMemory(t *testing.T) {
	body := []byte(`[{"a":1},{"b":2}]`)
	got, bad := splitter{items: 2, itemBytes: 100, depth: 8}.document(body)
	if bad != nil {
		t.Fatal(bad)
	}
	body[2] = 'X'
	if string(got[0].value) != `{Xa":1}` {
		t.Errorf("the events are copies: %s", got[0].value)
	}
}

func TestSplitMistakes(t *testing.T) {
	s := splitter{items: 3, itemBytes: 100, depth: 3}
	for _, c := range []struct {
		body     string
		at, item int
		cut      bool
		what     string
	}{
		{"", 0, -1, false, "empty"},
		{" \n", 2, -1, false, "empty"},
		{"\x00", 0, -1, false, "neither"},
		{"\xef\xbb\xbf{}", 0, -1, false, "byte order mark"},
		{"{}{}", 2, -1, false, "follows"},
		{"{},", 2, -1, false, "follows"},
		{"[]", 1, -1, false, "array is empty"},
		{"[{}", 3, 0 + 1, true, "a comma or the end"},
		{"[{},", 4, 1, true, "a JSON value"},
		{"[{},]", 4, 1, false, "a JSON value"},
		{"[{} {}]", 4, 1, false, "a comma"},
		{"[{}]]", 4, -1, false, "follows"},
		{"[{},{},{},{}]", 10, 3, false, "more than 3"},
		{`{"a"`, 4, 0, true, "a colon"},
		{`{"a":`, 5, 0, true, "a JSON value"},
		{`{"a":1`, 6, 0, true, "a comma or }"},
		{`{"a":"b`, 7, 0, true, "the end of a string"},
		{`{"a":"\`, 7, 0, true, "an escape"},
		{`{"a":"\x"}`, 7, 0, false, "an escape"},
		{`{"a":"\u12g4"}`, 10, 0, false, "a hexadecimal digit"},
		{"{\"a\":\"\n\"}", 6, 0, false, "control character"},
		{"{\"a\":\"\xff\"}", 6, 0, false, "UTF-8"},
		{"{\"a\":\"\xed\xa0\x80\"}", 6, 0, false, "UTF-8"},
		{`{"a":01}`, 6, 0, false, "a comma"},
		{`{"a":-}`, 6, 0, false, "a digit"},
		{`{"a":1.}`, 7, 0, false, "a digit"},
		{`{"a":1e}`, 7, 0, false, "a digit"},
		{`{"a":.5}`, 5, 0, false, "a JSON value"},
		{`{"a":+1}`, 5, 0, false, "a JSON value"},
		{`{"a":NaN}`, 5, 0, false, "a JSON value"},
		{`{"a":tru}`, 8, 0, false, "true"},
		{`{"a":[1,]}`, 8, 0, false, "a JSON value"},
		{`{"a":[1}}`, 7, 0, false, "a comma or ]"},
		{`{a:1}`, 1, 0, false, "a member name"},
		{`{'a':1}`, 1, 0, false, "a member name"},
		{`{"a":1,}`, 7, 0, false, "a member name"},
		{`{"a":/**/1}`, 5, 0, false, "a JSON value"},
		{`{"a":[[[]]]}`, 7, 0, false, "deeper than 3"},
	} {
		_, bad := s.document([]byte(c.body))
		if bad == nil {
			t.Errorf("%q was taken", c.body)
			continue
		}
		if bad.at != c.at || bad.item != c.item || bad.cut != c.cut || !strings.Contains(bad.what, c.what) {
			t.Errorf("%q: byte %d, item %d, cut %v: %s; want %d, %d, %v, %q", c.body, bad.at, bad.item, bad.cut, bad.what, c.at, c.item, c.cut, c.what)
		}
	}
}

func TestSplitDepthDoesNotRunAway(t *testing.T) {
	s := splitter{items: 1, itemBytes: 1 << 30, depth: 64}
	deep := append([]byte(`{"a":`), bytes.Repeat([]byte("["), 20<<20)...)
	if _, bad := s.document(deep); bad == nil || bad.at != 5+63 {
		t.Errorf("20 million brackets: %+v", bad)
	}
	got, bad := s.lines(deep)
	if bad != nil || got[0].err == nil || got[0].err.Code != codeSyntax {
		t.Errorf("as a line: %+v, %v", got, bad)
	}
}

// FuzzSplit: the splitter takes exactly what encoding/json and UTF-8 take, and what
// it hands on is in the body, in order, and whole.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{
		`{"a":1}`, `[{"a":[{"b":"\u00e9"}]},{"c":-1.5e-7}, null]`, "{\"a\":1}\n\n {\"b\":2}\r\n", `[`, `{"a":"\ud800"}`,
		"[1,\xff]", `[{"a":"]},{"}]`, `[{},{}`, "\ufeff{}", `{"a":0}` + "\n" + `x`, "[\"\x7f\"]", `[0,-0,00]`, `[true,false,nul]`,
	} {
		f.Add([]byte(s))
	}
	s := splitter{items: 100, itemBytes: 1 << 20, depth: 50}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		pieces, bad := s.document(body)
		var all []json.RawMessage
		var one map[string]json.RawMessage
		good := utf8.Valid(body) && depthOf(body) <= s.depth
		switch {
		case good && json.Unmarshal(body, &all) == nil && all != nil && len(all) > 0 && len(all) <= s.items:
			checkPieces(t, pieces, bad, all)
		case good && json.Unmarshal(body, &one) == nil && one != nil && depthOf(body) <= s.depth:
			checkPieces(t, pieces, bad, []json.RawMessage{bytes.TrimSpace(body)})
		default:
			if bad == nil && depthOf(body) <= s.depth { // an array may be one level deeper than its events
				t.Fatalf("taken: %q", body)
			}
		}
		if bad != nil && (bad.at < 0 || bad.at > len(body)) {
			t.Fatalf("a mistake at byte %d of %d", bad.at, len(body))
		}
		pieces, bad = s.lines(body)
		var n int
		for _, line := range bytes.Split(body, []byte("\n")) {
			line = bytes.Trim(line, " \t\r")
			if len(line) == 0 || bad != nil {
				continue
			}
			if p := pieces[n]; !bytes.Equal(p.value, line) {
				t.Fatalf("line %d is %q, want %q", n, p.value, line)
			} else if p.err == nil && (!json.Valid(line) || !utf8.Valid(line) || line[0] != '{') {
				t.Fatalf("line taken: %q", line)
			} else if p.err != nil && json.Valid(line) && utf8.Valid(line) && line[0] == '{' && depthOf(line) <= s.depth {
				t.Fatalf("line refused: %q: %v", line, p.err)
			}
			n++
		}
		if bad == nil && n != len(pieces) {
			t.Fatalf("%d pieces of %d lines", len(pieces), n)
		}
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
	})
}

func checkPieces(t *testing.T, got []piece, bad *bodyError, want []json.RawMessage) {
	t.Helper()
	if bad != nil {
		t.Fatalf("refused at byte %d: %s", bad.at, bad.what)
	}
	if len(got) != len(want) {
		t.Fatalf("%d pieces, want %d", len(got), len(want))
	}
	for n := range want {
		if !bytes.Equal(got[n].value, want[n]) {
			t.Fatalf("piece %d is %q, want %q", n, got[n].value, want[n])
		}
		if isObject := want[n][0] == '{'; isObject != (got[n].err == nil) {
			t.Fatalf("piece %d, %q: %v", n, want[n], got[n].err)
		}
	}
}

// depthOf counts open brackets outside of strings.
func depthOf(b []byte) (deepest int) {
	var depth int
	var in, esc bool
	for _, c := range b {
		switch {
		case esc:
			esc = false
		case in && c == '\\':
			esc = true
		case c == '"':
			in = !in
		case !in && (c == '{' || c == '['):
			depth++
			deepest = max(deepest, depth)
		case !in && (c == '}' || c == ']'):
			depth--
		}
	}
	return deepest
}

func BenchmarkSplit(b *testing.B) {
	one := `{"@timestamp":"2026-03-01T11:59:58.120Z","event":{"id":"0195512a-7c1e-7bd2-9a55-0f4a7a3a5c11","kind":"event","category":["iam"],"type":["change"],"action":"role-granted","outcome":"success"},"user":{"id":"u-17","name":"Zo\u00eb \"Z\" Example","target":{"id":"u-42"}},"source":{"ip":"203.0.113.7"},"message":"a line of text that is about as long as they are"}`
	body := []byte("[" + strings.Repeat(one+",", 999) + one + "]")
	s := splitter{items: 10_000, itemBytes: 1 << 20, depth: 64}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if got, bad := s.document(body); bad != nil || len(got) != 1000 {
			b.Fatal(bad)
		}
	}
}
