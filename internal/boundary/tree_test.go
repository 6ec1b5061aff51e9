package boundary

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/sealstream/sealstream"

// file is one parsed Go file.
type file struct {
	name      string // slash-separated, from the root of the module
	ast       *ast.File
	fset      *token.FileSet
	lines     int
	test      bool // *_test.go
	generated bool
}

// pkg is one folder of Go files; dir is its path from the root of the module.
type pkg struct {
	dir   string
	files []*file
}

var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// load parses every Go file of the module, for every platform: build constraints do
// not hide a file from the rules. Folders with a go.mod of their own, testdata and
// what is not in the repository are left out.
func load(root fs.FS) ([]*pkg, error) {
	byDir := map[string]*pkg{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(root, name, d.Name())
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		f, err := parse(root, name)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if byDir[dir] == nil {
			byDir[dir] = &pkg{dir: dir}
		}
		byDir[dir].files = append(byDir[dir].files, f)
		return nil
	})
	pkgs := make([]*pkg, 0, len(byDir))
	for _, p := range byDir {
		pkgs = append(pkgs, p)
	}
	slices.SortFunc(pkgs, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	return pkgs, err
}

// enter returns fs.SkipDir for a folder that holds no code of the module.
func enter(root fs.FS, name, base string) error {
	if name == "." {
		return nil
	}
	if name == "data" || name == "bin" || base == "testdata" || base[0] == '.' || base[0] == '_' {
		return fs.SkipDir
	}
	if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func parse(root fs.FS, name string) (*file, error) {
	src, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &file{
		name: name, ast: tree, fset: fset,
		lines:     strings.Count(string(src), "\n"),
		test:      strings.HasSuffix(name, "_test.go"),
		generated: generatedLine.Match(src),
	}, nil
}

// at renders a place in the form that editors jump to.
func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.name, f.fset.Position(n.Pos()).Line)
}

// imports lists what the file imports.
func (f *file) imports() []string {
	var out []string
	for _, i := range f.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			panic("boundary: the parser let a bad import path through: " + i.Path.Value)
		}
		out = append(out, p)
	}
	return out
}

// code are the files that are neither tests nor generated.
func (p *pkg) code() []*file {
	var out []*file
	for _, f := range p.files {
		if !f.test && !f.generated {
			out = append(out, f)
		}
	}
	return out
}

// loaded is the module this test stands in, parsed once for all tests that look at it.
var loaded = sync.OnceValues(func() ([]*pkg, error) { return load(os.DirFS("../..")) })

func tree(t *testing.T) []*pkg {
	t.Helper()
	pkgs, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 5 || !slices.ContainsFunc(pkgs, func(p *pkg) bool { return p.dir == "ledger" }) {
		t.Fatalf("found %d packages and not the ledger: is this the root of the module?", len(pkgs))
	}
	return pkgs
}

// report fails the test once for each finding.
func report(t *testing.T, findings []string) {
	t.Helper()
	slices.Sort(findings)
	for _, f := range slices.Compact(findings) {
		t.Error(f)
	}
}
