package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sealstream/sealstream/schemas"
	"github.com/twmb/franz-go/pkg/sr"
)

var _ schemas.Resolver = (*Registry)(nil)

const (
	schemaA  = `{"type":"record","name":"R","fields":[{"name":"id","type":"string"}]}`
	schemaB  = `{"type":"record","name":"R","fields":[{"name":"id","type":"string"},{"name":"n","type":"int","default":0}]}`
	schemaB2 = "{\n  \"name\": \"R\", \"type\": \"record\", \"fields\": [{\"type\":\"string\",\"name\":\"id\"},{\"default\":0,\"name\":\"n\",\"type\":\"int\"}]}"
	// schemaC has a field without a default: readers of it cannot read A.
	schemaC = `{"type":"record","name":"R","fields":[{"name":"id","type":"string"},{"name":"n","type":"int"}]}`
	// schemaD lost the id, which readers of A need.
	schemaD = `{"type":"record","name":"R","fields":[{"name":"n","type":"int","default":0}]}`
)

func openRegistry(t *testing.T, dir string) (*Registry, *httptest.Server, *sr.Client) {
	t.Helper()
	r, err := NewRegistry(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(r.Handler())
	t.Cleanup(func() { srv.Close(); r.Close() })
	cl, err := sr.NewClient(sr.URLs(srv.URL))
	if err != nil {
		t.Fatal(err)
	}
	return r, srv, cl
}

func avroText(s string) sr.Schema { return sr.Schema{Schema: s, Type: sr.TypeAvro} }

func mustCreate(t *testing.T, cl *sr.Client, subject, text string) sr.SubjectSchema {
	t.Helper()
	ss, err := cl.CreateSchema(t.Context(), subject, avroText(text))
	if err != nil {
		t.Fatalf("register under %s: %v", subject, err)
	}
	return ss
}

func codeOf(err error) int {
	var re *sr.ResponseError
	if errors.As(err, &re) {
		return re.ErrorCode
	}
	return 0
}

func TestRegistryRegistersAndFinds(t *testing.T) {
	dir := t.TempDir()
	r, _, cl := openRegistry(t, dir)
	ctx := t.Context()
	a := mustCreate(t, cl, "s/ one", schemaA)
	b := mustCreate(t, cl, "s/ one", schemaB)
	if a.ID != 1 || a.Version != 1 || b.ID != 2 || b.Version != 2 {
		t.Fatalf("got ids %d, %d and versions %d, %d", a.ID, b.ID, a.Version, b.Version)
	}
	// The same schema in other words is the same schema, here and elsewhere.
	if again := mustCreate(t, cl, "s/ one", schemaB2); again.ID != 2 || again.Version != 2 {
		t.Fatalf("registered again as id %d version %d, want 2 and 2", again.ID, again.Version)
	}
	if other := mustCreate(t, cl, "other", schemaB2); other.ID != 2 || other.Version != 1 {
		t.Fatalf("under another subject: id %d version %d, want 2 and 1", other.ID, other.Version)
	}
	found, err := cl.LookupSchema(ctx, "s/ one", avroText(schemaB2))
	if err != nil || found.Version != 2 || found.ID != 2 {
		t.Fatalf("lookup: %+v, %v", found, err)
	}
	if _, err := cl.LookupSchema(ctx, "other", avroText(schemaA)); codeOf(err) != 40403 {
		t.Fatalf("lookup of a schema the subject does not have: %v, want 40403", err)
	}
	if text, err := cl.SchemaTextByID(ctx, 1); err != nil || text != schemaA {
		t.Fatalf("schema 1: %q, %v", text, err)
	}
	if s, err := cl.SchemaByID(ctx, 1); err != nil || s.Schema != schemaA {
		t.Fatalf("schema 1: %+v, %v", s, err)
	}
	if latest, err := cl.SchemaByVersion(ctx, "s/ one", -1); err != nil || latest.ID != 2 {
		t.Fatalf("latest: %+v, %v", latest, err)
	}
	if subjects, err := cl.Subjects(ctx); err != nil || cmp.Diff([]string{"other", "s/ one"}, subjects) != "" {
		t.Fatalf("subjects: %v, %v", subjects, err)
	}
	if uses, err := cl.SchemaVersionsByID(ctx, 2); err != nil || len(uses) != 2 {
		t.Fatalf("uses of 2: %v, %v", uses, err)
	}
	if subjects, err := cl.SubjectsByID(ctx, 2); err != nil || len(subjects) != 2 {
		t.Fatalf("subjects of 2: %v, %v", subjects, err)
	}
	if all, err := cl.AllSchemas(ctx); err != nil || len(all) != 3 {
		t.Fatalf("all: %v, %v", all, err)
	}
	if types, err := cl.SupportedTypes(ctx); err != nil || len(types) != 1 || types[0] != sr.TypeAvro {
		t.Fatalf("types: %v, %v", types, err)
	}

	if text, err := r.Schema(ctx, 1); err != nil || text != schemaA {
		t.Fatalf("resolver: %q, %v", text, err)
	}
	if _, err := r.Schema(ctx, 9); !errors.Is(err, schemas.ErrUnknownSchema) {
		t.Fatalf("resolver for an unknown id: %v, want %v", err, schemas.ErrUnknownSchema)
	}
}

func TestRegistryIsTheSameAfterARestart(t *testing.T) {
	dir := t.TempDir()
	r, srv, cl := openRegistry(t, dir)
	ctx := t.Context()
	mustCreate(t, cl, "a", schemaA)
	mustCreate(t, cl, "a", schemaB)
	mustCreate(t, cl, "gone", schemaA)
	mustCreate(t, cl, "hidden", schemaA)
	for _, how := range []sr.DeleteHow{sr.SoftDelete, sr.HardDelete} {
		if _, err := cl.DeleteSubject(ctx, "gone", how); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cl.DeleteSubject(ctx, "hidden", sr.SoftDelete); err != nil {
		t.Fatal(err)
	}
	cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatFullTransitive})
	cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatNone}, "a")
	before := dump(t, srv.URL)
	srv.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}

	_, srv, cl = openRegistry(t, dir)
	if diff := cmp.Diff(before, dump(t, srv.URL)); diff != "" {
		t.Fatalf("after the restart (-before +after):\n%s", diff)
	}
	if next := mustCreate(t, cl, "new", schemaC); next.ID != 3 {
		t.Fatalf("the next id is %d, want 3", next.ID)
	}
	if again := mustCreate(t, cl, "hidden", schemaA); again.ID != 1 || again.Version != 2 {
		t.Fatalf("a softly deleted schema registered again: id %d version %d, want 1 and 2", again.ID, again.Version)
	}
}

