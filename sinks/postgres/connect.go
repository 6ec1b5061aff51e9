package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sealstream/sealstream/sinks"
)

// connectTimeout bounds one attempt to connect, so that a host that swallows packets
// counts as down.
const connectTimeout = 10 * time.Second

// prepare sets what all connections of ours have in common.
func prepare(cfg *pgx.ConnConfig, application string) {
	cfg.RuntimeParams["application_name"] = application
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
}

// relogin makes each new connection take user and password from the URL as it is then, so
// that a password can be changed while we run. Where the database is stays as it was.
func relogin(cfg *pgxpool.Config, url func() (string, error)) {
	if url == nil {
		return
	}
	cfg.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		text, err := url()
		if err != nil {
			return &sinks.ConfigError{Err: fmt.Errorf("read the database's URL again: %w", err)}
		}
		now, err := pgx.ParseConfig(text)
		if err != nil {
			return &sinks.ConfigError{Err: fmt.Errorf("read the database's URL again: %w", badURL(err))}
		}
		cc.User, cc.Password = now.User, now.Password
		return nil
	}
}

// badURL hides the text of an error about a connection string: it may hold a password.
func badURL(error) error {
	return errors.New("not a PostgreSQL URL: want postgres://user:password@host:port/database")
}
