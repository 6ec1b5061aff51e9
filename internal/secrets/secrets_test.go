package secrets

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
)

// canary is long enough that no output holds it by chance, in any encoding.
const canary = "canary-7f3d9a51c2"

// TestI12SecretNeverPrints walks every way a value gets into text in this project.
func TestI12SecretNeverPrints(t *testing.T) {
	s := NewSecret([]byte(canary))
	type holder struct {
		Name     string
		Password Secret
		ByName   map[string]Secret
	}
	h := holder{Name: "x", Password: s, ByName: map[string]Secret{"a": s}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%T"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", h)
		fmt.Fprintf(&out, verb+"\n", &h)
		fmt.Fprintf(&out, verb+"\n", []Secret{s})
	}
	fmt.Fprintln(&out, s, &s, h, errors.New(fmt.Sprint("dial: ", s)))
	for _, log := range []*slog.Logger{
		slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil)),
	} {
		log.Info("connect", "password", s, "all", h, "pointer", &h, slog.Group("g", "s", s))
	}
	for _, v := range []any{s, &s, h, &h, map[string]any{"s": s}} {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		y, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(j)
		out.Write(y)
	}
	text := out.String()
	decimal := strings.Trim(fmt.Sprint([]byte(canary[:4])), "[]")
	for _, leak := range []string{canary, hex.EncodeToString([]byte(canary)),
		strings.ToUpper(hex.EncodeToString([]byte(canary))), decimal, "Y2FuYXJ5"} {
		if strings.Contains(text, leak) {
			t.Errorf("output holds the secret as %q", leak)
		}
	}
	if !strings.Contains(text, Redacted) {
		t.Errorf("output does not say %s: nothing was printed?", Redacted)
	}
	if s.Reveal() != canary || string(s.Bytes()) != canary {
		t.Errorf("the secret does not come back when asked for")
	}
}

func file(t *testing.T, content string, mode fs.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask may have taken bits away
		t.Fatal(err)
	}
	return path
}

func TestReadText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"hunter2", "hunter2"}, {"hunter2\n", "hunter2"}, {"hunter2\r\n", "hunter2"},
		{" two words \n\n", " two words \n"}, {"a\nb\n", "a\nb"},
	} {
		s, err := ReadText(file(t, c.in, 0o600))
		if err != nil || s.Reveal() != c.want {
			t.Errorf("ReadText of %q: %q, %v; want %q", c.in, s.Bytes(), err, c.want)
		}
	}
}

func TestReadTextRefuses(t *testing.T) {
	for _, c := range []struct {
		name, content string
		mode          fs.FileMode
		want          []string
	}{
		{"group may read", canary, 0o640, []string{"0640", "chmod 600"}},
		{"all may read", canary, 0o644, []string{"0644", "chmod 600"}},
		{"all may write", canary, 0o602, []string{"0602", "chmod 600"}},
		{"executable", canary, 0o700, []string{"0700", "chmod 600"}},
		{"empty", "", 0o600, []string{"is empty"}},
		{"only a line end", "\n", 0o600, []string{"is empty"}},
		{"too large", strings.Repeat("x", MaxFileBytes+1), 0o600, []string{"larger than 65536"}},
	} {
		path := file(t, c.content, c.mode)
		_, err := ReadText(path)
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		for _, want := range append(c.want, path) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not name %q", c.name, err, want)
			}
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error holds the secret", c.name)
		}
	}
	for _, mode := range []fs.FileMode{0o600, 0o400} {
		if _, err := ReadText(file(t, canary, mode)); err != nil && os.Getuid() == 0 {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	dir := t.TempDir()
	if _, err := ReadText(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: %v", err)
	}
	missing := filepath.Join(dir, "none")
	if _, err := ReadText(missing); !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), missing) != 1 {
		t.Errorf("missing file: %v", err)
	}
}

func TestReadKey(t *testing.T) {
	raw := strings.Repeat("\x01\n", 16)
	text := hex.EncodeToString([]byte(raw))
	for _, in := range []string{raw, text, text + "\n", strings.ToUpper(text) + "\r\n"} {
		s, err := ReadKey(file(t, in, 0o600), 32)
		if err != nil || s.Reveal() != raw {
			t.Errorf("key %q: %q, %v", in, s.Bytes(), err)
		}
	}
	for _, in := range []string{"", raw[:31], raw + "\n", text[:63], "zz" + text[2:]} {
		path := file(t, in, 0o600)
		if _, err := ReadKey(path, 32); err == nil || !strings.Contains(err.Error(), path) ||
			!strings.Contains(err.Error(), "32 raw bytes or 64 hex") {
			t.Errorf("key of %d bytes: %v", len(in), err)
		}
	}
}