// dump asks for all there is to see.
func dump(t *testing.T, url string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, p := range []string{
		"/schemas?deleted=true", "/subjects?deleted=true", "/subjects", "/config", "/config/a", "/config/hidden",
		"/schemas/ids/1", "/schemas/ids/2", "/schemas/ids/1/versions?deleted=true", "/subjects/gone/versions", "/subjects/hidden/versions",
	} {
		status, body := call(t, http.MethodGet, url+p, "", "")
		out[p] = fmt.Sprintf("%d %s", status, body)
	}
	return out
}

func call(t *testing.T, method, url, contentType, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if ct := resp.Header.Get("Content-Type"); ct != registryType {
		t.Errorf("%s %s: content type %q, want %q", method, url, ct, registryType)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestRegistryCompatibilityLevels(t *testing.T) {
	// Each schema is tried as the successor of A, or of A then B.
	for _, tc := range []struct {
		level   sr.CompatibilityLevel
		history []string
		next    string
		ok      bool
	}{
		{sr.CompatBackward, []string{schemaA}, schemaB, true},
		{sr.CompatBackward, []string{schemaA}, schemaC, false},
		{sr.CompatBackward, []string{schemaA}, schemaD, true},
		{sr.CompatForward, []string{schemaA}, schemaC, true},
		{sr.CompatForward, []string{schemaA}, schemaD, false},
		{sr.CompatFull, []string{schemaA}, schemaB, true},
		{sr.CompatFull, []string{schemaA}, schemaC, false},
		{sr.CompatFull, []string{schemaA}, schemaD, false},
		{sr.CompatNone, []string{schemaA}, `"string"`, true},
		{sr.CompatBackward, []string{schemaA, schemaB}, schemaC, true}, // B has the field
		{sr.CompatBackwardTransitive, []string{schemaA, schemaB}, schemaC, false},
		{sr.CompatForward, []string{schemaA, schemaB}, schemaD, false},
		{sr.CompatForwardTransitive, []string{schemaB, schemaA}, schemaC, true},
		{sr.CompatFullTransitive, []string{schemaA, schemaB}, schemaC, false},
		{sr.CompatFull, []string{schemaA, schemaB}, schemaC, true},
		{sr.CompatBackward, []string{schemaA}, `{"type":"record","name":"Other","fields":[]}`, false},
	} {
		t.Run(fmt.Sprintf("%s %d", tc.level, len(tc.history)), func(t *testing.T) {
			_, _, cl := openRegistry(t, t.TempDir())
			ctx := t.Context()
			cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatNone}, "s")
			for _, h := range tc.history {
				mustCreate(t, cl, "s", h)
			}
			if res := cl.SetCompatibility(ctx, sr.SetCompatibility{Level: tc.level}, "s"); res[0].Err != nil {
				t.Fatal(res[0].Err)
			}
			check, err := cl.CheckCompatibility(sr.WithParams(ctx, sr.Verbose), "s", -2, avroText(tc.next))
			if err != nil || check.Is != tc.ok || (len(check.Messages) == 0) != tc.ok {
				t.Errorf("check answered %+v, %v; want compatible = %v", check, err, tc.ok)
			}
			_, err = cl.CreateSchema(ctx, "s", avroText(tc.next))
			if got := err == nil; got != tc.ok {
				t.Errorf("registration answered %v, want success = %v", err, tc.ok)
			}
			if !tc.ok && codeOf(err) != 409 {
				t.Errorf("registration answered code %d, want 409", codeOf(err))
			}
		})
	}
}

