package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Setting is what a run began with. It is taken when the binary is built: until the run
// ends, others may have committed.
type Setting struct {
	Commit string // what was built, or which binary was given
	Began  time.Time
	Load   string // the machine's load average then
}

// SettingNow is the setting of a run of what commit names, which begins now.
func SettingNow(commit string) Setting {
	return Setting{Commit: commit, Began: time.Now(), Load: loadAverage()}
}

// BuildCommit builds a binary and names the commit it was built from. The tree may
// change while it is built; then both are named.
func BuildCommit(ctx context.Context, build func(context.Context) (string, error)) (binary, commit string, err error) {
	before := treeAt(ctx)
	if binary, err = build(ctx); err != nil {
		return "", "", err
	}
	if after := treeAt(ctx); after != before {
		return binary, "commit " + before + " or " + after + ", for the tree changed while it was built", nil
	}
	return binary, "commit " + before, nil
}

// treeAt names the commit of the tree, and says whether something in it is not committed.
func treeAt(ctx context.Context) string {
	at, err := said(ctx, "git", "describe", "--always", "--dirty", "--exclude", "*")
	if err != nil {
		return "unknown"
	}
	if clean, dirty := strings.CutSuffix(at, "-dirty"); dirty {
		return clean + " with changes that are not committed"
	}
	return at
}

// GivenCommit names a binary that was not built by the run: only it can say what it is.
func GivenCommit(ctx context.Context, binary string) (string, error) {
	version, err := said(ctx, binary, "version")
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	return "binary given: " + version, nil
}

// said is what a program prints.
func said(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "", err
	}
	if text := strings.TrimSpace(string(out)); text != "" {
		return text, nil
	}
	return "", errors.New("it says nothing")
}

func processor() string {
	raw, _ := os.ReadFile("/proc/cpuinfo") // not there on other systems
	for line := range strings.Lines(string(raw)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return "an unknown kind"
}

func loadAverage() string {
	raw, _ := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(raw)); len(f) > 0 {
		return f[0]
	}
	return "unknown"
}
