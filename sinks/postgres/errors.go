package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealstream/sealstream/sinks"
)

// SQLSTATE codes that are not judged by their class alone.
const (
	codeUniqueViolation = "23505"
	codeCheckViolation  = "23514"
	codeProgramLimit    = "54000"
	codeRaised          = "P0001" // RAISE EXCEPTION, as triggers that people add do it
	codeLockTimeout     = "55P03"
	codeQueryCanceled   = "57014"
)

// errNoPartition means that a partition of the table that was there is gone: an owner
// dropped it. It comes as a check violation without a constraint and is no fault of
// the row.
var errNoPartition = errors.New("no partition of public.events for the row's month")

// errLocked means that another transaction holds what a write needs.
var errLocked = errors.New("another transaction holds a lock for too long")

// classify turns an error of PostgreSQL into one of the outcomes of sinks.Sink. It
// goes by SQLSTATE, never by text; what it does not know is tried again.
//
// The text of a message may show the row it is about, so of a refusal of data only
// names (constraint, column) are kept, and of other errors the message without detail
// and context.
func classify(err error) error {
	if err == nil || errors.Is(err, sinks.ErrMoved) {
		return err
	}
	var pg *pgconn.PgError
	var cfg *sinks.ConfigError
	if errors.As(err, &cfg) {
		return err
	}
	if !errors.As(err, &pg) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return &sinks.Unavailable{Class: "connection", Err: err}
	}
	code := pg.Code
	switch {
	case code == codeCheckViolation && pg.ConstraintName == "":
		return &sinks.Unavailable{Class: "partition", Err: errNoPartition}
	case code == codeUniqueViolation:
		return &sinks.Rejected{Code: code, Reason: sinks.ReasonConflict, Detail: names(pg), Err: err}
	case strings.HasPrefix(code, "22"), strings.HasPrefix(code, "23"), code == codeProgramLimit, code == codeRaised:
		return &sinks.Rejected{Code: code, Reason: refusal(code), Detail: names(pg), Err: err}
	}
	if code == codeLockTimeout {
		return &sinks.Unavailable{Class: "concurrency", Err: errLocked}
	}
	brief := fmt.Errorf("SQLSTATE %s: %s", code, pg.Message)
	switch code[:min(2, len(code))] {
	case "28", "3D", "3F", "42", "0A", "26":
		return &sinks.ConfigError{Err: brief}
	case "08":
		return &sinks.Unavailable{Class: "connection", Err: brief}
	case "40", "55":
		return &sinks.Unavailable{Class: "concurrency", Err: brief} // deadlock, serialization, lock not available
	case "53":
		return &sinks.Unavailable{Class: "resources", Err: brief} // disk full, out of memory, too many connections
	case "57":
		return &sinks.Unavailable{Class: "shutdown", Err: brief}
	case "58", "XX":
		return &sinks.Unavailable{Class: "internal", Err: brief} // I/O error, corruption
	case "25":
		return &sinks.Unavailable{Class: "read_only", Err: brief} // a standby that was not promoted yet
	}
	// Where a message comes from is not known here, so it is not shown.
	return &sinks.Unavailable{Class: "other", Err: fmt.Errorf("SQLSTATE %s", code)}
}

// refusal names why data was refused: a label of a small fixed set.
func refusal(code string) string {
	switch code {
	case "22001":
		return "too_long"
	case "22021", "22P05":
		return "invalid_text"
	case "22003", "22008":
		return "out_of_range"
	case "23502":
		return "null"
	case "23514":
		return "check"
	case codeRaised:
		return "trigger"
	case codeProgramLimit:
		return "too_large" // for an index that somebody added: our own take every row
	}
	if strings.HasPrefix(code, "23") {
		return "constraint"
	}
	return "data"
}

// names says which part of the schema refused, without the row.
func names(pg *pgconn.PgError) string {
	var b strings.Builder
	for _, part := range []struct{ word, name string }{{"constraint", pg.ConstraintName}, {"column", pg.ColumnName}, {"table", pg.TableName}} {
		if part.name != "" {
			fmt.Fprintf(&b, "%s %s ", part.word, part.name)
		}
	}
	return strings.TrimSpace(b.String())
}
