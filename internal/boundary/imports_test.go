package boundary

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// rule says what the packages of a folder may import of this module. Imports run one
// way: cmd -> {api, sinks/*, producers/*, internal/*} -> {processors, sinks, producers}
// -> {ledger, schemas}. Packages side by side never import each other.
type rule struct {
	dir string   // a folder, or folder/* for those directly below it
	may []string // same form
}

func importRules() []rule {
	return []rule{
		{dir: "ledger"},  // the format: nothing of ours, and only the standard library
		{dir: "schemas"}, // the language: nothing of ours
		{dir: "processors", may: []string{"ledger", "schemas"}},
		{dir: "processors/*", may: []string{"processors", "ledger", "schemas"}},
		{dir: "sinks", may: []string{"ledger", "schemas"}},
		{dir: "sinks/*", may: []string{"sinks", "ledger", "schemas"}},
		{dir: "producers", may: []string{"ledger", "schemas"}},
		{dir: "producers/*", may: []string{"producers", "ledger", "schemas"}},
		{dir: "producers/adapters/*", may: []string{"producers", "ledger", "schemas"}},
		{dir: "api", may: []string{"api/*", "sinks", "processors", "ledger", "schemas"}},
		{dir: "api/*", may: []string{"ledger", "schemas"}},
		{dir: "internal/*", may: []string{"processors", "sinks", "producers", "ledger", "schemas"}},
		// The broker's parts know nothing of events.
		{dir: "internal/embedded", may: []string{"internal/embedded/*", "ledger", "schemas"}},
		{dir: "internal/embedded/*"},
		{dir: "internal/boundary"},
		// cmd puts the parts together, so it alone sees them all.
		{dir: "cmd/*", may: []string{"api", "api/*", "sinks", "sinks/*", "producers", "producers/*", "producers/adapters/*",
			"processors", "processors/*", "ledger", "schemas", "internal/*"}},
	}
}

// testSupport are packages for tests only; their own code may import anything of
// ours, and nothing but tests may import them.
func testSupport() []string {
	return []string{"internal/testbed", "internal/testbed/cmd/*", "internal/integration", "internal/integration/*", "internal/faults", "internal/faults/cmd/*", "internal/bench", "internal/bench/cmd/*", "sinks/sinktest"}
}

// library says which packages may import a library.
type library struct {
	prefix string
	may    []string
	why    string
}

func libraryRules() []library {
	return []library{
		{prefix: "github.com/twmb/franz-go", may: []string{"internal/stream", "internal/embedded", "internal/embedded/*", "producers", "producers/ingest", "cmd/*"},
			why: "the Kafka client stays at the edge"},
		{prefix: "github.com/gin-gonic/", may: []string{"api"}, why: "the web framework goes no further than the handlers"},
		{prefix: "github.com/jackc/pgx", may: []string{"sinks/postgres", "internal/embedded", "cmd/*"}, why: "SQL stays in the sink"},
		{prefix: "github.com/hamba/avro", may: []string{"internal/embedded"},
			why: "hamba/avro reads schemas and checks compatibility; it never decodes event values (docs/adr/0005)"},
	}
}

// pure are the packages that must not reach the Kafka client, a database or the web
// framework even through other packages, and must not import these themselves.
func pure() []string {
	return []string{"ledger", "schemas", "processors", "processors/*", "sinks", "api/*"}
}

func effects() []string {
	return []string{"os", "os/exec", "net", "log", "log/slog", "math/rand", "math/rand/v2", "database/sql"}
}

// folds may not read a clock either: time and ids come from the record.
func folds() []string { return []string{"ledger", "processors", "processors/*"} }

func matches(pattern, dir string) bool {
	ok, err := path.Match(pattern, dir)
	if err != nil {
		panic("boundary: bad pattern " + pattern)
	}
	return ok
}

func anyMatches(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, dir) })
}

// ruleFor returns the most exact rule: a folder by name before a pattern.
func ruleFor(dir string) (rule, bool) {
	var found rule
	ok := false
	for _, r := range importRules() {
		if r.dir == dir {
			return r, true
		}
		if matches(r.dir, dir) {
			found, ok = r, true
		}
	}
	return found, ok
}

// checkImports holds the non-test files of all packages against the rules.
func checkImports(pkgs []*pkg) []string {
	var out []string
	direct := map[string][]string{} // dir -> imports of its non-test files
	for _, p := range pkgs {
		for _, f := range p.files {
			if f.test {
				continue
			}
			direct[p.dir] = append(direct[p.dir], f.imports()...)
			out = append(out, checkOurs(p.dir, f)...)
			out = append(out, checkTheirs(p.dir, f)...)
		}
	}
	for dir := range direct {
		if !anyMatches(pure(), dir) {
			continue
		}
		for _, lib := range libraryRules() {
			if way := reach(direct, dir, lib.prefix, nil); way != nil {
				out = append(out, fmt.Sprintf("%s reaches %s through %s: %s", dir, lib.prefix, strings.Join(way, " -> "), lib.why))
			}
		}
	}
	return out
}

// checkOurs checks imports of this module's packages.
func checkOurs(dir string, f *file) []string {
	var out []string
	support := anyMatches(testSupport(), dir)
	r, ok := ruleFor(dir)
	if !ok && !support {
		return []string{f.name + ": no import rule for " + dir + ": add one to importRules, with its reason"}
	}
	for _, imp := range f.imports() {
		to, ours := strings.CutPrefix(imp, module+"/")
		switch {
		case !ours:
		case anyMatches(testSupport(), to) && !support:
			out = append(out, fmt.Sprintf("%s imports %s, which is for tests only", f.name, to))
		case !support && !anyMatches(r.may, to):
			out = append(out, fmt.Sprintf("%s imports %s; %s may import only %v", f.name, to, r.dir, r.may))
		}
	}
	return out
}

// checkTheirs checks imports from outside the module.
func checkTheirs(dir string, f *file) []string {
	var out []string
	for _, imp := range f.imports() {
		first, _, _ := strings.Cut(imp, "/")
		if dir == "ledger" && strings.Contains(first, ".") {
			out = append(out, fmt.Sprintf("%s imports %s; ledger uses the standard library alone", f.name, imp))
		}
		if anyMatches(pure(), dir) && dir != "api/auth" && dir != "sinks" && slices.Contains(effects(), imp) {
			out = append(out, fmt.Sprintf("%s imports %s; the packages of the pure core have no effects", f.name, imp))
		}
		if anyMatches(folds(), dir) && imp == "time" {
			out = append(out, f.name+" imports time; time comes from the record")
		}
		for _, lib := range libraryRules() {
			if strings.HasPrefix(imp, lib.prefix) && !anyMatches(lib.may, dir) && !anyMatches(testSupport(), dir) {
				out = append(out, fmt.Sprintf("%s imports %s: %s", f.name, imp, lib.why))
			}
		}
	}
	return out
}

// reach returns a way from dir over packages of ours to an import with the prefix.
func reach(direct map[string][]string, dir, prefix string, seen []string) []string {
	if slices.Contains(seen, dir) {
		return nil
	}
	seen = append(seen, dir)
	for _, imp := range direct[dir] {
		if strings.HasPrefix(imp, prefix) {
			return seen
		}
		if to, ours := strings.CutPrefix(imp, module+"/"); ours {
			if way := reach(direct, to, prefix, slices.Clone(seen)); way != nil {
				return way
			}
		}
	}
	return nil
}

func TestImportsRunOneWay(t *testing.T) {
	report(t, checkImports(tree(t)))
}
