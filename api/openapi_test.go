package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"mime"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// spec is openapi.yaml as plain values, with the small part of JSON Schema that it
// uses. An unknown keyword is an error, so nothing in the document goes unchecked.
type spec struct{ doc map[string]any }

func loadSpec(t *testing.T) *spec {
	t.Helper()
	var doc map[string]any
	if err := yaml.NewDecoder(bytes.NewReader(openAPI), yaml.Strict()).Decode(&doc); err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	b, err := json.Marshal(doc) // one kind of number and map from here on
	if err != nil {
		t.Fatal(err)
	}
	doc = nil
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return &spec{doc}
}

// at follows a reference until it is none; nil when it leads nowhere.
func (s *spec) at(v any) map[string]any {
	m, _ := v.(map[string]any)
	for range 10 {
		ref, ok := m["$ref"].(string)
		if !ok {
			return m
		}
		path, ok := strings.CutPrefix(ref, "#/")
		if !ok {
			return nil
		}
		var at any = s.doc
		for _, k := range strings.Split(path, "/") {
			o, _ := at.(map[string]any)
			at = o[k]
		}
		m, _ = at.(map[string]any)
	}
	return nil
}

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }
func listOf(v any) []any          { l, _ := v.([]any); return l }
func text(v any) string           { t, _ := v.(string); return t }
func keys(m map[string]any) []string {
	return slices.Sorted(maps.Keys(m))
}

func (s *spec) operation(method, path string) map[string]any {
	return object(object(object(s.doc["paths"])[path])[strings.ToLower(method)])
}

// template is the path of the document that a request path is of.
func (s *spec) template(path string) string {
	for _, p := range keys(object(s.doc["paths"])) {
		pattern := regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(regexp.QuoteMeta(p), "x")
		pattern = strings.ReplaceAll(pattern, `\{ledger\}`, `[^/]+`)
		pattern = strings.ReplaceAll(pattern, `\{seq\}`, `[^/]+`)
		pattern = strings.ReplaceAll(pattern, `\{job\}`, `[^/]+`)
		if regexp.MustCompile("^" + pattern + "$").MatchString(path) {
			return p
		}
	}
	return ""
}

// checkAnswer holds one answer against the document and notes it as seen.
func (s *spec) checkAnswer(t *testing.T, method, path string, w *httptest.ResponseRecorder, seen map[string]map[string]map[int]bool) {
	t.Helper()
	tmpl := s.template(path)
	op := s.operation(method, tmpl)
	problem := map[string]any{"$ref": "#/components/schemas/Problem"}
	if op == nil { // no such route: still a problem document
		if w.Code != 404 && w.Code != 405 || w.Header().Get("Content-Type") != problemContentType {
			t.Errorf("%s %s is not in the document but was answered with %d", method, path, w.Code)
		}
		s.checkJSON(t, problem, w.Body.Bytes(), path)
		return
	}
	if seen[method] == nil {
		seen[method] = map[string]map[int]bool{}
	}
	if seen[method][tmpl] == nil {
		seen[method][tmpl] = map[int]bool{}
	}
	seen[method][tmpl][w.Code] = true
	resp := s.at(object(op["responses"])[strconv.Itoa(w.Code)])
	if resp == nil {
		t.Errorf("%s %s was answered with %d, which the document does not have: %s", method, tmpl, w.Code, w.Body)
		return
	}
	got, _, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	media := object(object(resp["content"])[got])
	if err != nil || media == nil {
		t.Errorf("%s %s: %d has content type %q, which the document does not have", method, tmpl, w.Code, got)
		return
	}
	if strings.HasSuffix(got, "json") {
		s.checkJSON(t, media["schema"], w.Body.Bytes(), method+" "+tmpl)
	}
	if w.Code == 401 && w.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("%s %s: 401 without WWW-Authenticate", method, tmpl)
	}
	if later := w.Code == 429 || w.Code == 409 || w.Code == 503 && got == problemContentType; later && w.Header().Get("Retry-After") == "" {
		t.Errorf("%s %s: %d without Retry-After", method, tmpl, w.Code)
	}
}

func (s *spec) checkJSON(t *testing.T, schema any, body []byte, where string) {
	t.Helper()
	if !utf8.Valid(body) {
		t.Errorf("%s: the answer is not UTF-8", where)
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Errorf("%s: %v: %s", where, err, body)
		return
	}
	if err := s.valid(schema, v); err != nil {
		t.Errorf("%s: the answer does not fit the document: %v\n%s", where, err, body)
	}
}

// checkStatuses wants each documented status to have been seen, as each seen one
// is documented already.
func (s *spec) checkStatuses(t *testing.T, seen map[string]map[string]map[int]bool) {
	t.Helper()
	for path, item := range object(s.doc["paths"]) {
		for method, op := range object(item) {
			for status := range object(object(op)["responses"]) {
				n, err := strconv.Atoi(status)
				if err != nil || !seen[strings.ToUpper(method)][path][n] {
					t.Errorf("%s %s: no script has seen the documented status %s", method, path, status)
				}
			}
		}
	}
}

