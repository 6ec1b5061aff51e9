package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"golang.org/x/time/rate"

	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/producers/generate"
	"github.com/sealstream/sealstream/schemas"
)

type generateFlags struct {
	target
	count                 int64
	rate                  float64
	seed                  uint64
	start, stream, format string
	share                 float64
	tenants, actors       int
	mistakes              generate.Mistakes
	quiet                 bool
}

func runGenerate(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "generate [--count N] [--rate R] [--data DIR | --config FILE]", `
Makes events like those of a company at work: busy and quiet actors, office hours,
logins that fail, orders that go their way. The same seed and start give the same
events. With --data or --config they go to the topics; else they are printed, one JSON
event per line.`)
	var o generateFlags
	o.flags(fs, e)
	fs.Int64Var(&o.count, "count", 1000, "how `many` events; 0: until interrupted")
	fs.Float64Var(&o.rate, "rate", 0, "events per `second`; 0: as fast as possible")
	fs.Uint64Var(&o.seed, "seed", 1, "`number` that decides everything")
	fs.StringVar(&o.start, "start", "", "`time` of the first event, RFC 3339; default: now")
	fs.StringVar(&o.stream, "stream", streamAudit, "audit, domain or both")
	fs.Float64Var(&o.share, "domain-share", 0.3, "share of domain events with --stream both, 0 to 1")
	fs.StringVar(&o.format, "format", "json", "json, avro or mixed; Avro needs a schema registry")
	fs.IntVar(&o.tenants, "tenants", 3, "how many tenants, at most 20")
	fs.IntVar(&o.actors, "actors", 200, "how many people and services")
	fs.Float64Var(&o.mistakes.Malformed, "malformed", 0, "share of values that no schema explains, 0 to 1")
	fs.Float64Var(&o.mistakes.Duplicates, "duplicates", 0, "share of events sent twice, 0 to 1")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress bar")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if err := noArguments(fs, rest); err != nil {
		return err
	}
	cfg, err := o.load(e)
	if err != nil {
		return err
	}
	tuneMemory(e.getenv, toolGC, 0)
	if o.configFile == "" && o.dataDir == "" {
		return o.print(ctx, e)
	}
	return o.send(ctx, e, cfg)
}

// options turns the flags into the generator's.
func (o *generateFlags) options() (generate.Options, error) {
	g := generate.Options{Seed: o.seed, Start: time.Now(), DomainShare: o.share, Tenants: o.tenants, Actors: o.actors, Mistakes: o.mistakes}
	if o.start != "" {
		t, err := time.Parse(time.RFC3339, o.start)
		if err != nil {
			return g, fmt.Errorf("--start %q: want a time such as 2026-11-23T08:00:00Z", clip(o.start))
		}
		g.Start = t
	}
	switch o.stream {
	case streamAudit:
		g.DomainShare = -1
	case streamDomain:
		g.DomainShare = 1
	case "both":
	default:
		return g, fmt.Errorf("--stream %q: want audit, domain or both", clip(o.stream))
	}
	formats := map[string]generate.Format{"json": generate.JSON, "avro": generate.Avro, "mixed": generate.Mixed}
	f, ok := formats[o.format]
	if !ok {
		return g, fmt.Errorf("--format %q: want json, avro or mixed", clip(o.format))
	}
	g.Format = f
	if o.count < 0 {
		return g, fmt.Errorf("--count %d: want 0 or more", o.count)
	}
	if o.rate < 0 || math.IsNaN(o.rate) {
		return g, fmt.Errorf("--rate %g: want 0 or more", o.rate)
	}
	return g, nil
}

func (o *generateFlags) print(ctx context.Context, e *env) error {
	g, err := o.options()
	if err != nil {
		return err
	}
	if g.Format != generate.JSON || o.mistakes.Malformed > 0 {
		return errors.New("only good JSON events can be printed: give --data or --config for --format and --malformed")
	}
	gen, err := generate.New(g)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(e.stdout)
	pace := o.pacer()
	var m generate.Message
	for n := int64(0); o.count == 0 || n < o.count; n++ {
		if ctx.Err() != nil {
			break
		}
		if o.rate > 0 {
			if err := w.Flush(); err != nil {
				return err
			}
			if pace.Wait(ctx) != nil {
				break
			}
		}
		gen.Next(&m)
		if _, err := w.Write(append(m.Value, '\n')); err != nil {
			return fmt.Errorf("print events: %w", err)
		}
	}
	return w.Flush()
}

