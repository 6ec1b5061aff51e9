package stream

import (
	"crypto/tls"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
)

// Config says how to reach a Kafka cluster.
type Config struct {
	Brokers  []string // host:port, at least one
	TLS      *tls.Config
	SASL     sasl.Mechanism
	Prefix   string // before every topic, group and transactional id
	ClientID string
}

// Opts returns the connection options every client of the cluster shares.
func (c Config) Opts() []kgo.Opt {
	o := []kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.ClientID(c.ClientID)}
	if c.TLS != nil {
		o = append(o, kgo.DialTLSConfig(c.TLS))
	}
	if c.SASL != nil {
		o = append(o, kgo.SASL(c.SASL))
	}
	return o
}
