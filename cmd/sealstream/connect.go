package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/sealstream/sealstream/internal/secrets"
	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/producers"
)

// kafka turns the configuration into what clients need. Files are read once here, so
// that a wrong path is named at the start; passwords again for each connection.
func (cfg *Config) kafka() (stream.Config, error) {
	k := cfg.Kafka
	if err := cfg.needKafka(); err != nil {
		return stream.Config{}, err
	}
	sc := stream.Config{Brokers: k.Brokers, Prefix: k.Prefix, ClientID: k.ClientID}
	if k.TLS.Enabled {
		t, err := clientTLS("kafka.tls", k.TLS)
		if err != nil {
			return stream.Config{}, err
		}
		sc.TLS = t
	}
	if k.SASL.Mechanism != "" {
		if _, err := secrets.ReadText(k.SASL.PasswordFile); err != nil {
			return stream.Config{}, fmt.Errorf("kafka.sasl.password_file: %w", err)
		}
		sc.SASL = mechanism(k.SASL)
	}
	return sc, nil
}

// errPasswordFile means that a running client could not read its password again.
var errPasswordFile = errors.New("kafka.sasl.password_file")

func mechanism(c SASLConfig) sasl.Mechanism {
	password := func() (string, error) {
		p, err := secrets.ReadText(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errPasswordFile, err)
		}
		return p.Reveal(), nil
	}
	if c.Mechanism == "PLAIN" {
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			p, err := password()
			return plain.Auth{User: c.User, Pass: p}, err
		})
	}
	auth := func(context.Context) (scram.Auth, error) {
		p, err := password()
		return scram.Auth{User: c.User, Pass: p}, err
	}
	if c.Mechanism == "SCRAM-SHA-256" {
		return scram.Sha256(auth)
	}
	return scram.Sha512(auth)
}

// clientTLS is TLS towards a server; at names the section in errors.
func clientTLS(at string, c TLSConfig) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: c.ServerName}
	if c.MinVersion == "1.2" {
		t.MinVersion = tls.VersionTLS12
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%s.ca_file: %w", at, err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s.ca_file %s holds no PEM certificate", at, c.CAFile)
		}
	}
	if c.CertFile != "" {
		key, err := secrets.ReadText(c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%s.key_file: %w", at, err)
		}
		pem, err := os.ReadFile(c.CertFile)
		if err != nil {
			return nil, fmt.Errorf("%s.cert_file: %w", at, err)
		}
		pair, err := tls.X509KeyPair(pem, key.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s: certificate and key do not go together: %w", at, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// producer makes the one Go producer for the configured topics.
func (cfg *Config) producer(sc stream.Config, barrier func(context.Context) error, reg prometheus.Registerer) (*producers.Producer, error) {
	return producers.New(producers.Options{
		MaxMessageBytes: cfg.limits(), DeliveryTimeout: cfg.Producer.DeliveryTimeout, Barrier: barrier, Registerer: reg,
	}, sc.Opts()...)
}

// keyer reads the pseudonym key.
func (cfg *Config) keyer() (*producers.Keyer, error) {
	if cfg.Producer.PseudonymKeyFile == "" {
		return nil, errors.New("producer.pseudonym_key_file is not set: actors must not appear in clear in record keys")
	}
	key, err := secrets.ReadKey(cfg.Producer.PseudonymKeyFile, producers.PseudonymKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("producer.pseudonym_key_file: %w", err)
	}
	return producers.NewKeyer(key.Bytes())
}