// Two schemas that differ only in a default have one fingerprint for the
// parser; a checker that remembered by it would take C for B.
func TestRegistryCompatibilityLooksAtDefaults(t *testing.T) {
	_, _, cl := openRegistry(t, t.TempDir())
	mustCreate(t, cl, "s", schemaA)
	for range 2 {
		good, err := cl.CheckCompatibility(t.Context(), "s", -1, avroText(schemaB))
		if err != nil || !good.Is {
			t.Fatalf("B: %+v, %v", good, err)
		}
		bad, err := cl.CheckCompatibility(sr.WithParams(t.Context(), sr.Verbose), "s", 1, avroText(schemaC))
		if err != nil || bad.Is || !strings.Contains(strings.Join(bad.Messages, " "), "field n") {
			t.Fatalf("C: %+v, %v; want a message naming the field", bad, err)
		}
	}
}

func TestRegistryConfig(t *testing.T) {
	_, _, cl := openRegistry(t, t.TempDir())
	ctx := t.Context()
	if c := cl.Compatibility(ctx)[0]; c.Err != nil || c.Level != sr.CompatBackward {
		t.Fatalf("default level: %+v", c)
	}
	if c := cl.Compatibility(ctx, "s")[0]; codeOf(c.Err) != 40408 {
		t.Fatalf("level of a subject without one: %+v, want 40408", c)
	}
	if c := cl.Compatibility(sr.WithParams(ctx, sr.DefaultToGlobal), "s")[0]; c.Err != nil || c.Level != sr.CompatBackward {
		t.Fatalf("level of a subject, else the global one: %+v", c)
	}
	if c := cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatForward}, "s")[0]; c.Err != nil || c.Level != sr.CompatForward {
		t.Fatalf("set: %+v", c)
	}
	if c := cl.Compatibility(ctx, "s")[0]; c.Err != nil || c.Level != sr.CompatForward {
		t.Fatalf("get: %+v", c)
	}
	if c := cl.ResetCompatibility(ctx, "s")[0]; c.Err != nil || c.Level != sr.CompatForward {
		t.Fatalf("reset: %+v", c)
	}
	if c := cl.Compatibility(ctx, "s")[0]; codeOf(c.Err) != 40408 {
		t.Fatalf("after the reset: %+v, want 40408", c)
	}
	if m := cl.Mode(ctx)[0]; m.Err != nil || m.Mode != sr.ModeReadWrite {
		t.Fatalf("mode: %+v", m)
	}
	if m := cl.SetMode(ctx, sr.ModeReadOnly)[0]; codeOf(m.Err) != 42205 {
		t.Fatalf("set mode: %+v, want 42205", m)
	}
}

