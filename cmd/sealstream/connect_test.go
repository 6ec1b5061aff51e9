package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/sealstream/sealstream/schemas"
)

// certificate makes a self-signed one for 127.0.0.1.
func certificate(t *testing.T) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder})
}

// TestTLSAndSCRAM talks to a broker that wants both.
func TestTLSAndSCRAM(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}),
		kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "app", "hunter2-canary"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	write(t, dir, "ca.pem", string(cert))
	write(t, dir, "password", "hunter2-canary\n")
	yaml := `version: 1
kafka:
  brokers: ["%s"]
  tls: {enabled: true, ca_file: %s}
  sasl: {mechanism: SCRAM-SHA-256, user: app, password_file: %s}
`
	file := func(ca, password string) string {
		return write(t, dir, "c.yaml", fmt.Sprintf(yaml, c.ListenAddrs()[0], ca, password))
	}
	sealstream(t, "topics", "create", "--config", file("ca.pem", "password")).want(t, exitDone, "7 created")
	write(t, dir, "wrong", "other")
	for _, bad := range []struct{ ca, password, want string }{
		{"ca.pem", "wrong", "topics at"}, {"ca.pem", "none", "kafka.sasl.password_file"}, {"none.pem", "password", "kafka.tls.ca_file"},
		{"password", "password", "holds no PEM certificate"},
	} {
		r := sealstream(t, "topics", "check", "--config", file(bad.ca, bad.password), "--timeout", "3s")
		r.want(t, exitNotDone, bad.want)
		if strings.Contains(r.stderr, "canary") {
			t.Errorf("the password is printed: %s", r.stderr)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "password"), 0o644); err != nil {
		t.Fatal(err)
	}
	sealstream(t, "topics", "check", "--config", file("ca.pem", "password")).want(t, exitNotDone, "0644", "chmod 600")
}

func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t)
	_, other := certificate(t)
	c := TLSConfig{Enabled: true, CertFile: write(t, dir, "cert.pem", string(cert)), KeyFile: write(t, dir, "key.pem", string(key)), ServerName: "kafka"}
	got, err := clientTLS("kafka.tls", c)
	if err != nil || len(got.Certificates) != 1 || got.ServerName != "kafka" || got.MinVersion != tls.VersionTLS13 || got.InsecureSkipVerify {
		t.Errorf("%+v, %v", got, err)
	}
	c.KeyFile = write(t, dir, "other.pem", string(other))
	if _, err := clientTLS("kafka.tls", c); err == nil || !strings.Contains(err.Error(), "do not go together") {
		t.Errorf("another key: %v", err)
	}
}

// TestRegistryClient: what the registry does not have is final, what it cannot say now
// is not, and what it said is not asked again.
func TestRegistryClient(t *testing.T) {
	var asked atomic.Int32
	status := atomic.Int32{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if u, p, ok := r.BasicAuth(); !ok || u != "app" || p != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if s := int(status.Load()); s != 0 {
			w.WriteHeader(s)
			_, _ = w.Write([]byte(`{"error_code": 50001, "message": "no"}`))
			return
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/schemas/ids/1"):
			_, _ = w.Write([]byte(`{"schema": "\"string\""}`))
		case strings.HasSuffix(r.URL.Path, "/schemas/ids/2"):
			_, _ = w.Write([]byte(`{"schema": "{}", "schemaType": "JSON"}`))
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error_code": 40403, "message": "Schema not found"}`))
		}
	}))
	defer srv.Close()
	cfg := defaultConfig()
	if r, err := cfg.resolver(); r != nil || err != nil {
		t.Errorf("no registry: %v, %v", r, err)
	}
	cfg.Registry = RegistryConfig{URL: srv.URL, User: "app", PasswordFile: write(t, t.TempDir(), "p", "secret\n")}
	r, err := cfg.resolver()
	if err != nil {
		t.Fatal(err)
	}
	status.Store(http.StatusInternalServerError)
	if _, err := r.Schema(t.Context(), 1); err == nil || errors.Is(err, schemas.ErrUnknownSchema) {
		t.Errorf("a registry in trouble: %v", err)
	}
	status.Store(0)
	before := asked.Load()
	for range 3 {
		if s, err := r.Schema(t.Context(), 1); err != nil || s != `"string"` {
			t.Errorf("schema %q, %v", s, err)
		}
	}
	if n := asked.Load() - before; n != 1 {
		t.Errorf("asked %d times for one schema", n)
	}
	for _, id := range []uint32{2, 3, 4_000_000_000} {
		if _, err := r.Schema(t.Context(), id); !errors.Is(err, schemas.ErrUnknownSchema) {
			t.Errorf("schema %d: %v", id, err)
		}
	}
	srv.Close()
	if _, err := r.Schema(t.Context(), 9); err == nil || errors.Is(err, schemas.ErrUnknownSchema) {
		t.Errorf("a registry that is gone: %v", err)
	}
}

func TestPorts(t *testing.T) {
	ln, err := listenRegistry(t.Context(), 0, 0, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	if port < 20000 || port > 29999 {
		t.Errorf("port %d is in the range of outgoing connections", port)
	}
	if _, err := listenRegistry(t.Context(), port, 0, quiet()); err == nil || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Errorf("configured port in use: %v", err)
	}
	moved, err := listenRegistry(t.Context(), 0, port, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer moved.Close()
	if moved.Addr().(*net.TCPAddr).Port == port {
		t.Error("two listeners on one port")
	}
}
