package boundary

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// The budgets of a file, a function and its parameters; tests and generated files
// are exempt.
const (
	maxFileLines     = 500
	maxFunctionLines = 80
	maxParameters    = 5
)

func checkBudgets(pkgs []*pkg) []string {
	var out []string
	for _, p := range pkgs {
		if anyMatches(testSupport(), p.dir) {
			continue
		}
		for _, f := range p.code() {
			if f.lines > maxFileLines {
				out = append(out, fmt.Sprintf("%s has %d lines; a file has at most %d", f.name, f.lines, maxFileLines))
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				switch fn := n.(type) {
				case *ast.FuncDecl:
					out = append(out, checkFunction(f, fn, fn.Name.Name, fn.Type)...)
				case *ast.FuncLit:
					out = append(out, checkFunction(f, fn, "function literal", fn.Type)...)
				}
				return true
			})
		}
	}
	return out
}

func checkFunction(f *file, n ast.Node, name string, typ *ast.FuncType) []string {
	var out []string
	if lines := f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1; lines > maxFunctionLines {
		out = append(out, fmt.Sprintf("%s: %s has %d lines; a function has at most %d", f.at(n), name, lines, maxFunctionLines))
	}
	if n := typ.Params.NumFields(); n > maxParameters {
		out = append(out, fmt.Sprintf("%s: %s has %d parameters; at most %d", f.at(typ), name, n, maxParameters))
	}
	return out
}

// checkComments wants one package comment per package, which says more than a name.
func checkComments(pkgs []*pkg) []string {
	var out []string
	for _, p := range pkgs {
		var at []string
		for _, f := range p.files {
			if f.ast.Doc == nil || f.test || f.generated {
				continue
			}
			at = append(at, f.name)
			if words := len(strings.Fields(f.ast.Doc.Text())); words < 15 {
				out = append(out, fmt.Sprintf("%s: the package comment has %d words; say what the package is, what it is not and who uses it", f.name, words))
			}
		}
		if code := p.code(); len(code) > 0 && len(at) != 1 {
			out = append(out, fmt.Sprintf("%s has %d package comments %v; want one", p.dir, len(at), at))
		}
	}
	return out
}

// checkState finds init functions and package-level variables that could change.
func checkState(pkgs []*pkg) []string {
	var out []string
	for _, p := range pkgs {
		for _, f := range p.code() {
			for _, d := range f.ast.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Name.Name == "init" && d.Recv == nil {
						out = append(out, f.at(d)+": init function; pass things in instead")
					}
				case *ast.GenDecl:
					if d.Tok == token.VAR {
						out = append(out, checkVars(f, d)...)
					}
				}
			}
		}
	}
	return out
}

// checkVars allows what nobody assigns to by habit: interface assertions, errors,
// embedded files, compiled patterns, constants that are made at their first use, and
// tables written as arrays.
func checkVars(f *file, d *ast.GenDecl) []string {
	var out []string
	for _, s := range d.Specs {
		v := s.(*ast.ValueSpec)
		for i, name := range v.Names {
			if name.Name == "_" || strings.HasPrefix(strings.ToLower(name.Name), "err") || embedded(d, v) || i < len(v.Values) && constant(v.Values[i]) {
				continue
			}
			out = append(out, fmt.Sprintf("%s: package-level variable %s; use a constant, a function or a field", f.at(name), name.Name))
		}
	}
	return out
}

func embedded(d *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, c := range []*ast.CommentGroup{d.Doc, v.Doc} {
		if c != nil && slices.ContainsFunc(c.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") }) {
			return true
		}
	}
	return false
}

func constant(e ast.Expr) bool {
	if lit, ok := e.(*ast.CompositeLit); ok {
		array, ok := lit.Type.(*ast.ArrayType)
		return ok && array.Len != nil
	}
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && slices.Contains([]string{"regexp.MustCompile", "sync.OnceValue", "sync.OnceValues"}, x.Name+"."+sel.Sel.Name)
}

// checkTests finds sleeps and skips: a test waits for the event itself, and runs or
// fails.
func checkTests(pkgs []*pkg) []string {
	var out []string
	for _, p := range pkgs {
		support := anyMatches(testSupport(), p.dir)
		for _, f := range p.files {
			if !f.test && !support {
				continue
			}
			fake := slices.Contains(f.imports(), "testing/synctest") // its time passes by itself
			ast.Inspect(f.ast, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := sel.X.(*ast.Ident)
				switch {
				case !ok:
				case x.Name == "time" && sel.Sel.Name == "Sleep" && !fake:
					out = append(out, f.at(sel)+": time.Sleep in a test; wait for the event")
				case slices.Contains([]string{"t", "b", "f", "tb", "rt"}, x.Name) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name):
					out = append(out, f.at(sel)+": a test that skips itself proves nothing")
				}
				return true
			})
		}
	}
	return out
}

func TestBudgets(t *testing.T)         { report(t, checkBudgets(tree(t))) }
func TestPackageComments(t *testing.T) { report(t, checkComments(tree(t))) }
func TestNoPackageState(t *testing.T)  { report(t, checkState(tree(t))) }
func TestTestsRunAndWait(t *testing.T) { report(t, checkTests(tree(t))) }
