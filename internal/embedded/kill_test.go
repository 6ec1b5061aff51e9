package embedded

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// kills is how often each test below kills its broker.
const kills = 6

func quickRetries() kgo.Opt {
	return kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond })
}

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Everything that was acknowledged is there once after any number of kills,
// and a retry over a kill doubles nothing (I8).
func TestKilledBrokerLosesNothingAcknowledged(t *testing.T) {
	rnd := seeded(t)
	dir := t.TempDir()
	c := startChild(t, dir)
	cluster := c.Cluster
	boots := map[string]bool{c.Boot: true}
	const topic = "audit.events"
	first := newClient(t, c.Addrs)
	createTopic(t, first, topic, 4)
	first.Close()

	// One producer lives through all the kills.
	cl := newClient(t, c.Addrs, quickRetries(), kgo.MetadataMinAge(20*time.Millisecond), kgo.DefaultProduceTopic(topic),
		kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	var acked sync.Map
	var ackedN, sent atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			v := fmt.Sprintf("v%d", i)
			sent.Add(1)
			cl.Produce(ctx, &kgo.Record{Value: []byte(v)}, func(r *kgo.Record, err error) {
				if err == nil {
					acked.Store(string(r.Value), true)
					ackedN.Add(1)
				}
			})
			if i%100 == 99 { // several batches in flight, without running ahead for ever
				if err := cl.Flush(ctx); err != nil {
					return
				}
			}
		}
	})
	defer wg.Wait()
	defer cancel()

	committed := map[string]int64{}
	for k := range kills {
		admin := newClient(t, c.Addrs, quickRetries())
		adm := kadm.NewClient(admin)
		extra := fmt.Sprintf("extra.%d", k)
		never := "-1"
		if _, err := adm.CreateTopic(t.Context(), 1, -1, map[string]*string{"retention.ms": &never}, extra); err != nil {
			t.Fatal(err)
		}
		group := fmt.Sprintf("g%d", k%2)
		var offs kadm.Offsets
		offs.AddOffset(extra, 0, int64(k), -1)
		if err := adm.CommitAllOffsets(t.Context(), group, offs); err != nil {
			t.Fatal(err)
		}
		committed[group+" "+extra] = int64(k)
		admin.Close()
		enough := ackedN.Load() + 100 + rnd.Int64N(900)
		eventually(t, "acknowledgements", func() bool { return ackedN.Load() >= enough })
		c.kill(t)
		c = startChild(t, dir)
		if c.Cluster != cluster {
			t.Fatalf("kill %d: cluster id %s, want %s", k, c.Cluster, cluster)
		}
		if boots[c.Boot] {
			t.Fatalf("kill %d: boot %s was there before", k, c.Boot)
		}
		boots[c.Boot] = true
	}
	if got := bootOf(t, c.Addrs); got != c.Boot {
		t.Fatalf("boot after kills is described as %q, want %q", got, c.Boot)
	}
	cancel()
	wg.Wait()
	cl.Close()

	times := map[string]int{}
	for _, v := range readAll(t, c.Addrs, topic) {
		times[v]++
	}
	lost, doubled := 0, 0
	acked.Range(func(v, _ any) bool {
		if times[v.(string)] == 0 {
			lost++
		}
		return true
	})
	for _, n := range times {
		doubled += n - 1
	}
	t.Logf("%d kills: %d sent, %d acknowledged, %d read, %d lost, %d doubled", kills, sent.Load(), ackedN.Load(), len(times), lost, doubled)
	if lost > 0 || doubled > 0 {
		t.Errorf("%d acknowledged records lost, %d doubled", lost, doubled)
	}
	adm := kadm.NewClient(newClient(t, c.Addrs))
	for key, want := range committed {
		group, extra, _ := strings.Cut(key, " ")
		offs, err := adm.FetchOffsets(t.Context(), group)
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := offs.Lookup(extra, 0); !ok || o.At != want {
			t.Errorf("group %s at %s: %+v, want %d", group, extra, o, want)
		}
	}
}

// ledgerOfTxns is what a test knows about the transactions it made.
type ledgerOfTxns struct {
	committed map[string]bool // EndTxn was answered: must be there, once
	open      map[string]bool // commit was asked for and not answered: may be there, once
}

// A read_committed reader sees every record of committed transactions once and
// none of any other, whatever was killed when. With the transactional id per
// boot, as the seal has it, and with one that stays, as other clients may.
func TestKilledBrokerKeepsTransactionsWhole(t *testing.T) {
	for _, stable := range []bool{false, true} {
		t.Run(fmt.Sprintf("stable id %v", stable), func(t *testing.T) {
			rnd := seeded(t)
			dir := t.TempDir()
			c := startChild(t, dir)
			cl := newClient(t, c.Addrs)
			createTopic(t, cl, "out", 3)
			cl.Close()
			known := &ledgerOfTxns{committed: map[string]bool{}, open: map[string]bool{}}
			inside := 0
			for k := range kills {
				id := "seal-" + c.Boot
				if stable {
					id = "seal"
				}
				cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs...), kgo.TransactionalID(id), quickRetries(),
					kgo.DefaultProduceTopic("out"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.ProducerLinger(0))
				if err != nil {
					t.Fatal(err)
				}
				after := 3 + rnd.IntN(10)
				for n := range after {
					prefix := fmt.Sprintf("k%d.t%d", k, n)
					last := n == after-1
					if transact(t, cl, prefix, rnd, known, last, func() { c.kill(t) }) {
						inside++
					}
				}
				cl.Close()
				killStarts(t, dir, rnd)
				c = startChild(t, dir)
				checkTxns(t, c.Addrs, known, k)
			}
			if inside < kills {
				t.Errorf("%d of %d kills hit a transaction", inside, kills)
			}
			// And once more through a clean stop.
			if err := c.stop(); err != nil {
				t.Fatal(err)
			}
			c = startChild(t, dir)
			checkTxns(t, c.Addrs, known, kills)
			t.Logf("%d records committed, %d left open, %d kills", len(known.committed), len(known.open), kills)
		})
	}
}