func TestFromEnv(t *testing.T) {
	path := file(t, canary+"\n", 0o600)
	open := file(t, canary, 0o644)
	env := map[string]string{"A_FILE": path, "B": canary, "C_FILE": open}
	getenv := func(k string) string { return env[k] }
	if s, ok, err := FromEnv(getenv, "A"); err != nil || !ok || s.Reveal() != canary {
		t.Errorf("A_FILE: %v %v", ok, err)
	}
	if _, ok, err := FromEnv(getenv, "NONE"); err != nil || ok {
		t.Errorf("unset: %v %v", ok, err)
	}
	if _, _, err := FromEnv(getenv, "B"); err == nil || strings.Contains(err.Error(), canary) ||
		!strings.Contains(err.Error(), "B_FILE") {
		t.Errorf("plain variable: %v", err)
	}
	if _, _, err := FromEnv(getenv, "C"); err == nil || !strings.Contains(err.Error(), "C_FILE") ||
		!strings.Contains(err.Error(), "0644") {
		t.Errorf("open file: %v", err)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := Create(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("two")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v, want fs.ErrExist", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if b, _ := os.ReadFile(path); string(b) != "one" {
		t.Errorf("content %q: the first was overwritten", b)
	}
	if err := Replace(path, []byte("three")); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "three" {
		t.Errorf("content %q after Replace", b)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, tmpPrefix+"*")); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
	if err := Create(filepath.Join(dir, "no", "dir"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
}

// TestEnsureKeyRace: processes that start at once agree on one key.
func TestEnsureKeyRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "key")
	keys := make([]string, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			s, err := EnsureKey(path, 32)
			if err != nil {
				t.Error(err)
			}
			keys[i] = s.Reveal()
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != 32 || k != keys[0] {
			t.Fatalf("keys differ or are short: %x", keys)
		}
	}
}

func TestSalts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "salt")
	if _, err := LoadSalts(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no directory: %v", err)
	}
	first, err := EnsureSalts(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := EnsureSalts(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 1 || len(first[1]) != SaltBytes || !bytes.Equal(first[1], again[1]) {
		t.Fatalf("first %x, again %x", first, again)
	}
	if bytes.Equal(first[1], make([]byte, SaltBytes)) {
		t.Fatal("the master is all zeros")
	}
	second := strings.Repeat("s", SaltBytes)
	if err := os.WriteFile(filepath.Join(dir, "4294967295.key"), []byte(second), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, tmpPrefix+"0011"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := LoadSalts(dir)
	if err != nil || len(all) != 2 || string(all[4294967295]) != second {
		t.Fatalf("two masters: %v, %v", len(all), err)
	}
}

func TestSaltsRefuse(t *testing.T) {
	good := strings.Repeat("k", SaltBytes)
	for _, c := range []struct {
		name, content string
		mode          fs.FileMode
		want          string
	}{
		{"2.key", good, 0o644, "0644"},
		{"2.key", good[:31], 0o600, "31 bytes"},
		{"2.key", good + "\n", 0o600, "33 bytes"},
		{"2.key", hex.EncodeToString([]byte(good)), 0o600, "64 bytes"},
		{"0.key", good, 0o600, "1 to 4294967295"},
		{"02.key", good, 0o600, "1 to 4294967295"},
		{"4294967296.key", good, 0o600, "1 to 4294967295"},
		{"+2.key", good, 0o600, "1 to 4294967295"},
		{"2.key.bak", good, 0o600, "name like 1.key"},
		{"README", good, 0o600, "name like 1.key"},
	} {
		dir := t.TempDir()
		if _, err := EnsureSalts(dir); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := EnsureSalts(dir)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s (%d bytes, %v): %v; want an error naming the file and %q", c.name, len(c.content), c.mode, err, c.want)
		}
	}
}

// TestLostSaltMasterIsNotReplaced: with 1.key gone and another file there, a new
// 1.key would salt under a number that already has another meaning.
func TestLostSaltMasterIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "2.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureSalts(dir); err == nil {
		t.Error("no error for a dangling master")
	}
	if _, err := os.Stat(filepath.Join(dir, "1.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("1.key was made: %v", err)
	}
}
