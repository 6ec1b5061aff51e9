package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/sealstream/sealstream/internal/secrets"
	"github.com/sealstream/sealstream/sinks/postgres"
)

func runDatabase(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "database migrate --config FILE", `
Makes the roles, tables and functions in PostgreSQL, or brings them up to date, as the
role of sink_postgres.owner_url_file. The passwords of the roles sealstream_writer,
sealstream_reader and sealstream_jobs become those in sink_postgres.writer_url_file,
reader_url_file and jobs_url_file.
Running it again changes nothing; `+"`sealstream up`"+` does it by itself.`)
	var t target
	t.flags(fs, e)
	timeout := fs.Duration("timeout", 2*time.Minute, "how long it may take")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || rest[0] != "migrate" {
		return errors.New("say what to do: sealstream database migrate")
	}
	if err := positive("--timeout", *timeout); err != nil {
		return err
	}
	cfg, err := t.load(e)
	if err != nil {
		return err
	}
	o, err := migration(cfg)
	if err != nil {
		return err
	}
	o.Log = cfg.logger(e)
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if err := postgres.Migrate(ctx, o); err != nil {
		if bad, ok := errors.AsType[*postgres.PasswordError](err); ok {
			return fmt.Errorf("%s: %w", urlKey(bad.Role), err)
		}
		return fmt.Errorf("migrate the database: %w", err)
	}
	_, err = fmt.Fprintln(e.stdout, "the database is up to date")
	return err
}

// urlKey names the key of the file with a role's URL and password.
func urlKey(role string) string {
	return map[string]string{postgres.RoleWriter: "sink_postgres.writer_url_file", postgres.RoleReader: "sink_postgres.reader_url_file",
		postgres.RoleJobs: "sink_postgres.jobs_url_file"}[role]
}

// migration collects the URLs and passwords.
func migration(cfg *Config) (postgres.MigrateOptions, error) {
	p := cfg.SinkPostgres
	if p.OwnerURLFile == "" {
		return postgres.MigrateOptions{}, errors.New("sink_postgres.owner_url_file is not set: it names the file with the URL of a role that may create roles and tables")
	}
	owner, err := secrets.ReadText(p.OwnerURLFile)
	if err != nil {
		return postgres.MigrateOptions{}, fmt.Errorf("sink_postgres.owner_url_file: %w", err)
	}
	o := postgres.MigrateOptions{URL: owner.Reveal(), Passwords: map[string]string{}}
	for _, r := range []struct{ file, role string }{
		{p.WriterURLFile, postgres.RoleWriter}, {p.ReaderURLFile, postgres.RoleReader}, {p.JobsURLFile, postgres.RoleJobs},
	} {
		if r.file == "" {
			continue
		}
		s, err := secrets.ReadText(r.file)
		if err != nil {
			return o, fmt.Errorf("%s: %w", urlKey(r.role), err)
		}
		u, err := url.Parse(s.Reveal())
		if err != nil || u.User == nil || u.User.Username() != r.role {
			return o, fmt.Errorf("%s: want postgres://%s:PASSWORD@HOST:PORT/DATABASE", urlKey(r.role), r.role)
		}
		if pw, ok := u.User.Password(); ok {
			o.Passwords[r.role] = pw
		}
	}
	return o, nil
}

// guardSchema refuses a database whose schema is not the one this program works with. A
// database that does not answer yet is asked again while the role starts: it is waited
// for like one that goes down later. The sink asks for itself, too, before it stores.
func guardSchema(ctx context.Context, c *crew, log *slog.Logger, again func() (string, error)) error {
	dbURL, err := again()
	if err != nil {
		return err
	}
	err = askSchema(ctx, dbURL)
	if err == nil || wrongSchema(err) {
		return err
	}
	log.WarnContext(ctx, "database cannot be asked for its schema version yet, asking again", "database", hostOf(dbURL), "err", err)
	c.start("database", func(ctx context.Context) error {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if now, err := again(); err == nil {
				dbURL = now // its password may be another by now
			}
			switch err := askSchema(ctx, dbURL); {
			case err == nil:
				<-ctx.Done()
				return nil
			case wrongSchema(err):
				return err
			}
		}
	})
	return nil
}

// secretOf reads a secret text from its file, each time anew; key names it in errors.
func secretOf(key, file string) func() (string, error) {
	return func() (string, error) {
		s, err := secrets.ReadText(file)
		if err != nil {
			return "", fmt.Errorf("%s: %w", key, err)
		}
		return s.Reveal(), nil
	}
}

// askSchema checks the version within a time that a start can bear.
func askSchema(ctx context.Context, dbURL string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := postgres.CheckSchema(ctx, dbURL); err != nil {
		return fmt.Errorf("database %s: %w", hostOf(dbURL), err)
	}
	return nil
}

func wrongSchema(err error) bool {
	return errors.Is(err, postgres.ErrNewerSchema) || errors.Is(err, postgres.ErrOlderSchema)
}

// refuseSchema is for commands that read the database once: what cannot be asked now is
// for the reading itself to say.
func refuseSchema(ctx context.Context, urlFile string) error {
	u, err := secrets.ReadText(urlFile)
	if err != nil {
		return nil
	}
	if err := askSchema(ctx, u.Reveal()); wrongSchema(err) {
		return err
	}
	return nil
}
