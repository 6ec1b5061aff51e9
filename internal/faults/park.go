package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
)

// ground is what a case can be run on.
type ground string

const (
	anywhere ground = "anywhere"
	onUp     ground = "up"          // it breaks `up` or what is within
	onKafka  ground = "Kafka"       // it breaks Kafka, or the way to a server
	onThree  ground = "three nodes" // it needs a cluster that outlives a node
	onMortal ground = "one node"    // it kills the only broker
)

// mortalTxn is the transaction.version of brokers that are killed alone, unless the
// options say otherwise. Under version 2, as Kafka 4.3.1 has it, a broker that dies while
// a commit is written can leave a transaction that its coordinator takes for ended and
// its partitions for open: nobody ends it, and nothing behind it can be read
// (docs/runbook.md). That is no promise of ours that breaks, and no case can go on.
const mortalTxn = 1

// suits says whether a run with these options has such a ground.
func (g ground) suits(o *Options) bool {
	switch g {
	case onUp:
		return !o.Real && len(o.Kafka) == 0
	case onKafka, onThree, onMortal:
		return o.Real
	case anywhere:
	}
	return true
}

// nodes is how many nodes of a cluster of the run's own a case needs.
func (g ground) nodes(o *Options) int {
	switch {
	case !o.Real:
		return 0
	case g == onThree:
		return 3
	}
	return 1
}

// txn is the transaction.version of that cluster; 0 = as Kafka has it.
func (g ground) txn(o *Options) int {
	if g == onMortal {
		return o.mortalTxn()
	}
	return 0
}

func (o *Options) mortalTxn() int {
	if o.Txn > 0 {
		return o.Txn
	}
	return mortalTxn
}

// park keeps one cluster from case to case: a JVM takes seconds to start, and a broker
// that has seen many cases is more like one that users have.
type park struct {
	o     *Options
	bed   *testbed.Bed
	kafka *testbed.Kafka
	nodes int
	txn   int
}

// cluster returns a running cluster of so many nodes and such transactions. Another one
// is ended first: two cores do not carry both.
func (p *park) cluster(ctx context.Context, nodes, txn int) (*testbed.Kafka, error) {
	if p.kafka != nil && p.nodes == nodes && p.txn == txn {
		return p.kafka, p.kafka.Ready(ctx)
	}
	if err := p.close(false); err != nil {
		return nil, err
	}
	var err error
	if p.bed, err = testbed.New(p.o.TmpDir); err != nil {
		return nil, err
	}
	if p.kafka, err = p.bed.Kafka(ctx, testbed.KafkaOptions{Nodes: nodes, Proxied: true, Txn: txn}); err != nil {
		return nil, errors.Join(err, p.close(true))
	}
	p.nodes, p.txn = nodes, txn
	return p.kafka, nil
}

// tidy takes away what a case leaves. After one that failed nobody knows what state the
// cluster is in, so the next one gets another.
func (p *park) tidy(ctx context.Context, prefix string, passed bool) error {
	if !passed {
		return p.close(false)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.kafka.Brokers...))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("tidy the cluster: %w", err)
	}
	var ours []string
	for _, name := range topics.Names() {
		if prefix != "" && strings.HasPrefix(name, prefix) {
			ours = append(ours, name)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	if _, err := adm.DeleteTopics(ctx, ours...); err != nil {
		return fmt.Errorf("tidy the cluster: %w", err)
	}
	return nil
}

// copyLogs puts the brokers' logs beside those of a case that is looked at later.
func (p *park) copyLogs(dir string) error {
	if p.kafka == nil {
		return nil
	}
	var errs []error
	for id := 1; id <= p.nodes; id++ {
		raw, err := os.ReadFile(p.kafka.LogFile(id))
		errs = append(errs, err, os.WriteFile(filepath.Join(dir, fmt.Sprintf("broker-%d.log", id)), raw, 0o600))
	}
	return errors.Join(errs...)
}

func (p *park) close(keep bool) error {
	if p.bed == nil {
		return nil
	}
	bed := p.bed
	p.bed, p.kafka, p.nodes, p.txn = nil, nil, 0, 0
	return bed.Close(keep)
}
