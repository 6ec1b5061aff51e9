package postgres

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
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

// badURL hides the text of an error about a connection string: it may hold a password.
func badURL(error) error {
	return errors.New("not a PostgreSQL URL: want postgres://user:password@host:port/database")
}