// killStarts kills a few starts at some point, most of them within the repair.
func killStarts(t *testing.T, dir string, rnd *rand.Rand) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(60))*time.Millisecond)
		cmd := exec.CommandContext(ctx, exe)
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		in, err := cmd.StdinPipe() // open, or the child would stop by itself
		if err != nil {
			t.Fatal(err)
		}
		_ = cmd.Run() // "signal: killed", or the context ended before the start
		in.Close()
		cancel()
	}
}

// transact makes one transaction. With kill it is killed somewhere in it, and
// the answer is whether records of it had been taken by then.
func transact(t *testing.T, cl *kgo.Client, prefix string, rnd *rand.Rand, known *ledgerOfTxns, kill bool, doKill func()) bool {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var values []string
	var taken atomic.Int64
	for i := range 10 + rnd.IntN(60) {
		v := fmt.Sprintf("%s.%d", prefix, i)
		values = append(values, v)
		cl.Produce(ctx, &kgo.Record{Value: []byte(v)}, func(_ *kgo.Record, err error) {
			if err == nil {
				taken.Add(1)
			}
		})
	}
	commit := rnd.IntN(4) > 0
	switch {
	case kill && rnd.IntN(2) == 0: // within the transaction
		eventually(t, "a record of the transaction", func() bool { return taken.Load() > 0 })
		doKill()
		cancel() // nobody is there to end it
		return true
	case kill: // around its end
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			known.open[v] = commit
		}
		done := make(chan error, 1)
		go func() { done <- cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)) }()
		for range rnd.IntN(2000) { // some time, too short for a clock
			_ = taken.Load()
		}
		doKill()
		cancel()
		<-done
		if !commit {
			for _, v := range values {
				delete(known.open, v)
			}
		}
		return true
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		t.Fatal(err)
	}
	if commit {
		for _, v := range values {
			known.committed[v] = true
		}
	}
	return false
}

func checkTxns(t *testing.T, addrs []string, known *ledgerOfTxns, k int) {
	t.Helper()
	seen := map[string]int{}
	for _, v := range readAll(t, addrs, "out") {
		seen[v]++
	}
	for v, n := range seen {
		if n > 1 {
			t.Fatalf("after kill %d: %s is there %d times", k, v, n)
		}
		if !known.committed[v] && !known.open[v] {
			t.Fatalf("after kill %d: %s was never committed and is there", k, v)
		}
	}
	for v := range known.committed {
		if seen[v] == 0 {
			t.Fatalf("after kill %d: %s was committed and is gone", k, v)
		}
	}
}

// A client that lived through the kill must not be told that what is left of its
// transaction was committed: not at once, not after it sent more, and not when
// it speaks the older protocol, in which the epoch stays the same from one
// transaction to the next.
func TestKilledBrokerFencesOpenTransactions(t *testing.T) {
	for _, old := range []bool{false, true} {
		for _, more := range []bool{false, true} {
			t.Run(fmt.Sprintf("old %v, more %v", old, more), func(t *testing.T) {
				dir := t.TempDir()
				c := startChild(t, dir)
				admin := newClient(t, c.Addrs)
				createTopic(t, admin, "out", 1)
				admin.Close()
				opts := []kgo.Opt{kgo.TransactionalID("outbox"), quickRetries(), kgo.MetadataMinAge(20 * time.Millisecond), kgo.DefaultProduceTopic("out")}
				if old {
					opts = append(opts, kgo.MaxVersions(kversion.V2_8_0()))
				}
				cl := newClient(t, c.Addrs, opts...)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				send := func(v string) error { return cl.ProduceSync(ctx, &kgo.Record{Value: []byte(v)}).FirstErr() }
				if err := errors.Join(cl.BeginTransaction(), send("first"), cl.EndTransaction(ctx, kgo.TryCommit)); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(cl.BeginTransaction(), send("second")); err != nil {
					t.Fatal(err)
				}
				c.kill(t)
				c = startChild(t, dir)
				var err error
				if more {
					err = send("third")
				}
				err = errors.Join(err, cl.EndTransaction(ctx, kgo.TryCommit))
				if err == nil {
					t.Error("the commit of a transaction that the crash ended was answered with success")
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the client was not answered at all: %v", err)
				}
				if got := readAll(t, c.Addrs, "out"); fmt.Sprint(got) != "[first]" {
					t.Errorf("read %v, want only the first", got)
				}
			})
		}
	}
}
