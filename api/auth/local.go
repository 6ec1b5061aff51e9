package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// LocalName and LocalAudience are the iss and aud of one-machine tokens;
// LocalClient is their client_id.
const (
	LocalName     = "urn:sealstream:local"
	LocalAudience = "sealstream"
	LocalClient   = "sealstream-local"
)

// MaxLocalTTL bounds the life of a token of the local issuer.
const MaxLocalTTL = 90 * 24 * time.Hour

// LocalIssuer is the token issuer of one-machine mode: one ES256 key in a file
// that only its owner can read. Whoever can read that file can mint any token, so
// it stands for the machine's own protection, not for a login.
type LocalIssuer struct {
	key *ecdsa.PrivateKey
	kid string
	now func() time.Time
}

// OpenLocalIssuer reads the key file, making it first if there is none. A file
// that others can read is refused. now is the clock, time.Now in production.
func OpenLocalIssuer(keyFile string, now func() time.Time) (*LocalIssuer, error) {
	key, err := readKey(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(keyFile); err != nil {
			return nil, fmt.Errorf("make token key %s: %w", keyFile, err)
		}
		key, err = readKey(keyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("token key %s: %w", keyFile, err)
	}
	kid, err := thumbprint(key)
	if err != nil {
		return nil, fmt.Errorf("token key %s: %w", keyFile, err)
	}
	return &LocalIssuer{key: key, kid: kid, now: now}, nil
}

// Mint returns an access token for one role and tenant ([Global] for all).
func (l *LocalIssuer) Mint(role Role, tenant, subject string, ttl time.Duration) (string, error) {
	if _, err := ParseRole(string(role)); err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	if !validTenant(tenant) {
		return "", fmt.Errorf("mint token: tenant must be 1 to 64 of A-Z a-z 0-9 . _ - or * for all")
	}
	if subject == "" || len(subject) > maxClaimBytes {
		return "", fmt.Errorf("mint token: subject must be 1 to %d bytes", maxClaimBytes)
	}
	if ttl < time.Second || ttl > MaxLocalTTL {
		return "", fmt.Errorf("mint token: life of %s: want 1s to %s", ttl, MaxLocalTTL)
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	now := l.now()
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": LocalName, "aud": LocalAudience, "sub": subject, "client_id": LocalClient,
		"jti": id.String(), "iat": now.Unix(), "exp": now.Add(ttl).Unix(),
		"tenant": tenant, "roles": []string{string(role)},
	})
	t.Header["typ"], t.Header["kid"] = "at+jwt", l.kid
	s, err := t.SignedString(l.key)
	if err != nil {
		return "", fmt.Errorf("mint token: sign: %w", err)
	}
	return s, nil
}

// JWKS returns the public key as a JWK set document.
func (l *LocalIssuer) JWKS() ([]byte, error) {
	x, y, err := coordinates(l.key)
	if err != nil {
		return nil, err
	}
	doc, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": l.kid, "x": x, "y": y,
	}}})
	if err != nil {
		return nil, fmt.Errorf("token key as JWK: %w", err)
	}
	return doc, nil
}

// Issuer returns the entry that makes a [Verifier] take this issuer's tokens.
func (l *LocalIssuer) Issuer() (Issuer, error) {
	doc, err := l.JWKS()
	if err != nil {
		return Issuer{}, err
	}
	keys, err := keysFromJSON(doc)
	if err != nil {
		return Issuer{}, err
	}
	return Issuer{Name: LocalName, Audience: LocalAudience, Algorithms: []string{"ES256"}, Keys: keys}, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // the caller names the file
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err // the caller names the file
	}
	if !st.Mode().IsRegular() || st.Size() > 64<<10 {
		return nil, errors.New("not a key file")
	}
	if m := st.Mode().Perm(); m&0o077 != 0 {
		return nil, fmt.Errorf("mode is %#o, so others can use it: chmod 600 it, and if they may have, delete it and let a new one be made", m)
	}
	text := make([]byte, st.Size())
	if _, err := f.ReadAt(text, 0); err != nil {
		return nil, err // the caller names the file
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM block of type PRIVATE KEY; delete it to have a new one made")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the PEM block is not a PKCS#8 key; delete it to have a new one made")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("not a P-256 key; delete it to have a new one made")
	}
	return key, nil
}

// makeKey leaves a complete key file or none: the key is written and synced under
// another name and then linked, so a crash cannot leave half a key, and of two
// processes that start at once one wins and both read the winner's.
func makeKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err // the caller names the file
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err // the caller names the file
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".token-key-*") // mode 0600
	if err != nil {
		return err // the caller names the file
	}
	defer os.Remove(tmp.Name())
	err = pem.Encode(tmp, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err // the caller names the file
	}
	d, err := os.Open(dir)
	if err != nil {
		return err // the caller names the file
	}
	return errors.Join(d.Sync(), d.Close())
}

// thumbprint names the key by RFC 7638, so that the same key has the same kid in
// every process.
func thumbprint(key *ecdsa.PrivateKey) (string, error) {
	x, y, err := coordinates(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

func coordinates(key *ecdsa.PrivateKey) (x, y string, err error) {
	point, err := key.PublicKey.Bytes() // 4 || X || Y
	if err != nil {
		return "", "", fmt.Errorf("public key: %w", err)
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString(point[1:33]), enc.EncodeToString(point[33:]), nil
}
