package stream

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Probe makes one connection to each configured broker until one answers, and tries
// nothing again: its error is the brokers' own word.
func Probe(ctx context.Context, c Config) error {
	cl, err := kgo.NewClient(append(c.Opts(), kgo.RequestRetries(0))...)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	for _, b := range cl.SeedBrokers() {
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{}
		if _, err = req.RequestWith(ctx, b); err == nil {
			return nil
		}
	}
	return fmt.Errorf("connect: %w", err)
}
