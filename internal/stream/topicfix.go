package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/schemas"
)

// alterTopic is the command of Kafka's own tool that puts one setting right.
func alterTopic(t schemas.Topic, key string) string {
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics --entity-name %s --add-config %s=%s", t.Name, key, t.Config()[key])
}

// narrow names the sealed topics that have fewer partitions than their source. That
// refuses nobody's start: the partitions that are there go on.
func narrow(have kadm.TopicDetails, topics []schemas.Topic) (out []string) {
	for _, t := range topics {
		sealed, ok := have[t.Name]
		if src := have[t.Source]; t.Sealed() && ok && len(sealed.Partitions) < len(src.Partitions) {
			out = append(out, fmt.Sprintf("%s: has %d partitions and %s has %d: what is in the others is not sealed: run sealstream topics create",
				t.Name, len(sealed.Partitions), t.Source, len(src.Partitions)))
		}
	}
	return out
}

// awaitPartitions waits until every broker knows n partitions of a topic with a leader.
func awaitPartitions(ctx context.Context, cl *kgo.Client, topic string, n int) error {
	brokers, err := kadm.NewClient(cl).ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	for _, id := range brokers.NodeIDs() {
		for {
			have, _, err := metadata(ctx, cl.Broker(int(id)), topic)
			ready := 0
			for _, p := range have[topic].Partitions {
				if p.Err == nil {
					ready++
				}
			}
			if err == nil && ready >= n {
				break
			}
			if perr := pause(ctx, 20*time.Millisecond); perr != nil {
				return fmt.Errorf("wait until broker %d knows %d partitions of %s: %w", id, n, topic, errors.Join(err, perr))
			}
		}
	}
	return nil
}
