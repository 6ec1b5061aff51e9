package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	testIssuer   = "https://issuer.example"
	testAudience = "sealstream-prod"
)

func clock() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// keyBox holds one key of each kind the issuer signs with.
type keyBox struct {
	es256, es384, other *ecdsa.PrivateKey
	ed                  ed25519.PrivateKey
	rsa, short          *rsa.PrivateKey
}

func newKeyBox(t *testing.T) keyBox {
	t.Helper()
	var b keyBox
	var errs [4]error
	b.es256, errs[0] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b.es384, errs[1] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	b.other, errs[2] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, b.ed, errs[3] = ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return b
}

// withRSA adds the keys that take long to make.
func (b keyBox) withRSA(t *testing.T) keyBox {
	t.Helper()
	var errs [2]error
	b.rsa, errs[0] = rsa.GenerateKey(rand.Reader, 2048)
	b.short, errs[1] = rsa.GenerateKey(rand.Reader, 1024)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b keyBox) jwks(t *testing.T) []byte {
	t.Helper()
	store := jwkset.NewMemoryStorage()
	type published struct {
		key  any
		meta jwkset.JWKMetadataOptions
	}
	all := []published{
		{&b.es256.PublicKey, jwkset.JWKMetadataOptions{KID: "es256", USE: jwkset.UseSig}},
		{&b.es384.PublicKey, jwkset.JWKMetadataOptions{KID: "es384"}},
		{b.ed.Public(), jwkset.JWKMetadataOptions{KID: "ed"}},
		{&b.es256.PublicKey, jwkset.JWKMetadataOptions{KID: "enc", USE: jwkset.UseEnc}},
	}
	if b.rsa != nil {
		all = append(all, published{&b.rsa.PublicKey, jwkset.JWKMetadataOptions{KID: "rsa"}},
			published{&b.rsa.PublicKey, jwkset.JWKMetadataOptions{KID: "rsa-ps-only", ALG: jwkset.AlgPS256}},
			published{&b.short.PublicKey, jwkset.JWKMetadataOptions{KID: "short"}})
	}
	for _, k := range all {
		j, err := jwkset.NewJWKFromKey(k.key, jwkset.JWKOptions{Metadata: k.meta})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.KeyWrite(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := store.JSONPublic(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func (b keyBox) verifier(t *testing.T, change func(*Issuer)) *Verifier {
	t.Helper()
	keys, err := keysFromJSON(b.jwks(t))
	if err != nil {
		t.Fatal(err)
	}
	i := Issuer{Name: testIssuer, Audience: testAudience, Keys: keys, Algorithms: Algorithms()}
	if change != nil {
		change(&i)
	}
	v, err := NewVerifier(clock, i)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func goodClaims() jwt.MapClaims {
	now := clock().Unix()
	return jwt.MapClaims{
		"iss": testIssuer, "aud": []string{"another", testAudience}, "sub": "alice", "client_id": "console",
		"jti": "t-1", "iat": now - 60, "nbf": now - 60, "exp": now + 600, "tenant": "acme", "roles": []string{"analyst", "made-up"},
	}
}

// forge signs whatever it is told to, as an attacker would.
func forge(t *testing.T, m jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	tok := jwt.NewWithClaims(m, claims)
	tok.Header["typ"], tok.Header["kid"] = "at+jwt", "es256"
	for k, x := range header {
		if x == nil {
			delete(tok.Header, k)
			continue
		}
		tok.Header[k] = x
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryAlgorithmOfTheListIsTaken(t *testing.T) {
	b := newKeyBox(t).withRSA(t)
	v := b.verifier(t, nil)
	for kid, s := range map[string]struct {
		m   jwt.SigningMethod
		key any
	}{
		"es256": {jwt.SigningMethodES256, b.es256}, "es384": {jwt.SigningMethodES384, b.es384},
		"ed": {jwt.SigningMethodEdDSA, b.ed}, "rsa": {jwt.SigningMethodRS256, b.rsa},
		"rsa-ps-only": {jwt.SigningMethodPS256, b.rsa},
	} {
		p, err := v.Authenticate(t.Context(), forge(t, s.m, s.key, map[string]any{"kid": kid}, goodClaims()))
		if err != nil {
			t.Errorf("%s: %v", kid, err)
			continue
		}
		want := Principal{Issuer: testIssuer, Subject: "alice", ClientID: "console", TokenID: "t-1", Tenant: "acme", Roles: []Role{Analyst}}
		if d := cmp.Diff(want, p, cmpopts.IgnoreUnexported(Principal{})); d != "" {
			t.Errorf("%s: principal (-want +got):\n%s", kid, d)
		}
		if !p.Can(EventsRead) || p.Can(EventsWrite) || p.Can(SaltsRead) || p.Can(Open) {
			t.Errorf("%s: an analyst reads events and no more", kid)
		}
	}
}

func TestTokenAttacks(t *testing.T) {
	b := newKeyBox(t).withRSA(t)
	v := b.verifier(t, nil)
	now := clock().Unix()
	with := func(k string, x any) jwt.MapClaims {
		c := goodClaims()
		if x == nil {
			delete(c, k)
		} else {
			c[k] = x
		}
		return c
	}
	es := func(h map[string]any, c jwt.MapClaims) string {
		return forge(t, jwt.SigningMethodES256, b.es256, h, c)
	}
	good := es(nil, goodClaims())
	spki, err := x509.MarshalPKIXPublicKey(&b.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	own := map[string]any{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}

	for _, c := range []struct {
		name   string
		token  string
		reason Reason
	}{
		{"alg none", forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, goodClaims()), ReasonAlgorithm},
		{"alg NoNe", rewriteHeader(t, good, func(h map[string]any) { h["alg"] = "NoNe" }), ReasonAlgorithm},
		{"HS256 with the public key as secret", forge(t, jwt.SigningMethodHS256, publicPEM, map[string]any{"kid": "rsa"}, goodClaims()), ReasonAlgorithm},
		{"ES512, not on the list", rewriteHeader(t, good, func(h map[string]any) { h["alg"] = "ES512" }), ReasonAlgorithm},
		{"RS256 header over an ES256 key", rewriteHeader(t, good, func(h map[string]any) { h["alg"] = "RS256" }), ReasonKey},
		{"algorithm the key is not for", forge(t, jwt.SigningMethodRS256, b.rsa, map[string]any{"kid": "rsa-ps-only"}, goodClaims()), ReasonKey},
		{"key published for encryption", es(map[string]any{"kid": "enc"}, goodClaims()), ReasonKey},
		{"short RSA key", forge(t, jwt.SigningMethodRS256, b.short, map[string]any{"kid": "short"}, goodClaims()), ReasonKey},
		{"signed by someone else", forge(t, jwt.SigningMethodES256, b.other, nil, goodClaims()), ReasonSignature},
		{"signed by someone else, key in the header", forge(t, jwt.SigningMethodES256, b.other,
			map[string]any{"jwk": own, "jku": "https://evil.example/jwks", "x5u": "https://evil.example/cert"}, goodClaims()), ReasonSignature},
		{"unknown kid", es(map[string]any{"kid": "nobody"}, goodClaims()), ReasonKey},
		{"no kid", es(map[string]any{"kid": nil}, goodClaims()), ReasonKey},
		{"kid of the wrong type", es(map[string]any{"kid": 7}, goodClaims()), ReasonKey},
		{"kid as a path", es(map[string]any{"kid": "../../../etc/passwd"}, goodClaims()), ReasonKey},
		{"ID token", es(map[string]any{"typ": "JWT"}, with("nonce", "n")), ReasonType},
		{"no typ", es(map[string]any{"typ": nil}, goodClaims()), ReasonType},
		{"critical extension", es(map[string]any{"crit": []string{"b64"}, "b64": false}, goodClaims()), ReasonCritical},
		{"another issuer", es(nil, with("iss", "https://evil.example")), ReasonIssuer},
		{"issuer with a slash more", es(nil, with("iss", testIssuer+"/")), ReasonIssuer},
		{"no issuer", es(nil, with("iss", nil)), ReasonIssuer},
		{"issuer as a list", es(nil, with("iss", []string{testIssuer})), ReasonIssuer},
		{"another audience", es(nil, with("aud", "somebody-else")), ReasonAudience},
		{"audience as prefix", es(nil, with("aud", testAudience+"2")), ReasonAudience},
		{"no audience", es(nil, with("aud", nil)), ReasonClaim},
		{"empty audience", es(nil, with("aud", []string{})), ReasonClaim},
		{"expired", es(nil, with("exp", now-31)), ReasonExpired},
		{"no expiry", es(nil, with("exp", nil)), ReasonClaim},
		{"expiry as text", es(nil, with("exp", "tomorrow")), ReasonMalformed},
		{"not yet valid", es(nil, with("nbf", now+31)), ReasonNotYet},
		{"issued in the future", es(nil, with("iat", now+31)), ReasonFuture},
		{"no iat", es(nil, with("iat", nil)), ReasonClaim},
		{"no jti", es(nil, with("jti", nil)), ReasonClaim},
		{"jti as number", es(nil, with("jti", 7)), ReasonClaim},
		{"no sub", es(nil, with("sub", nil)), ReasonClaim},
		{"empty sub", es(nil, with("sub", "")), ReasonClaim},
		{"endless sub", es(nil, with("sub", strings.Repeat("x", maxClaimBytes+1))), ReasonClaim},
		{"no client_id", es(nil, with("client_id", nil)), ReasonClaim},
		{"bound to a certificate", es(nil, with("cnf", map[string]string{"x5t#S256": "AA"})), ReasonBound},
		{"no tenant", es(nil, with("tenant", nil)), ReasonTenant},
		{"two tenants", es(nil, with("tenant", []string{"acme", "globex"})), ReasonTenant},
		{"tenant with a slash", es(nil, with("tenant", "acme/../globex")), ReasonTenant},
		{"tenant pattern", es(nil, with("tenant", "a*")), ReasonTenant},
		{"roles of two people", es(nil, with("roles", []string{"ingest", "auditor"})), ReasonSeparation},
		{"payload changed", rewritePart(t, good, 1, func(c map[string]any) { c["tenant"] = "globex" }), ReasonSignature},
		{"signature cut by a byte", good[:len(good)-2], ReasonSignature}, // 84 digits, 63 bytes,
		{"signature dropped", good[:strings.LastIndexByte(good, '.')+1], ReasonSignature},
		{"signature of zeros", good[:strings.LastIndexByte(good, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), ReasonSignature},
		{"two parts", "a.b", ReasonMalformed},
		{"four parts", good + ".x", ReasonMalformed},
		{"not base64", "!.!.!", ReasonMalformed},
		{"empty", "", ReasonMalformed},
		{"too long", strings.Repeat("a", maxTokenBytes+1), ReasonMalformed},
		{"not JSON", base64.RawURLEncoding.EncodeToString([]byte("{")) + ".e30.", ReasonMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := v.Authenticate(t.Context(), c.token)
			own, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("let in: %+v, error %v", p, err)
			}
			if own.Reason != c.reason {
				t.Errorf("reason %s (%s), want %s", own.Reason, own.Detail, c.reason)
			}
			if p.Can(EventsRead) || p.Subject != "" {
				t.Errorf("a refused token left a principal behind: %+v", p)
			}
			if own.Detail == "" || strings.ContainsAny(own.Detail, "\"\\\r\n") {
				t.Errorf("detail does not fit a header: %q", own.Detail)
			}
			if len(c.token) > 20 && strings.Contains(err.Error(), c.token[:20]) {
				t.Errorf("the error repeats the token")
			}
		})
	}
}

func TestTokenLeewayIsThirtySeconds(t *testing.T) {
	b := newKeyBox(t)
	v := b.verifier(t, nil)
	now := clock().Unix()
	for name, x := range map[string]int64{"exp": now - 29, "nbf": now + 30, "iat": now + 30} {
		c := goodClaims()
		c[name] = x
		if _, err := v.Authenticate(t.Context(), forge(t, jwt.SigningMethodES256, b.es256, nil, c)); err != nil {
			t.Errorf("%s within the leeway: %v", name, err)
		}
	}
}

func TestIssuerSettings(t *testing.T) {
	b := newKeyBox(t)
	v := b.verifier(t, func(i *Issuer) {
		i.TenantClaim, i.RolesClaim, i.Scope = "org", "groups", "seal.read"
		i.Algorithms = []string{"EdDSA"}
	})
	sign := func(c jwt.MapClaims) string {
		return forge(t, jwt.SigningMethodEdDSA, b.ed, map[string]any{"kid": "ed", "typ": "application/AT+JWT"}, c)
	}
	c := goodClaims()
	maps.Copy(c, jwt.MapClaims{"org": "globex", "groups": []any{"operator", "admin", "operator", 7}, "scope": "openid seal.read"})
	p, err := v.Authenticate(t.Context(), sign(c))
	if err != nil {
		t.Fatal(err)
	}
	if p.Tenant != "globex" || !slices.Equal(p.Roles, []Role{Admin, Operator}) {
		t.Errorf("principal %+v", p)
	}
	c["scope"] = "openid seal.readwrite"
	wantReason(t, v, sign(c), ReasonScope)
	wantReason(t, v, forge(t, jwt.SigningMethodES256, b.es256, nil, c), ReasonAlgorithm)
}

func TestVerifierNeedsACompleteIssuer(t *testing.T) {
	keys, err := keysFromJSON(newKeyBox(t).jwks(t))
	if err != nil {
		t.Fatal(err)
	}
	good := Issuer{Name: "a", Audience: "b", Algorithms: []string{"ES256"}, Keys: keys}
	for name, change := range map[string]func(*Issuer){
		"name":      func(i *Issuer) { i.Name = "" },
		"audience":  func(i *Issuer) { i.Audience = "" },
		"keys":      func(i *Issuer) { i.Keys = nil },
		"algorithm": func(i *Issuer) { i.Algorithms = []string{"HS256"} },
	} {
		i := good
		change(&i)
		if _, err := NewVerifier(clock, i); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := NewVerifier(clock); err == nil {
		t.Error("a verifier without issuers was made")
	}
	if _, err := NewVerifier(clock, good, good); err == nil {
		t.Error("two issuers of one name were taken")
	}
}

// FuzzAuthenticate: no text may let anyone in or break the verifier.
func FuzzAuthenticate(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	j, err := jwkset.NewJWKFromKey(&key.PublicKey, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "k"}})
	if err != nil {
		f.Fatal(err)
	}
	store := jwkset.NewMemoryStorage()
	if err := store.KeyWrite(context.Background(), j); err != nil {
		f.Fatal(err)
	}
	keys, err := keySetOf(store)
	if err != nil {
		f.Fatal(err)
	}
	v, err := NewVerifier(clock, Issuer{Name: testIssuer, Audience: testAudience, Keys: keys, Algorithms: Algorithms()})
	if err != nil {
		f.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte("k"))
	enc := base64.RawURLEncoding.EncodeToString
	for _, h := range []string{`{"alg":"none","typ":"at+jwt","kid":"k"}`, `{"alg":"ES256","typ":"at+jwt","kid":"k"}`, `{"alg":"HS256","typ":"at+jwt"}`, `{}`} {
		f.Add(enc([]byte(h)) + "." + enc([]byte(`{"iss":"`+testIssuer+`","aud":"`+testAudience+`","exp":1e99}`)) + "." + enc(mac.Sum(nil)))
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if p, err := v.Authenticate(t.Context(), raw); err == nil {
			t.Fatalf("let in: %+v", p)
		}
	})
}

func wantReason(t *testing.T, v *Verifier, token string, want Reason) {
	t.Helper()
	_, err := v.Authenticate(t.Context(), token)
	if own, ok := errors.AsType[*Error](err); !ok || own.Reason != want {
		t.Errorf("error %v, want reason %s", err, want)
	}
}

func rewriteHeader(t *testing.T, token string, change func(map[string]any)) string {
	t.Helper()
	return rewritePart(t, token, 0, change)
}

func rewritePart(t *testing.T, token string, part int, change func(map[string]any)) string {
	t.Helper()
	parts := strings.Split(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(parts[part])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	raw, err = json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	parts[part] = base64.RawURLEncoding.EncodeToString(raw)
	return strings.Join(parts, ".")
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
