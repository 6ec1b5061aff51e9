package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

func outcome(err error) string {
	var rej *sinks.Rejected
	var cfg *sinks.ConfigError
	var un *sinks.Unavailable
	switch {
	case err == nil:
		return "nil"
	case errors.Is(err, sinks.ErrMoved):
		return "moved"
	case errors.As(err, &rej):
		return "rejected " + rej.Reason
	case errors.As(err, &cfg):
		return "config"
	case errors.As(err, &un):
		return "retry " + un.Class
	}
	return "plain"
}

func TestClassify(t *testing.T) {
	for code, want := range map[string]string{
		"08000": "retry connection", "08006": "retry connection", "0A000": "config", "22001": "rejected too_long", "22003": "rejected out_of_range", "22021": "rejected invalid_text",
		"22P02": "rejected data", "22P03": "rejected data", "23502": "rejected null", "23503": "rejected constraint", "23505": "rejected conflict", "23514": "rejected check", "23P01": "rejected constraint",
		"25006": "retry read_only", "28000": "config", "28P01": "config", "3D000": "config", "3F000": "config", "40001": "retry concurrency", "40P01": "retry concurrency",
		"42501": "config", "42601": "config", "42P01": "config", "42P07": "config", "42703": "config", "53100": "retry resources", "53200": "retry resources", "53300": "retry resources",
		"54000": "rejected too_large", "54001": "retry other", "55P03": "retry concurrency", "57014": "retry shutdown", "57P01": "retry shutdown", "57P03": "retry shutdown", "58030": "retry internal", "XX000": "retry internal", "P0001": "rejected trigger", "P0004": "retry other", "99999": "retry other", "": "retry other",
	} {
		err := postgres.Classify(fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code, ConstraintName: "c", Message: "secret row", Detail: "secret row", Where: "secret row"}))
		if got := outcome(err); got != want {
			t.Errorf("SQLSTATE %q: %s, want %s", code, got, want)
		}
		if (strings.HasPrefix(want, "rejected") || want == "retry other") && strings.Contains(err.Error(), "secret") {
			t.Errorf("SQLSTATE %q: the error shows the row: %v", code, err)
		}
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nil": {nil, "nil"}, "moved": {fmt.Errorf("x: %w", sinks.ErrMoved), "moved"}, "eof": {io.ErrUnexpectedEOF, "retry connection"},
		"cancelled": {context.Canceled, "plain"}, "deadline": {fmt.Errorf("x: %w", context.DeadlineExceeded), "plain"},
		"no partition": {&pgconn.PgError{Code: "23514"}, "retry partition"}, "config": {&sinks.ConfigError{Err: io.EOF}, "config"},
	} {
		if got := outcome(postgres.Classify(c.err)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
