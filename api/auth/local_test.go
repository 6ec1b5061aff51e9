package auth

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLocalIssuer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	l, err := OpenLocalIssuer(path, clock)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("key file has mode %#o", st.Mode().Perm())
	}
	iss, err := l.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(clock, iss)
	if err != nil {
		t.Fatal(err)
	}
	// Another process opens the same file and mints; this one's keys must fit.
	again, err := OpenLocalIssuer(path, clock)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range Roles() {
		token, err := again.Mint(role, "acme", "alice", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		p, err := v.Authenticate(t.Context(), token)
		if err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		for _, perm := range Permissions() {
			want := false
			for _, g := range Grants(role) {
				want = want || g == perm
			}
			if p.Can(perm) != want {
				t.Errorf("%s can %s: %v, the table says %v", role, perm, p.Can(perm), want)
			}
		}
		if p.Tenant != "acme" || p.Subject != "alice" || p.ClientID != LocalClient {
			t.Errorf("principal %+v", p)
		}
	}
	token, err := l.Mint(Auditor, Global, "eve", MaxLocalTTL)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := v.Authenticate(t.Context(), token); err != nil || !p.Global() || !p.MayRead("any") {
		t.Errorf("global auditor: %+v, %v", p, err)
	}
	other, err := OpenLocalIssuer(filepath.Join(t.TempDir(), "token.key"), clock)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.Mint(Auditor, "acme", "alice", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, v, stranger, ReasonKey)
}

func TestLocalIssuerRefusesWeakFiles(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.key")
	if _, err := OpenLocalIssuer(good, clock); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"wide", string(text), 0o644, "chmod 600"},
		{"group", string(text), 0o640, "chmod 600"},
		{"empty", "", 0o600, "PEM"},
		{"cut", string(text[:len(text)/2]), 0o600, "PEM"},
		{"other block", strings.ReplaceAll(string(text), "PRIVATE KEY", "EC PRIVATE KEY"), 0o600, "PEM"},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil { // past the umask
			t.Fatal(err)
		}
		_, err := OpenLocalIssuer(path, clock)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want the file and %q", c.name, err, c.want)
		}
	}
	if _, err := OpenLocalIssuer(filepath.Join(dir, "no", "such", "dir.key"), clock); err == nil {
		t.Error("made a key in a directory that is not there")
	}
}

func TestLocalIssuerTwoStartsAtOnceShareOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	kids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range kids {
		wg.Go(func() {
			l, err := OpenLocalIssuer(path, clock)
			if err != nil {
				t.Error(err)
				return
			}
			kids[i] = l.kid
		})
	}
	wg.Wait()
	for _, k := range kids {
		if k != kids[0] || k == "" {
			t.Fatalf("different keys: %v", kids)
		}
	}
	// One that came late must not replace the key that others have read.
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := makeKey(path); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("a second start replaced the key (%v)", err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".token-key-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestMintRefusesNonsense(t *testing.T) {
	l, err := OpenLocalIssuer(filepath.Join(t.TempDir(), "token.key"), clock)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		role            Role
		tenant, subject string
		ttl             time.Duration
	}{
		{"root", "acme", "a", time.Minute},
		{Auditor, "", "a", time.Minute},
		{Auditor, "a b", "a", time.Minute},
		{Auditor, "acme", "", time.Minute},
		{Auditor, "acme", "a", 0},
		{Auditor, "acme", "a", MaxLocalTTL + 1},
	} {
		if _, err := l.Mint(c.role, c.tenant, c.subject, c.ttl); err == nil {
			t.Errorf("minted %+v", c)
		}
	}
}

func TestRoleTable(t *testing.T) {
	for _, r := range Roles() {
		if len(Grants(r)) == 0 {
			t.Errorf("role %s grants nothing", r)
		}
		for _, p := range Grants(r) {
			if bit(p) == 0 {
				t.Errorf("role %s grants %s, which is not in the list of permissions", r, p)
			}
		}
	}
	if Grants("root") != nil {
		t.Error("an unknown role grants something")
	}
	// Nobody both writes and judges, and configuration sees no content.
	for _, p := range Grants(Admin) {
		if p == EventsRead || p == EventsWrite || p == SaltsRead {
			t.Errorf("admin has %s", p)
		}
	}
	if (Principal{}).MayRead("") || (Principal{Tenant: "acme"}).MayRead("") || (Principal{Tenant: "acme"}).MayRead("globex") {
		t.Error("tenants do not separate")
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	l, err := OpenLocalIssuer(filepath.Join(b.TempDir(), "token.key"), clock)
	if err != nil {
		b.Fatal(err)
	}
	iss, err := l.Issuer()
	if err != nil {
		b.Fatal(err)
	}
	v, err := NewVerifier(clock, iss)
	if err != nil {
		b.Fatal(err)
	}
	token, err := l.Mint(Auditor, "acme", "alice", time.Minute)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Authenticate(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
