package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// jwksServer is an issuer whose key set can be swapped, and which counts its reads.
type jwksServer struct {
	*httptest.Server
	doc   atomic.Pointer[[]byte]
	reads atomic.Int32
}

func newJWKSServer(t *testing.T) *jwksServer {
	t.Helper()
	s := &jwksServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.reads.Add(1)
		doc := s.doc.Load()
		if doc == nil {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		_, _ = w.Write(*doc)
	}))
	t.Cleanup(s.Close)
	return s
}

func verifierFor(t *testing.T, keys *KeySet) *Verifier {
	t.Helper()
	v, err := NewVerifier(clock, Issuer{Name: testIssuer, Audience: testAudience, Keys: keys, Algorithms: []string{"ES256"}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestKeysOfAnIssuerThatIsDownAtStart(t *testing.T) {
	b := newKeyBox(t)
	srv := newJWKSServer(t)
	keys, err := KeysFromURL(t.Context(), srv.URL+"/jwks", KeyOptions{UnknownEvery: time.Nanosecond, Log: quiet()})
	if err != nil {
		t.Fatalf("an issuer that is down must not keep us from starting: %v", err)
	}
	v := verifierFor(t, keys)
	token := forge(t, jwt.SigningMethodES256, b.es256, nil, goodClaims())
	wantReason(t, v, token, ReasonUnavailable)
	doc := b.jwks(t)
	srv.doc.Store(&doc)
	if _, err := v.Authenticate(t.Context(), token); err != nil {
		t.Errorf("the issuer is back: %v", err)
	}
}

func TestKeysUnknownKidReadsAtMostOncePerInterval(t *testing.T) {
	b := newKeyBox(t)
	srv := newJWKSServer(t)
	doc := b.jwks(t)
	srv.doc.Store(&doc)
	keys, err := KeysFromURL(t.Context(), srv.URL+"/jwks", KeyOptions{UnknownEvery: time.Hour, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	v := verifierFor(t, keys)
	for range 50 {
		wantReason(t, v, forge(t, jwt.SigningMethodES256, b.other, map[string]any{"kid": "nobody"}, goodClaims()), ReasonKey)
	}
	if n := srv.reads.Load(); n != 2 {
		t.Errorf("%d reads of the key set, want the first and one more", n)
	}
	// Known keys keep working while strangers knock.
	if _, err := v.Authenticate(t.Context(), forge(t, jwt.SigningMethodES256, b.es256, nil, goodClaims())); err != nil {
		t.Error(err)
	}
}

func TestKeysFileFollowsARotation(t *testing.T) {
	before, after := newKeyBox(t), newKeyBox(t)
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, before.jwks(t), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := KeysFromFile(t.Context(), path, KeyOptions{UnknownEvery: time.Nanosecond, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	v := verifierFor(t, keys)
	old := forge(t, jwt.SigningMethodES256, before.es256, nil, goodClaims())
	if _, err := v.Authenticate(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	doc := strings.ReplaceAll(string(after.jwks(t)), `"es256"`, `"new"`)
	if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Authenticate(t.Context(), forge(t, jwt.SigningMethodES256, after.es256, map[string]any{"kid": "new"}, goodClaims())); err != nil {
		t.Errorf("token of the new key: %v", err)
	}
	wantReason(t, v, old, ReasonKey) // withdrawn with the old set
}

func TestKeysFromFileErrors(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bad, filepath.Join(dir, "none.json"), dir} {
		_, err := KeysFromFile(t.Context(), path, KeyOptions{Log: quiet()})
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", path, err)
		}
	}
}

func TestKeysURLMustBeSafe(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://issuer.example/jwks": true, "http://127.0.0.1:1/jwks": true, "http://[::1]:1/jwks": true,
		"http://localhost:1/jwks": true, "http://issuer.example/jwks": false, "http://10.0.0.1/jwks": false,
		"http://127.0.0.1.evil.example/": false, "ftp://issuer.example/": false, "https://": false, "": false, "jwks.json": false, "%": false,
	} {
		// A transport that fails at once keeps the test off the network.
		_, err := KeysFromURL(t.Context(), url, KeyOptions{Log: quiet(), Transport: deadTransport{}})
		if (err == nil) != ok {
			t.Errorf("%q: error %v", url, err)
		}
	}
}

type deadTransport struct{}

func (deadTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no network here")
}

func TestKeysRedirectMustStaySafe(t *testing.T) {
	b := newKeyBox(t)
	doc := b.jwks(t)
	plain := newJWKSServer(t)
	plain.doc.Store(&doc)
	https := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	t.Cleanup(https.Close)
	roots := https.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	keys, err := KeysFromURL(t.Context(), https.URL, KeyOptions{Log: quiet(),
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}})
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, verifierFor(t, keys), forge(t, jwt.SigningMethodES256, b.es256, nil, goodClaims()), ReasonUnavailable)
	if n := plain.reads.Load(); n != 0 {
		t.Errorf("keys were read over plain http %d times after a redirect from https", n)
	}
}

func TestKeysDocumentIsBounded(t *testing.T) {
	b := newKeyBox(t)
	srv := newJWKSServer(t)
	doc := append(b.jwks(t)[:1:1], append([]byte(strings.Repeat(" ", maxKeySetBytes)), b.jwks(t)[1:]...)...)
	srv.doc.Store(&doc)
	keys, err := KeysFromURL(t.Context(), srv.URL, KeyOptions{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, verifierFor(t, keys), forge(t, jwt.SigningMethodES256, b.es256, nil, goodClaims()), ReasonUnavailable)
}

func TestKeysNeedALog(t *testing.T) {
	if _, err := KeysFromURL(context.Background(), "http://127.0.0.1:1/", KeyOptions{}); err == nil {
		t.Error("made without a log")
	}
}