func TestRegistryDeletes(t *testing.T) {
	_, _, cl := openRegistry(t, t.TempDir())
	ctx := t.Context()
	mustCreate(t, cl, "s", schemaA)
	mustCreate(t, cl, "s", schemaB)
	steps := []struct {
		name string
		do   func() error
		code int
	}{
		{"for good before softly", func() error { return cl.DeleteSchema(ctx, "s", 1, sr.HardDelete) }, 40407},
		{"softly", func() error { return cl.DeleteSchema(ctx, "s", 1, sr.SoftDelete) }, 0},
		{"softly twice", func() error { return cl.DeleteSchema(ctx, "s", 1, sr.SoftDelete) }, 40406},
		{"read the deleted", func() error { _, err := cl.SchemaByVersion(ctx, "s", 1); return err }, 40402},
		{"read the deleted, asking for it", func() error {
			_, err := cl.SchemaByVersion(sr.WithParams(ctx, sr.ShowDeleted), "s", 1)
			return err
		}, 0},
		{"for good", func() error { return cl.DeleteSchema(ctx, "s", 1, sr.HardDelete) }, 0},
		{"a version that is not there", func() error { return cl.DeleteSchema(ctx, "s", 1, sr.SoftDelete) }, 40402},
		{"subject for good before softly", func() error { _, err := cl.DeleteSubject(ctx, "s", sr.HardDelete); return err }, 40405},
		{"subject softly", func() error { _, err := cl.DeleteSubject(ctx, "s", sr.SoftDelete); return err }, 0},
		{"subject softly twice", func() error { _, err := cl.DeleteSubject(ctx, "s", sr.SoftDelete); return err }, 40404},
		{"versions of a deleted subject", func() error { _, err := cl.SubjectVersions(ctx, "s"); return err }, 40401},
		{"subject for good", func() error { _, err := cl.DeleteSubject(ctx, "s", sr.HardDelete); return err }, 0},
		{"subject that is not there", func() error { _, err := cl.DeleteSubject(ctx, "s", sr.SoftDelete); return err }, 40401},
	}
	for _, s := range steps {
		if err := s.do(); codeOf(err) != s.code || (err == nil) != (s.code == 0) {
			t.Errorf("%s: %v, want code %d", s.name, err, s.code)
		}
	}
	// Sealed events still name the ids.
	for id, want := range map[int]string{1: schemaA, 2: schemaB} {
		if text, err := cl.SchemaTextByID(ctx, id); err != nil || text != want {
			t.Errorf("schema %d after its subject was deleted for good: %q, %v", id, text, err)
		}
	}
}

