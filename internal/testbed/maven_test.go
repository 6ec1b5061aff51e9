package testbed

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestCachedIsFilledOnce(t *testing.T) {
	root := t.TempDir()
	var fills atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			dir, err := cached(t.Context(), root, "x", func(dir string) error {
				fills.Add(1)
				return os.WriteFile(filepath.Join(dir, "a"), []byte("whole"), 0o600)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(b) != "whole" {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
	wg.Wait()
	if fills.Load() != 1 {
		t.Errorf("filled %d times, want once", fills.Load())
	}
}

func TestWhatFailedIsNeverTakenAsWhole(t *testing.T) {
	root := t.TempDir()
	broken := errors.New("the network went away")
	_, err := cached(t.Context(), root, "x", func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half.jar"), nil, 0o600), broken)
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v, want the reason", err)
	}
	dir, err := cached(t.Context(), root, "x", func(dir string) error {
		if empty, err := isEmpty(dir); err != nil || !empty {
			t.Errorf("the second try finds what the first left (%v)", err)
		}
		return os.WriteFile(filepath.Join(dir, "whole.jar"), nil, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "half.jar")); err == nil {
		t.Error("half.jar is still there")
	}
}

func TestPomTakesPinnedCoordinatesOnly(t *testing.T) {
	for _, bad := range []string{"", "a:b", "a:b:", "a:b:1:jar", "a::1"} {
		if _, err := pomOf([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	pom, err := pomOf([]string{"g:a:1<2"})
	if err != nil || !strings.Contains(string(pom), "<version>1&lt;2</version>") {
		t.Errorf("got %s, %v", pom, err)
	}
	if _, err := FetchArtifact(t.Context(), t.TempDir(), "g:a:1"); err == nil || !strings.Contains(err.Error(), "want group:artifact:version:type") {
		t.Errorf("got %v", err)
	}
}

func TestAgainTriesThreeTimesAndNoMore(t *testing.T) {
	for _, c := range []struct {
		name, script string
		runs         int
		ok           bool
	}{
		{"a final answer", "echo no such thing; exit 3", 1, false},
		{"a passing trouble", "[ $(wc -l < runs) -ge 2 ]", 2, true},
		{"a lasting trouble", "false", 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it waits between tries
			dir := t.TempDir()
			err := again(t.Context(), dir, []string{"sh", "-c", "echo x >> runs; " + c.script}, []string{"no such"})
			b, _ := os.ReadFile(filepath.Join(dir, "runs"))
			if runs := strings.Count(string(b), "x"); runs != c.runs || (err == nil) != c.ok {
				t.Errorf("%d runs, %v; want %d runs", runs, err, c.runs)
			}
		})
	}
}

func TestJavaVersion(t *testing.T) {
	for out, want := range map[string]int{
		"openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime":     17,
		"java version \"1.8.0_402\"":                                  8,
		"openjdk version \"21\" 2023-09-19":                           21,
		"Picked up JAVA_TOOL_OPTIONS: -Dx\nopenjdk version \"25-ea\"": 25,
	} {
		if got, err := parseJavaVersion(out); err != nil || got != want {
			t.Errorf("%q: got %d, %v", out, got, err)
		}
	}
	if _, err := parseJavaVersion("Segmentation fault"); err == nil {
		t.Error("took what is no version")
	}
}

func TestMissingToolSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	_, err := FetchJars(t.Context(), t.TempDir(), KafkaJars())
	if err == nil || !strings.Contains(err.Error(), "apt-get install default-jdk-headless") || strings.Contains(err.Error(), "\n") {
		t.Errorf("java: got %v", err)
	}
	if _, err := tool("mvn", "maven"); err == nil || err.Error() != "mvn is not installed; on Debian: apt-get install maven" {
		t.Errorf("maven: got %v", err)
	}
}

func TestOldJavaIsRefused(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"java", "javac"} {
		if err := os.WriteFile(filepath.Join(home, "bin", name), []byte("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("JAVA_HOME", home)
	if _, err := FindJava(t.Context()); err == nil || !strings.Contains(err.Error(), "is Java 11, want 17 or newer") {
		t.Errorf("got %v", err)
	}
}

func TestUnpackStaysInside(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []tar.Header
		want    string // part of the error; empty for none
	}{
		{"plain", []tar.Header{{Name: "d/", Typeflag: tar.TypeDir}, {Name: "d/f", Size: 3}}, ""},
		{"with ./ and without directories", []tar.Header{{Name: "./", Typeflag: tar.TypeDir}, {Name: "./d/e/f", Size: 3}}, ""},
		{"climbs", []tar.Header{{Name: "../f", Size: 3}}, "leads out"},
		{"climbs later", []tar.Header{{Name: "d/../../f", Size: 3}}, "leads out"},
		{"absolute", []tar.Header{{Name: "/tmp/f", Size: 3}}, "leads out"},
		{"link", []tar.Header{{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}}, "neither"},
		{"twice", []tar.Header{{Name: "f", Size: 3}, {Name: "f", Size: 3}}, "exists"},
		{"bomb", []tar.Header{{Name: "f", Size: maxUnpacked + 1}}, "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			dir, archive := filepath.Join(parent, "in"), filepath.Join(parent, "a.tar.gz")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(archive, tarOf(t, c.entries), 0o600)); err != nil {
				t.Fatal(err)
			}
			err := unpack(archive, dir)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			entries, err := os.ReadDir(parent)
			if err != nil || len(entries) != 2 {
				t.Errorf("%v beside the directory: %v", entries, err)
			}
		})
	}
}

// Whatever an archive says, nothing is written beside the directory.
func FuzzUnpack(f *testing.F) {
	for _, h := range [][]tar.Header{
		{{Name: "d/", Typeflag: tar.TypeDir}, {Name: "d/f", Size: 3}}, {{Name: "../f", Size: 3}},
		{{Name: "d", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "d/f", Size: 3}}, {{Name: "a", Typeflag: tar.TypeLink, Linkname: "../x"}},
	} {
		z, err := gzip.NewReader(bytes.NewReader(tarOf(f, h)))
		if err != nil {
			f.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		parent := t.TempDir()
		dir, archive := filepath.Join(parent, "in"), filepath.Join(parent, "a.tar.gz")
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write(plain)
		if err := errors.Join(err, z.Close(), os.Mkdir(dir, 0o755), os.WriteFile(archive, b.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		_ = unpack(archive, dir) // most are no archive
		if entries, err := os.ReadDir(parent); err != nil || len(entries) != 2 {
			t.Errorf("%v beside the directory (%v)", entries, err)
		}
	})
}

func TestUnpackSeesDamage(t *testing.T) {
	b := tarOf(t, []tar.Header{{Name: "f", Size: 3}})
	for name, bad := range map[string][]byte{"cut": b[:len(b)-9], "changed checksum": append(bytes.Clone(b[:len(b)-8]), make([]byte, 8)...)} {
		archive := filepath.Join(t.TempDir(), "a.tar.gz")
		if err := os.WriteFile(archive, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unpack(archive, t.TempDir()); err == nil {
			t.Errorf("%s: unpacked without an error", name)
		}
	}
}

func tarOf(t testing.TB, entries []tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range entries {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		h.Mode = 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 && h.Size < 10 {
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A size without its contents is an error here, and what the bomb is made of.
	_ = w.Close()
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
