package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/producers"
)

// gapTopic has one partition, so that each kill of its leader hits all records.
const gapTopic = "bench.gap"

// gapEvery is the time between two records, and so how exact a gap is.
const gapEvery = 5 * time.Millisecond

// gapWatch is how long acknowledgements are watched after a kill at least: more than the
// time until the cluster has noticed that a node is dead.
const gapWatch = 8 * time.Second

// acked notes when records were acknowledged.
type acked struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
	records int64
	err     error
}

func (a *acked) note(res producers.Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if res.Err != nil {
		a.err = res.Err
		return
	}
	now := time.Now()
	if !a.last.IsZero() {
		a.longest = max(a.longest, now.Sub(a.last))
	}
	a.last = now
	a.records++
}

// restart forgets the longest gap so far.
func (a *acked) restart() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.longest = 0
}

// gap is the longest one since, one that has not ended included.
func (a *acked) gap() (time.Duration, int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(a.longest, time.Since(a.last)), a.records, a.err
}

// gaps kills the leader again and again while our own producer writes with acks=all,
// and measures how long it goes without an acknowledgement.
func (r *realRunner) gaps(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.k.Brokers...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if resp, err := adm.CreateTopic(ctx, 1, -1, nil, gapTopic); err != nil || resp.Err != nil {
		return errors.Join(err, resp.Err)
	}
	if _, err := inSync(ctx, adm, len(r.k.Brokers)); err != nil {
		return err
	}
	p, err := producers.New(producers.Options{DeliveryTimeout: time.Minute}, kgo.SeedBrokers(r.k.Brokers...))
	if err != nil {
		return err
	}
	defer p.Close()
	var a acked
	pctx, stop := context.WithCancel(ctx)
	defer stop()
	sent := make(chan uint64, 1)
	go func() { sent <- send(pctx, p, &a) }()
	at := load()
	var found []string
	worst := time.Duration(0)
	for range r.o.Kills {
		gap, err := r.killLeader(ctx, adm, &a)
		if err != nil {
			return err
		}
		found, worst = append(found, fmt.Sprintf("%.1f", gap.Seconds())), max(worst, gap)
		r.say("leader killed: %.1f s without an acknowledgement", gap.Seconds())
	}
	stop()
	lost, doubled, err := missing(ctx, r.k.Brokers, <-sent)
	if err != nil {
		return err
	}
	_, n, _ := a.gap()
	r.add(Row{What: fmt.Sprintf("kill -9 of the leader, 3 nodes, acks=all, %d records/s: longest time without an acknowledgement, %d kills", time.Second/gapEvery, r.o.Kills),
		Rate: fmt.Sprintf("%s s; most %.1f s; of %s acknowledged records %d lost, %d doubled", strings.Join(found, ", "), worst.Seconds(), thousands(n), lost, doubled),
		Load: at, Command: "package producers; broker.session.timeout.ms=3000"})
	if lost+doubled > 0 {
		return fmt.Errorf("%d records lost, %d doubled under acks=all and an idempotent producer", lost, doubled)
	}
	return nil
}

// send writes numbered records until ctx ends and returns how many were acknowledged:
// the numbers have no gap, because nothing may fail.
func send(ctx context.Context, p *producers.Producer, a *acked) uint64 {
	t := time.NewTicker(gapEvery)
	defer t.Stop()
	var wg sync.WaitGroup
	n := uint64(0)
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			wg.Wait()
			return n
		}
		pending := p.Enqueue(ctx, []producers.Message{{Topic: gapTopic, Value: binary.BigEndian.AppendUint64(nil, n)}})
		n++
		wg.Go(func() {
			for _, res := range pending.Wait(context.WithoutCancel(ctx)) {
				a.note(res)
			}
		})
	}
}

// killLeader kills the leader, watches, and starts it again.
func (r *realRunner) killLeader(ctx context.Context, adm *kadm.Client, a *acked) (time.Duration, error) {
	leader, err := inSync(ctx, adm, len(r.k.Brokers))
	if err != nil {
		return 0, err
	}
	_, before, _ := a.gap()
	if err := wait(ctx, 500*time.Millisecond); err != nil {
		return 0, err
	}
	a.restart()
	if err := r.k.Kill(leader); err != nil {
		return 0, err
	}
	began := time.Now()
	err = testbed.Until(ctx, func() (bool, error) {
		gap, n, err := a.gap()
		if err != nil {
			return false, fmt.Errorf("a record was given up: %w", err)
		}
		return time.Since(began) > gapWatch && n > before && gap < time.Since(began), nil
	})
	gap, _, aerr := a.gap()
	if err = errors.Join(err, aerr); err != nil {
		return 0, err
	}
	if err := r.k.Start(leader); err != nil {
		return 0, err
	}
	return gap, r.k.Ready(ctx)
}

// inSync waits until all replicas are and returns the leader.
func inSync(ctx context.Context, adm *kadm.Client, replicas int) (leader int, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = testbed.Until(ctx, func() (bool, error) {
		topics, err := adm.ListTopics(ctx, gapTopic)
		if err != nil {
			return false, nil // a node is coming back
		}
		p := topics[gapTopic].Partitions[0]
		leader = int(p.Leader)
		return leader > 0 && len(p.ISR) == replicas, nil
	})
	if err != nil {
		return 0, fmt.Errorf("wait until %d replicas are in sync: %w", replicas, err)
	}
	return leader, nil
}

// missing reads the topic and counts which of the numbers below n are not in it once.
func missing(ctx context.Context, brokers []string, n uint64) (lost, doubled int, err error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(gapTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return 0, 0, err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, gapTopic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return 0, 0, err
	}
	end, _ := ends.Lookup(gapTopic, 0)
	seen := make([]int, n)
	for next := int64(0); next < end.Offset; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return 0, 0, err
		}
		fs.EachRecord(func(rec *kgo.Record) {
			next = rec.Offset + 1
			if i := binary.BigEndian.Uint64(rec.Value); i < n {
				seen[i]++
			}
		})
	}
	for _, times := range slices.All(seen) {
		if times == 0 {
			lost++
		}
		doubled += max(0, times-1)
	}
	return lost, doubled, nil
}