func TestRegistryRefusals(t *testing.T) {
	_, srv, cl := openRegistry(t, t.TempDir())
	mustCreate(t, cl, "s", schemaA)
	deep := strings.Repeat(`{"type":"array","items":`, 60) + `"int"` + strings.Repeat("}", 60)
	veryDeep := strings.Repeat(`[`, 100_000)
	var branches []string
	for i := range maxUnion + 1 {
		branches = append(branches, fmt.Sprintf(`{"type":"fixed","size":1,"name":"f%d"}`, i))
	}
	body := func(schema string) string {
		b, err := json.Marshal(map[string]string{"schema": schema})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tc := range []struct {
		name, method, path, contentType, body string
		status, code                          int
	}{
		{"not JSON", "POST", "/subjects/s/versions", registryType, "{", 400, 400},
		{"no schema", "POST", "/subjects/s/versions", registryType, "{}", 422, 42201},
		{"schema is no text", "POST", "/subjects/s/versions", registryType, `{"schema":{}}`, 400, 400},
		{"garbage schema", "POST", "/subjects/s/versions", registryType, body("garbage"), 422, 42201},
		{"bare word that is a type", "POST", "/subjects/s/versions", registryType, body("string"), 422, 42201},
		{"unknown type", "POST", "/subjects/s/versions", registryType, body(`{"type":"record","name":"X","fields":[{"name":"f","type":"R"}]}`), 422, 42201},
		{"two schemas", "POST", "/subjects/s/versions", registryType, body(schemaA + schemaA), 422, 42201},
		{"cut schema", "POST", "/subjects/s/versions", registryType, body(schemaA[:40]), 422, 42201},
		{"deep schema", "POST", "/subjects/s/versions", registryType, body(strings.Repeat(deep[:24], 101)), 422, 42201},
		{"very deep schema", "POST", "/subjects/s/versions", registryType, body(veryDeep), 422, 42201},
		{"wide union", "POST", "/subjects/s/versions", registryType, body("[" + strings.Join(branches, ",") + "]"), 422, 42201},
		{"large schema", "POST", "/subjects/s/versions", registryType, body(`"` + strings.Repeat("a", maxSchemaBytes) + `"`), 422, 42209},
		{"large body", "POST", "/subjects/s/versions", registryType, body(strings.Repeat("a", maxBody)), 422, 42209},
		{"protobuf", "POST", "/subjects/s/versions", registryType, `{"schemaType":"PROTOBUF","schema":"syntax"}`, 422, 42201},
		{"json schema", "POST", "/subjects/s/versions", registryType, `{"schemaType":"JSON","schema":"{}"}`, 422, 42201},
		{"references", "POST", "/subjects/s/versions", registryType, `{"schema":"\"int\"","references":[{"name":"a","subject":"b","version":1}]}`, 422, 42201},
		{"rules", "POST", "/subjects/s/versions", registryType, `{"schema":"\"int\"","ruleSet":{}}`, 422, 42201},
		{"own id", "POST", "/subjects/s/versions", registryType, `{"schema":"\"int\"","id":7}`, 422, 42205},
		{"form", "POST", "/subjects/s/versions", "application/x-www-form-urlencoded", body(schemaA), 415, 415},
		{"text", "PUT", "/config", "text/plain", `{"compatibility":"NONE"}`, 415, 415},
		{"no content type", "PUT", "/config", "", `{"compatibility":"NONE"}`, 415, 415},
		{"long subject", "POST", "/subjects/" + strings.Repeat("x", 256) + "/versions", registryType, body(schemaA), 422, 42208},
		{"control character in a subject", "POST", "/subjects/a%00b/versions", registryType, body(schemaA), 422, 42208},
		{"unknown level", "PUT", "/config", registryType, `{"compatibility":"SIDEWAYS"}`, 422, 42203},
		{"version 0", "GET", "/subjects/s/versions/0", "", "", 422, 42202},
		{"version of letters", "GET", "/subjects/s/versions/first", "", "", 422, 42202},
		{"version too large", "GET", "/subjects/s/versions/2147483648", "", "", 422, 42202},
		{"version not there", "GET", "/subjects/s/versions/2", "", "", 404, 40402},
		{"subject not there", "GET", "/subjects/x/versions/1", "", "", 404, 40401},
		{"lookup in a subject not there", "POST", "/subjects/x", registryType, body(schemaA), 404, 40401},
		{"id not there", "GET", "/schemas/ids/77", "", "", 404, 40403},
		{"id of letters", "GET", "/schemas/ids/x", "", "", 404, 404},
		{"id too large", "GET", "/schemas/ids/99999999999", "", "", 404, 404},
		{"check against a subject not there", "POST", "/compatibility/subjects/x/versions/latest", registryType, body(schemaA), 404, 40401},
		{"check against a version not there", "POST", "/compatibility/subjects/s/versions/9", registryType, body(schemaA), 404, 40402},
		{"unknown path", "GET", "/nothing", "", "", 404, 404},
		{"unknown method", "PATCH", "/subjects/s/versions", "", "", 404, 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, got := call(t, tc.method, srv.URL+tc.path, tc.contentType, tc.body)
			var e struct {
				Code    int    `json:"error_code"`
				Message string `json:"message"`
			}
			if err := json.Unmarshal([]byte(got), &e); err != nil {
				t.Fatalf("answer is no JSON: %.200q", got)
			}
			if status != tc.status || e.Code != tc.code || e.Message == "" {
				t.Errorf("got %d %.200s, want status %d and code %d", status, got, tc.status, tc.code)
			}
		})
	}
	if status, _ := call(t, "POST", srv.URL+"/subjects/deep/versions", registryType, body(deep)); status != 200 {
		t.Errorf("a schema nested 60 deep: status %d, want 200", status)
	}
}

