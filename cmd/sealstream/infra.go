package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealstream/sealstream/internal/embedded"
	"github.com/sealstream/sealstream/internal/secrets"
	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// infra is what `up` runs in place of servers: broker, registry, PostgreSQL.
type infra struct {
	dir      string
	log      *slog.Logger
	broker   *embedded.Broker
	registry *embedded.Registry
	regHTTP  *http.Server
	regURL   string
	regPort  int
	postgres *embedded.Postgres // nil with a server that was given
	superURL string
}

// start starts the three, at the same time what can be. What was started is stopped
// again when one fails.
func (in *infra) start(ctx context.Context, cfg *Config, st *dirState, reg prometheus.Registerer) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	pg := make(chan error, 1)
	go func() { pg <- in.startPostgres(ctx, cfg) }()
	in.broker, err = embedded.StartBroker(ctx, embedded.BrokerOptions{Dir: filepath.Join(in.dir, "broker"),
		Ports: cfg.Embedded.KafkaPorts, FsyncEvery: cfg.Embedded.FsyncEvery, Log: in.log, Registerer: reg})
	if err == nil {
		err = in.startRegistry(ctx, cfg, st)
	}
	return errors.Join(err, <-pg)
}

func (in *infra) startRegistry(ctx context.Context, cfg *Config, st *dirState) (err error) {
	in.registry, err = embedded.NewRegistry(filepath.Join(in.dir, "registry"), in.log)
	if err != nil {
		return err
	}
	ln, err := listenRegistry(ctx, cfg.Embedded.RegistryPort, st.RegistryPort, in.log)
	if err != nil {
		return err
	}
	in.regPort = ln.Addr().(*net.TCPAddr).Port
	in.regURL = "http://" + ln.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("/", in.registry.Handler())
	mux.HandleFunc("POST "+syncedPath, in.answerSynced)
	in.regHTTP = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(in.log.Handler(), slog.LevelDebug)}
	go func() {
		if err := in.regHTTP.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			in.log.ErrorContext(ctx, "schema registry stopped answering", "err", err)
		}
	}()
	return nil
}

// syncedPath is where the registry's listener answers once everything the embedded
// broker has acknowledged is on disk. Roles in other processes wait there.
const syncedPath = "/-/synced"

func (in *infra) answerSynced(w http.ResponseWriter, r *http.Request) {
	if err := in.broker.Synced(r.Context()); err != nil {
		http.Error(w, "the broker could not bring everything to disk", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// announceSchemas makes every registration evidence, before it is stored.
func (in *infra) announceSchemas(prefix string, p *producers.Producer) {
	in.registry.Announce(func(ctx context.Context, r embedded.Registration) error {
		details, err := json.Marshal(map[string]any{"subject": r.Subject, "version": r.Version, "id": r.ID, "schema": r.Schema})
		if err != nil {
			return err
		}
		act, err := newAct("schema registry", r.Subject, "")
		if err != nil {
			return err
		}
		act.ActorType = "service"
		e, err := schemas.Announce(schemas.ActionSchemaRegister, act, details)
		if err != nil {
			return err
		}
		m, err := controlMessage(prefix, e, r.Subject)
		if err == nil {
			_, err = record(ctx, p, m)
		}
		return err
	})
}

func (in *infra) startPostgres(ctx context.Context, cfg *Config) error {
	if f := cfg.Embedded.PostgresURLFile; f != "" {
		u, err := secrets.ReadText(f)
		if err != nil {
			return fmt.Errorf("embedded.postgres_url_file: %w", err)
		}
		in.superURL = u.Reveal()
		return nil
	}
	cache := ""
	if cfg.Embedded.PostgresDownload {
		cache = cfg.Embedded.CacheDir
		if cache == "" {
			base, err := os.UserCacheDir()
			if err != nil {
				return fmt.Errorf("find a cache directory: %w: set embedded.cache_dir", err)
			}
			cache = filepath.Join(base, "sealstream")
		}
	}
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(in.dir, "postgres"),
		Port: cfg.Embedded.PostgresPort, CacheDir: cache, BinDir: cfg.Embedded.PostgresBinDir, Log: in.log})
	if err != nil {
		return err
	}
	in.postgres, in.superURL = pg, pg.URL(embedded.Database)
	return nil
}

// migrate brings the database up to date and leaves each role's URL in a file.
func (in *infra) migrate(ctx context.Context) error {
	passwords := map[string]string{}
	files := map[string]string{postgres.RoleWriter: writerFile, postgres.RoleReader: readerFile, postgres.RoleJobs: jobsFile}
	for role := range files {
		key, err := secrets.EnsureKey(filepath.Join(in.dir, secretDir, role+".key"), 24)
		if err != nil {
			return err
		}
		passwords[role] = hex.EncodeToString(key.Bytes())
	}
	if err := in.awaitMigrate(ctx, postgres.MigrateOptions{URL: in.superURL, Passwords: passwords, Log: in.log}); err != nil {
		return err
	}
	for role, file := range files {
		u, err := url.Parse(in.superURL)
		if err != nil {
			return errors.New("embedded.postgres_url_file: not a URL") // the error would show the password
		}
		u.User = url.UserPassword(role, passwords[role])
		if err := secrets.Replace(filepath.Join(in.dir, filepath.FromSlash(file)), []byte(u.String()+"\n")); err != nil {
			return err
		}
	}
	return secrets.Replace(filepath.Join(in.dir, filepath.FromSlash(ownerFile)), []byte(in.superURL+"\n"))
}

// awaitMigrate waits for a database that is not there yet, as roles of their own do: a
// machine may start `up` before the server it was given. What waiting cannot mend, a
// wrong password above all, ends it.
func (in *infra) awaitMigrate(ctx context.Context, o postgres.MigrateOptions) error {
	for first := true; ; first = false {
		err := postgres.Migrate(ctx, o)
		var away *sinks.Unavailable
		if !errors.As(err, &away) {
			return err
		}
		if first {
			in.log.WarnContext(ctx, "database does not answer yet, waiting for it", "err", err)
		}
		t := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// stop is close within a deadline: when it is over, PostgreSQL is stopped at once, and
// the next start recovers.
func (in *infra) stop(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- in.close() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if in.postgres != nil {
		in.log.WarnContext(ctx, "postgres does not stop in time and is stopped at once")
		return errors.Join(in.postgres.Quit(), <-done)
	}
	return <-done
}

// close stops in the order in which nobody misses anything: PostgreSQL and the
// registry first, the broker last.
func (in *infra) close() error {
	var errs []error
	if in.postgres != nil {
		errs = append(errs, in.postgres.Close())
	}
	if in.regHTTP != nil {
		errs = append(errs, in.regHTTP.Close())
	}
	if in.registry != nil {
		errs = append(errs, in.registry.Close())
	}
	if in.broker != nil {
		errs = append(errs, in.broker.Close())
	}
	return errors.Join(errs...)
}

// makeSecrets makes what a new data directory needs, and refuses to make a salt master
// anew for one that has sealed already: another key under the same number would
// quietly break every proof that needs it.
func makeSecrets(cfg *Config, fresh bool) error {
	if fresh {
		if _, err := secrets.EnsureSalts(cfg.Seal.SaltDir); err != nil {
			return err
		}
	} else if _, err := secrets.LoadSalts(cfg.Seal.SaltDir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: restore the salt masters from a backup; new ones would not fit what is sealed", err)
	} else if err != nil {
		return err
	}
	_, err := secrets.EnsureKey(cfg.Producer.PseudonymKeyFile, producers.PseudonymKeyBytes)
	return err
}
