package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/time/rate"

	"github.com/sealstream/sealstream/internal/secrets"
	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/producers/generate"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// benchTopic is where a measurement writes unless it is told otherwise: no events of
// anybody's are in it.
const benchTopic = "bench.events"

// maxBenchEvents bounds what one measurement leaves behind for ever.
const maxBenchEvents = 1_000_000

type benchPath struct {
	target
	events     int
	rate       float64
	timeout    time.Duration
	source     string
	yes, json  bool
	sealedOnly bool
}

// benchReport is the outcome; its JSON form is part of what scripts rely on.
type benchReport struct {
	Topic    string       `json:"topic"`
	Events   int          `json:"events"`
	Rate     float64      `json:"rate"`
	Bytes    int64        `json:"bytes"` // of keys, values and headers
	Complete bool         `json:"complete"`
	Stages   []benchStage `json:"stages"`
}

// benchStage is one station of the path. Latencies count from the moment at which an
// event was due, so that a producer that cannot keep up shows.
type benchStage struct {
	Name   string  `json:"name"`
	Events int     `json:"events"`
	PerSec float64 `json:"events_per_second"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

func runBenchPath(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "bench-path --yes [--events N] [--rate R] [--source TOPIC] [--data DIR | --config FILE]", `
Measures your own installation: writes synthetic audit events and waits until each is
acknowledged, sealed and readable, and stored. Prints events per second, and the time
from when an event was due to each of these. What it writes stays: sealed topics and
rows are kept for ever. So it writes to `+benchTopic+`, which must be among the sources,
unless --source names another one, and only with --yes.
Exit code 2: not every event came through in time.`)
	var o benchPath
	o.flags(fs, e)
	fs.IntVar(&o.events, "events", 10_000, fmt.Sprintf("how `many` events, at most %d", maxBenchEvents))
	fs.Float64Var(&o.rate, "rate", 1000, "events per `second`")
	fs.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long to wait for the last event once all are written")
	fs.StringVar(&o.source, "source", benchTopic, "source `topic` without prefix")
	fs.BoolVar(&o.yes, "yes", false, "write the events")
	fs.BoolVar(&o.json, "json", false, "print one JSON document")
	fs.BoolVar(&o.sealedOnly, "sealed-only", false, "do not wait for the database")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if err := noArguments(fs, rest); err != nil {
		return err
	}
	switch {
	case o.events < 1 || o.events > maxBenchEvents:
		return fmt.Errorf("--events %d: want 1 to %d", o.events, maxBenchEvents)
	case !(o.rate > 0 && o.rate <= 1e6):
		return fmt.Errorf("--rate %g: want more than 0, at most 1000000", o.rate)
	}
	if err := positive("--timeout", o.timeout); err != nil {
		return err
	}
	cfg, err := o.load(e)
	if err != nil {
		return err
	}
	tuneMemory(e.getenv, toolGC, 0)
	return o.measure(ctx, e, cfg)
}

func (o *benchPath) measure(ctx context.Context, e *env, cfg *Config) error {
	topic, err := o.topic(cfg)
	if err != nil {
		return err
	}
	msgs, ids, size, err := o.make(cfg, topic)
	if err != nil {
		return err
	}
	stored := cfg.SinkPostgres.ReaderURLFile != "" && !o.sealedOnly
	said := e.stdout
	if o.json {
		said = e.stderr
	}
	what := fmt.Sprintf("%d events, %.1f MB, go to %s at %g a second. They stay: in %s for ever", o.events, float64(size)/1e6, topic, o.rate, schemas.SealedName(topic))
	if cfg.SinkPostgres.ReaderURLFile != "" {
		what += ", and as rows in PostgreSQL"
	}
	if _, err := fmt.Fprintln(said, what+"."); err != nil {
		return err
	}
	if !o.yes {
		return errors.New("nothing was written: give --yes to write them")
	}
	run, err := o.open(ctx, cfg, topic, ids, stored)
	if err != nil {
		return err
	}
	defer run.close()
	run.pump(ctx, msgs, o.pace())
	wait, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	runErr := run.wait(wait)
	rep := benchReport{Topic: topic, Events: o.events, Rate: o.rate, Bytes: size, Complete: runErr == nil, Stages: run.stages()}
	if o.json {
		err = json.NewEncoder(e.stdout).Encode(rep)
	} else {
		err = rep.print(e.stdout)
	}
	return errors.Join(runErr, err)
}

// topic is where the events go. The default is nobody's; any other is said by name.
func (o *benchPath) topic(cfg *Config) (string, error) {
	var names []string
	for _, s := range cfg.Sources {
		names = append(names, s.Topic)
	}
	switch {
	case slices.Contains(names, o.source):
		return cfg.Kafka.Prefix + o.source, nil
	case o.source == benchTopic:
		return "", fmt.Errorf("%s is not among the sources, so nothing would seal it: add it to sources in the configuration of every role, or name one of %s with --source and know that what is written there stays", benchTopic, strings.Join(names, ", "))
	}
	return "", fmt.Errorf("--source %q: want one of the sources %s", clip(o.source), strings.Join(names, ", "))
}

// make prepares all events, so that making them costs nothing while it is measured.
func (o *benchPath) make(cfg *Config, topic string) (msgs []producers.Message, ids []string, size int64, err error) {
	keyer, err := cfg.keyer()
	if err != nil {
		return nil, nil, 0, err
	}
	gen, err := generate.New(generate.Options{Seed: rand.Uint64(), Start: time.Now(), DomainShare: -1, Key: keyer.Audit})
	if err != nil {
		return nil, nil, 0, err
	}
	msgs, ids = make([]producers.Message, o.events), make([]string, o.events)
	var m generate.Message
	for i := range msgs {
		gen.Next(&m)
		c := m.Clone()
		msgs[i] = producers.Message{Topic: topic, Key: c.Key, Value: c.Value, Headers: c.Headers}
		size += int64(len(c.Key) + len(c.Value))
		for _, h := range c.Headers {
			size += int64(len(h.Name) + len(h.Value))
			if h.Name == producers.HeaderID {
				ids[i] = string(h.Value)
			}
		}
	}
	return msgs, ids, size, nil
}

func (o *benchPath) pace() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(o.rate), max(1, int(o.rate/100))) // at most 10 ms of events at once
}

// open prepares the observers, from where everything stands now.
func (o *benchPath) open(ctx context.Context, cfg *Config, topic string, ids []string, stored bool) (*benchRun, error) {
	sc, err := cfg.kafka()
	if err != nil {
		return nil, err
	}
	r := newBenchRun(schemas.SealedName(topic), ids)
	if r.producer, err = cfg.producer(sc, nil, nil); err != nil {
		return nil, err
	}
	if stored {
		url, err := secrets.ReadText(cfg.SinkPostgres.ReaderURLFile)
		if err == nil {
			r.reader, err = postgres.NewReader(ctx, postgres.ReaderOptions{URL: url.Reveal(), Codec: schemas.NewCodec(nil), Conns: 1})
		}
		if err == nil {
			err = r.reader.Ping(ctx)
		}
		if err != nil {
			r.close()
			return nil, fmt.Errorf("sink_postgres.reader_url_file: %w: mend it, or give --sealed-only", err)
		}
	}
	if err := r.watch(ctx, sc); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (b *benchReport) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	_, err := fmt.Fprintln(t, "\tevents\tevents/s\tp50 ms\tp99 ms\tmax ms\t")
	for _, s := range b.Stages {
		_, e := fmt.Fprintf(t, "%s\t%d\t%.0f\t%.1f\t%.1f\t%.1f\t\n", s.Name, s.Events, s.PerSec, s.P50, s.P99, s.Max)
		err = errors.Join(err, e)
	}
	return errors.Join(err, t.Flush())
}