func TestRegistryRepairsATornTail(t *testing.T) {
	dir := t.TempDir()
	r, _, cl := openRegistry(t, dir)
	mustCreate(t, cl, "s", schemaA)
	mustCreate(t, cl, "s", schemaB)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "registry.log")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lastLine := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for cut := lastLine; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := NewRegistry(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
		if _, err := r.Schema(t.Context(), 1); err != nil {
			t.Fatalf("cut at %d: schema 1 is lost: %v", cut, err)
		}
		if _, err := r.Schema(t.Context(), 2); err == nil {
			t.Fatalf("cut at %d: half a registration was taken", cut)
		}
		if reg, err := r.register(t.Context(), "s", schemaB); err != nil || reg.ID != 2 || reg.Version != 2 {
			t.Fatalf("cut at %d: registering again gave %+v, %v", cut, reg, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, whole) {
			t.Fatalf("cut at %d: the repaired file differs", cut)
		}
	}
}

func TestRegistryRefusesADamagedFile(t *testing.T) {
	dir := t.TempDir()
	r, _, cl := openRegistry(t, dir)
	mustCreate(t, cl, "s", schemaA)
	mustCreate(t, cl, "s", schemaB)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "registry.log")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lastLine := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for i := range lastLine {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x20
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := NewRegistry(dir, slog.New(slog.DiscardHandler)); err == nil {
			r.Close()
			t.Fatalf("byte %d flipped: opened all the same", i)
		}
	}
	line, err := encodeLine(&change{Op: opFormat, Format: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(line, whole[bytes.IndexByte(whole, '\n')+1:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewRegistry(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrDirVersion) {
		t.Fatalf("another version: %v, want %v", err, ErrDirVersion)
	}
}

func TestRegistryStopsAtTheFirstFailedWrite(t *testing.T) {
	r, _, cl := openRegistry(t, t.TempDir())
	mustCreate(t, cl, "s", schemaA)
	r.store.sync = func(*os.File) error { return errors.New("disk is gone") }
	if _, err := cl.CreateSchema(t.Context(), "s", avroText(schemaB)); codeOf(err) != 50001 {
		t.Fatalf("got %v, want 50001", err)
	}
	r.store.sync = (*os.File).Sync // a later sync proves nothing about the earlier write
	if _, err := cl.CreateSchema(t.Context(), "s", avroText(schemaB)); codeOf(err) != 50001 {
		t.Fatalf("the next one: got %v, want 50001", err)
	}
	if text, err := cl.SchemaTextByID(t.Context(), 1); err != nil || text != schemaA {
		t.Fatalf("reading: %q, %v", text, err)
	}
}

func TestRegistryAnnouncesBeforeItStores(t *testing.T) {
	r, _, cl := openRegistry(t, t.TempDir())
	var seen []Registration
	fail := true
	r.Announce(func(ctx context.Context, reg Registration) error {
		seen = append(seen, reg)
		_, _ = r.Schema(ctx, 1) // a reader does not wait for us
		if fail {
			return errors.New("no evidence, no registration")
		}
		return nil
	})
	if _, err := cl.CreateSchema(t.Context(), "s", avroText(schemaA)); codeOf(err) != 50001 {
		t.Fatalf("got %v, want 50001", err)
	}
	if _, err := r.Schema(t.Context(), 1); err == nil {
		t.Fatal("stored without being announced")
	}
	fail = false
	mustCreate(t, cl, "s", schemaA)
	mustCreate(t, cl, "s", schemaA)
	if want := []Registration{{"s", 1, 1, schemaA}, {"s", 1, 1, schemaA}}; cmp.Diff(want, seen) != "" {
		t.Fatalf("announced %v, want %v", seen, want)
	}
}

// The product's own schemas are within the limits, and BACKWARD of themselves.
func TestRegistryTakesTheProductsSchemas(t *testing.T) {
	_, _, cl := openRegistry(t, t.TempDir())
	files, err := filepath.Glob("../../schemas/*.avsc")
	if err != nil || len(files) < 2 {
		t.Fatalf("schemas: %v, %v", files, err)
	}
	for i, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if ss := mustCreate(t, cl, filepath.Base(f), string(text)); ss.ID != i+1 {
			t.Errorf("%s got id %d, want %d", f, ss.ID, i+1)
		}
		check, err := cl.CheckCompatibility(t.Context(), filepath.Base(f), -1, avroText(string(text)))
		if err != nil || !check.Is {
			t.Errorf("%s against itself: %+v, %v", f, check, err)
		}
	}
}

func TestRegistryUnderManyClients(t *testing.T) {
	r, _, _ := openRegistry(t, t.TempDir())
	var wg sync.WaitGroup
	ids := make([]uint32, 64)
	for i := range ids {
		wg.Go(func() {
			text := fmt.Sprintf(`{"type":"enum","name":"E","symbols":["S%d"]}`, i%8)
			reg, err := r.register(t.Context(), fmt.Sprintf("s%d", i%8), text)
			if err != nil {
				t.Error(err)
			}
			ids[i] = reg.ID
		})
	}
	wg.Wait()
	for i, id := range ids {
		if id != ids[i%8] {
			t.Errorf("schema %d has ids %d and %d", i%8, id, ids[i%8])
		}
	}
	if len(r.schemas) != 8 {
		t.Errorf("%d schemas, want 8", len(r.schemas))
	}
}

func FuzzParseSchema(f *testing.F) {
	for _, s := range []string{schemaA, schemaB2, `"int"`, `["null","string"]`, `{"type":"map","values":["null",{"type":"fixed","name":"F","size":3}]}`,
		`{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"],"default":null}]}`,
		`{"type":"enum","name":"E","symbols":["A"],"default":"A"}`, `{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`} {
		f.Add(s, schemaA)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		p, err := parseSchema(a)
		if err != nil {
			var re *RegistryError
			if !errors.As(err, &re) || (re.Code != errCodeBadSchema && re.Code != errCodeTooLarge) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again, err := parseSchema(" " + a + "\n")
		if err != nil || again.key != p.key {
			t.Fatalf("white space changed the schema: %v", err)
		}
		q, err := parseSchema(b)
		if err != nil {
			return
		}
		for _, l := range levels() {
			l.check(p, q)
		}
	})
}

func FuzzRegistryFile(f *testing.F) {
	dir := f.TempDir()
	r, err := NewRegistry(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{schemaA, schemaB} {
		if _, err := r.register(f.Context(), "s", s); err != nil {
			f.Fatal(err)
		}
	}
	r.Close()
	whole, err := os.ReadFile(filepath.Join(dir, "registry.log"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "registry.log"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := NewRegistry(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			return
		}
		defer r.Close()
		if _, err := r.register(t.Context(), "fresh", `{"type":"fixed","name":"Fuzz","size":7}`); err != nil {
			t.Fatalf("opened, but does not take a schema: %v", err)
		}
	})
}
