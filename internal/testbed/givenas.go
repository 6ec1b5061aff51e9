package testbed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Bare makes an installation as [Bed.Given] does, but leaves topics and tables to be
// made by the test.
func (b *Bed) Bare(ctx context.Context, o GivenOptions) (*Given, error) {
	g, err := b.layGiven(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("lay out an installation on given brokers: %w", err)
	}
	return g, nil
}

// As is the same installation, seen through a configuration whose section kafka is the
// given lines and whose other sections are added to: so each role can log in for itself.
// Files of a name, such as the password, are in the directory that [Given.File] names.
func (g *Given) As(name string, kafka []string, more ...string) (*Given, error) {
	raw, err := os.ReadFile(g.Args[1])
	if err != nil {
		return nil, err
	}
	var out []string
	skip := false
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" && line[0] != ' ' {
			skip = line == "kafka:"
			if skip {
				out = append(append(out, line), kafka...)
			}
		}
		if !skip {
			out = append(out, line)
		}
	}
	copied := *g
	copied.Args = []string{"--config", g.File(name + ".yaml")}
	return &copied, os.WriteFile(copied.Args[1], []byte(strings.Join(append(out, more...), "\n")+"\n"), 0o600)
}

// File is the path of a file in the installation's own directory.
func (g *Given) File(name string) string { return filepath.Join(g.dir, name) }
