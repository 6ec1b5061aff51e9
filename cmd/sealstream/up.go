package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sealstream/sealstream/internal/secrets"
	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// Roles that `up` runs and that can be left out of it.
const (
	roleSeal = "seal"
	roleSink = "sink-postgres"
	roleAPI  = "api"
)

func roleNames() []string { return []string{roleSeal, roleSink, roleAPI} }

type upFlags struct {
	target
	readyFile, listen string
	without           []string
}

func runUp(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "up [--data DIR] [--config FILE] [--ready-file F] [--without ROLE,...]", `
Runs everything on this machine in one process: a broker, a schema registry,
PostgreSQL, sealing, storing and the API. The data directory keeps it all; a second
start finds everything as it was. Ctrl-C stops in order; a second Ctrl-C at once.`)
	var o upFlags
	o.flags(fs, e)
	without := fs.String("without", "", "`roles` to leave out, comma separated, of "+strings.Join(roleNames(), ", ")+": run them with sealstream run")
	fs.StringVar(&o.readyFile, "ready-file", "", "`file` to write when all is ready: JSON with addresses, the database's superuser URL and token files")
	fs.StringVar(&o.listen, "listen", "", "`host:port` of the API, in place of api.listen; port 0 takes a free one")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if err := noArguments(fs, rest); err != nil {
		return err
	}
	for _, role := range strings.FieldsFunc(*without, func(r rune) bool { return r == ',' || r == ' ' }) {
		if !slices.Contains(roleNames(), role) {
			return fmt.Errorf("--without %q: want some of %s", clip(role), strings.Join(roleNames(), ", "))
		}
		o.without = append(o.without, role)
	}
	if o.dataDir == "" {
		o.dataDir = "sealstream-data"
	}
	if o.dataDir, err = filepath.Abs(o.dataDir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	cfg, err := loadConfig(o.configFile, e.getenv)
	if err != nil {
		return err
	}
	if o.listen != "" {
		cfg.API.Listen = o.listen
		if problems := cfg.check(); len(problems) > 0 {
			return fmt.Errorf("--listen: %s", strings.Join(problems, "; "))
		}
	}
	return newUp(e, cfg, &o).run(ctx)
}

// up is a running one-machine installation.
type up struct {
	e      *env
	cfg    *Config
	o      *upFlags
	log    *slog.Logger
	reg    *prometheus.Registry
	alarms *stream.Alarms
	state  *dirState
	fresh  bool // the data directory begins with this start

	*infra
	rt       *runtime
	producer *producers.Producer
	keyer    *producers.Keyer
	crew     crew
	info     RunInfo
}

func newUp(e *env, cfg *Config, o *upFlags) *up {
	u := &up{e: e, cfg: cfg, o: o, log: cfg.logger(e), reg: newRegistry()}
	u.alarms = stream.NewAlarms(u.log, u.reg)
	u.info = RunInfo{Tokens: map[string]string{}, PID: os.Getpid()}
	return u
}

// newRegistry begins the metrics of a process.
func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// run starts everything, waits for the end of ctx or of a part, and stops in order.
func (u *up) run(ctx context.Context) (err error) {
	serverMemory(ctx, u.e.getenv)
	dir := u.o.dataDir
	// Before the lock: of a directory that is too new, not even that is taken.
	if err := checkDir(dir, ownVersions()); err != nil {
		return err
	}
	unlock, err := lockData(dir)
	if err != nil {
		return err
	}
	defer unlock()
	// What an `up` that was killed left here names a process that is gone.
	for _, f := range []string{filepath.Join(dir, runFile), u.o.readyFile} {
		if err := removeFile(f); err != nil {
			return err
		}
	}
	defer func() {
		stopErr := u.stop()
		_ = removeFile(filepath.Join(dir, runFile))
		if err == nil {
			err = stopErr
		}
	}()
	began := time.Now()
	for _, step := range []func(context.Context) error{u.openDir, u.startInfra, u.prepare, u.startRoles, u.seed, u.announce} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // asked to stop while starting
			}
			return err
		}
	}
	u.log.InfoContext(ctx, "ready", "data", dir, "took", time.Since(began).Round(time.Millisecond).String())
	select {
	case <-ctx.Done():
		u.log.InfoContext(ctx, "stopping", "within", u.cfg.Embedded.StopTimeout.String())
		return nil
	case f := <-u.crew.failed():
		return fmt.Errorf("%s ended: %w", f.name, f.err)
	case <-u.broker.Failed():
		return fmt.Errorf("the embedded broker cannot keep what it is given and has stopped: %w; the next start repairs it", u.broker.Err())
	}
}

