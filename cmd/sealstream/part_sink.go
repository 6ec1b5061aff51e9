package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// sinkName names the PostgreSQL sink in stored offsets, rejects, groups and alarms.
const sinkName = "postgres"

// sinkPart is what the PostgreSQL sink needs beside the runtime.
type sinkPart struct {
	cfg      PostgresConfig
	url      string                 // as sealstream_writer; holds a password, so it is never logged
	again    func() (string, error) // reads it anew
	resolver schemas.Resolver
	tenants  postgres.Tenants
}

// sinkRun is the running sink; state feeds /readyz.
type sinkRun struct {
	sink      *postgres.Sink
	deliverer *sinks.Deliverer
	rejects   *stream.Rejects
	options   stream.DeliveryOptions
}

// newSink opens the sink's parts. Nothing is connected yet: a database that is down
// at start is waited for by the delivery, like one that goes down later.
func newSink(ctx context.Context, r *runtime, p sinkPart) (*sinkRun, error) {
	sink, err := postgres.New(ctx, postgres.Options{URL: p.url, Again: p.again, Sink: sinkName, Codec: schemas.NewCodec(p.resolver),
		Tenants: p.tenants, Conns: p.cfg.Workers + 2, Log: r.log})
	if err != nil {
		return nil, err
	}
	rejects := r.named(schemas.TopicRejects)
	rej, err := stream.NewRejects(r.kafka, rejects.Name)
	if err != nil {
		sink.Close()
		return nil, err
	}
	stage := "sink-" + sinkName
	deliverer := sinks.NewDeliverer(sink, rej, sinks.DeliverOptions{Sink: sinkName, Alarm: func(kind, detail string) {
		if detail == "" {
			r.alarms.Clear(stage, p.cfg.Slot, kind)
			return
		}
		if kind == sinks.AlarmConfig {
			detail += "; " + p.login()
		}
		r.alarms.Raise(stream.Alarm{Stage: stage, Key: p.cfg.Slot, Kind: kind, Detail: detail})
	}}, r.log, sinks.NewMetrics(r.registry))
	lag := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sealstream_sink_lag_records",
		Help: "Sealed records read behind the end of the topic, as of the last fetch."}, []string{"topic", "partition"})
	if err := r.registry.Register(lag); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return &sinkRun{sink: sink, deliverer: deliverer, rejects: rej, options: stream.DeliveryOptions{
		Kafka: r.kafka, Stage: stage, Slot: p.cfg.Slot, Topics: r.sealedTopics(), Sink: namedSink{sink, p.login()}, Deliver: deliverer.Deliver,
		Workers: p.cfg.Workers, BatchRecords: p.cfg.BatchRecords, BatchBytes: p.cfg.BatchBytes,
		Linger: p.cfg.Linger, QueueBytes: p.cfg.QueueBytes, Alarms: r.alarms, Lag: lag, Log: r.log,
	}}, nil
}

// login says where the sink's user and password are.
func (p *sinkPart) login() string {
	return fmt.Sprintf("if it is the login: sink_postgres.writer_url_file %s is read again for each connection", p.cfg.WriterURLFile)
}

// namedSink names the setting where the database refuses to say where to go on.
type namedSink struct {
	sinks.Sink
	login string
}

func (s namedSink) named(err error) error {
	if _, ok := errors.AsType[*sinks.ConfigError](err); ok {
		return fmt.Errorf("%w; %s", err, s.login)
	}
	return err
}

func (s namedSink) Bind(ctx context.Context, from sinks.Origin, topics map[string]ledger.TopicID) (map[string]string, error) {
	refused, err := s.Sink.Bind(ctx, from, topics)
	return refused, s.named(err)
}

func (s namedSink) Positions(ctx context.Context, ps []sinks.Partition) (map[sinks.Partition]int64, error) {
	at, err := s.Sink.Positions(ctx, ps)
	return at, s.named(err)
}

// run delivers until ctx ends.
func (s *sinkRun) run(ctx context.Context) error {
	defer s.sink.Close()
	defer s.rejects.Close()
	return stream.RunDelivery(ctx, s.options)
}
