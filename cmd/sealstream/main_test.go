package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// result is what a process leaves.
type result struct {
	code           int
	stdout, stderr string
}

// sealstream runs the program in this process.
func sealstream(t *testing.T, args ...string) result {
	t.Helper()
	return sealstreamWith(t.Context(), nil, strings.NewReader(""), args...)
}

func sealstreamWith(ctx context.Context, environ map[string]string, stdin io.Reader, args ...string) result {
	var out, errOut bytes.Buffer
	e := &env{getenv: func(k string) string { return environ[k] }, stdin: stdin, stdout: &out, stderr: &errOut}
	err := run(ctx, args, e)
	code := exitCode(&errOut, err)
	return result{code, out.String(), errOut.String()}
}

// want fails unless the result has the code, and its output all the texts.
func (r result) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, s := range texts {
		if !strings.Contains(r.stdout+r.stderr, s) {
			t.Errorf("output does not say %q\nstdout: %s\nstderr: %s", s, r.stdout, r.stderr)
		}
	}
}

// write makes a file of mode 0600 and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNoMode(t *testing.T) {
	sealstream(t).want(t, exitNotDone, "usage: sealstream MODE", "no mode given")
	sealstream(t, "frobnicate").want(t, exitNotDone, `no mode "frobnicate"`, "ingest")
	sealstream(t, "help").want(t, exitDone, "usage: sealstream MODE", "ingest", "verify")
	sealstream(t, "version").want(t, exitDone, "sealstream ", "go1.")
	sealstream(t, "--version").want(t, exitDone, "sealstream ")
	sealstream(t, "version", "extra").want(t, exitNotDone, `no argument "extra"`)
}

// TestEveryModeExplainsItself: help is printed, names the mode's flags, and a flag that
// is not there is refused by name.
func TestEveryModeExplainsItself(t *testing.T) {
	for _, m := range modes() {
		r := sealstream(t, "help", m.name)
		r.want(t, exitDone, "usage: sealstream "+m.name)
		if r.stderr != "" {
			t.Errorf("help of %s on standard error: %s", m.name, r.stderr)
		}
		if also := sealstream(t, m.name, "-h"); also.stdout != r.stdout || also.code != exitDone {
			t.Errorf("%s -h differs from help %s", m.name, m.name)
		}
		sealstream(t, m.name, "--no-such-flag").want(t, exitNotDone, "no-such-flag", "sealstream help "+m.name)
	}
}

func TestFlagsMayFollowArguments(t *testing.T) {
	var a, b string
	fs := flagSet(&env{stdout: io.Discard}, "x", "")
	fs.StringVar(&a, "a", "", "")
	fs.StringVar(&b, "b", "", "")
	rest, err := parse(fs, []string{"one", "--a", "1", "two", "-b=2", "-"})
	if err != nil || a != "1" || b != "2" || fmt.Sprint(rest) != "[one two -]" {
		t.Errorf("a %q, b %q, rest %q, %v", a, b, rest, err)
	}
	if _, err := parse(fs, []string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help: %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	var w bytes.Buffer
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""}, {flag.ErrHelp, 0, ""}, {errLook, 1, ""}, {fmt.Errorf("x: %w", errLook), 1, ""},
		{errors.New("broken"), 2, "sealstream: broken\n"},
	} {
		w.Reset()
		if code := exitCode(&w, c.err); code != c.code || w.String() != c.text {
			t.Errorf("%v: code %d, %q", c.err, code, w.String())
		}
	}
}
