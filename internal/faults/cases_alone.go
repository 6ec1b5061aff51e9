package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/internal/testbed"
)

// missing are servers behind doors that are still closed.
type missing struct {
	kafka, registry, postgres *door
	config                    string // of roles that know only the doors
}

// startAlone starts `up` before its database is there, and the roles before broker,
// registry and database are. Each must say what it waits for, stay, and go on by itself
// when the server comes.
func startAlone(ctx context.Context, s *scene) error {
	if err := s.upWaits(ctx); err != nil {
		return fmt.Errorf("up before its database: %w", err)
	}
	// This `up` makes topics, roles and keys, and is the servers behind the doors.
	if err := s.open(ctx, roleSeal, roleSink); err != nil {
		return err
	}
	m, err := s.behindDoors()
	if err != nil {
		return err
	}
	seal, err1 := s.bed.Start("seal", s.o.Binary, "run", roleSeal, "--config", m.config)
	sink, err2 := s.bed.Start("sink", s.o.Binary, "run", roleSink, "--config", m.config)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for _, p := range []*testbed.Proc{seal, sink} {
		if err := s.waits(ctx, p, m.kafka.addr()); err != nil {
			return err
		}
	}
	s.startLoad(ctx)
	s.watch.begin()
	if err := m.kafka.open(s.place.kafka[0]); err != nil {
		return err
	}
	sctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := s.watch.sealed(sctx, s.topics()); err != nil {
		return errors.Join(fmt.Errorf("the broker is there now, the seal must go on: %w", err), alive(seal))
	}
	return s.sinkFinds(ctx, m, sink)
}

// sinkFinds opens the doors of the database and of the registry, one after the other.
func (s *scene) sinkFinds(ctx context.Context, m *missing, sink *testbed.Proc) error {
	if err := s.waits(ctx, sink, m.postgres.addr()); err != nil {
		return err
	}
	pg, err := url.Parse(s.place.postgres)
	if err != nil {
		return errors.New("the superuser URL is none")
	}
	if err := m.postgres.open(pg.Host); err != nil {
		return err
	}
	// The load has Avro values in every partition, which nobody explains yet: they must
	// be waited for, not stored as if they could not be read.
	if err := s.waits(ctx, sink, m.registry.addr()); err != nil {
		return err
	}
	reg, err := url.Parse(s.up.Ready.Registry)
	if err != nil {
		return fmt.Errorf("registry of the ready file: %w", err)
	}
	s.begin(registryBack, "")
	if err := m.registry.open(reg.Host); err != nil {
		return err
	}
	if err := s.back(ctx, slowest); err != nil {
		return errors.Join(fmt.Errorf("all servers are there now, the sink must go on: %w", err), alive(sink))
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.place.postgres)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var unread int
	err = conn.QueryRow(ctx, "SELECT count(*) FROM public.events WHERE decode_error IS NOT NULL").Scan(&unread)
	if err != nil {
		return fmt.Errorf("count unreadable rows: %w", err)
	}
	if unread > 0 {
		return fmt.Errorf("%d events were stored as unreadable because the registry was not there", unread)
	}
	return nil
}

// waits checks that a process says what it waits for and goes on waiting.
func (s *scene) waits(ctx context.Context, p *testbed.Proc, text string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := p.WaitLog(ctx, text); err != nil {
		return err
	}
	if err := pass(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	s.struck("registry, broker or database not there at the start")
	return alive(p)
}

// behindDoors writes a configuration for roles that know the servers of the running
// `up` only by doors that are closed.
func (s *scene) behindDoors() (*missing, error) {
	m := &missing{config: s.bed.Path("doors.yaml")}
	for _, d := range []**door{&m.kafka, &m.registry, &m.postgres} {
		var err error
		if *d, err = newDoor(); err != nil {
			return nil, err
		}
		s.bed.AtClose((*d).close)
	}
	writer, err := os.ReadFile(s.data + "/secrets/postgres-writer.url")
	if err != nil {
		return nil, fmt.Errorf("read the writer's URL: %w", err)
	}
	var state struct {
		Name string `json:"name"`
	}
	raw, err := os.ReadFile(s.data + "/state.json")
	if err == nil {
		err = json.Unmarshal(raw, &state)
	}
	if err != nil {
		return nil, fmt.Errorf("read the name of the log: %w", err)
	}
	u, err := url.Parse(strings.TrimSpace(string(writer)))
	if err != nil {
		return nil, errors.New("the writer's URL is none")
	}
	u.Host = m.postgres.addr()
	urlFile := s.bed.Path("writer.url")
	text := strings.Join([]string{
		"version: 1",
		"kafka:", "  brokers: [" + quoted(m.kafka.addr()) + "]",
		"registry:", "  url: http://" + m.registry.addr(),
		"seal:", "  slot: a", "  name: " + quoted(state.Name), "  salt_dir: " + s.data + "/salt",
		"sink_postgres:", "  slot: a", "  writer_url_file: " + urlFile, "",
	}, "\n")
	return m, errors.Join(os.WriteFile(urlFile, []byte(u.String()+"\n"), 0o600), os.WriteFile(m.config, []byte(text), 0o600))
}

func quoted(s string) string { return `"` + s + `"` }

// upWaits starts `up` with a database of its own choice that is not there yet.
func (s *scene) upWaits(ctx context.Context) error {
	dir, err := s.bed.MakeDir("pg")
	if err != nil {
		return err
	}
	v, err := s.ownServer(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { s.upArgs = nil }()
	if err := v.pg.Close(); err != nil {
		return err
	}
	data, err := s.bed.MakeDir("waiting")
	if err != nil {
		return err
	}
	o := testbed.UpOptions{Data: data, Args: s.upArgs}
	up, err := s.bed.StartUp(s.o.Binary, o)
	if err != nil {
		return err
	}
	if err := s.waits(ctx, up.Proc, net.JoinHostPort("127.0.0.1", fmt.Sprint(v.pg.Port()))); err != nil {
		return err
	}
	if err := v.start(ctx); err != nil {
		return err
	}
	rctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := up.AwaitReady(rctx); err != nil {
		return err
	}
	if err := up.Kill(); err != nil {
		return err
	}
	return s.wrongPassword(ctx, v)
}

// wrongPassword gives `up` a password that no waiting will mend: it must say so and end.
func (s *scene) wrongPassword(ctx context.Context, v *server) error {
	u, err := url.Parse(v.pg.URL(""))
	if err != nil {
		return errors.New("the superuser URL is none")
	}
	const wrong = "not-the-password"
	u.User = url.UserPassword(u.User.Username(), wrong)
	if err := os.WriteFile(v.urlFile(), []byte(u.String()+"\n"), 0o600); err != nil {
		return err
	}
	p, err := s.refusedStart(ctx, testbed.UpOptions{Data: s.bed.Path("refused"), Args: s.upArgs}, "password")
	if err != nil {
		return fmt.Errorf("a wrong password: %w", err)
	}
	if strings.Contains(p.Log(), wrong) {
		return errors.New("a password stands in the log")
	}
	return nil
}
