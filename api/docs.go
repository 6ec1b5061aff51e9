package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"regexp"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/goccy/go-yaml"

	"github.com/sealstream/sealstream/api/auth"
)

// The page for people is made of the document for programs, once at the start: it has
// no script and asks for nothing from elsewhere.
//
//go:embed docs.html
var docsTemplate string

//go:embed docs.css
var docsStyle string

// docsPage is the finished page and the policy that lets it have its style and nothing
// else.
type docsPage struct {
	body   []byte
	policy string
}

func newDocsPage(document []byte) (*docsPage, error) {
	model, err := readDocument(document)
	if err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	t, err := template.New("docs").Funcs(template.FuncMap{"prose": prose, "lower": strings.ToLower}).Parse(docsTemplate)
	if err != nil {
		return nil, fmt.Errorf("read docs.html: %w", err)
	}
	model.Style = template.CSS(docsStyle)
	var b bytes.Buffer
	if err := t.Execute(&b, model); err != nil {
		return nil, fmt.Errorf("render docs.html: %w", err)
	}
	sum := sha256.Sum256([]byte(docsStyle))
	return &docsPage{b.Bytes(), "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}, nil
}

func (s *server) getDocs(c *gin.Context, _ auth.Principal) *problem {
	h := c.Writer.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", s.docs.policy)
	h.Set("Referrer-Policy", "no-referrer")
	write(c, http.StatusOK, s.docs.body)
	return nil
}

// The model of the page: what the document says, in the order in which it says it.
type (
	docsModel struct {
		Title, Summary, Description, Version string
		Style                                template.CSS
		Tags                                 []docsTag
		Security                             []docsField
		Schemas                              []docsSchema
		Examples                             []docsExample // of errors
	}
	docsTag struct {
		Name, Description string
		Operations        []docsOperation
	}
	docsOperation struct {
		Method, Path, ID, Summary, Description, Access string
		Parameters                                     []docsField
		Bodies                                         []docsBody
		Responses                                      []docsResponse
	}
	docsBody struct {
		Type, Description string
		Schema            docsType
		Examples          []docsExample
	}
	docsResponse struct {
		Statuses    []string // that share an answer
		Description string
		Headers     []docsField
		Bodies      []docsBody
	}
	docsField struct {
		Name, In, Description string
		Required              bool
		Type                  docsType
	}
	docsSchema struct {
		Name, Description string
		Type              docsType
		Fields            []docsField
		Alternatives      []docsSchema
	}
	docsType struct {
		Parts []docsPart
		Rules string // bounds, enumerations, patterns
	}
	// docsPart is text, or the name of a schema.
	docsPart    struct{ Text, Link string }
	docsExample struct{ Summary, Text string }
)

// document reads openapi.yaml with its order.
type document struct{ root yaml.MapSlice }

func readDocument(text []byte) (*docsModel, error) {
	d := &document{}
	if err := yaml.UnmarshalWithOptions(text, &d.root, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	info := asMap(value(d.root, "info"))
	m := &docsModel{Title: str(info, "title"), Summary: str(info, "summary"), Description: str(info, "description"), Version: str(info, "version")}
	for _, t := range asList(value(d.root, "tags")) {
		m.Tags = append(m.Tags, docsTag{Name: str(asMap(t), "name"), Description: str(asMap(t), "description")})
	}
	for _, p := range asMap(value(d.root, "paths")) {
		for _, o := range asMap(p.Value) {
			op := d.operation(fmt.Sprint(o.Key), fmt.Sprint(p.Key), asMap(o.Value))
			tag := fmt.Sprint(asList(value(asMap(o.Value), "tags"))[0])
			for n := range m.Tags {
				if m.Tags[n].Name == tag {
					m.Tags[n].Operations = append(m.Tags[n].Operations, op)
				}
			}
		}
	}
	components := asMap(value(d.root, "components"))
	for _, s := range asMap(value(components, "securitySchemes")) {
		m.Security = append(m.Security, docsField{Name: fmt.Sprint(s.Key), Description: str(asMap(s.Value), "description")})
	}
	for _, r := range asMap(value(components, "responses")) {
		for _, b := range d.bodies(asMap(r.Value)) {
			m.Examples = append(m.Examples, b.Examples...)
		}
	}
	for _, s := range asMap(value(components, "schemas")) {
		m.Schemas = append(m.Schemas, d.schema(fmt.Sprint(s.Key), asMap(s.Value)))
	}
	return m, nil
}

func (d *document) operation(method, path string, o yaml.MapSlice) docsOperation {
	op := docsOperation{Method: strings.ToUpper(method), Path: path, ID: str(o, "operationId"), Summary: str(o, "summary"),
		Description: str(o, "description"), Access: d.access(o)}
	for _, p := range asList(value(o, "parameters")) {
		op.Parameters = append(op.Parameters, d.field("", d.follow(p)))
	}
	op.Bodies = d.bodies(asMap(value(o, "requestBody")))
	shared := map[string]int{}
	for _, r := range asMap(value(o, "responses")) {
		ref := str(asMap(r.Value), "$ref")
		if at, ok := shared[ref]; ok && ref != "" {
			op.Responses[at].Statuses = append(op.Responses[at].Statuses, fmt.Sprint(r.Key))
			continue
		}
		shared[ref] = len(op.Responses)
		op.Responses = append(op.Responses, d.response(fmt.Sprint(r.Key), ref != "", d.follow(r.Value)))
	}
	return op
}

func (d *document) response(status string, shared bool, r yaml.MapSlice) docsResponse {
	out := docsResponse{Statuses: []string{status}, Description: str(r, "description"), Bodies: d.bodies(r)}
	for _, h := range asMap(value(r, "headers")) {
		out.Headers = append(out.Headers, d.field(fmt.Sprint(h.Key), d.follow(h.Value)))
	}
	if shared { // errors have their examples in one place
		for n := range out.Bodies {
			out.Bodies[n].Examples = nil
		}
	}
	return out
}

// access says in words what the document's security says.
func (d *document) access(o yaml.MapSlice) string {
	own, there := lookup(o, "security")
	switch {
	case !there:
		return "token"
	case len(asList(own)) == 0:
		return "open"
	}
	return "token optional"
}

func (d *document) field(name string, f yaml.MapSlice) docsField {
	required, _ := value(f, "required").(bool)
	if name == "" {
		name = str(f, "name")
	}
	return docsField{Name: name, In: str(f, "in"), Description: str(f, "description"), Required: required, Type: d.typeOf(asMap(value(f, "schema")))}
}

func (d *document) bodies(holder yaml.MapSlice) []docsBody {
	var out []docsBody
	for _, c := range asMap(value(holder, "content")) {
		schema := asMap(value(asMap(c.Value), "schema"))
		b := docsBody{Type: fmt.Sprint(c.Key), Description: str(schema, "description"), Schema: d.typeOf(schema)}
		for _, ex := range asMap(value(asMap(c.Value), "examples")) {
			e := asMap(ex.Value)
			b.Examples = append(b.Examples, docsExample{str(e, "summary"), exampleText(value(e, "value"))})
		}
		out = append(out, b)
	}
	return out
}

func (d *document) schema(name string, s yaml.MapSlice) docsSchema {
	out := docsSchema{Name: name, Description: str(s, "description"), Type: d.typeOf(s)}
	required := map[string]bool{}
	for _, r := range asList(value(s, "required")) {
		required[fmt.Sprint(r)] = true
	}
	for _, p := range asMap(value(s, "properties")) {
		f := d.field(fmt.Sprint(p.Key), yaml.MapSlice{{Key: "schema", Value: p.Value}})
		f.Required, f.Description = required[f.Name], str(asMap(p.Value), "description")
		out.Fields = append(out.Fields, f)
		// An object without a name of its own is shown below its holder.
		inner := asMap(p.Value)
		if items := asMap(value(inner, "items")); len(items) > 0 {
			inner = items
		}
		if _, ref := lookup(inner, "$ref"); !ref && len(asMap(value(inner, "properties"))) > 0 {
			out.Alternatives = append(out.Alternatives, d.schema(name+"."+f.Name, inner))
		}
	}
	for n, alt := range asList(value(s, "oneOf")) {
		if len(asMap(value(asMap(alt), "properties"))) > 0 {
			out.Alternatives = append(out.Alternatives, d.schema(fmt.Sprintf("%s, form %d", name, n+1), asMap(alt)))
		}
	}
	return out
}

// typeOf puts a schema into one line.
func (d *document) typeOf(s yaml.MapSlice) docsType {
	if ref := str(s, "$ref"); ref != "" {
		return docsType{Parts: []docsPart{{Link: ref[strings.LastIndexByte(ref, '/')+1:]}}}
	}
	var t docsType
	for n, alt := range asList(value(s, "oneOf")) {
		if n > 0 {
			t.Parts = append(t.Parts, docsPart{Text: " or "})
		}
		t.Parts = append(t.Parts, d.typeOf(asMap(alt)).Parts...)
	}
	items := asMap(value(s, "items"))
	switch x := value(s, "type").(type) {
	case string:
		if len(items) > 0 {
			x += " of "
		}
		t.Parts = append(t.Parts, docsPart{Text: x})
	case []any:
		names := make([]string, len(x))
		for n := range x {
			names[n] = fmt.Sprint(x[n])
		}
		t.Parts = append(t.Parts, docsPart{Text: strings.Join(names, " or ")})
	}
	if len(items) > 0 {
		t.Parts = append(t.Parts, d.typeOf(items).Parts...)
	}
	t.Rules = rules(s)
	return t
}

func rules(s yaml.MapSlice) string {
	var out []string
	for _, r := range s {
		v := fmt.Sprint(r.Value)
		switch r.Key {
		case "minimum":
			out = append(out, "at least "+v)
		case "maximum":
			out = append(out, "at most "+v)
		case "minLength":
			if v != "1" {
				out = append(out, "at least "+v+" characters")
			}
		case "maxLength":
			out = append(out, "at most "+v+" characters")
		case "minItems", "maxItems":
			out = append(out, map[any]string{"minItems": "at least ", "maxItems": "at most "}[r.Key]+v+" items")
		case "pattern":
			out = append(out, "matches "+v)
		case "default":
			out = append(out, "default "+v)
		case "format", "contentEncoding":
			out = append(out, v)
		case "enum":
			words := make([]string, 0, 8)
			for _, w := range asList(r.Value) {
				words = append(words, fmt.Sprint(w))
			}
			out = append(out, strings.Join(words, " | "))
		}
	}
	return strings.Join(out, ", ")
}

// follow returns what a reference points to.
func (d *document) follow(v any) yaml.MapSlice {
	m := asMap(v)
	ref := str(m, "$ref")
	if ref == "" {
		return m
	}
	at := d.root
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at = asMap(value(at, part))
	}
	return at
}

func lookup(m yaml.MapSlice, key string) (any, bool) {
	for _, item := range m {
		if fmt.Sprint(item.Key) == key {
			return item.Value, true
		}
	}
	return nil, false
}

func value(m yaml.MapSlice, key string) any { v, _ := lookup(m, key); return v }
func asMap(v any) yaml.MapSlice             { m, _ := v.(yaml.MapSlice); return m }
func asList(v any) []any                    { l, _ := v.([]any); return l }
func str(m yaml.MapSlice, k string) string  { t, _ := value(m, k).(string); return strings.TrimSpace(t) }

// exampleText is JSON as the example has it, with its order.
func exampleText(v any) string {
	if t, ok := v.(string); ok {
		return strings.TrimSpace(t)
	}
	raw, err := yaml.MarshalWithOptions(v, yaml.JSON())
	if err != nil {
		return fmt.Sprint(v)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return string(raw)
	}
	return b.String()
}

// prose turns the small part of Markdown that the document uses into paragraphs, code
// and lists. The text is escaped first.
func prose(s string) template.HTML {
	code := regexp.MustCompile("`([^`]+)`")
	var b strings.Builder
	for para := range strings.SplitSeq(strings.TrimSpace(s), "\n\n") {
		lines := strings.Split(para, "\n")
		if strings.HasPrefix(lines[0], "* ") {
			b.WriteString("<ul><li>")
			b.WriteString(code.ReplaceAllString(strings.ReplaceAll(template.HTMLEscapeString(strings.TrimPrefix(para, "* ")), "\n* ", "</li><li>"), "<code>$1</code>"))
			b.WriteString("</li></ul>")
			continue
		}
		b.WriteString("<p>" + code.ReplaceAllString(template.HTMLEscapeString(para), "<code>$1</code>") + "</p>")
	}
	return template.HTML(b.String()) // escaped above
}
