package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the role that owns the embedded PostgreSQL server.
const Superuser = "postgres"

// Database is the database that the first start makes beside PostgreSQL's own.
const Database = "sealstream"

const (
	readyWithin   = 2 * time.Minute // crash recovery of a large log included
	stopWithin    = 30 * time.Second
	respawnAfter  = time.Second
	respawnAtMost = 5 * time.Second // a database that stays away stalls the whole installation
)

// PostgresOptions says where and how the embedded PostgreSQL runs.
type PostgresOptions struct {
	// Dir keeps the server's data, log and superuser password. It is
	// created and belongs to one process at a time.
	//
	// PostgreSQL refuses to run as root. When we are root, it runs as the
	// user postgres, or nobody where there is none, and that user must be
	// able to reach the data: every directory above it has to be passable
	// for others. Where one is not (/root never is), the data goes to
	// /var/lib/sealstream/<id>, Dir remembers it, and a log line says so; who
	// removes Dir for good removes that directory too.
	Dir string
	// Port on 127.0.0.1; 0 picks a free one once and keeps it.
	Port int
	// CacheDir takes server binaries that have to be downloaded because
	// the machine has none. Empty: never download.
	CacheDir string
	// BinDir holds the server binaries to use, in place of a search.
	BinDir string
	// Log gets state changes and alarms.
	Log *slog.Logger
}

func (o *PostgresOptions) check() error {
	if o.Dir == "" {
		return errors.New("postgres: Dir is empty: give the directory that keeps the database")
	}
	if o.Log == nil {
		return errors.New("postgres: Log is nil")
	}
	for _, d := range []*string{&o.Dir, &o.CacheDir, &o.BinDir} {
		if *d == "" {
			continue
		}
		abs, err := filepath.Abs(*d)
		if err != nil {
			return fmt.Errorf("postgres: directory %s: %w", *d, err)
		}
		*d = abs
	}
	return nil
}

// Postgres is a running PostgreSQL server. When its process dies without
// having been told to, it is started again.
type Postgres struct {
	log      *slog.Logger
	dir      string
	data     string
	port     int
	password string
	bin      string
	user     account
	lock     *dirLock

	mu       sync.Mutex
	server   *process
	stopping bool
	stopped  chan struct{} // closed when the supervisor has ended
	cancel   context.CancelFunc
}

// StartPostgres makes the database on the first start, and returns when the
// server answers. ctx bounds the start only.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &Postgres{log: o.Log.With("part", "postgres"), dir: o.Dir, stopped: make(chan struct{})}
	var err error
	if p.lock, err = lockDir(o.Dir); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	if err := p.start(ctx, &o); err != nil {
		p.lock.release()
		return nil, fmt.Errorf("postgres in %s: %w", o.Dir, err)
	}
	return p, nil
}

func (p *Postgres) start(ctx context.Context, o *PostgresOptions) error {
	st, err := loadPGState(p.dir)
	if err != nil {
		return err
	}
	if p.user, err = serverAccount(); err != nil {
		return err
	}
	if p.bin, err = findBinaries(ctx, o, p.user, st.Major, p.log); err != nil {
		return err
	}
	if err := p.place(ctx, &st); err != nil {
		return err
	}
	if err := stopLeftover(ctx, p.data, p.log); err != nil {
		return err
	}
	l, err := listenOn(o.Port, st.Port)
	if err != nil {
		return err
	}
	st.Port = portOf(l)
	l.Close() // the server binds it itself
	p.port = st.Port
	if err := p.initialize(ctx, &st); err != nil {
		return err
	}
	if err := st.save(p.dir); err != nil {
		return err
	}
	if err := p.launch(ctx); err != nil {
		return err
	}
	if err := p.makeDatabase(ctx); err != nil {
		p.server.end(context.WithoutCancel(ctx), stopWithin)
		return err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	go p.supervise(run)
	p.log.InfoContext(ctx, "embedded postgres started", "port", p.port, "bin", p.bin, "data", p.data, "user", p.user.name)
	return nil
}

// initialize makes the database, once. A directory that is only half made by a
// start that was killed is thrown away: the name "data" appears by a rename.
func (p *Postgres) initialize(ctx context.Context, st *pgState) error {
	pwPath := filepath.Join(p.dir, "superuser.password")
	pw, err := os.ReadFile(pwPath)
	_, noData := os.Stat(filepath.Join(p.data, "PG_VERSION"))
	switch {
	case err == nil:
		p.password = strings.TrimSpace(string(pw))
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read the superuser's password: %w", explain(err))
	case noData == nil:
		return fmt.Errorf("%s is missing beside an existing database: restore it from a backup, or set a new password with the server's single-user mode and write it there", pwPath)
	default:
		var raw [24]byte
		if _, err := rand.Read(raw[:]); err != nil {
			return fmt.Errorf("make a password: %w", err)
		}
		p.password = hex.EncodeToString(raw[:])
		if err := writeFileSync(pwPath, []byte(p.password+"\n")); err != nil {
			return err
		}
	}
	if noData == nil {
		return nil
	}
	if st.Major != 0 {
		return fmt.Errorf("the database in %s is gone: restore it from a backup, or remove %s to begin with an empty one", p.data, p.dir)
	}
	major, err := p.initdb(ctx)
	if err != nil {
		return err
	}
	st.Major = major
	return nil
}

// launch starts the server and waits until it answers.
func (p *Postgres) launch(ctx context.Context) error {
	logPath := filepath.Join(p.dir, "server.log")
	f, err := openServerLog(logPath)
	if err != nil {
		return err
	}
	defer f.Close()
	from, err := f.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	srv, err := p.user.start(filepath.Join(p.bin, "postgres"), p.serverArgs(), f)
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := p.ready(ctx, srv); err != nil {
		srv.end(context.WithoutCancel(ctx), stopWithin)
		return fmt.Errorf("start the server: %w; its log %s ends with: %s", err, logPath, tail(logPath, from))
	}
	p.mu.Lock()
	p.server = srv
	p.mu.Unlock()
	return nil
}

// ready asks until the server answers, has ended or ctx is over.
func (p *Postgres) ready(ctx context.Context, srv *process) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		err := p.exec(ctx, "postgres", "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-srv.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-t.C:
		}
	}
}

