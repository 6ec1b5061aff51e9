package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"
)

const (
	maxKeySetBytes = 1 << 20
	maxRedirects   = 3
	minRSABits     = 2048
)

// KeyOptions says how a set of public keys is kept current. Zero fields take the
// defaults named.
type KeyOptions struct {
	Refresh time.Duration // between reads of the whole set; default 1 h
	// UnknownEvery is the least time between two reads caused by a key id that is
	// not in the set; default 30 s. It keeps strangers from making us hammer the issuer.
	UnknownEvery time.Duration
	Timeout      time.Duration     // of one read; default 10 s
	Transport    http.RoundTripper // default: the standard one with verified TLS
	Log          *slog.Logger      // required
}

// KeySet is the public keys of one issuer.
type KeySet struct {
	keys jwkset.Storage
	find keyfunc.Keyfunc
}

// KeysFromURL reads a JWKS document from an https URL, or from an http URL on the
// loopback interface. An issuer that cannot be reached now is tried again when
// the first token comes; until then tokens are answered with [ReasonUnavailable].
// ctx ends the refreshing.
func KeysFromURL(ctx context.Context, rawURL string, o KeyOptions) (*KeySet, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("jwks url: not a URL")
	}
	if err := safeURL(u); err != nil {
		return nil, fmt.Errorf("jwks url: %w", err)
	}
	rt := o.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	return newKeySet(ctx, u.String(), rt, o, true)
}

// KeysFromFile reads a JWKS document from a local file and follows its changes as
// [KeysFromURL] does. A file that cannot be read now is an error.
func KeysFromFile(ctx context.Context, path string, o KeyOptions) (*KeySet, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("jwks file %s: %w", path, err)
	}
	if st, err := os.Stat(abs); err != nil {
		return nil, fmt.Errorf("jwks file: %w", err)
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("jwks file %s: not a regular file", path)
	}
	rt := http.NewFileTransportFS(os.DirFS(filepath.Dir(abs)))
	u := url.URL{Scheme: "file", Path: "/" + filepath.Base(abs)}
	k, err := newKeySet(ctx, u.String(), rt, o, false)
	if err != nil {
		return nil, fmt.Errorf("jwks file %s: %w", path, err)
	}
	return k, nil
}

func newKeySet(ctx context.Context, u string, rt http.RoundTripper, o KeyOptions, lenient bool) (*KeySet, error) {
	if o.Log == nil {
		return nil, errors.New("key options: Log is missing")
	}
	setDefault(&o.Refresh, time.Hour)
	setDefault(&o.UnknownEvery, 30*time.Second)
	setDefault(&o.Timeout, 10*time.Second)
	client := &http.Client{Transport: boundedTransport{rt}, CheckRedirect: checkRedirect, Timeout: o.Timeout}
	remote, err := jwkset.NewStorageFromHTTP(u, jwkset.HTTPClientStorageOptions{
		Client: client, Ctx: ctx, HTTPTimeout: o.Timeout,
		NoErrorReturnFirstHTTPReq: lenient,
		RefreshInterval:           o.Refresh,
		RefreshErrorHandler: func(ctx context.Context, err error) {
			o.Log.WarnContext(ctx, "issuer keys could not be read", "url", u, "err", err)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	store, err := jwkset.NewHTTPClient(jwkset.HTTPClientOptions{
		HTTPURLs: map[string]jwkset.Storage{u: remote},
		// The limiter refuses at once when its next turn is further away than the
		// time-out, so at most one caller waits.
		RefreshUnknownKID: rate.NewLimiter(rate.Every(o.UnknownEvery), 1),
		RateLimitWaitMax:  min(o.Timeout, o.UnknownEvery/2),
	})
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return keySetOf(store)
}

func keysFromJSON(doc []byte) (*KeySet, error) {
	var m jwkset.JWKSMarshal
	if err := json.Unmarshal(doc, &m); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	store, err := m.ToStorage()
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return keySetOf(store)
}

func keySetOf(store jwkset.Storage) (*KeySet, error) {
	find, err := keyfunc.New(keyfunc.Options{
		Storage:      store,
		UseWhitelist: []jwkset.USE{jwkset.UseSig, ""}, // a key published for encryption signs nothing
	})
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return &KeySet{keys: store, find: find}, nil
}

// key finds the token's key and makes sure that it is of the kind and strength
// that the algorithm asks for.
func (k *KeySet) key(ctx context.Context, t *jwt.Token) (any, error) {
	key, err := k.find.KeyfuncCtx(ctx)(t)
	if err != nil {
		all, errAll := k.keys.KeyReadAll(ctx)
		if errAll != nil || len(all) == 0 {
			return nil, &Error{ReasonUnavailable, "the keys of the token's issuer could not be read yet", err}
		}
		return nil, &Error{ReasonKey, "the token's key id is not among the issuer's signing keys for this algorithm " +
			"(a new key is looked for at most every half minute)", err}
	}
	if !fits(t.Method.Alg(), key) {
		return nil, refuse(ReasonKey, "the issuer's key is not of the kind or strength that the token's algorithm asks for")
	}
	return key, nil
}

func fits(alg string, key any) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return alg == "ES256" && k.Curve == elliptic.P256() || alg == "ES384" && k.Curve == elliptic.P384()
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case *rsa.PublicKey:
		return (alg == "PS256" || alg == "RS256") && k.N.BitLen() >= minRSABits
	}
	return false
}

// safeURL keeps keys from being fetched over a wire where anyone can replace them.
func safeURL(u *url.URL) error {
	switch {
	case u.Scheme == "https" && u.Hostname() != "":
		return nil
	case u.Scheme == "http" && isLoopbackHost(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("plain http is taken on the loopback interface only; use https")
	}
	return errors.New("want https://host/path")
}

func isLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("redirect from https to another scheme")
	}
	return safeURL(req.URL)
}

// boundedTransport caps what an issuer can make us read.
type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err // the client wraps it with the URL
	}
	body := resp.Body
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(body, maxKeySetBytes), body}
	return resp, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}
