package main

import (
	"context"
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
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/internal/stream"
)

// pairFor makes a self-signed certificate for a DNS name, valid until then.
func pairFor(t *testing.T, name string, until time.Time) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: until.Add(-time.Hour), NotAfter: until,
		DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestTLSErrorsNameTheSetting: whoever reads the error knows which line to change.
func TestTLSErrorsNameTheSetting(t *testing.T) {
	good, goodPEM := pairFor(t, "broker.example", time.Now().Add(time.Hour))
	late, latePEM := pairFor(t, "broker.example", time.Now().Add(-time.Minute))
	_, otherPEM := pairFor(t, "broker.example", time.Now().Add(time.Hour))
	dir := t.TempDir()
	write(t, dir, "good.pem", goodPEM)
	write(t, dir, "late.pem", latePEM)
	write(t, dir, "other.pem", otherPEM)
	for _, c := range []struct {
		name   string
		server *tls.Config
		client string
		want   string // empty: it works
	}{
		{"all fits", &tls.Config{Certificates: []tls.Certificate{good}}, "ca_file: good.pem, server_name: broker.example", ""},
		{"another authority", &tls.Config{Certificates: []tls.Certificate{good}}, "ca_file: other.pem, server_name: broker.example", "signed by nobody in kafka.tls.ca_file"},
		{"no authority", &tls.Config{Certificates: []tls.Certificate{good}}, "server_name: broker.example", "name the authority's file in kafka.tls.ca_file"},
		{"another name", &tls.Config{Certificates: []tls.Certificate{good}}, "ca_file: good.pem", "set kafka.tls.server_name"},
		{"expired", &tls.Config{Certificates: []tls.Certificate{late}}, "ca_file: late.pem, server_name: broker.example", "certificate has expired"},
		{"only TLS 1.2", &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}, "ca_file: good.pem, server_name: broker.example", "kafka.tls.min_version (1.3)"},
		{"TLS 1.2 allowed", &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}, `ca_file: good.pem, server_name: broker.example, min_version: "1.2"`, ""},
		{"a certificate is asked for", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}, "ca_file: good.pem, server_name: broker.example", "look at kafka.tls.cert_file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(c.server))
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			file := write(t, dir, "c.yaml", fmt.Sprintf("version: 1\nkafka:\n  brokers: [%q]\n  tls: {enabled: true, %s}\n", k.ListenAddrs()[0], c.client))
			r := sealstream(t, "topics", "create", "--config", file, "--timeout", "4s")
			if c.want == "" {
				r.want(t, exitDone, "7 created")
				return
			}
			r.want(t, exitNotDone, c.want)
		})
	}
}

func TestHints(t *testing.T) {
	k := &KafkaConfig{SASL: SASLConfig{User: "app", Mechanism: "SCRAM-SHA-512"}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""}, {errors.New("anything"), ""}, {context.DeadlineExceeded, ""}, {kerr.NotLeaderForPartition, ""},
		{fmt.Errorf("x: %w", kerr.SaslAuthenticationFailed), "kafka.sasl.user app"},
		{errors.New("the first three bytes received appear to be a tls alert record for TLS v1.2"), "kafka.tls.enabled"},
		{kerr.UnsupportedSaslMechanism, "SCRAM-SHA-512"},
		{kerr.GroupAuthorizationFailed, "topics --acls"}, {kerr.TransactionalIDAuthorizationFailed, "topics --acls"},
		{fmt.Errorf("%w: gone", errPasswordFile), "kafka.sasl.user app cannot log in"},
	} {
		if got := kafkaHint(k, c.err); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

// TestWritersWatch: what stands is a warning, and ends with its cause.
func TestWritersWatch(t *testing.T) {
	alarms := stream.NewAlarms(quiet(), nil)
	var found []stream.Intrusion
	var err error
	w := &writersWatch{alarms: alarms, log: quiet(), ask: func(context.Context) ([]stream.Intrusion, error) { return found, err }}
	look := func(want ...string) {
		t.Helper()
		w.look(t.Context())
		var got []string
		for _, a := range alarms.List() {
			if !a.Warning {
				t.Errorf("%s is no warning: it would stop the process from being used", a.Kind)
			}
			got = append(got, a.Kind+" "+a.Key)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("standing %v, want %v", got, want)
		}
	}
	intruder := func(topic string) stream.Intrusion {
		return stream.Intrusion{Guard: stream.Guard{Resource: kmsg.ACLResourceTypeTopic, Name: topic}, Grant: stream.Grant{Principal: "User:x", Name: topic}}
	}
	look()
	found = []stream.Intrusion{intruder("a.sealed"), intruder("a.sealed")}
	look("others_may_write a.sealed")
	err = errors.New("no answer")
	look("others_may_write a.sealed")
	err, found = nil, []stream.Intrusion{intruder("b.sealed")}
	look("others_may_write b.sealed")
	err = stream.ErrMayNotAsk
	look("others_may_write b.sealed") // it was seen, and nothing says that it is gone
	err = stream.ErrNoAuthorizer
	look("others_may_write b.sealed", "no_authorizer all")
	err, found = nil, nil
	look()
}