func (o *generateFlags) pacer() *rate.Limiter {
	if o.rate == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(o.rate), max(1, o.batch()))
}

// batch is how many events go out together: at most a twentieth of a second's.
func (o *generateFlags) batch() int {
	if o.rate == 0 {
		return 500
	}
	return int(min(500, max(1, o.rate/20)))
}

func (o *generateFlags) send(ctx context.Context, e *env, cfg *Config) error {
	sc, err := cfg.kafka()
	if err != nil {
		return err
	}
	keyer, err := cfg.keyer()
	if err != nil {
		return err
	}
	opts, err := o.options()
	if err != nil {
		return err
	}
	opts.Key = keyer.Audit
	if opts.Format != generate.JSON {
		if opts.AuditSchemaID, opts.DomainSchemaID, err = cfg.registerSchemas(ctx); err != nil {
			return err
		}
	}
	gen, err := generate.New(opts)
	if err != nil {
		return err
	}
	p, err := cfg.producer(sc, nil, nil)
	if err != nil {
		return err
	}
	defer p.Close()
	bar := newProgress(e.stderr, !o.quiet, "generating")
	acked, failed, err := o.pump(ctx, gen, p, func(n int) { bar.set(0, 0, n) }, cfg.Kafka.Prefix)
	bar.clear()
	_, _ = fmt.Fprintf(e.stdout, "generated %d events, %d failed\n", acked, failed)
	return err
}

// pump sends until the count is reached or ctx ends; then what is under way is waited
// for. The first failure ends it.
func (o *generateFlags) pump(ctx context.Context, gen *generate.Generator, p *producers.Producer, done func(int), prefix string) (acked, failed int, err error) {
	work := context.WithoutCancel(ctx)
	var under []*producers.Pending
	wait := func() {
		n := 0
		for _, r := range under[0].Wait(work) {
			switch {
			case r.Err == nil:
				n++
			case err == nil:
				err = r.Err
				failed++
			default:
				failed++
			}
		}
		acked, under = acked+n, under[1:]
		done(n)
	}
	pace := o.pacer()
	for sent := int64(0); ctx.Err() == nil && err == nil && (o.count == 0 || sent < o.count); {
		n := o.batch()
		if o.count > 0 {
			n = int(min(int64(n), o.count-sent))
		}
		if o.rate > 0 && pace.WaitN(ctx, n) != nil {
			break
		}
		msgs := make([]producers.Message, n)
		var m generate.Message
		for i := range msgs {
			gen.Next(&m)
			c := m.Clone()
			msgs[i] = producers.Message{Topic: prefix + c.Stream, Key: c.Key, Value: c.Value, Headers: c.Headers}
		}
		sent += int64(n)
		if under = append(under, p.Enqueue(work, msgs)); len(under) == 8 {
			wait()
		}
	}
	for len(under) > 0 {
		wait()
	}
	return acked, failed, err
}

// registerSchemas makes sure that the registry has our two schemas and returns their ids.
func (cfg *Config) registerSchemas(ctx context.Context) (audit, domain uint32, err error) {
	resolver, err := cfg.resolver()
	if err != nil {
		return 0, 0, err
	}
	r, ok := resolver.(*registry)
	if !ok {
		return 0, 0, errors.New("registry.url is not set: Avro values need a schema registry")
	}
	ids := [2]uint32{}
	for i, s := range [2]struct{ topic, text string }{
		{schemas.TopicAudit, schemas.AuditSchema()}, {schemas.TopicDomain, schemas.DomainSchema()},
	} {
		got, err := r.client.CreateSchema(ctx, cfg.Kafka.Prefix+s.topic+"-value", sr.Schema{Schema: s.text, Type: sr.TypeAvro})
		if err != nil {
			return 0, 0, fmt.Errorf("register the schema of %s: %w", s.topic, err)
		}
		ids[i] = uint32(got.ID)
	}
	return ids[0], ids[1], nil
}