// valid is JSON Schema as far as the document uses it, and stricter in one point: a
// member that is not in "properties" is an error, because an answer must not hold
// what the document does not name.
func (s *spec) valid(schema, v any) error {
	m := s.at(schema)
	if m == nil {
		return fmt.Errorf("no schema at %v", schema)
	}
	for k, want := range m {
		var err error
		switch k {
		case "description", "default", "format", "contentEncoding", "examples":
		case "type":
			err = s.validType(want, v)
		case "enum":
			if !slices.ContainsFunc(listOf(want), func(x any) bool { return reflect.DeepEqual(x, v) }) {
				err = fmt.Errorf("%v is not one of %v", v, want)
			}
		case "pattern":
			if x, ok := v.(string); ok && !regexp.MustCompile(text(want)).MatchString(x) {
				err = fmt.Errorf("%q does not match %s", x, want)
			}
		case "minimum", "maximum":
			if x, ok := v.(float64); ok && (k == "minimum" && x < want.(float64) || k == "maximum" && x > want.(float64)) {
				err = fmt.Errorf("%v: %s is %v", x, k, want)
			}
		case "minLength", "maxLength", "minItems", "maxItems":
			err = sized(k, want.(float64), v)
		case "required":
			o, ok := v.(map[string]any)
			for _, name := range listOf(want) {
				if _, has := o[text(name)]; ok && !has {
					err = fmt.Errorf("%s is missing", name)
				}
			}
		case "properties":
			err = s.validMembers(object(want), v)
		case "items":
			for n, x := range listOf(v) {
				if e := s.valid(want, x); e != nil {
					err = fmt.Errorf("[%d]: %w", n, e)
				}
			}
		case "oneOf":
			var fits int
			var why []string
			for _, alt := range listOf(want) {
				if e := s.valid(alt, v); e == nil {
					fits++
				} else {
					why = append(why, e.Error())
				}
			}
			if fits != 1 {
				err = fmt.Errorf("fits %d of the alternatives, want 1: %s", fits, strings.Join(why, "; "))
			}
		default:
			err = fmt.Errorf("keyword %s is not checked by this test", k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *spec) validMembers(props map[string]any, v any) error {
	o, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	for k, x := range o {
		p, known := props[k]
		if !known {
			return fmt.Errorf("member %s is not in the document", k)
		}
		if err := s.valid(p, x); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}

func (s *spec) validType(want, v any) error {
	names := listOf(want)
	if names == nil {
		names = []any{want}
	}
	for _, n := range names {
		ok := false
		switch x := v.(type) {
		case nil:
			ok = n == "null"
		case bool:
			ok = n == "boolean"
		case string:
			ok = n == "string"
		case float64:
			ok = n == "number" || n == "integer" && x == math.Trunc(x)
		case []any:
			ok = n == "array"
		case map[string]any:
			ok = n == "object"
		}
		if ok {
			return nil
		}
	}
	return fmt.Errorf("%v is not of type %v", v, want)
}

func sized(k string, want float64, v any) error {
	var n float64
	switch x := v.(type) {
	case string:
		n = float64(utf8.RuneCountInString(x))
	case []any:
		n = float64(len(x))
	default:
		return nil
	}
	if strings.HasPrefix(k, "min") && n < want || strings.HasPrefix(k, "max") && n > want {
		return fmt.Errorf("length %v: %s is %v", n, k, want)
	}
	return nil
}

// TestOpenAPIFitsTheRoutes holds the document and the route table against each
// other, in both directions.
func TestOpenAPIFitsTheRoutes(t *testing.T) {
	s := loadSpec(t)
	var documented, routed []string
	for path, item := range object(s.doc["paths"]) {
		for method := range object(item) {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	for _, r := range (&server{}).routes() {
		path := regexp.MustCompile(`:([a-z]+)`).ReplaceAllString(r.path, "{$1}")
		routed = append(routed, r.method+" "+path)
		op := s.operation(r.method, path)
		var query, inPath []string
		for _, ref := range listOf(op["parameters"]) {
			p := s.at(ref)
			switch text(p["in"]) {
			case "query":
				query = append(query, text(p["name"]))
			case "path":
				inPath = append(inPath, "{"+text(p["name"])+"}")
			case "header":
			default:
				t.Errorf("%s %s: parameter %v is in %v", r.method, path, p["name"], p["in"])
			}
		}
		want := slices.Clone(r.query)
		slices.Sort(want)
		slices.Sort(query)
		if d := cmp.Diff(want, query, cmp.Transformer("nil", func(x []string) []string { return append([]string{}, x...) })); d != "" {
			t.Errorf("%s %s: query parameters (-table +document)\n%s", r.method, path, d)
		}
		if d := cmp.Diff(regexp.MustCompile(`\{[a-z]+\}`).FindAllString(path, -1), inPath); d != "" {
			t.Errorf("%s %s: path parameters (-table +document)\n%s", r.method, path, d)
		}
		s.checkSecurity(t, r, path, op)
	}
	slices.Sort(documented)
	slices.Sort(routed)
	if d := cmp.Diff(routed, documented); d != "" {
		t.Errorf("routes (-table +document)\n%s", d)
	}
}

func (s *spec) checkSecurity(t *testing.T, r route, path string, op map[string]any) {
	t.Helper()
	security, own := op["security"]
	switch {
	case r.needs != "" && !r.local && own:
		t.Errorf("%s %s needs a token, but the document says something of its own: %v", r.method, path, security)
	case (r.needs == "" || r.local) && !own:
		t.Errorf("%s %s is open to some, which the document does not say", r.method, path)
	}
	if r.needs != "" && !strings.Contains(text(op["description"]), string(r.needs)) {
		t.Errorf("%s %s: the document does not name the permission %s", r.method, path, r.needs)
	}
}

// TestOpenAPIIsWellFormed: references resolve, what OpenAPI 3.1 requires is there,
// nothing is unused, and each example fits its schema.
func TestOpenAPIIsWellFormed(t *testing.T) {
	s := loadSpec(t)
	if !strings.HasPrefix(text(s.doc["openapi"]), "3.1.") {
		t.Errorf("openapi: %v", s.doc["openapi"])
	}
	known := []string{"components", "info", "openapi", "paths", "security", "servers", "tags"}
	if d := cmp.Diff(known, keys(s.doc)); d != "" {
		t.Errorf("top level:\n%s", d)
	}
	for _, k := range []string{"title", "version"} {
		if text(object(s.doc["info"])[k]) == "" {
			t.Errorf("info.%s is missing", k)
		}
	}
	used := map[string]bool{}
	walk(s.doc, "", func(where string, m map[string]any) {
		if ref := text(m["$ref"]); ref != "" {
			used[ref] = true
			if s.at(m) == nil {
				t.Errorf("%s: %s leads nowhere", where, ref)
			}
		}
		if schema, examples := m["schema"], object(m["examples"]); schema != nil {
			for name, ex := range examples {
				if err := s.valid(schema, object(ex)["value"]); err != nil {
					t.Errorf("%s: example %s: %v", where, name, err)
				}
			}
		}
	})
	for kind, all := range object(s.doc["components"]) {
		for name := range object(all) {
			if kind != "securitySchemes" && !used["#/components/"+kind+"/"+name] {
				t.Errorf("component %s/%s is not used", kind, name)
			}
		}
	}
	ids := map[string]bool{}
	for path, item := range object(s.doc["paths"]) {
		for method, o := range object(item) {
			op := object(o)
			id := text(op["operationId"])
			if id == "" || ids[id] || text(op["summary"]) == "" || len(object(op["responses"])) == 0 {
				t.Errorf("%s %s: operationId (its own), summary and responses are required", method, path)
			}
			ids[id] = true
			for status, r := range object(op["responses"]) {
				if resp := s.at(r); text(resp["description"]) == "" || len(object(resp["content"])) == 0 {
					t.Errorf("%s %s %s: description and content are required", method, path, status)
				}
			}
			for _, ref := range listOf(op["parameters"]) {
				p := s.at(ref)
				if text(p["name"]) == "" || p["schema"] == nil || text(p["in"]) == "path" && p["required"] != true {
					t.Errorf("%s %s: parameter %v: name, schema and (in a path) required: true", method, path, p)
				}
			}
		}
	}
}

// TestOpenAPINamesTheLimits: the defaults of the code are those of the document.
func TestOpenAPINamesTheLimits(t *testing.T) {
	s := loadSpec(t)
	var l Limits
	l.setDefaults()
	body := object(object(object(s.operation("POST", "/v1/events")["requestBody"])["content"])[typeJSON])
	if got := object(listOf(object(body["schema"])["oneOf"])[1])["maxItems"]; got != float64(l.Items) {
		t.Errorf("maxItems %v, the code takes %d", got, l.Items)
	}
	for _, ref := range listOf(s.operation("GET", "/v1/events")["parameters"]) {
		p := s.at(ref)
		schema := object(p["schema"])
		switch text(p["name"]) {
		case "limit":
			if schema["maximum"] != float64(maxLimit) || schema["default"] != float64(defaultLimit) {
				t.Errorf("limit %v", schema)
			}
		case "Purpose-Of-Use":
			if schema["maxLength"] != float64(maxPurpose) {
				t.Errorf("purpose %v", schema)
			}
		default:
			if n, has := schema["maxLength"]; has && n != float64(maxParamBytes) {
				t.Errorf("%v: maxLength %v", p["name"], n)
			}
		}
	}
}

func walk(v any, where string, visit func(string, map[string]any)) {
	switch x := v.(type) {
	case map[string]any:
		visit(where, x)
		for k, y := range x {
			walk(y, where+"/"+k, visit)
		}
	case []any:
		for n, y := range x {
			walk(y, fmt.Sprintf("%s/%d", where, n), visit)
		}
	}
}
