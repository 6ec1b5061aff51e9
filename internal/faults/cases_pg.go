package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/internal/embedded"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// outage is how long a database stays away.
const outage = 8 * time.Second

// crashPostgres ends the PostgreSQL that `up` runs, which must bring it back.
func crashPostgres(ctx context.Context, s *scene) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	s.startLoad(ctx)
	if err := s.flowing(ctx); err != nil {
		return err
	}
	for i := range s.n(2, 10) {
		if err := pass(ctx, s.between(0, time.Second)); err != nil {
			return err
		}
		pid, err := s.postmaster(ctx)
		if err != nil {
			return err
		}
		sig := []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL}[i%2]
		began := time.Now()
		if err := syscall.Kill(pid, sig); err != nil {
			return fmt.Errorf("signal postgres, pid %d: %w", pid, err)
		}
		if err := s.otherPostmaster(ctx, pid); err != nil {
			return fmt.Errorf("postgres got %v, up must bring it back: %w", sig, err)
		}
		s.begin(postgresBack, "")
		s.timed("from the signal until PostgreSQL answers again", began)
		s.struck("signal to PostgreSQL")
		if err := s.back(ctx, slowest); err != nil {
			return fmt.Errorf("postgres got %v, up must bring it back: %w", sig, err)
		}
		if err := alive(s.up.Proc); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// otherPostmaster waits until a server answers that is not the one that was signalled.
// It does not start before every process of the old one has ended; one of a server that
// was killed may otherwise store on for a while.
func (s *scene) otherPostmaster(ctx context.Context, old int) error {
	ctx, cancel := context.WithTimeout(ctx, slowest)
	defer cancel()
	var last error
	err := until(ctx, func() (bool, error) {
		var pid int
		pid, last = s.postmaster(ctx)
		return last == nil && pid != old, nil
	})
	return errors.Join(err, last)
}

