//go:build integration

package operate

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
)

// longestGap bounds how long nothing may be sealed while one broker after the other is
// restarted in order. It was 2.4 s on two cores with little else to do, 6.5 s when busy.
const longestGap = 15 * time.Second

// A rolling restart of a cluster loses nothing, needs nobody, and leaves no alarm.
func TestRollingRestart(t *testing.T) {
	bed := testbed.ForTest(t)
	k, err := bed.Kafka(t.Context(), testbed.KafkaOptions{Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, bed, k.Brokers, "rolling", 3)
	seal, sink := s.start()
	s.produce("audit.events", 0, 10)
	s.clean(s.settled(15))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var fed int
	var gap time.Duration
	wg.Go(func() { fed = s.feed(ctx, 3) })
	wg.Go(func() { gap = s.watch(ctx, 3) })
	for id := 1; id <= 3; id++ {
		if err := k.Terminate(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := k.Start(id); err != nil {
			t.Fatal(err)
		}
		if err := k.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.inSync(3)
	}
	stop()
	wg.Wait()
	s.clean(s.settled(15 + fed))
	s.stop(seal, sink)
	if left := append(standing(seal), standing(sink)...); len(left) > 0 {
		t.Errorf("alarms left standing: %v", left)
	}
	t.Logf("%d events; longest time without a sealed record: %v", fed, gap.Round(10*time.Millisecond))
	if gap > longestGap {
		t.Errorf("nothing was sealed for %v", gap)
	}
}

// feed produces one event after the other, round the partitions, until ctx ends, and
// returns how many were acknowledged. None is given up.
func (s *site) feed(ctx context.Context, partitions int) (n int) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		s.t.Error(err)
		return 0
	}
	defer cl.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		r := &kgo.Record{Topic: s.topic("audit.events"), Partition: int32(n % partitions), Value: fmt.Appendf(nil, `{"n":%d}`, n)}
		if err := cl.ProduceSync(context.WithoutCancel(ctx), r).FirstErr(); err != nil {
			s.t.Errorf("produce: %v", err)
			return n
		}
		n++
		<-tick.C
	}
	return n
}

// watch reads what is sealed until ctx ends, and returns the longest time in which a
// partition got nothing.
func (s *site) watch(ctx context.Context, partitions int) (longest time.Duration) {
	topic := s.topic("audit.events.sealed")
	from := map[int32]kgo.Offset{}
	seen := map[int32]time.Time{}
	for p := range int32(partitions) {
		from[p], seen[p] = kgo.NewOffset().AtEnd(), time.Now()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		s.t.Error(err)
		return 0
	}
	defer cl.Close()
	for ctx.Err() == nil {
		fs := cl.PollFetches(ctx)
		now := time.Now()
		fs.EachRecord(func(r *kgo.Record) {
			longest = max(longest, now.Sub(seen[r.Partition]))
			seen[r.Partition] = now
		})
	}
	return longest
}

// inSync waits until every partition of the source and its sealed topic has all replicas,
// as one does before the next broker is restarted.
func (s *site) inSync(replicas int) {
	s.t.Helper()
	s.until("all replicas are in sync", func() (bool, string) {
		ts, err := s.adm.ListTopicsWithInternal(s.t.Context())
		if err != nil {
			return false, err.Error()
		}
		for _, td := range ts {
			for _, p := range td.Partitions {
				if len(p.ISR) < replicas {
					return false, fmt.Sprintf("%s/%d has %v", td.Topic, p.Partition, p.ISR)
				}
			}
		}
		return true, ""
	})
}
