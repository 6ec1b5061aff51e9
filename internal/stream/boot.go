package stream

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// bootConfig is the broker configuration under which the embedded broker shows the
// ULID of its present start. Real Kafka has no such name.
const bootConfig = "sealstream.boot"

// errOtherBoot ends a session whose embedded broker is not the one it began with.
var errOtherBoot = errors.New("embedded broker was restarted: its transactions are gone, a new client is needed")

// Boot returns the boot of an embedded broker, "" for any other Kafka.
func Boot(ctx context.Context, cl *kgo.Client) (string, error) {
	adm := kadm.NewClient(cl)
	bs, err := adm.ListBrokers(ctx)
	if err != nil {
		return "", fmt.Errorf("list brokers: %w", err)
	}
	if len(bs) == 0 {
		return "", errors.New("list brokers: the cluster names none")
	}
	rs, err := adm.DescribeBrokerConfigs(ctx, bs[0].NodeID)
	if errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return "", nil // an authorizer that hides broker configurations belongs to real Kafka
	}
	if err != nil {
		return "", fmt.Errorf("describe broker %d: %w", bs[0].NodeID, err)
	}
	for _, r := range rs {
		if r.Err != nil {
			return "", nil // the same, said of the one broker
		}
		for _, c := range r.Configs {
			if c.Key == bootConfig {
				return c.MaybeValue(), nil
			}
		}
	}
	return "", nil
}

// bootDialer refuses connections to another boot than the one the session began
// with. The boot is read after the connection stands: a broker that still answers
// with our boot then was alive when it was made, so it is the one at its other end
// (one process at a time holds the ports). So no request of an old client, a commit
// above all, can reach a broker that has forgotten the transaction it belongs to.
func bootDialer(boot string, probe *kgo.Client, other func()) kgo.Opt {
	var d net.Dialer
	return kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, host)
		if err != nil {
			return nil, err
		}
		now, err := Boot(ctx, probe)
		if err == nil && now != boot {
			other()
			err = errOtherBoot
		}
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("check boot of %s: %w", host, err)
		}
		return conn, nil
	})
}
