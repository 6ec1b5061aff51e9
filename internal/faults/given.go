package faults

import (
	"context"
	"crypto/rand"
	"encoding/hex"
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

// startGiven makes an installation on Kafka brokers that are there already: topics and
// groups under a prefix of the scene's own, database and registry beside it, and every
// role in a process of its own.
func (s *scene) startGiven(ctx context.Context) error {
	s.prefix = fmt.Sprintf("faults-%08x.", s.rnd.Uint32())
	dir, err := s.bed.MakeDir("pg")
	if err != nil {
		return err
	}
	v := &server{s: s, dir: dir}
	if err := v.start(ctx); err != nil {
		return err
	}
	s.bed.AtClose(func() error { return v.pg.Quit() })
	registry, err := s.serveRegistry()
	if err != nil {
		return err
	}
	s.place = place{kafka: s.o.Kafka, registry: registry, postgres: v.pg.URL("")}
	if err := s.writeGiven(); err != nil {
		return err
	}
	for _, cmd := range [][]string{{"topics", "create"}, {"database", "migrate"}} {
		r, err := s.bed.Run(ctx, s.o.Binary, append(cmd, s.where...)...)
		if err != nil {
			return err
		}
		if r.Exit != 0 {
			return fmt.Errorf("sealstream %s: exit code %d:\n%s%s", strings.Join(cmd, " "), r.Exit, r.Stdout, r.Stderr)
		}
	}
	for _, role := range []string{roleSeal, roleSink} {
		if !s.alone(role) {
			if _, err := s.role(role, "base"); err != nil {
				return err
			}
		}
	}
	return nil
}

// serveRegistry runs a schema registry in this process, until the scene closes.
func (s *scene) serveRegistry() (string, error) {
	reg, err := embedded.NewRegistry(s.bed.Path("registry"), slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("serve a schema registry: %w", err)
	}
	srv := &http.Server{Handler: reg.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	s.bed.AtClose(func() error { return errors.Join(srv.Close(), reg.Close()) })
	return "http://" + ln.Addr().String(), nil
}

// writeGiven writes the configuration and the secrets of the scene's roles.
func (s *scene) writeGiven() error {
	salts := s.bed.Path("salt")
	if err := os.Mkdir(salts, 0o700); err != nil {
		return err
	}
	master := make([]byte, 32)
	_, _ = rand.Read(master) // never fails: crypto/rand ends the process instead
	errs := []error{os.WriteFile(filepath.Join(salts, "1.key"), master, 0o600)}
	urls := map[string]string{}
	for name, role := range map[string]string{"owner": "", "writer": postgres.RoleWriter, "reader": postgres.RoleReader} {
		u, err := url.Parse(s.place.postgres)
		if err != nil {
			return errors.New("the superuser URL is none")
		}
		if role != "" {
			u.User = url.UserPassword(role, hex.EncodeToString(master[:12])+role)
		}
		urls[name] = s.bed.Path(name + ".url")
		errs = append(errs, os.WriteFile(urls[name], []byte(u.String()+"\n"), 0o600))
	}
	brokers := make([]string, len(s.place.kafka))
	for i, b := range s.place.kafka {
		brokers[i] = quoted(b)
	}
	conf := s.bed.Path("given.yaml")
	s.where = []string{"--config", conf}
	text := strings.Join([]string{
		"version: 1",
		"kafka:", "  brokers: [" + strings.Join(brokers, ", ") + "]", "  prefix: " + quoted(s.prefix),
		"registry:", "  url: " + s.place.registry,
		"seal:", "  name: faults.example.com/log", "  salt_dir: " + salts,
		"sink_postgres:", "  owner_url_file: " + urls["owner"], "  writer_url_file: " + urls["writer"], "  reader_url_file: " + urls["reader"], "",
	}, "\n")
	return errors.Join(append(errs, os.WriteFile(conf, []byte(text), 0o600))...)
}
