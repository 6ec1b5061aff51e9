package boundary

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// alarmKinds finds every kind of alarm the code can raise, with a place where it does:
// constants of type DoubtKind, string constants named Alarm..., and the field Kind of
// each Alarm that is made. Of the last one only a text, a constant of the same package,
// a conversion of a DoubtKind and a function's own parameter named kind are understood;
// anything else is a finding, so that no kind slips through.
func alarmKinds(pkgs []*pkg) (kinds map[string]string, findings []string) {
	kinds = map[string]string{}
	for _, p := range pkgs {
		if anyMatches(testSupport(), p.dir) {
			continue
		}
		named := map[string]string{} // constants of the package, those of functions too
		for _, f := range p.code() {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if g, ok := n.(*ast.GenDecl); ok && g.Tok == token.CONST {
					constantKinds(f, g, named, kinds)
				}
				return true
			})
		}
		for _, f := range p.code() {
			findings = append(findings, raisedKinds(f, named, kinds)...)
		}
	}
	return kinds, findings
}

func constantKinds(f *file, g *ast.GenDecl, named, kinds map[string]string) {
	for _, s := range g.Specs {
		v := s.(*ast.ValueSpec)
		doubt := v.Type != nil && typeName(v.Type) == "DoubtKind"
		for i, name := range v.Names {
			if i >= len(v.Values) {
				continue
			}
			text, ok := literal(v.Values[i])
			if !ok {
				continue
			}
			named[name.Name] = text
			if doubt || strings.HasPrefix(name.Name, "Alarm") {
				kinds[text] = f.at(v)
			}
		}
	}
}

func raisedKinds(f *file, named, kinds map[string]string) (findings []string) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || typeName(lit.Type) != "Alarm" {
			return true
		}
		for _, e := range lit.Elts {
			kv, ok := e.(*ast.KeyValueExpr)
			if !ok || typeName(kv.Key) != "Kind" {
				continue
			}
			text, ok := literal(kv.Value)
			if name := typeName(kv.Value); name != "" {
				if text, ok = named[name]; !ok && name == "kind" {
					continue // handed through: the constants named Alarm... are its values
				}
			}
			if c, isCall := kv.Value.(*ast.CallExpr); isCall && typeName(c.Fun) == "string" {
				continue // a DoubtKind
			}
			if !ok {
				findings = append(findings, f.at(kv)+": the kind of this alarm is not to be read from the code: write it as a text or a constant of the package")
				continue
			}
			kinds[text] = f.at(kv)
		}
		return true
	})
	return findings
}

func literal(e ast.Expr) (string, bool) {
	b, ok := e.(*ast.BasicLit)
	if !ok || b.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(b.Value)
	return s, err == nil
}

// typeName is the last part of a name, such as Alarm of stream.Alarm.
func typeName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	}
	return ""
}

var alarmEntry = regexp.MustCompile("(?m)^### `([a-z_]+)`$")

// checkAlarms holds the kinds of the code against the entries of the runbook.
func checkAlarms(pkgs []*pkg, runbook string) []string {
	kinds, out := alarmKinds(pkgs)
	_, section, ok := strings.Cut(runbook, "\n## Alarms\n")
	if !ok {
		return append(out, "docs/runbook.md has no section Alarms")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	entries := map[string]bool{}
	for _, m := range alarmEntry.FindAllStringSubmatch(section, -1) {
		if entries[m[1]] {
			out = append(out, "docs/runbook.md has two entries for the alarm "+m[1])
		}
		entries[m[1]] = true
		if kinds[m[1]] == "" {
			out = append(out, fmt.Sprintf("docs/runbook.md has an entry for the alarm %s, which nothing raises", m[1]))
		}
	}
	for kind, at := range kinds {
		if !entries[kind] {
			out = append(out, fmt.Sprintf("%s: the alarm %s has no entry in docs/runbook.md: add one under Alarms that says what to do", at, kind))
		}
	}
	return out
}

func TestRunbookExplainsEachAlarm(t *testing.T) {
	runbook, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds, _ := alarmKinds(tree(t))
	for _, known := range []string{"slot_taken", "sink_down", "head_trimmed", "topics_wrong"} { // one of each form
		if kinds[known] == "" {
			t.Errorf("the alarm %s was not found in the code", known)
		}
	}
	report(t, checkAlarms(tree(t), string(runbook)))
}

func TestAlarmCheckFinds(t *testing.T) {
	pkgs, err := load(fstest.MapFS{
		"sinks/a.go": {Data: []byte("package sinks\n\nconst AlarmDown = \"down\"\n\nconst DoubtOdd DoubtKind = \"odd\"\n\nconst other = \"other\"\n")},
		"api/b.go": {Data: []byte("package api\n\nfunc f(kind string, d Doubt) {\n\tconst k = \"named\"\n\traise(Alarm{Kind: \"text\"})\n\traise(stream.Alarm{Kind: k})\n" +
			"\traise(Alarm{Kind: kind})\n\traise(Alarm{Kind: string(d.Kind)})\n\traise(Alarm{Kind: a + b})\n\traise(Row{Kind: \"no alarm\"})\n}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	found := strings.Join(checkAlarms(pkgs, "x\n\n## Alarms\n\n### `text`\n\n### `text`\n\n### `gone`\n\n## Next\n\n### `odd`\n"), "\n")
	for _, want := range []string{"alarm down has no entry", "alarm odd has no entry", "alarm named has no entry", "b.go:9: the kind of this alarm",
		"two entries for the alarm text", "alarm gone, which nothing raises"} {
		if !strings.Contains(found, want) {
			t.Errorf("no %q in\n%s", want, found)
		}
	}
	if n := strings.Count(found, "\n") + 1; n != 6 {
		t.Errorf("%d findings, want 6:\n%s", n, found)
	}
	if got := checkAlarms(pkgs, "nothing"); !strings.Contains(strings.Join(got, "\n"), "no section Alarms") {
		t.Errorf("a runbook without the section: %v", got)
	}
}
