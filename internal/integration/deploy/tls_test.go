//go:build integration

package deploy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
)

// TestClientCertificates: brokers that ask for a certificate get ours, and who has none
// is told what to set. Wrong ports and authorities are named too, by real brokers; and
// that these brokers keep no ACLs, which lets anybody write anything.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	bed := testbed.ForTest(t)
	dir, err := bed.MakeDir("certificates")
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return dir + "/" + name }
	clientCertificate(t, path)
	k, err := bed.Kafka(t.Context(), testbed.KafkaOptions{Nodes: 1, Config: map[string]string{
		"listener.name.sasl_ssl.ssl.client.auth": "required", "ssl.truststore.type": "PEM", "ssl.truststore.location": path("authority.pem"),
		"authorizer.class.name": "",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("password"), []byte(k.Password), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := bed.Bare(t.Context(), testbed.GivenOptions{Binary: testbed.Shared(t).Binary, Kafka: k.Brokers, Prefix: "certificates."})
	if err != nil {
		t.Fatal(err)
	}
	sasl := fmt.Sprintf("  sasl: {mechanism: SCRAM-SHA-512, user: %s, password_file: %s}", k.User, path("password"))
	with := func(more string) string { return "  tls: {enabled: true, ca_file: " + k.CAFile + more + "}" }
	pair := ", cert_file: " + path("client.pem") + ", key_file: " + path("client.key")
	for _, c := range []struct {
		name, broker, tls, sasl, want string
		exit                          int
	}{
		{"with a certificate", k.SASLBrokers[0], with(pair), sasl, "0 problems", 0},
		{"without", k.SASLBrokers[0], with(""), sasl, "kafka.tls.cert_file", 2},
		{"another authority", k.SASLBrokers[0], "  tls: {enabled: true, ca_file: " + path("authority.pem") + pair + "}", sasl, "signed by nobody in kafka.tls.ca_file", 2},
		{"another name", k.SASLBrokers[0], with(pair + ", server_name: elsewhere.example"), sasl, "set kafka.tls.server_name", 2},
		{"no user", k.SASLBrokers[0], with(pair), "", "kafka.sasl.mechanism", 2},
		{"no TLS", k.SASLBrokers[0], "", sasl, "kafka.tls.enabled", 2},
		{"TLS at a port without", k.Brokers[0], with(pair), "", "kafka.tls.enabled", 2},
	} {
		as, err := g.As(strings.ReplaceAll(c.name, " ", "-"), []string{fmt.Sprintf("  brokers: [%q]", c.broker), `  prefix: "certificates."`, c.tls, c.sasl})
		if err != nil {
			t.Fatal(err)
		}
		r, err := as.Run(t.Context(), "topics", "create", "--timeout", "8s")
		if err != nil {
			t.Fatal(err)
		}
		if r.Exit != c.exit || !strings.Contains(r.Stdout+r.Stderr, c.want) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s%s", c.name, r.Exit, c.exit, c.want, r.Stdout, r.Stderr)
		}
	}
	r, err := g.Run(t.Context(), "topics", "check")
	if err != nil {
		t.Fatal(err)
	}
	if r.Exit != 1 || !strings.Contains(r.Stdout, "the brokers have no authorizer") {
		t.Errorf("topics check without an authorizer: exit code %d:\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	seal, err := g.Role("seal", "1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := seal.WaitLog(ctx, "kind=no_authorizer"); err != nil {
		t.Error(err)
	}
}

// clientCertificate makes an authority and a certificate that it signed for a client.
func clientCertificate(t *testing.T, path func(string) string) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients' authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "operator"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"authority.pem": {Type: "CERTIFICATE", Bytes: caDER}, "client.pem": {Type: "CERTIFICATE", Bytes: der}, "client.key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path(name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