// postmaster finds the server's main process.
func (s *scene) postmaster(ctx context.Context) (int, error) {
	conn, err := pgx.Connect(ctx, s.place.postgres)
	if err != nil {
		return 0, fmt.Errorf("find the postmaster: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var dir string
	if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&dir); err != nil {
		return 0, fmt.Errorf("find the postmaster: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find the postmaster: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("find the postmaster: %s names no process", dir)
	}
	return pid, nil
}

// server is a PostgreSQL of the scene's own, which `up` is given by URL.
type server struct {
	s   *scene
	dir string
	pg  *embedded.Postgres
}

// ownServer starts a PostgreSQL in a directory and writes a configuration for `up`
// that names it.
func (s *scene) ownServer(ctx context.Context, dir string) (*server, error) {
	v := &server{s: s, dir: dir}
	if err := v.start(ctx); err != nil {
		return nil, err
	}
	s.bed.AtClose(func() error { return v.pg.Quit() })
	if err := os.WriteFile(v.urlFile(), []byte(v.pg.URL("")+"\n"), 0o600); err != nil {
		return nil, err
	}
	return v, s.configure("embedded:", "  postgres_url_file: "+v.urlFile())
}

// configure writes a configuration file for `up`.
func (s *scene) configure(lines ...string) error {
	path := s.bed.Path("sealstream.yaml")
	text := strings.Join(append([]string{"version: 1"}, lines...), "\n") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	s.upArgs = []string{"--config", path}
	return nil
}

func (v *server) start(ctx context.Context) error {
	log, err := os.OpenFile(v.s.bed.Path("postgres-server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	v.pg, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: v.dir, Log: slog.New(slog.NewTextHandler(log, nil))})
	return err
}

// urlFile is where `up` finds the server's URL.
func (v *server) urlFile() string { return v.s.bed.Path("postgres.url") }

// log is what the server itself has printed.
func (v *server) log() string {
	b, err := os.ReadFile(filepath.Join(v.dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// stopPostgres takes the database away for 8 s; sealing must not notice.
func stopPostgres(ctx context.Context, s *scene) error {
	stop, start, err := s.openStoppable(ctx)
	if err != nil {
		return err
	}
	for range s.n(1, 4) {
		if err := pass(ctx, s.between(0, time.Second)); err != nil {
			return err
		}
		began := time.Now()
		if err := stop(); err != nil {
			return err
		}
		if err := s.sealsOn(ctx); err != nil {
			return fmt.Errorf("postgres is away, sealing must go on: %w", err)
		}
		if err := pass(ctx, outage-time.Since(began)); err != nil {
			return err
		}
		s.begin(postgresBack, "")
		if err := start(ctx); err != nil {
			return err
		}
		s.struck("PostgreSQL away for 8 s")
		if err := s.back(ctx, slowest); err != nil {
			return fmt.Errorf("postgres is back after %v: %w", time.Since(began).Round(time.Second), err)
		}
		if err := s.stands(); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// openStoppable opens the scene on a PostgreSQL that can be stopped at once and started
// again, and lets the load flow.
func (s *scene) openStoppable(ctx context.Context) (stop func() error, start func(context.Context) error, err error) {
	if s.kafka != nil || len(s.o.Kafka) > 0 {
		err := s.openFlowing(ctx)
		return func() error { return s.given.Server.Quit() }, func(ctx context.Context) error { return s.given.StartPostgres(ctx) }, err
	}
	v, err := s.openWithServer(ctx, "pg")
	return func() error { return v.pg.Quit() }, func(ctx context.Context) error { return v.start(ctx) }, err
}

// revokePostgres takes the sink's rights away, then its login: neither is the fault of
// any record, so nothing may be set aside, and all goes on when they are given back.
func revokePostgres(ctx context.Context, s *scene) error {
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	ways := []struct{ name, take, give string }{
		{"INSERT revoked in PostgreSQL", "REVOKE INSERT ON public.events FROM " + postgres.RoleWriter, "GRANT INSERT ON public.events TO " + postgres.RoleWriter},
		{"login revoked in PostgreSQL", "ALTER ROLE " + postgres.RoleWriter + " NOLOGIN", "ALTER ROLE " + postgres.RoleWriter + " LOGIN"},
	}
	for i := range s.n(2, 4) {
		w := ways[i%len(ways)]
		if err := pass(ctx, s.between(0, time.Second)); err != nil {
			return err
		}
		if err := s.sql(ctx, w.take, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+postgres.RoleWriter+"'"); err != nil {
			return err
		}
		if err := s.onlySeals(ctx, 3*time.Second); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		s.struck(w.name)
		s.begin(postgresBack, "")
		if err := s.sql(ctx, w.give); err != nil {
			return err
		}
		if err := errors.Join(s.back(ctx, slowest), s.stands()); err != nil {
			return fmt.Errorf("%s, and given back: %w", w.name, err)
		}
	}
	return s.settle(ctx)
}

// onlySeals says that for some time events are sealed in every partition, and none that
// was sent meanwhile is stored. What was under way may still be.
func (s *scene) onlySeals(ctx context.Context, d time.Duration) error {
	if err := s.sealsOn(ctx); err != nil {
		return fmt.Errorf("sealing must go on: %w", err)
	}
	s.watch.begin()
	if err := pass(ctx, d); err != nil {
		return err
	}
	if _, stored := s.watch.progress(); stored > 0 {
		return fmt.Errorf("%d partitions are stored all the same: the fault did not strike", stored)
	}
	return nil
}

// openWithServer opens the scene on a PostgreSQL of its own and lets the load flow.
func (s *scene) openWithServer(ctx context.Context, name string) (*server, error) {
	dir, err := s.bed.MakeDir(name)
	if err != nil {
		return nil, err
	}
	v, err := s.ownServer(ctx, dir)
	if err != nil {
		return nil, err
	}
	return v, s.openFlowing(ctx)
}

func (s *scene) openFlowing(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	s.startLoad(ctx)
	return s.flowing(ctx)
}

// sealsOn waits until every partition has sealed new events.
func (s *scene) sealsOn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, outage)
	defer cancel()
	s.watch.begin()
	return s.watch.sealed(ctx, s.topics())
}

// fillPostgres fills the disk that holds the tables: PostgreSQL answers 53100 and lives.
func fillPostgres(ctx context.Context, s *scene) error {
	disk, err := s.smallDisk("tables", 96)
	if err != nil {
		s.note("a trigger raised SQLSTATE 53100, because no small file system could be mounted: %v", err)
		return fillByTrigger(ctx, s, gateInside)
	}
	s.note("tables on a tmpfs of 96 MB that was filled up")
	dir, err := s.bed.MakeDir("pg")
	if err != nil {
		return err
	}
	v, err := s.ownServer(ctx, dir)
	if err != nil {
		return err
	}
	space, err := disk.chownLike(filepath.Join(dir, "server"))
	if err != nil {
		return err
	}
	s.place.postgres = v.pg.URL("")
	if err := s.sql(ctx, fmt.Sprintf("CREATE TABLESPACE faults LOCATION '%s'", space),
		"GRANT CREATE ON TABLESPACE faults TO PUBLIC", "ALTER DATABASE sealstream SET default_tablespace = faults"); err != nil {
		return err
	}
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	for range s.n(1, 4) {
		refused := strings.Count(s.up.Log(), "53100")
		if err := s.fill(ctx, disk, func() bool { return strings.Count(s.up.Log(), "53100") > refused }); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// fillPostgresLog fills the disk that holds the server's log of changes: PostgreSQL
// falls, and cannot start again before there is room.
func fillPostgresLog(ctx context.Context, s *scene) error {
	disk, err := s.smallDisk("wal", 160)
	if err != nil {
		s.note("a trigger raised SQLSTATE 53100 at the commit, because no small file system could be mounted: %v", err)
		return fillByTrigger(ctx, s, gateCommit)
	}
	s.note("log of changes on a tmpfs of 160 MB that was filled up")
	dir, err := s.bed.MakeDir("pg")
	if err != nil {
		return err
	}
	v, err := s.ownServer(ctx, dir)
	if err != nil {
		return err
	}
	if err := v.moveLog(ctx, disk); err != nil {
		return err
	}
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	for range s.n(1, 3) {
		fell := strings.Count(v.log(), "No space left on device")
		if err := s.fill(ctx, disk, func() bool { return strings.Count(v.log(), "No space left on device") > fell }); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// moveLog puts the server's log of changes on a disk of its own, as one does with
// servers that matter.
func (v *server) moveLog(ctx context.Context, d *disk) error {
	if err := v.pg.Close(); err != nil {
		return err
	}
	wal := filepath.Join(v.dir, "server", "data", "pg_wal")
	to, err := d.chownLike(wal)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", wal+"/.", to).CombinedOutput(); err != nil {
		return fmt.Errorf("move the log of changes: %w: %s", err, out)
	}
	if err := errors.Join(os.RemoveAll(wal), os.Symlink(to, wal)); err != nil {
		return fmt.Errorf("move the log of changes: %w", err)
	}
	return v.start(ctx)
}

// fill takes all room of a disk until it has been felt, keeps it for a while, gives it
// back, and waits until all flows again.
func (s *scene) fill(ctx context.Context, d *disk, felt func() bool) error {
	if err := d.fill(); err != nil {
		return err
	}
	began := time.Now()
	fctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	err := until(fctx, func() (bool, error) { return felt(), d.fill() })
	cancel()
	if err != nil {
		return fmt.Errorf("the disk is full, and nobody has felt it: %w", err)
	}
	s.timed("felt", began)
	s.struck("full disk of PostgreSQL")
	if err := s.sealsOn(ctx); err != nil {
		return fmt.Errorf("the disk of postgres is full, sealing must go on: %w", err)
	}
	if err := pass(ctx, 2*time.Second); err != nil {
		return err
	}
	s.begin(postgresBack, "")
	if err := d.free(); err != nil {
		return err
	}
	return s.back(ctx, slowest)
}

// fillByTrigger has the database answer as if its disk were full.
func fillByTrigger(ctx context.Context, s *scene, at gatePlace) error {
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	for range s.n(1, 4) {
		refused := strings.Count(s.up.Log(), "53100")
		if err := s.sql(ctx, `CREATE OR REPLACE FUNCTION public.faults_gate() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$`, at.create()); err != nil {
			return err
		}
		fctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		err := until(fctx, func() (bool, error) { return strings.Count(s.up.Log(), "53100") > refused, nil })
		cancel()
		if err != nil {
			return fmt.Errorf("the database answers 53100, and nobody has felt it: %w", err)
		}
		s.struck("disk full by SQLSTATE")
		if err := s.sealsOn(ctx); err != nil {
			return fmt.Errorf("the disk of postgres is full, sealing must go on: %w", err)
		}
		s.begin(postgresBack, "")
		if err := s.dropGate(ctx, at); err != nil {
			return err
		}
		if err := s.back(ctx, slowest); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// disk is a small file system of the scene's own.
type disk struct{ dir string }

// smallDisk mounts a file system of some megabytes. Only root may, and not everywhere.
func (s *scene) smallDisk(name string, megabytes int) (*disk, error) {
	dir, err := s.bed.MakeDir(name)
	if err != nil {
		return nil, err
	}
	if err := mountSmall(dir, megabytes); err != nil {
		return nil, err
	}
	s.bed.AtClose(func() error { return unmount(dir) })
	return &disk{dir: dir}, nil
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill takes all the room there is.
func (d *disk) fill() error {
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) >= 1<<10; {
		if _, err := f.Write(block); err == nil {
			continue
		} else if !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("fill %s: %w", d.dir, err)
		}
		block = block[:len(block)/4]
	}
	return nil
}

func (d *disk) free() error { return os.Remove(d.ballast()) }

// chownLike makes a directory on the disk for whoever owns path.
func (d *disk) chownLike(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(d.dir, "space")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		err = os.Chown(dir, int(sys.Uid), int(sys.Gid))
	}
	return dir, err
}
