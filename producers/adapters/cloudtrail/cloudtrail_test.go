package cloudtrail

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealstream/sealstream/schemas"
)

func testOptions() Options {
	return Options{Now: func() time.Time { return time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC) }}
}

// TestMap: each testdata/map/NAME.json becomes NAME.want.json, and keeps its bytes.
func TestMap(t *testing.T) {
	files, err := filepath.Glob("testdata/map/*.want.json")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	codec := schemas.NewCodec(nil)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(strings.Replace(file, ".want.json", ".json", 1))
			if err != nil {
				t.Fatal(err)
			}
			wantText, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			e, err := Map(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := schemas.ValidateAudit(e, testOptions().Now()); err != nil {
				t.Error(err)
			}
			text, err := e.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var got, want map[string]any
			if err := errors.Join(json.Unmarshal(text, &got), json.Unmarshal(wantText, &want)); err != nil {
				t.Fatal(err)
			}
			if original := got["event"].(map[string]any)["original"]; original != string(raw) {
				t.Errorf("event.original is %q", original)
			}
			delete(got["event"].(map[string]any), "original")
			want["ecs"] = map[string]any{"version": "9.4.0"}
			want["data_stream"] = map[string]any{"type": "logs", "dataset": "aws.cloudtrail", "namespace": "default"}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			var f schemas.Fields
			if err := codec.Project(t.Context(), text, &f); err != nil {
				t.Errorf("marked: %v", err)
			}
			again, err := Map(raw)
			if err != nil || !cmp.Equal(e, again) {
				t.Errorf("not the same again: %v", err)
			}
		})
	}
}

