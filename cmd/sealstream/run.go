package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/schemas"
)

type roleFlags struct {
	target
	slot, listen string
}

func runRoles(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "run ROLE... [--config FILE | --data DIR] [--slot SLOT]", `
Runs single roles against given servers: `+strings.Join(roleNames(), ", ")+`. Every role can
run in any number of processes; each process has a slot of its own per role. A server
that is not there yet is waited for.`)
	var o roleFlags
	o.flags(fs, e)
	fs.StringVar(&o.slot, "slot", "", "stable `identity` of this process among those of its role, in place of the configured one")
	fs.StringVar(&o.listen, "listen", "", "`host:port` of the API, in place of api.listen")
	roles, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(roles) == 0 {
		return fmt.Errorf("name the roles to run, some of %s", strings.Join(roleNames(), ", "))
	}
	for _, r := range roles {
		if !slices.Contains(roleNames(), r) {
			return fmt.Errorf("there is no role %q: want some of %s", clip(r), strings.Join(roleNames(), ", "))
		}
	}
	cfg, err := o.wait(ctx, e)
	if err != nil || ctx.Err() != nil {
		return err
	}
	if o.slot != "" {
		cfg.Seal.Slot, cfg.SinkPostgres.Slot = o.slot, o.slot
	}
	if o.listen != "" {
		cfg.API.Listen = o.listen
	}
	if problems := cfg.check(); len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return runThem(ctx, e, cfg, roles)
}

