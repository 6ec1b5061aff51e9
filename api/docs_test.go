package api

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// TestDocsShowTheWholeDocument: every route, parameter, status, schema, member and
// description of openapi.yaml is on the page.
func TestDocsShowTheWholeDocument(t *testing.T) {
	s := loadSpec(t)
	page, err := newDocsPage(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	plain := squeeze(html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(string(page.body), "")))
	wants := func(where, what string) {
		t.Helper()
		if what = squeeze(strings.ReplaceAll(strings.ReplaceAll(what, "`", ""), "\n* ", "")); what != "" && !strings.Contains(plain, strings.TrimPrefix(what, "*")) {
			t.Errorf("%s: the page does not have %q", where, what)
		}
	}
	delete(s.doc, "servers") // the page is on it
	walk(s.doc, "", func(where string, m map[string]any) {
		wants(where, text(m["summary"]))
		for _, para := range strings.Split(text(m["description"]), "\n\n") {
			wants(where, para)
		}
		if m["in"] != nil {
			wants(where, text(m["name"])+text(m["in"]))
		}
		for name := range object(m["properties"]) {
			wants(where, name)
		}
		for _, word := range listOf(m["enum"]) {
			wants(where, text(word))
		}
	})
	for path, item := range object(s.doc["paths"]) {
		for method, op := range object(item) {
			wants(path, strings.ToUpper(method)+path)
			for status := range object(object(op)["responses"]) {
				wants(path, status)
			}
		}
	}
	for _, anchor := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(string(page.body), -1) {
		if !strings.Contains(string(page.body), `id="`+anchor[1]+`"`) {
			t.Errorf("a link leads to #%s, which is not there", anchor[1])
		}
	}
}

func squeeze(s string) string { return regexp.MustCompile(`\s+`).ReplaceAllString(s, "") }

// TestDocsAskForNothing: the page runs no script and loads nothing, and its policy would
// not let it.
func TestDocsAskForNothing(t *testing.T) {
	w := do(newRig(t, Limits{}), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/docs", nil))
	body := w.Body.String()
	for _, bad := range []string{"<script", "<link", "<img", "<iframe", "@import", "url(", "javascript:", "onclick", `href="http`, " style="} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(body)
	if len(style) != 2 {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if got := w.Header().Get("Content-Security-Policy"); got != want {
		t.Errorf("policy %q\nwant   %q", got, want)
	}
}

// What the document says is text, whatever it looks like.
func TestDocsEscape(t *testing.T) {
	page, err := newDocsPage([]byte("openapi: 3.1.0\ninfo: {title: \"<script>a\", version: \"1\", summary: \"<b>\", description: \"`<i>` & <u>\"}\npaths: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script>a", "<i>", "<u>"} {
		if strings.Contains(string(page.body), bad) {
			t.Errorf("%q is on the page as it is", bad)
		}
	}
	if _, err := newDocsPage([]byte(":\n\t- x")); err == nil {
		t.Error("a document that cannot be read makes a page")
	}
}
