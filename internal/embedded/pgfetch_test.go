package embedded

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

func archive(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	x, err := xz.NewWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(x)
	for _, h := range entries {
		if h.Typeflag == tar.TypeReg {
			h.Size = 2
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("ok")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), x.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestFetchTakesOnlyTheArchiveThatWasTried(t *testing.T) {
	good := archive(t,
		tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "bin/postgres", Typeflag: tar.TypeReg, Mode: 0o755},
		tar.Header{Name: "lib/libpq.so.5", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "lib/libpq.so", Typeflag: tar.TypeSymlink, Linkname: "libpq.so.5"})
	sum := sha256.Sum256(good)
	sent := good
	downloads := 0
	f := &fetcher{cache: t.TempDir(), platform: "linux-test", sum: hex.EncodeToString(sum[:]), log: slog.New(slog.DiscardHandler),
		download: func(_ context.Context, dir string) error {
			downloads++
			return os.WriteFile(filepath.Join(dir, archiveName("linux-test")), sent, 0o600)
		}}
	sent = append(bytes.Clone(good), 0)
	if _, err := f.get(t.Context()); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Fatalf("another archive: %v, want a refusal by its sum", err)
	}
	if left, err := filepath.Glob(filepath.Join(f.cache, "*")); err != nil || len(left) > 0 {
		t.Fatalf("a refused archive left %v, %v", left, err)
	}
	sent = good
	bin, err := f.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(bin, "postgres"))
	if err != nil || st.Mode().Perm() != 0o755 {
		t.Fatalf("postgres: %v, %v", st, err)
	}
	if b, err := os.ReadFile(filepath.Join(bin, "..", "lib", "libpq.so")); err != nil || string(b) != "ok" {
		t.Fatalf("a link: %q, %v", b, err)
	}
	if again, err := f.get(t.Context()); err != nil || again != bin || downloads != 2 {
		t.Fatalf("again: %s, %v, %d downloads", again, err, downloads)
	}
	// The archive alone is enough when the unpacked files were removed.
	if err := os.RemoveAll(filepath.Dir(bin)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.get(t.Context()); err != nil || downloads != 2 {
		t.Fatalf("from the cached archive: %v, %d downloads", err, downloads)
	}
}

func TestUnpackStaysInItsDirectory(t *testing.T) {
	for _, h := range [][]tar.Header{
		{{Name: "../evil", Typeflag: tar.TypeReg, Mode: 0o644}},
		{{Name: "a/../../evil", Typeflag: tar.TypeReg, Mode: 0o644}},
		{{Name: "/tmp/evil", Typeflag: tar.TypeReg, Mode: 0o644}},
		{{Name: "link", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "link/evil", Typeflag: tar.TypeReg, Mode: 0o644}},
		{{Name: "device", Typeflag: tar.TypeChar, Mode: 0o644}},
		{{Name: "twice", Typeflag: tar.TypeReg, Mode: 0o644}, {Name: "twice", Typeflag: tar.TypeReg, Mode: 0o755}},
	} {
		up := t.TempDir()
		dir := filepath.Join(up, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "a.txz")
		if err := os.WriteFile(path, archive(t, h...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unpack(path, dir); err == nil {
			t.Errorf("%s was unpacked", h[len(h)-1].Name)
		}
		if _, err := os.Stat(filepath.Join(up, "evil")); err == nil {
			t.Errorf("%s got out", h[len(h)-1].Name)
		}
	}
}
