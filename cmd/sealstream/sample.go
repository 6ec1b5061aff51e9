package main

import (
	"context"
	"time"

	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/producers/generate"
)

// seedSample writes a few events of the hour before the first start, so that there is
// something to look at. A crash in between leaves some of them and writes all again:
// they are samples.
func seedSample(ctx context.Context, r *runtime, p *producers.Producer, k *producers.Keyer) error {
	sample, err := generate.Sample(time.Now(), k.Audit)
	if err != nil {
		return err
	}
	msgs := make([]producers.Message, 0, len(sample))
	for i := range sample {
		m := &sample[i]
		topic := r.named(m.Stream).Name
		if topic == "" {
			continue // not among the configured sources
		}
		msgs = append(msgs, producers.Message{Topic: topic, Key: m.Key, Value: m.Value, Headers: m.Headers})
	}
	for _, res := range p.Send(ctx, msgs) {
		if res.Err != nil {
			return res.Err
		}
	}
	return nil
}
