package api

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// listening starts Serve and returns its address, a way to end it, and its result.
func listening(t *testing.T, o ServeOptions) (addr string, end context.CancelFunc, result <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	bound, done := make(chan string, 1), make(chan error, 1)
	o.Log, o.Listening = quietLog(), func(a net.Addr) { bound <- a.String() }
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	go func() { done <- Serve(ctx, o) }()
	select {
	case addr = <-bound:
	case err := <-done:
		t.Fatalf("serve: %v", err)
	}
	return addr, cancel, done
}

// certificate writes a self-signed pair for 127.0.0.1 and returns a pool that trusts it.
func certificate(t *testing.T, dir, name string) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for f, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(f, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return certFile, keyFile, pool
}

func hello() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
}

func TestServePlaintextStaysOnLoopback(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		err := Serve(t.Context(), ServeOptions{Addr: addr, Handler: hello(), Log: quietLog()})
		if err == nil || !strings.Contains(err.Error(), "without TLS only a loopback address") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	addr, end, done := listening(t, ServeOptions{Addr: "localhost:0", Handler: hello()})
	resp, err := http.Get("http://" + addr) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	end()
	if err := <-done; err != nil {
		t.Errorf("clean end: %v", err)
	}
}

func TestServePortInUse(t *testing.T) {
	addr, _, _ := listening(t, ServeOptions{Handler: hello()})
	err := Serve(t.Context(), ServeOptions{Addr: addr, Handler: hello(), Log: quietLog()})
	if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "free the port") {
		t.Errorf("error %v", err)
	}
}

func TestServeTLS13Only(t *testing.T) {
	cert, key, pool := certificate(t, t.TempDir(), "one")
	addr, _, _ := listening(t, ServeOptions{Addr: "0.0.0.0:0", Handler: hello(), CertFile: cert, KeyFile: key})
	_, port, _ := net.SplitHostPort(addr)
	addr = "127.0.0.1:" + port
	old := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
	if c, err := tls.Dial("tcp", addr, old); err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 was taken")
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	state := c.ConnectionState()
	_ = c.Close()
	if state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("version %x, curve %v", state.Version, state.CurveID)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	resp, err := client.Get("https://" + addr) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "HTTP/2.0" {
		t.Errorf("protocol %s", b)
	}
	plain, err := http.Get("http://" + addr) //nolint:noctx // a test
	if err == nil {
		defer plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("plain http on a TLS port: status %d", plain.StatusCode)
		}
	}
}

func TestServeCertificateIsRenewedWithoutARestart(t *testing.T) {
	dir := t.TempDir()
	cert, key, first := certificate(t, dir, "first")
	addr, _, _ := listening(t, ServeOptions{Handler: hello(), CertFile: cert, KeyFile: key})
	name := func(pool *x509.CertPool) string {
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := name(first); got != "first" {
		t.Fatal(got)
	}
	later := time.Now().Add(time.Minute)
	if err := os.WriteFile(cert, []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(cert, later, later); err != nil {
		t.Fatal(err)
	}
	if got := name(first); got != "first" {
		t.Errorf("with a bad new file: %s, want the old certificate", got)
	}
	_, _, second := certificate(t, dir, "second")
	if got := name(second); got != "second" {
		t.Errorf("renewed: %s", got)
	}
}

func TestServeRefusesBadCertificates(t *testing.T) {
	dir := t.TempDir()
	cert, key, _ := certificate(t, dir, "one")
	run := func(c, k string) error {
		return Serve(t.Context(), ServeOptions{Addr: "127.0.0.1:0", Handler: hello(), CertFile: c, KeyFile: k, Log: quietLog()})
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ cert, key, want string }{
		{cert, "", "together"}, {"", key, "together"}, {cert, filepath.Join(dir, "none"), "none"}, {cert, key, "chmod 600"},
	} {
		if err := run(c.cert, c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(key, key); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("a key as certificate: %v", err)
	}
}

func TestServeDrains(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-release
		if err := r.Context().Err(); err != nil {
			t.Errorf("a running request was cancelled by the end of the server: %v", err)
		}
		_, _ = io.WriteString(w, "done")
	})
	addr, end, done := listening(t, ServeOptions{Handler: h, Drain: time.Minute})
	body := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + addr) //nolint:noctx // a test
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		body <- string(b)
	}()
	<-begun
	end()
	close(release)
	if got := <-body; got != "done" {
		t.Errorf("the running request got %q", got)
	}
	if err := <-done; err != nil {
		t.Errorf("drain: %v", err)
	}
}

func TestServeDrainHasADeadline(t *testing.T) {
	begun := make(chan struct{})
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done() // ends when the connection is cut
	})
	addr, end, done := listening(t, ServeOptions{Handler: h, Drain: 10 * time.Millisecond})
	go func() {
		if resp, err := http.Get("http://" + addr); err == nil { //nolint:noctx // a test
			_ = resp.Body.Close()
		}
	}()
	<-begun
	end()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "still running") {
		t.Errorf("drain: %v", err)
	}
}

// The real server in front of the real handler: a body that ends before its
// announced length takes nothing in, and a header that is too long is refused.
func TestServeCutShortBody(t *testing.T) {
	r := newRig(t, Limits{})
	addr, _, _ := listening(t, ServeOptions{Handler: r.handler})
	for _, c := range []struct{ header, body, want string }{
		{"Content-Length: 500\r\n", `{"event":{"id":"a"}}`, "400"},
		{"Transfer-Encoding: chunked\r\n", "15\r\n{\"event\":{\"id\":\"a-1\"}}\r\n", "400"},
		{"X-Long: " + strings.Repeat("x", 64<<10) + "\r\nContent-Length: 2\r\n", "{}", "431"},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			fmt.Fprintf(conn, "POST /v1/events?stream=audit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-ndjson\r\n%s\r\n%s",
				r.token("ingest", "acme"), c.header, c.body)
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(resp.StatusCode); got != c.want {
			t.Errorf("%.30s: status %s, want %s", c.header, got, c.want)
		}
		_ = resp.Body.Close()
		_ = conn.Close()
	}
	if len(r.ingest.got) != 0 {
		t.Errorf("events of a body that was cut short were taken: %v", r.ingest.got)
	}
}
