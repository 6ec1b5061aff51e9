package testbed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPythonThatIsMissingOrOld(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	if _, err := PythonEnv(t.Context(), t.TempDir()); err == nil || err.Error() != "python3 is not installed; on Debian: apt-get install python3-venv python3-pip" {
		t.Errorf("none: got %v", err)
	}
	python := func(script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, "python3"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	python("echo 3.8 False")
	if _, err := PythonEnv(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "is Python 3.8, want 3.11 or newer") {
		t.Errorf("old: got %v", err)
	}
	python(`case "$1" in -c) echo 3.11 True;; *) echo ensurepip is not available; exit 1;; esac`)
	cache := t.TempDir()
	if _, err := PythonEnv(t.Context(), cache); err == nil || !strings.Contains(err.Error(), "apt-get install python3-venv; it printed:\nensurepip") {
		t.Errorf("without venv: got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "*", doneMarker)); err != nil || len(left) > 0 {
		t.Errorf("what failed is marked as whole: %v, %v", left, err)
	}
}
