package tools

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hamba/avro/v2"
	"github.com/hamba/avro/v2/gen"
	"golang.org/x/tools/imports"
)

// TestGeneratedTypesAreCurrent makes the Go types of each schema again and compares
// them byte for byte with what is checked in beside it.
func TestGeneratedTypesAreCurrent(t *testing.T) {
	for _, name := range []string{"audit_event", "domain_event"} {
		text, err := os.ReadFile(filepath.Join("..", "schemas", name+".avsc"))
		if err != nil {
			t.Fatal(err)
		}
		schema, err := avro.ParseBytes(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		g := gen.NewGenerator("schemas", nil)
		g.Parse(schema)
		var want bytes.Buffer
		if err := g.Write(&want); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("..", "schemas", name+"_gen.go"))
		if err != nil {
			t.Fatal(err)
		}
		formatted, err := imports.Process("", want.Bytes(), nil) // as avrogen does
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(formatted, got) {
			t.Errorf("schemas/%s_gen.go is not what the generator makes of %s.avsc: run go generate ./schemas", name, name)
		}
	}
}
