package testbed

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealstream/sealstream/internal/embedded"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// GivenOptions say what an installation is made of.
type GivenOptions struct {
	Binary   string
	Kafka    []string // brokers that are there already
	Prefix   string   // of topics, groups and slots: the installation's own
	Registry string   // empty: an embedded registry is served for it
	Config   []string // more lines of the configuration file, whole sections only

	// PostgresVia is the host:port by which the roles reach the database; empty: its own.
	PostgresVia string
}

// Given is an installation on brokers that are there already: a database and secrets of
// its own, its topics made, no role started yet.
type Given struct {
	Prefix   string
	Registry string
	Postgres string   // superuser URL
	Args     []string // by which commands find the configuration
	Server   *embedded.Postgres

	bed    *Bed
	dir    string
	binary string
}

// Given makes such an installation, in a directory of its own in the bed.
func (b *Bed) Given(ctx context.Context, o GivenOptions) (*Given, error) {
	g, err := b.layGiven(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("make an installation on given brokers: %w", err)
	}
	for _, cmd := range [][]string{{"topics", "create"}, {"database", "migrate"}} {
		r, err := g.Run(ctx, cmd...)
		if err != nil {
			return nil, err
		}
		if r.Exit != 0 {
			return nil, fmt.Errorf("sealstream %s: exit code %d:\n%s%s", strings.Join(cmd, " "), r.Exit, r.Stdout, r.Stderr)
		}
	}
	return g, nil
}

func (b *Bed) layGiven(ctx context.Context, o GivenOptions) (*Given, error) {
	dir, err := os.MkdirTemp(b.dir, "given-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // PostgreSQL runs as somebody else, and must pass
	}
	if err != nil {
		return nil, err
	}
	g := &Given{Prefix: o.Prefix, Registry: o.Registry, bed: b, dir: dir, binary: o.Binary}
	pg := filepath.Join(dir, "pg")
	if err := os.Mkdir(pg, 0o711); err != nil {
		return nil, err
	}
	if err := g.StartPostgres(ctx); err != nil {
		return nil, err
	}
	b.AtClose(func() error { return g.Server.Quit() }) // whichever runs then
	g.Postgres = g.Server.URL("")
	if g.Registry == "" {
		if g.Registry, err = b.ServeRegistry(filepath.Join(dir, "registry")); err != nil {
			return nil, err
		}
	}
	return g, g.configure(o)
}

// StartPostgres starts the database, where it was before if it has been stopped.
func (g *Given) StartPostgres(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(g.dir, "postgres-server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	g.bed.AtClose(log.Close)
	g.Server, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(g.dir, "pg"), Log: slog.New(slog.NewTextHandler(log, nil))})
	return err
}

// ServeRegistry runs an embedded schema registry in this process, on a port of its own,
// until the bed closes.
func (b *Bed) ServeRegistry(dir string) (string, error) {
	reg, err := embedded.NewRegistry(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("serve a schema registry: %w", err)
	}
	srv := &http.Server{Handler: reg.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	b.AtClose(func() error { return errors.Join(srv.Close(), reg.Close()) })
	return "http://" + ln.Addr().String(), nil
}

// configure writes the configuration and the secrets.
func (g *Given) configure(o GivenOptions) error {
	salts := filepath.Join(g.dir, "salt")
	if err := os.Mkdir(salts, 0o700); err != nil {
		return err
	}
	master := make([]byte, 32)
	_, _ = rand.Read(master) // never fails: crypto/rand ends the process instead
	errs := []error{os.WriteFile(filepath.Join(salts, "1.key"), master, 0o600)}
	urls := map[string]string{}
	for name, role := range map[string]string{"owner": "", "writer": postgres.RoleWriter, "reader": postgres.RoleReader} {
		u, err := url.Parse(g.Postgres)
		if err != nil {
			return errors.New("the superuser URL is none")
		}
		if role != "" {
			u.User = url.UserPassword(role, hex.EncodeToString(master[:12])+role)
		}
		if role != "" && o.PostgresVia != "" {
			u.Host = o.PostgresVia
		}
		urls[name] = filepath.Join(g.dir, name+".url")
		errs = append(errs, os.WriteFile(urls[name], []byte(u.String()+"\n"), 0o600))
	}
	brokers, err := json.Marshal(o.Kafka) // a list in JSON is one in YAML
	pseudonyms := filepath.Join(g.dir, "pseudonym.key")
	errs = append(errs, err, os.WriteFile(pseudonyms, []byte(hex.EncodeToString(master)+"\n"), 0o600))
	conf := filepath.Join(g.dir, "given.yaml")
	g.Args = []string{"--config", conf}
	text := strings.Join(append([]string{
		"version: 1",
		"kafka:", "  brokers: " + string(brokers), fmt.Sprintf("  prefix: %q", o.Prefix),
		"registry:", "  url: " + g.Registry,
		"producer:", "  pseudonym_key_file: " + pseudonyms,
		"seal:", "  name: test.example.com/log", "  salt_dir: " + salts,
		"sink_postgres:", "  owner_url_file: " + urls["owner"], "  writer_url_file: " + urls["writer"], "  reader_url_file: " + urls["reader"], "",
	}, o.Config...), "\n") + "\n"
	return errors.Join(append(errs, os.WriteFile(conf, []byte(text), 0o600))...)
}

// Role starts a role in a process of its own.
func (g *Given) Role(role, slot string) (*Proc, error) {
	return g.bed.Start(role+"-"+slot, g.binary, append([]string{"run", role, "--slot", slot}, g.Args...)...)
}

// Run runs a command of sealstream on the installation to its end.
func (g *Given) Run(ctx context.Context, command ...string) (Result, error) {
	return g.bed.Run(ctx, g.binary, append(command, g.Args...)...)
}

// Verified runs `sealstream verify` and fails unless everything is in order. It returns
// how many records that was.
func (g *Given) Verified(ctx context.Context) (int, error) {
	r, err := g.Run(ctx, "verify", "--json")
	if err != nil {
		return 0, err
	}
	var rep struct {
		Result   string            `json:"result"`
		Records  int               `json:"records"`
		Findings []json.RawMessage `json:"findings"`
	}
	if err := json.Unmarshal([]byte(r.Stdout), &rep); err != nil {
		return 0, fmt.Errorf("sealstream verify: exit code %d, and its answer cannot be read: %w\n%s%s", r.Exit, err, r.Stdout, r.Stderr)
	}
	if rep.Result != "ok" || r.Exit != 0 || len(rep.Findings) > 0 {
		return 0, fmt.Errorf("sealstream verify: result %s, exit code %d, findings %s\n%s", rep.Result, r.Exit, rep.Findings, r.Stderr)
	}
	return rep.Records, nil
}
