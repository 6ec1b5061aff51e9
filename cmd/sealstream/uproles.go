package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sealstream/sealstream/api/auth"
	"github.com/sealstream/sealstream/internal/secrets"
)

// tokenLife is how long the tokens are valid that each start makes.
const tokenLife = 30 * 24 * time.Hour

// startRoles starts the roles that are not left out. The API comes first: it is also
// the first to stop, so that nothing comes in that is not sealed and stored.
func (u *up) startRoles(ctx context.Context) error {
	sc, err := u.cfg.kafka()
	if err != nil {
		return err
	}
	rt := &runtime{kafka: sc, topics: u.topics(), alarms: u.alarms, registry: u.reg, log: u.log}
	u.rt = rt
	var sink *sinkRun
	if u.runs(roleSink) {
		if sink, err = u.newSink(ctx, rt); err != nil {
			return err
		}
	}
	if u.runs(roleAPI) {
		if err := u.startAPI(ctx, rt); err != nil {
			return err
		}
	}
	if u.runs(roleSeal) {
		part, err := u.cfg.sealPart()
		if err != nil {
			return err
		}
		u.crew.start(roleSeal, func(ctx context.Context) error { return runSeal(ctx, rt, part) })
	}
	if sink != nil {
		u.crew.start(roleSink, sink.run)
	}
	return nil
}

func (u *up) runs(role string) bool { return !slices.Contains(u.o.without, role) }

// newSink makes the sink over the registry in this process.
func (u *up) newSink(ctx context.Context, rt *runtime) (*sinkRun, error) {
	part, err := u.cfg.sinkPart()
	if err != nil {
		return nil, err
	}
	part.resolver = u.registry
	return newSink(ctx, rt, part)
}

// startAPI starts the API and waits until it listens.
func (u *up) startAPI(ctx context.Context, rt *runtime) error {
	url, err := secrets.ReadText(u.cfg.SinkPostgres.ReaderURLFile)
	if err != nil {
		return err
	}
	addr := make(chan net.Addr, 1)
	part := apiPart{cfg: u.cfg.API, whole: u.cfg, readerURL: url.Reveal(), resolver: u.registry, producer: u.producer, keyer: u.keyer,
		metrics: u.reg, listening: func(a net.Addr) { addr <- a },
		checks: []check{{"broker_disk", func(context.Context) error { return u.broker.Err() }}}}
	if part.cfg.Listen == "" {
		if part.cfg.Listen, err = usualOrFree(ctx, u.log); err != nil {
			return err
		}
	}
	u.crew.start(roleAPI, func(ctx context.Context) error { return runAPI(ctx, rt, part) })
	select {
	case a := <-addr:
		scheme := "http://"
		if part.cfg.CertFile != "" {
			scheme = "https://"
		}
		u.info.API = scheme + a.String()
		return nil
	case f := <-u.crew.failed():
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// makeTokens writes a fresh token for each role.
func (u *up) makeTokens() error {
	issuer, err := auth.OpenLocalIssuer(u.cfg.API.LocalKeyFile, time.Now)
	if err != nil {
		return err
	}
	for _, role := range auth.Roles() {
		token, err := issuer.Mint(role, defaultTenant(role, u.cfg), "local-"+string(role), tokenLife)
		if err != nil {
			return err
		}
		path := filepath.Join(u.o.dataDir, tokenDir, string(role))
		if err := secrets.Replace(path, []byte(token+"\n")); err != nil {
			return err
		}
		u.info.Tokens[string(role)] = path
	}
	return nil
}

// seed brings a few sample events in at the first start, so that there is something to
// see.
func (u *up) seed(ctx context.Context) error {
	if u.state.Seeded || !u.cfg.Embedded.Sample {
		return nil
	}
	if err := seedSample(ctx, u.rt, u.producer, u.keyer); err != nil {
		return fmt.Errorf("write the sample events: %w", err)
	}
	u.state.Seeded = true
	return u.state.save(u.o.dataDir)
}

// banner prints what runs where and what to do with it.
func (u *up) banner() error {
	var b strings.Builder
	exe := "sealstream"
	if len(os.Args) > 0 && strings.Contains(os.Args[0], "/") {
		exe = os.Args[0]
	}
	dir := relative(u.o.dataDir)
	fmt.Fprintf(&b, "\nSealstream is ready.\n\n")
	fmt.Fprintf(&b, "  api       %s\n", orText(u.info.API, "left out: sealstream run api --data "+dir))
	fmt.Fprintf(&b, "  kafka     %s\n", strings.Join(u.info.Kafka, ","))
	fmt.Fprintf(&b, "  registry  %s\n", u.info.Registry)
	fmt.Fprintf(&b, "  postgres  %s (URL with password: %s)\n", hostOf(u.superURL), filepath.Join(dir, runFile))
	fmt.Fprintf(&b, "  data      %s\n", dir)
	for _, role := range u.o.without {
		fmt.Fprintf(&b, "  left out  %s: run it with: %s run %s --data %s\n", role, exe, role, dir)
	}
	token, err := secrets.ReadText(u.info.Tokens[string(auth.Auditor)])
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "\nA token of the role auditor, valid for %d days:\n\n  %s\n", int(tokenLife.Hours()/24), token.Reveal())
	fmt.Fprintf(&b, "\nTry:\n\n")
	if u.info.API != "" {
		fmt.Fprintf(&b, "  curl -H \"Authorization: Bearer $(cat %s)\" \"%s/v1/events?category=authentication&limit=5\"\n", filepath.Join(dir, tokenDir, string(auth.Auditor)), u.info.API)
	}
	fmt.Fprintf(&b, "  %s ingest --data %s --format cloudtrail PATH...\n", exe, dir)
	fmt.Fprintf(&b, "  %s verify --data %s\n\nCtrl-C stops it.\n\n", exe, dir)
	_, err = fmt.Fprint(u.e.stdout, b.String())
	return err
}

// relative shortens a path below the working directory, for printing.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return "./" + rel
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