// openDir opens what the data directory remembers, and makes its secrets.
func (u *up) openDir(ctx context.Context) (err error) {
	dir := u.o.dataDir
	if u.state, u.fresh, err = openDirState(dir); err != nil {
		return err
	}
	if !u.fresh {
		if err := migrateDir(ctx, dir, u.state, dirSteps(), u.log); err != nil {
			return err
		}
	}
	if err := u.logName(); err != nil {
		return err
	}
	u.cfg.applyDir(dir)
	for _, sub := range []string{secretDir, tokenDir} {
		if err := secrets.MakeDir(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	if err := makeSecrets(u.cfg, u.fresh); err != nil {
		return err
	}
	if u.fresh {
		// A crash before this line makes the next start a first one again.
		if err := u.state.save(dir); err != nil {
			return err
		}
	}
	u.keyer, err = u.cfg.keyer()
	return err
}

// logName takes the name of the log from the configuration once, at the first start.
func (u *up) logName() error {
	want := u.cfg.Seal.Name
	switch {
	case want == "" || want == u.state.Name:
		u.cfg.Seal.Name = u.state.Name
		return nil
	case u.fresh:
		u.state.Name = want
		return nil
	}
	return fmt.Errorf("seal.name is %s, but the ledgers in %s have the name %s for ever: put that into the configuration, or leave seal.name out", want, u.o.dataDir, u.state.Name)
}

// startInfra starts broker, registry and database.
func (u *up) startInfra(ctx context.Context) error {
	in := &infra{dir: u.o.dataDir, log: u.log}
	if err := in.start(ctx, u.cfg, u.state, u.reg); err != nil {
		return err
	}
	u.infra = in
	u.info.Kafka, u.info.Registry = u.broker.Addrs(), u.regURL
	u.cfg.Kafka.Brokers, u.cfg.Kafka.TLS, u.cfg.Kafka.SASL = u.info.Kafka, TLSConfig{}, SASLConfig{}
	u.cfg.Registry = RegistryConfig{URL: u.regURL}
	if u.state.RegistryPort != u.regPort {
		u.state.RegistryPort = u.regPort
		return u.state.save(u.o.dataDir)
	}
	return nil
}

// prepare makes what the roles find there: topics, tables, schemas, tokens.
func (u *up) prepare(ctx context.Context) error {
	// First: a database that is too new ends the start before anything else is made.
	if err := u.migrateDatabase(ctx); err != nil {
		return err
	}
	sc, err := u.cfg.kafka()
	if err != nil {
		return err
	}
	rep, err := stream.EnsureTopics(ctx, sc, u.topics(), 1)
	if err != nil {
		return fmt.Errorf("make topics: %w", err)
	}
	for _, p := range rep.Problems {
		u.log.WarnContext(ctx, "topic is not as it should be", "problem", p)
	}
	if u.producer, err = u.cfg.producer(sc, u.broker.Synced, u.reg); err != nil {
		return err
	}
	u.announceSchemas(u.cfg.Kafka.Prefix, u.producer)
	if _, _, err := u.cfg.registerSchemas(ctx); err != nil {
		return err
	}
	return u.makeTokens()
}

// migrateDatabase brings the database up to date. Its version is written down first, so
// that an older program stops before it starts the broker.
func (u *up) migrateDatabase(ctx context.Context) error {
	if v := postgres.SchemaVersion(); u.state.Schema < v {
		u.state.Schema, u.state.Program = v, version()
		if err := u.state.save(u.o.dataDir); err != nil {
			return err
		}
	}
	return u.migrate(ctx)
}

// topics is the table for one machine: no retention, because the embedded broker's own
// clean-up is not used.
func (u *up) topics() []schemas.Topic {
	return schemas.Topics(u.cfg.Kafka.Prefix, schemas.KeepForever(u.cfg.sources()))
}

// announce tells people and scripts that all is ready.
func (u *up) announce(context.Context) error {
	u.info.Postgres = u.superURL
	if err := u.info.Write(filepath.Join(u.o.dataDir, runFile)); err != nil {
		return err
	}
	if u.o.readyFile != "" {
		if err := u.info.Write(u.o.readyFile); err != nil {
			return fmt.Errorf("--ready-file: %w", err)
		}
	}
	return u.banner()
}

// stop ends all parts in the order of the data's way, each within what is left of the
// deadline: first nothing new comes in, then what is in hand is finished.
func (u *up) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), u.cfg.Embedded.StopTimeout)
	defer cancel()
	err := u.crew.stop(ctx, u.log)
	if u.producer != nil {
		u.producer.Close()
	}
	if u.infra != nil {
		err = errors.Join(err, u.infra.stop(ctx))
	}
	return err
}

func removeFile(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove an old %s: %w", path, errors.Unwrap(err))
	}
	return nil
}
