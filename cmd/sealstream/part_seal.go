package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
	"github.com/sealstream/sealstream/processors/seal"
	"github.com/sealstream/sealstream/schemas"
)

// runtime is what every running part shares.
type runtime struct {
	kafka    stream.Config
	conf     *Config
	roles    []schemas.Role  // of this process, where it has ACLs of its own; none with up, which may do everything
	topics   []schemas.Topic // the whole table, prefix applied
	alarms   *stream.Alarms
	registry prometheus.Registerer
	log      *slog.Logger
}

// sources returns the source topics and their limits.
func (r *runtime) sources() (names []string, limits map[string]int32) {
	limits = map[string]int32{}
	for _, t := range r.topics {
		limits[t.Name] = t.MaxMessageBytes
		if t.Sealed() {
			names = append(names, t.Source)
		}
	}
	return names, limits
}

// sealedTopics returns the sealed topics.
func (r *runtime) sealedTopics() []string {
	var out []string
	for _, t := range r.topics {
		if t.Sealed() {
			out = append(out, t.Name)
		}
	}
	return out
}

// named returns the topic of the table with a base name.
func (r *runtime) named(base string) schemas.Topic {
	for _, t := range r.topics {
		if t.Base == base {
			return t
		}
	}
	return schemas.Topic{}
}

// sealPart is what the seal needs beside the runtime.
type sealPart struct {
	slot     string // stable identity of this member
	name     string // log name of the installation
	keys     *ledger.Keyring
	eventIDs bool
	interval time.Duration
	stall    time.Duration
}

// runSeal seals until ctx ends.
func runSeal(ctx context.Context, r *runtime, p sealPart) error {
	if len(r.roles) == 0 {
		go watchTopics(ctx, r)
	}
	pairs := map[string]string{}
	names, limits := r.sources()
	for _, s := range names {
		pairs[s] = schemas.SealedName(s)
	}
	return stream.RunFold(ctx, stream.FoldOptions{
		Kafka: r.kafka, Stage: "seal", Slot: p.slot, Pairs: pairs,
		Processor:    seal.New(seal.Options{Name: p.name, Keys: p.keys, EventIDs: p.eventIDs}),
		ControlTopic: r.named(schemas.TopicControl).Name, ParseOrder: processors.ParseOrder,
		MaxBatchBytes: func(topic string) int32 { return limits[topic] },
		Interval:      p.interval, StallAfter: p.stall,
		Alarms: r.alarms, Metrics: stream.NewFoldMetrics("seal", r.registry), Log: r.log,
	})
}
