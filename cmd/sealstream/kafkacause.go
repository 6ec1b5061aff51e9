package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/stream"
)

// kafkaCause puts before an error what to mend, where the brokers refuse us or we them.
// A client that tries again until its time is over reports the time, so a single attempt
// asks for the cause.
func kafkaCause(ctx context.Context, sc stream.Config, k *KafkaConfig, err error) error {
	if hint := kafkaHint(k, err); hint != "" {
		return &refusedError{hint, err}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	perr := stream.Probe(ctx, sc)
	if hint := kafkaHint(k, perr); hint != "" {
		return &refusedError{hint, perr}
	}
	if perr != nil && errors.Is(err, context.DeadlineExceeded) {
		return perr // why the time ran out
	}
	return err
}

// atBrokers names the setting behind an error of the connection; what the brokers answer
// is not about it.
func (cfg *Config) atBrokers(err error) error {
	if _, answered := errors.AsType[*kerr.Error](err); err == nil || answered {
		return err
	}
	return fmt.Errorf("kafka.brokers %s: %w", strings.Join(cfg.Kafka.Brokers, ","), err)
}

// refusedError is a connection that waiting does not mend.
type refusedError struct {
	hint string
	err  error
}

func (e *refusedError) Error() string { return e.hint + ": " + e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// kafkaHint names the setting behind an error of the client, "" when none is.
func kafkaHint(k *KafkaConfig, err error) string {
	if err == nil {
		return ""
	}
	if hint := tlsHint(k, err); hint != "" {
		return hint
	}
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return fmt.Sprintf("the brokers refuse kafka.sasl.user %s or its password: put the right password into kafka.sasl.password_file %s, which is read again for each connection, or make the user on the brokers for %s",
			k.SASL.User, k.SASL.PasswordFile, k.SASL.Mechanism)
	case errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		return fmt.Sprintf("the brokers do not offer kafka.sasl.mechanism %q at this port", k.SASL.Mechanism)
	case errors.Is(err, errPasswordFile):
		return fmt.Sprintf("kafka.sasl.user %s cannot log in", k.SASL.User)
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed),
		errors.Is(err, kerr.TransactionalIDAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		who := "this client"
		if k.SASL.User != "" {
			who = "kafka.sasl.user " + k.SASL.User
		}
		return fmt.Sprintf("the ACLs of the brokers do not let %s do this: sealstream topics --acls prints what each role needs", who)
	}
	if _, ok := errors.AsType[*kgo.ErrFirstReadEOF](err); ok {
		return fmt.Sprintf("the brokers end the connection at once: does the port want TLS (kafka.tls.enabled is %v) or a user (kafka.sasl.mechanism is %q)?", k.TLS.Enabled, k.SASL.Mechanism)
	}
	// The client takes the first bytes of a TLS alert for a length, and says so in words only.
	if !k.TLS.Enabled && strings.Contains(err.Error(), "tls alert record") {
		return "the brokers' port speaks TLS: set kafka.tls.enabled to true"
	}
	return ""
}

// tlsHint is kafkaHint for what TLS says.
func tlsHint(k *KafkaConfig, err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if k.TLS.CAFile == "" {
			return "the brokers' certificate is signed by nobody this system trusts: name the authority's file in kafka.tls.ca_file"
		}
		return fmt.Sprintf("the brokers' certificate is signed by nobody in kafka.tls.ca_file %s", k.TLS.CAFile)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("the brokers' certificate is for other names: set kafka.tls.server_name (now %q) to one of them, or use the name in kafka.brokers and the brokers' advertised.listeners", k.TLS.ServerName)
	}
	if inv, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if inv.Reason == x509.Expired {
			return "the brokers' certificate has expired or is not valid yet: renew it on the brokers, and look at this machine's clock; neither kafka.tls.ca_file nor kafka.tls.server_name mends it"
		}
		return "the brokers' certificate is not one for servers: look at kafka.tls.ca_file and at how it was signed"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the brokers' port speaks no TLS: use the port of the TLS listener, or set kafka.tls.enabled to false"
	}
	op, ok := errors.AsType[*net.OpError](err)
	if ok && (op.Op == "remote error" || op.Op == "local error") && op.Err != nil {
		switch text := op.Err.Error(); {
		case strings.Contains(text, "protocol version"):
			return fmt.Sprintf("the brokers speak no TLS of kafka.tls.min_version (%s): let them speak TLS 1.3, or set it to \"1.2\"", k.TLS.minVersion())
		case op.Op == "remote error":
			return fmt.Sprintf("the brokers refuse our side of TLS: look at kafka.tls.cert_file (now %q), which they may ask for", k.TLS.CertFile)
		}
	}
	if strings.Contains(err.Error(), "tls: server selected unsupported protocol version") {
		return fmt.Sprintf("the brokers speak no TLS of kafka.tls.min_version (%s): let them speak TLS 1.3, or set it to \"1.2\"", k.TLS.minVersion())
	}
	return ""
}

func (c *TLSConfig) minVersion() string {
	if c.MinVersion == "" {
		return "1.3"
	}
	return c.MinVersion
}
