package boundary

import (
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// document is one Markdown file of the repository.
type document struct{ name, text string }

func documents(root fs.FS) ([]document, error) {
	var out []document
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, name, d.Name())
		}
		if path.Ext(name) != ".md" {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		out = append(out, document{name, string(text)})
		return err
	})
	return out, err
}

var (
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	testName   = regexp.MustCompile(`\b((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*)\b`)
	makeTarget = regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)")
	madeTarget = regexp.MustCompile(`(?m)^([a-z-]+):`)
)

// checkDocuments finds links that lead nowhere, tests and make targets that do not
// exist, and punctuation beyond ASCII.
func checkDocuments(root fs.FS, pkgs []*pkg) ([]string, error) {
	docs, err := documents(root)
	if err != nil {
		return nil, err
	}
	makefile, err := fs.ReadFile(root, "Makefile")
	if err != nil {
		return nil, err
	}
	targets := map[string]bool{}
	for _, m := range madeTarget.FindAllStringSubmatch(string(makefile), -1) {
		targets[m[1]] = true
	}
	tests := testNames(pkgs)
	var out []string
	for _, d := range docs {
		out = append(out, deadLinks(root, d)...)
		for _, m := range testName.FindAllStringSubmatch(d.text, -1) {
			if !tests[m[1]] {
				out = append(out, fmt.Sprintf("%s names %s, which does not exist", d.name, m[1]))
			}
		}
		for _, m := range makeTarget.FindAllStringSubmatch(d.text, -1) {
			if !targets[m[1]] {
				out = append(out, fmt.Sprintf("%s says make %s, which the Makefile does not have", d.name, m[1]))
			}
		}
		for i, line := range strings.Split(d.text, "\n") {
			if strings.ContainsFunc(line, func(r rune) bool { return r > '~' }) {
				out = append(out, fmt.Sprintf("%s:%d: a character beyond ASCII", d.name, i+1))
			}
		}
	}
	return out, nil
}

func deadLinks(root fs.FS, d document) []string {
	var out []string
	for _, m := range link.FindAllStringSubmatch(d.text, -1) {
		to, _, _ := strings.Cut(m[1], "#")
		if to == "" || strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
			continue
		}
		if _, err := fs.Stat(root, path.Join(path.Dir(d.name), to)); err != nil {
			out = append(out, fmt.Sprintf("%s links to %s, which does not exist", d.name, to))
		}
	}
	return out
}

func testNames(pkgs []*pkg) map[string]bool {
	out := map[string]bool{}
	for _, p := range pkgs {
		for _, f := range p.files {
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && (f.test || p.dir == "sinks/sinktest") {
					out[fn.Name.Name] = true
				}
			}
		}
	}
	return out
}

func TestDocumentsNameWhatExists(t *testing.T) {
	found, err := checkDocuments(os.DirFS("../.."), tree(t))
	if err != nil {
		t.Fatal(err)
	}
	report(t, found)
}

func TestDocumentCheckFinds(t *testing.T) {
	root := fstest.MapFS{
		"Makefile":         {Data: []byte("up: build\n\ttrue\n")},
		"docs/there.md":    {Data: []byte("fine: [it](../Makefile), [a place](#x), [away](https://example.com/x), `make up`\n")},
		"docs/broken.md":   {Data: []byte("[gone](gone.md)\n\n`make down`, TestNothing\n\u201cquoted\u201d\n")},
		"ledger/a_test.go": {Data: []byte("package ledger\n\nfunc TestSomething() {}\n")},
	}
	pkgs, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	found, err := checkDocuments(root, pkgs)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(found, "\n")
	for _, want := range []string{"broken.md links to gone.md", "broken.md says make down", "broken.md names TestNothing", "broken.md:4: a character beyond ASCII"} {
		if !strings.Contains(all, want) {
			t.Errorf("found %q, want something with %q", found, want)
		}
	}
	if strings.Contains(all, "there.md") {
		t.Errorf("found %q about a document without a fault", found)
	}
}