func (p *Postgres) exec(ctx context.Context, db, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, p.URL(db))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql)
	return errors.Join(err, c.Close(ctx))
}

func (p *Postgres) makeDatabase(ctx context.Context) error {
	if err := p.exec(ctx, Database, "SELECT 1"); err == nil {
		return nil
	}
	if err := p.exec(ctx, "postgres", "CREATE DATABASE "+Database); err != nil {
		return fmt.Errorf("make database %s: %w", Database, err)
	}
	return nil
}

// supervise starts the server again when it ends by itself.
func (p *Postgres) supervise(ctx context.Context) {
	defer close(p.stopped)
	wait := respawnAfter
	for {
		p.mu.Lock()
		srv := p.server
		p.mu.Unlock()
		began := time.Now()
		select {
		case <-srv.done:
		case <-ctx.Done():
			return
		}
		if p.isStopping() {
			return
		}
		p.log.ErrorContext(ctx, "postgres ended without being told to: it is started again", "state", srv.state())
		if time.Since(began) > respawnAtMost {
			wait = respawnAfter
		}
		for {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			wait = min(2*wait, respawnAtMost)
			err := stopLeftover(ctx, p.data, p.log)
			if err == nil {
				err = p.launch(ctx)
			}
			if err == nil {
				p.log.InfoContext(ctx, "postgres runs again", "port", p.port)
				break
			}
			if ctx.Err() != nil {
				return
			}
			p.log.ErrorContext(ctx, "postgres cannot be started again yet", "error", err)
		}
	}
}

func (p *Postgres) isStopping() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopping
}

// URL reaches a database as the superuser; "" is Database. It carries the
// password: it is not for logs.
func (p *Postgres) URL(database string) string {
	return p.RoleURL(Superuser, p.password, database)
}

// RoleURL reaches a database as some role; "" is Database.
func (p *Postgres) RoleURL(role, password, database string) string {
	if database == "" {
		database = Database
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password), Host: loopback(p.port),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port is the port on 127.0.0.1.
func (p *Postgres) Port() int { return p.port }

// PID is the server's process id, for tests that break it.
func (p *Postgres) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server.pid()
}

// Close stops the server: sessions are ended, everything is written. It may be
// called more than once.
func (p *Postgres) Close() error { return p.halt(signalFast) }

// Quit stops the server as a crash would, but at once and with all its
// processes; the next start recovers. For tests and for a stop that must not
// take long.
func (p *Postgres) Quit() error { return p.halt(signalImmediate) }

// Kill ends the server's main process with SIGKILL, for tests.
func (p *Postgres) Kill() error { return p.halt(signalKill) }

func (p *Postgres) halt(s stopSignal) error {
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		<-p.stopped
		return nil
	}
	p.stopping = true
	p.mu.Unlock()
	p.cancel()
	<-p.stopped
	defer p.lock.release()
	ctx := context.Background()
	if err := p.server.stop(ctx, s, stopWithin); err != nil {
		return fmt.Errorf("postgres in %s: stop: %w", p.dir, err)
	}
	p.log.InfoContext(ctx, "embedded postgres stopped", "state", p.server.state())
	return nil
}
