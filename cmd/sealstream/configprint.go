package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// comments returns the documentation of each field of the configuration types, by
// "Type.Field", from this program's own source.
func comments() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", configSource, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read the configuration's documentation: %w", err)
	}
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		st, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range st.Fields.List {
			for _, name := range f.Names {
				out[spec.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
			}
		}
		return true
	})
	return out, nil
}

// configPrinter writes a configuration as YAML.
type configPrinter struct {
	w    io.Writer
	docs map[string]string // nil: without comments
	err  error
}

// printConfig writes cfg, with every field's documentation when commented. What it
// writes can be read back.
func printConfig(w io.Writer, cfg *Config, commented bool) error {
	p := &configPrinter{w: w}
	if commented {
		docs, err := comments()
		if err != nil {
			return err
		}
		p.docs = docs
	}
	p.structure("", reflect.ValueOf(cfg).Elem())
	return p.err
}

func (p *configPrinter) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *configPrinter) structure(indent string, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		key := f.Tag.Get("yaml")
		section := v.Field(i).Kind() == reflect.Struct
		if p.docs != nil {
			if section && indent == "" {
				p.line("")
			}
			if doc := p.docs[v.Type().Name()+"."+f.Name]; doc != "" {
				for l := range strings.Lines(doc) {
					p.line("%s# %s", indent, strings.TrimSuffix(l, "\n"))
				}
			}
		}
		switch {
		case section:
			p.line("%s%s:", indent, key)
			p.structure(indent+"  ", v.Field(i))
		case v.Field(i).Kind() == reflect.Slice && v.Field(i).Type().Elem().Kind() == reflect.Struct:
			p.list(indent, key, v.Field(i))
		default:
			p.line("%s%s: %s", indent, key, scalar(v.Field(i)))
		}
	}
}

// list writes a list of sections; its first element carries the comments, and an empty
// list shows an element as a comment.
func (p *configPrinter) list(indent, key string, v reflect.Value) {
	if v.Len() == 0 {
		p.line("%s%s: []", indent, key)
		if p.docs != nil {
			p.element(indent+"# ", reflect.New(v.Type().Elem()).Elem())
		}
		return
	}
	p.line("%s%s:", indent, key)
	docs := p.docs
	for i := range v.Len() {
		p.element(indent, v.Index(i))
		p.docs = nil
	}
	p.docs = docs
}

func (p *configPrinter) element(indent string, v reflect.Value) {
	var b strings.Builder
	sub := &configPrinter{w: &b, docs: p.docs}
	sub.structure("", v)
	dash := false
	for l := range strings.Lines(b.String()) {
		mark := "    "
		if !dash && !strings.HasPrefix(l, "#") {
			mark, dash = "  - ", true
		}
		p.line("%s%s%s", indent, mark, strings.TrimSuffix(l, "\n"))
	}
}

func scalar(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return durationText(x)
	case string:
		return text(x)
	case []string:
		parts := make([]string, len(x))
		for i, s := range x {
			parts[i] = text(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []int:
		return strings.ReplaceAll(fmt.Sprint(x), " ", ", ")
	default:
		return fmt.Sprint(x)
	}
}

// text quotes what YAML would take for something else. JSON's form of a string is
// YAML too.
func text(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"
	reserved := map[string]bool{"": true, "true": true, "false": true, "null": true, "yes": true, "no": true, "on": true, "off": true, "y": true, "n": true}
	if strings.Trim(s, plain) != "" || reserved[strings.ToLower(s)] || strings.ContainsRune("0123456789-.", rune(s[0])) {
		return strconv.Quote(s)
	}
	return s
}