// wait loads the configuration; with --data it waits for the `up` to start.
func (o *roleFlags) wait(ctx context.Context, e *env) (*Config, error) {
	if o.dataDir == "" {
		return o.load(e)
	}
	said := false
	for {
		cfg, err := o.load(e)
		if err == nil {
			return cfg, nil
		}
		if !errors.Is(err, errNotRunning) {
			return nil, err
		}
		if !said {
			_, _ = fmt.Fprintf(e.stderr, "waiting: %v\n", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// runThem starts the roles and waits for the end of ctx or of one of them.
func runThem(ctx context.Context, e *env, cfg *Config, roles []string) error {
	serverMemory(ctx, e.getenv)
	log := cfg.logger(e)
	reg := newRegistry()
	sc, err := cfg.kafka()
	if err != nil {
		return err
	}
	rt := &runtime{kafka: sc, conf: cfg, topics: cfg.topics(), alarms: stream.NewAlarms(log, reg), registry: reg, log: log}
	if cfg.embeddedAt == "" {
		for _, r := range roles {
			rt.roles = append(rt.roles, schemas.Role(r))
		}
	}
	var c crew
	starts := map[string]func() error{
		roleAPI:  func() error { return startAPIRole(ctx, &c, cfg, rt, reg) },
		roleSeal: func() error { return startSealRole(&c, cfg, rt) },
		roleSink: func() error { return startSinkRole(ctx, &c, cfg, rt) },
	}
	if err := awaitTopics(ctx, rt); err != nil || ctx.Err() != nil {
		return err
	}
	for _, role := range []string{roleAPI, roleSeal, roleSink} { // the order in which they stop
		if !slices.Contains(roles, role) {
			continue
		}
		if err := starts[role](); err != nil {
			return errors.Join(err, stopCrew(&c, cfg, rt))
		}
	}
	if cfg.Monitor.Listen != "" && !slices.Contains(roles, roleAPI) {
		c.start("monitor", func(ctx context.Context) error { return serveMonitor(ctx, cfg.Monitor.Listen, rt, reg) })
	}
	cfg.watchBrokers(&c, rt)
	log.InfoContext(ctx, "running", "roles", strings.Join(roles, ","))
	select {
	case <-ctx.Done():
		return stopCrew(&c, cfg, rt)
	case f := <-c.failed():
		return errors.Join(fmt.Errorf("%s ended: %w", f.name, f.err), stopCrew(&c, cfg, rt))
	}
}

// watchBrokers looks after what the brokers let us, and others, do.
func (cfg *Config) watchBrokers(c *crew, rt *runtime) {
	if len(rt.roles) == 0 {
		return
	}
	c.start("topics watch", func(ctx context.Context) error { watchTopics(ctx, rt); return nil })
	if slices.Contains(rt.roles, schemas.RoleSeal) {
		w := &writersWatch{alarms: rt.alarms, log: rt.log, every: writersEvery, ask: func(ctx context.Context) ([]stream.Intrusion, error) {
			return cfg.otherWriters(ctx, rt.kafka, rt.roles...)
		}}
		c.start("writers watch", func(ctx context.Context) error { w.run(ctx); return nil })
	}
}

func stopCrew(c *crew, cfg *Config, rt *runtime) error {
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Embedded.StopTimeout)
	defer cancel()
	return c.stop(ctx, rt.log)
}

func startSealRole(c *crew, cfg *Config, rt *runtime) error {
	part, err := cfg.sealPart()
	if err != nil {
		return err
	}
	c.start(roleSeal, func(ctx context.Context) error { return runSeal(ctx, rt, part) })
	return nil
}

func startSinkRole(ctx context.Context, c *crew, cfg *Config, rt *runtime) error {
	part, err := cfg.sinkPart()
	if err != nil {
		return err
	}
	if err := guardSchema(ctx, c, rt.log, part.again); err != nil {
		return err
	}
	if part.resolver, err = cfg.resolver(); err != nil {
		return err
	}
	sink, err := newSink(ctx, rt, part)
	if err != nil {
		return err
	}
	c.start(roleSink, sink.run)
	return nil
}

func startAPIRole(ctx context.Context, c *crew, cfg *Config, rt *runtime, reg *prometheus.Registry) error {
	if cfg.SinkPostgres.ReaderURLFile == "" {
		return errors.New("sink_postgres.reader_url_file is not set: the API reads events there")
	}
	again := secretOf("sink_postgres.reader_url_file", cfg.SinkPostgres.ReaderURLFile)
	readerURL, err := again()
	if err != nil {
		return err
	}
	if err := guardSchema(ctx, c, rt.log, again); err != nil {
		return err
	}
	if err := cfg.guardOrigin(ctx, c, rt.log, again); err != nil {
		return err
	}
	resolver, err := cfg.resolver()
	if err != nil {
		return err
	}
	keyer, err := cfg.keyer()
	if err != nil {
		return err
	}
	var barrier func(context.Context) error
	if cfg.embeddedAt != "" {
		barrier = remoteBarrier(cfg.embeddedAt)
	}
	p, err := cfg.producer(rt.kafka, barrier, rt.registry)
	if err != nil {
		return err
	}
	part := apiPart{cfg: cfg.API, whole: cfg, readerURL: readerURL, again: again, resolver: resolver, producer: p, keyer: keyer, metrics: reg,
		listening: func(a net.Addr) { rt.log.Info("api listens", "address", a.String()) }}
	if part.cfg.Listen == "" {
		part.cfg.Listen = defaultListen
	}
	c.start(roleAPI, func(ctx context.Context) error {
		defer p.Close()
		return runAPI(ctx, rt, part)
	})
	return nil
}

// remoteBarrier waits for the disk of an embedded broker in another process.
func remoteBarrier(registry string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, registry+syncedPath, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			return fmt.Errorf("the embedded broker answers status %d: its disk cannot be waited for", resp.StatusCode)
		}
		return nil
	}
}

// sealPart collects what the seal needs.
func (cfg *Config) sealPart() (sealPart, error) {
	if cfg.Seal.Name == "" {
		return sealPart{}, errors.New("seal.name is not set: every ledger carries the name of its log for ever, such as ledger.example.com/audit")
	}
	keys, err := loadKeys(cfg)
	if err != nil {
		return sealPart{}, err
	}
	return sealPart{slot: cfg.Seal.Slot, name: cfg.Seal.Name, keys: keys, eventIDs: cfg.Seal.EventIDs,
		interval: cfg.Seal.TransactionInterval, stall: cfg.Seal.StallAfter}, nil
}

// sinkPart collects what the sink needs, but for the registry.
func (cfg *Config) sinkPart() (sinkPart, error) {
	p := cfg.SinkPostgres
	if p.WriterURLFile == "" {
		return sinkPart{}, errors.New("sink_postgres.writer_url_file is not set: it names the file with the database's URL")
	}
	again := secretOf("sink_postgres.writer_url_file", p.WriterURLFile)
	u, err := again()
	if err != nil {
		return sinkPart{}, err
	}
	return sinkPart{cfg: p, url: u, again: again, tenants: cfg.tenants()}, nil
}

// hostOf is where a database is, without user and password.
func hostOf(dbURL string) string {
	u, err := url.Parse(dbURL)
	if err != nil {
		return "(unreadable URL)"
	}
	return u.Host + u.Path
}
