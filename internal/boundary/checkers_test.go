package boundary

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// Each case is a small tree that breaks one rule, or keeps it.
func TestCheckersFindWhatBreaksARule(t *testing.T) {
	const comment = "// Package x is here only to be checked by a test, and says so in enough words to pass the rule.\n"
	long := strings.Repeat("\t_ = 0\n", maxFunctionLines)
	for _, c := range []struct {
		name  string
		check func([]*pkg) []string
		file  string
		src   string
		want  string // part of the one finding; empty for none
	}{
		{"ledger uses a library", checkImports, "ledger/a.go", `import _ "github.com/google/uuid"`, "standard library alone"},
		{"ledger reads a clock", checkImports, "ledger/a.go", `import _ "time"`, "time comes from the record"},
		{"a fold logs", checkImports, "processors/seal/a.go", `import _ "log/slog"`, "no effects"},
		{"a stage imports the ledger", checkImports, "processors/seal/a.go", `import _ "` + module + `/ledger"`, ""},
		{"upwards", checkImports, "ledger/a.go", `import _ "` + module + `/schemas"`, "may import only"},
		{"siblings", checkImports, "sinks/postgres/a.go", `import _ "` + module + `/sinks/splunk"`, "may import only"},
		{"api to a sink", checkImports, "api/a.go", `import _ "` + module + `/sinks/postgres"`, "may import only"},
		{"internal siblings", checkImports, "internal/stream/a.go", `import _ "` + module + `/internal/embedded"`, "may import only"},
		{"Kafka client in api", checkImports, "api/a.go", `import _ "github.com/twmb/franz-go/pkg/kgo"`, "stays at the edge"},
		{"Kafka client in the edge", checkImports, "internal/stream/a.go", `import _ "github.com/twmb/franz-go/pkg/kgo"`, ""},
		{"another Avro library", checkImports, "schemas/a.go", `import _ "github.com/hamba/avro/v2"`, "hamba"},
		{"test support in the product", checkImports, "cmd/sealstream/a.go", `import _ "` + module + `/internal/testbed"`, "for tests only"},
		{"test support in a test", checkImports, "cmd/sealstream/a_test.go", `import _ "` + module + `/internal/testbed"`, ""},
		{"a folder without a rule", checkImports, "helpers/a.go", ``, "no import rule"},
		{"long function", checkBudgets, "ledger/a.go", "func f() {\n" + long + "}", "has 82 lines"},
		{"long function in a test", checkBudgets, "ledger/a_test.go", "func f() {\n" + long + "}", ""},
		{"long file", checkBudgets, "ledger/a.go", strings.Repeat("// line\n", maxFileLines), "a file has at most"},
		{"six parameters", checkBudgets, "ledger/a.go", "func f(a, b, c, d, e, g int) {}", "6 parameters"},
		{"no comment", checkComments, "ledger/b.go", "", "0 package comments"},
		{"init", checkState, "ledger/a.go", "func init() {}", "init function"},
		{"method called init", checkState, "ledger/a.go", "type t int\nfunc (t) init() {}", ""},
		{"state", checkState, "ledger/a.go", "var cache = map[string]int{}", "variable cache"},
		{"error value", checkState, "ledger/a.go", "import \"errors\"\nvar ErrX = errors.New(\"x\")", ""},
		{"table", checkState, "ledger/a.go", "var names = [...]string{\"a\"}", ""},
		{"slice", checkState, "ledger/a.go", "var names = []string{\"a\"}", "variable names"},
		{"embedded file", checkState, "ledger/a.go", "import _ \"embed\"\n//go:embed x.sql\nvar x string", ""},
		{"sleep", checkTests, "ledger/a_test.go", "import \"time\"\nfunc f() { time.Sleep(1) }", "time.Sleep in a test"},
		{"sleep in the product", checkTests, "ledger/a.go", "import \"time\"\nfunc f() { time.Sleep(1) }", ""},
		{"sleep in fake time", checkTests, "ledger/a_test.go", "import (\n\"testing/synctest\"\n\"time\"\n)\nfunc f() { synctest.Test(nil, nil); time.Sleep(1) }", ""},
		{"skip", checkTests, "ledger/a_test.go", "import \"testing\"\nfunc f(t *testing.T) { t.Skip() }", "skips itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := comment
			if c.want == "0 package comments" {
				head = ""
			}
			pkgs, err := load(fstest.MapFS{c.file: {Data: []byte(head + "package x\n" + c.src + "\n")}})
			if err != nil {
				t.Fatal(err)
			}
			got := c.check(pkgs)
			if c.want == "" && len(got) > 0 {
				t.Errorf("found %q in a tree that keeps the rule", got)
			}
			if c.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("found %q, want something with %q", got, c.want)
			}
		})
	}
}

// A pure package must not get at the Kafka client by way of another package either.
func TestReachIsTransitive(t *testing.T) {
	const head = "// Package x is here only to be checked by a test, and says so in enough words to pass the rule.\npackage x\n"
	pkgs, err := load(fstest.MapFS{
		"processors/seal/a.go": {Data: []byte(head + `import _ "` + module + `/processors"`)},
		"processors/a.go":      {Data: []byte(head + `import _ "github.com/twmb/franz-go/pkg/kgo"`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "processors/seal reaches github.com/twmb/franz-go through processors/seal -> processors"
	if got := checkImports(pkgs); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
		t.Errorf("found %q, want one that begins %q", got, want)
	}
}

func TestLoadLeavesOutOtherModules(t *testing.T) {
	pkgs, err := load(fstest.MapFS{
		"ledger/a.go":            {Data: []byte("package ledger\n")},
		"ledger/testdata/bad.go": {Data: []byte("not go\n")},
		"tools/go.mod":           {Data: []byte("module x\n")},
		"tools/a.go":             {Data: []byte("package tools\n")},
		".cache/a.go":            {Data: []byte("not go\n")},
		"data/a.go":              {Data: []byte("not go\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) != 1 || pkgs[0].dir != "ledger" {
		t.Errorf("loaded %d packages, want the ledger alone", len(pkgs))
	}
}