func TestMapRefuses(t *testing.T) {
	const good = `"eventTime":"2026-03-02T10:00:00Z","eventSource":"ec2.amazonaws.com","eventName":"RunInstances","eventID":"x"`
	for want, raw := range map[string]string{
		"eventID: missing":                            `{"eventTime":"2026-03-02T10:00:00Z","eventSource":"s","eventName":"n"}`,
		"eventName: missing":                          `{"eventTime":"2026-03-02T10:00:00Z","eventSource":"s","eventID":"x"}`,
		"eventSource: missing":                        `{"eventTime":"2026-03-02T10:00:00Z","eventName":"n","eventID":"x"}`,
		"eventTime: missing, or not RFC 3339":         `{"eventTime":"yesterday hunter2","eventSource":"s","eventName":"n","eventID":"x"}`,
		"not JSON at byte 6":                          `{"a":}`,
		"not a JSON object":                           `["hunter2"]`,
		"not UTF-8: its bytes cannot be kept":         "{" + good + ",\"a\":\"\xff\"}",
		"not JSON at byte " + fmt.Sprint(1+len(good)): "{" + good,
	} {
		if _, err := Map([]byte(raw)); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
	if _, err := Map([]byte("{" + good + "}")); err != nil {
		t.Error(err)
	}
}

// TestDerivedFieldsFit: a real record with an oversized member is kept, shortened
// everywhere but in its original.
func TestDerivedFieldsFit(t *testing.T) {
	long := strings.Repeat("é", 5000)
	raw := []byte(`{"eventTime":"2026-03-02T10:00:00Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","eventID":"x","userAgent":"` + long +
		`","errorCode":"` + long + `","errorMessage":"` + long + `\u0000","sourceIPAddress":"` + long + `","requestParameters":{"key":"` + long + `"}}`)
	e, err := Map(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := schemas.ValidateAudit(e, testOptions().Now()); err != nil {
		t.Error(err)
	}
	if *e.Event.Original != string(raw) {
		t.Error("the original was shortened")
	}
	if got := *e.Audit.Object.ID; got != strings.Repeat("é", schemas.MaxKeyword/2) {
		t.Errorf("object of %d bytes", len(got))
	}
}

// TestEveryCategoryIsAllowed: whatever the name and the service, the pair is one that
// ECS expects.
func TestEveryCategoryIsAllowed(t *testing.T) {
	services := []string{"signin", "sts", "iam", "sso", "identitystore", "rolesanywhere", "cognito-idp", "s3", "dynamodb", "rds", "rds-data", "athena", "ssm", "ec2", "lambda", "kms", "cloudtrail", "new-service", "elasticfilesystem"}
	verbs := []string{"Get", "List", "Describe", "Create", "Run", "Delete", "Terminate", "Put", "Assume", "Start", "Stop", "Send", "Switch", "x"}
	things := []string{"", "Object", "MultipartUpload", "Instances", "User", "Group", "Role", "RoleWithSAML", "AccessKey", "Item", "Session", "Command", "DBInstance"}
	for _, service := range services {
		for _, v := range verbs {
			for _, thing := range things {
				for _, code := range []string{"", "AccessDenied"} {
					raw := fmt.Sprintf(`{"eventTime":"2026-03-02T10:00:00Z","eventSource":"%s.amazonaws.com","eventName":"%s%s","eventID":"x","errorCode":"%s"}`, service, v, thing, code)
					e, err := Map([]byte(raw))
					if err != nil {
						t.Fatal(err)
					}
					if err := schemas.ValidateAudit(e, testOptions().Now()); err != nil {
						t.Errorf("%s: %v", raw, err)
					}
					if got := slices.Contains(*e.Event.Type, "denied"); got != (code == "AccessDenied") {
						t.Errorf("%s: types %v", raw, *e.Event.Type)
					}
				}
			}
		}
	}
}

func TestVerb(t *testing.T) {
	for name, want := range map[string]string{
		"GetObject": "access", "ListBuckets": "access", "Decrypt": "access", "Getaway": "change", "CreateUser": "creation",
		"CopySnapshot": "creation", "DeleteTrail": "deletion", "StopLogging": "change", "PutBucketPolicy": "change", "RunInstances": "creation",
	} {
		if got := verb(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestDenied(t *testing.T) {
	for code, want := range map[string]bool{"": false, "AccessDenied": true, "AccessDeniedException": true, "Client.UnauthorizedOperation": true, "ThrottlingException": false, "NotAuthorizedException": true} {
		if denied(code) != want {
			t.Errorf("%q: %v", code, !want)
		}
	}
}

func TestOutcomes(t *testing.T) {
	for rest, want := range map[string]string{
		``:                          "success",
		`,"errorCode":"Throttling"`: "failure",
		`,"errorMessage":"no"`:      "failure",
		`,"responseElements":{"ConsoleLogin":"Failure"}`:  "failure",
		`,"responseElements":{"ConsoleLogin":"Success"}`:  "success",
		`,"responseElements":{"ConsoleLogin":"Whatever"}`: "unknown",
		`,"responseElements":{"ConsoleLogin":{"a":1}}`:    "success",
	} {
		e, err := Map([]byte(`{"eventTime":"2026-03-02T10:00:00Z","eventSource":"signin.amazonaws.com","eventName":"ConsoleLogin","eventID":"x"` + rest + `}`))
		if err != nil || *e.Event.Outcome != want {
			t.Errorf("%s: %v %v, want %s", rest, *e.Event.Outcome, err, want)
		}
	}
}

// rec is a small record whose bytes are awkward to split.
func rec(id string) string {
	return `{ "eventID":"` + id + `", "eventTime":"2026-03-02T10:00:00Z",
 "eventSource":"ec2.amazonaws.com" ,"eventName":"RunInstances","x":"}]\"\\","y":[{"z":[]}],"n":-1.5e3,"t":true }`
}

func pack(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// read reads everything and tells what came, in order.
func read(t testing.TB, in io.Reader, o Options) []string {
	t.Helper()
	var out []string
	r := NewReader(in, o)
	for n := 0; ; {
		rec, err := r.Next()
		var refused *RecordError
		switch {
		case errors.Is(err, io.EOF) && !errors.As(err, &refused):
			return append(out, "end")
		case errors.As(err, &refused):
			out = append(out, fmt.Sprintf("refused %v", err))
			if refused.Open {
				continue
			}
		case err != nil:
			return append(out, "error "+err.Error())
		default:
			if rec.Number != n {
				t.Errorf("record %d is numbered %d", n, rec.Number)
			}
			if string(rec.Raw) != rec0(rec.Raw) || *rec.Event.Event.Original != string(rec.Raw) {
				t.Errorf("bytes: %s", rec.Raw)
			}
			out = append(out, rec.Event.Event.ID)
		}
		n++
	}
}

// rec0 is what the bytes of a record made by rec must be.
func rec0(raw []byte) string {
	_, rest, _ := strings.Cut(string(raw), `"eventID":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return rec(id)
}

func TestForms(t *testing.T) {
	a, b, c := rec("a"), rec("b"), rec("c")
	many := strings.Repeat(a+",", 500) + b
	all := []string{"a", "b", "c", "end"}
	tests := []struct {
		name, in string
		want     []string
	}{
		{"wrapped", `{"Records":[` + a + `,` + b + `,` + c + `]}`, all},
		{"wrapped, with space", " \n{ \"Records\" : [ " + a + " ,\n" + b + "\t,\r\n" + c + "\n ] }\n\n", all},
		{"wrapped, with other members", `{"a":{"Records":[1]},"b":"Records","Records":[` + a + `,` + b + `,` + c + `],"z":[1,{"q":"]}"}],"y":null}`, all},
		{"bare", `[` + a + `,` + b + `,` + c + `]`, all},
		{"by line", a + "\n" + b + "\n" + c + "\n", all},
		{"by line, without an end", a + "\r\n\r\n" + b + "\n" + c, all},
		{"behind each other", `[` + a + `]{"Records":[` + b + `]}` + c, all},
		{"byte order mark", "\xef\xbb\xbf[" + a + "," + b + "," + c + "]", all},
		{"packed", pack(t, `{"Records":[`+a+`,`+b+`,`+c+`]}`), all},
		{"packed twice", pack(t, a+"\n"+b+"\n") + pack(t, c), all},
		{"nothing", "", []string{"end"}},
		{"space only", " \n", []string{"end"}},
		{"empty lists", `[] {"Records":[]} [ ]`, []string{"end"}},
		{"long", `[` + many + `]`, append(slices.Repeat([]string{"a"}, 500), "b", "end")},

		{"a bad one among good ones", `[` + a + `,{"eventID":},` + c + `]`, []string{"a", "refused record 1: not JSON at byte 12", "c", "end"}},
		{"no objects", `[1,"x",null,[2],` + a + `]`, []string{"refused record 0: not a JSON object", "refused record 1: not a JSON object", "refused record 2: not a JSON object", "refused record 3: not a JSON object", "a", "end"}},
		{"a digest file", `{"awsAccountId":"1","logFiles":[{"s3Bucket":"b"}]}`, []string{"refused record 0: eventID: missing", "end"}},
		{"bad brackets", `[{"a":[}},` + a + `]`, []string{"refused record 0: not JSON at byte 7", "a", "end"}},
		{"an old one", `{"eventID":"o","eventTime":"1999-01-01T00:00:00Z","eventSource":"s","eventName":"n"}`, []string{"refused record 0: @timestamp: before 2000-01-01 (give RFC 3339, or milliseconds since 1970; seconds are too small)", "end"}},
		{"text", "hello", []string{`error not a CloudTrail log: record 0 begins with "h", want { or [`}},
		{"CSV behind a record", a + "\n,b", []string{"a", `error not a CloudTrail log: record 1 begins with ",", want { or [`}},
		{"no comma", `[` + a + a + `]`, []string{"a", "error not a CloudTrail log: want a comma behind record 0"}},
		{"no name", `{1:2}`, []string{"error not a CloudTrail log: record 0: want the name of a member"}},
		{"no colon", `{"a" 2}`, []string{"error not a CloudTrail log: record 0: want a colon"}},

		{"cut between", `[` + a + `,` + b, []string{"a", "b", "error unexpected EOF: the input ends before its list does"}},
		{"cut behind a comma", `[` + a + `,`, []string{"a", "error unexpected EOF: the input ends before its list does"}},
		{"cut behind the list", `{"Records":[` + a + `]`, []string{"a", "error unexpected EOF: the input ends before its list does"}},
		{"cut in a list", `{"Records":[` + a + `,` + b[:40], []string{"a", "refused record 1: the input ends within it: unexpected EOF", "error unexpected EOF: the input ends before its list does"}},
		{"cut by line", a + "\n" + b[:40], []string{"a", "refused record 1: the input ends within it: unexpected EOF", "end"}},
		{"cut in a string", a + "\n" + `{"eventID":"b`, []string{"a", "refused record 1: the input ends within it: unexpected EOF", "end"}},
		{"cut in an escape", a + "\n" + `{"eventID":"b\`, []string{"a", "refused record 1: the input ends within it: unexpected EOF", "end"}},
		{"cut in a name", a + "\n" + `{"ev`, []string{"a", "refused record 1: the input ends within it: unexpected EOF", "end"}},
		{"cut in a number", `[12`, []string{"refused record 0: the input ends within it: unexpected EOF", "error unexpected EOF: the input ends before its list does"}},
		{"cut while packed", pack(t, a+"\n"+b)[:150], []string{"error read input: unexpected EOF"}},
		{"not gzip", "\x1f\x8bxx", []string{"error unpack input: unexpected EOF"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for name, in := range map[string]io.Reader{"whole": strings.NewReader(test.in), "in bytes": iotest.OneByteReader(strings.NewReader(test.in))} {
				got := read(t, in, testOptions())
				if test.name == "cut while packed" { // how much unpacks is the packer's affair
					got = got[len(got)-1:]
				}
				if d := cmp.Diff(test.want, got); d != "" {
					t.Errorf("%s: %s", name, d)
				}
			}
		})
	}
}

func TestBounds(t *testing.T) {
	o := testOptions()
	o.MaxRecord = len(rec("a"))
	if d := cmp.Diff([]string{"a", "refused record 1: longer than " + fmt.Sprint(o.MaxRecord) + " bytes", "c", "end"},
		read(t, strings.NewReader("["+rec("a")+","+rec("bb")+","+rec("c")+"]"), o)); d != "" {
		t.Error(d)
	}
	o = testOptions()
	o.MaxInput = 500
	in := strings.Repeat(rec("a")+"\n", 10)
	for _, in := range []string{in, pack(t, in)} {
		got := read(t, strings.NewReader(in), o)
		if last := got[len(got)-1]; !strings.Contains(last, "input too big: more than 500 bytes unpacked") || len(got) > 4 {
			t.Errorf("%v", got)
		}
	}
	// A bomb: 12 MB of one record, or of white space, in 12 KB.
	for name, fill := range map[string]string{"a record": `{"a":"` + strings.Repeat("x", 1<<20), "space": strings.Repeat(" ", 1<<20)} {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		for i := range 12 {
			if i == 1 {
				fill = strings.Repeat(fill[len(fill)-1:], 1<<20)
			}
			if _, err := io.WriteString(w, fill); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r := NewReader(&b, testOptions())
		_, err := r.Next()
		if !errors.Is(err, ErrTooBig) {
			t.Errorf("%s: %v", name, err)
		}
		if cap(r.raw) > 4*DefaultMaxRecord {
			t.Errorf("%s: %d bytes kept", name, cap(r.raw))
		}
	}
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	for n := range 3 {
		in := io.MultiReader(strings.NewReader(rec("a")[:n*10]), iotest.ErrReader(broken))
		if _, err := NewReader(in, testOptions()).Next(); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n*10, err)
		}
	}
}

// FuzzReader: nothing panics; whatever encoding/json takes for {"Records": [...]} or a
// bare array is split at the same bytes.
func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"Records":[` + rec("a") + `,{"b":"\\\""},3]}`))
	f.Add([]byte(`[` + rec("a") + `]`))
	f.Add([]byte(rec("a") + "\n" + rec("b")))
	f.Add([]byte(pack(f, `{"x":1,"Records":[{}],"y":[]}`)))
	f.Fuzz(func(t *testing.T, in []byte) {
		o := testOptions()
		o.MaxInput = 1 << 20
		r := NewReader(bytes.NewReader(in), o)
		var got []string
		var end error
		for end == nil {
			rec, err := r.Next()
			var refused *RecordError
			switch {
			case errors.As(err, &refused):
				got = append(got, string(r.raw))
			case err != nil:
				end = err
			default:
				got = append(got, string(rec.Raw))
			}
			if len(got) > len(in)+1 && in[0] != 0x1f {
				t.Fatalf("%d records in %d bytes", len(got), len(in))
			}
		}
		var list []json.RawMessage
		var wrapped map[string]json.RawMessage
		switch {
		case json.Unmarshal(in, &list) == nil && list != nil:
		case json.Unmarshal(in, &wrapped) == nil && len(wrapped) == 1 && bytes.Count(in, []byte("Records")) == 1 && json.Unmarshal(wrapped["Records"], &list) == nil && list != nil:
		default:
			return
		}
		if !errors.Is(end, io.EOF) || len(got) != len(list) {
			t.Fatalf("%v after %d of %d records", end, len(got), len(list))
		}
		for i := range list {
			if got[i] != string(list[i]) {
				t.Fatalf("record %d: %q, want %q", i, got[i], list[i])
			}
		}
	})
}

func BenchmarkReader(b *testing.B) {
	raw, err := os.ReadFile("testdata/map/assumed-role-secret.json")
	if err != nil {
		b.Fatal(err)
	}
	in := bytes.Repeat(raw, 100)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r := NewReader(bytes.NewReader(in), testOptions())
		for {
			if _, err := r.Next(); err != nil {
				break
			}
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
