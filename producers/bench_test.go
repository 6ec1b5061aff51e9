package producers_test

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/producers"
)

// BenchmarkSend writes 400-byte events, in batches of 1,000 with four under way, to
// an in-memory broker in this process; its work is in the figure too.
func BenchmarkSend(b *testing.B) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(12, topic))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	p, err := producers.New(producers.Options{}, kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	const size = 1000
	msgs := make([]producers.Message, size)
	for i := range msgs {
		msgs[i] = producers.Message{Topic: topic, Key: fmt.Appendf(nil, "k%d", i%50), Value: fmt.Appendf(nil, "%0400d", i)}
	}
	b.ReportAllocs()
	var under []*producers.Pending
	wait := func() {
		for _, r := range under[0].Wait(b.Context()) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		under = under[1:]
	}
	n := 0
	for b.Loop() {
		if n++; n%size != 0 {
			continue
		}
		if under = append(under, p.Enqueue(b.Context(), msgs)); len(under) == 4 {
			wait()
		}
	}
	for len(under) > 0 {
		wait()
	}
}
