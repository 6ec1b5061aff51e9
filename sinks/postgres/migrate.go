package postgres

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Roles that a migration makes. Roles belong to the whole server: two databases of
// one server share them.
const (
	RoleOwner  = "sealstream_owner"  // owns tables and functions, drops old partitions
	RoleWriter = "sealstream_writer" // inserts evidence, moves stored offsets; cannot read evidence
	RoleReader = "sealstream_reader" // reads everything
	RoleRepair = "sealstream_repair" // reads everything, replaces rows through functions that write it down
	RoleJobs   = "sealstream_jobs"   // keeps verification jobs; sees nothing else
)

// MigrateOptions sets up [Migrate].
type MigrateOptions struct {
	URL       string            // as a superuser, or as a role that may create roles and tables in schema public
	Passwords map[string]string // role -> password, printable ASCII; a role without one keeps what it has
	Log       *slog.Logger
}

// lockMigrate makes migrations of one database take turns.
const lockMigrate = 8242466327370000

// ErrNewerSchema means that a newer program has migrated the database, ErrOlderSchema
// that it waits for being migrated.
var (
	ErrNewerSchema = errors.New("a newer sealstream has migrated the database: run the newer one, or restore a backup made before the upgrade")
	ErrOlderSchema = errors.New("the database must be migrated first: run sealstream database migrate")
)

// SchemaVersion is the version of the schema that this program makes and works with.
func SchemaVersion() int {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		panic("postgres: the pattern of the migrations is bad: " + err.Error())
	}
	return len(names) // numbered without gaps, or no migration runs
}

// compareSchema says what is wrong with a database of a version, nil when nothing is.
func compareSchema(has int) error {
	switch knows := SchemaVersion(); {
	case has > knows:
		return fmt.Errorf("database has schema version %d, this program knows %d: %w", has, knows, ErrNewerSchema)
	case has < knows:
		return fmt.Errorf("database has schema version %d, this program needs %d: %w", has, knows, ErrOlderSchema)
	}
	return nil
}

// CheckSchema asks a database for its schema version, as any role of ours. An error is
// ErrNewerSchema or ErrOlderSchema if the version is not this program's; anything else
// says that the database could not be asked.
func CheckSchema(ctx context.Context, url string) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("check schema: %w", badURL(err))
	}
	prepare(cfg, "sealstream schema check")
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("check schema: %w", classify(err))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	has, err := schemaVersion(ctx, conn)
	if err != nil {
		return fmt.Errorf("check schema: %w", err)
	}
	return compareSchema(has)
}

// Migrate makes roles, tables and functions, or brings them up to date. Migrations go
// forward only, each in a transaction, one process at a time. It may be run at every
// start. It also adds the partitions of this month and the next.
func Migrate(ctx context.Context, o MigrateOptions) error {
	cfg, err := pgx.ParseConfig(o.URL)
	if err != nil {
		return fmt.Errorf("migrate postgres: %w", badURL(err))
	}
	prepare(cfg, "sealstream migrate")
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("migrate postgres: %w", classify(err))
	}
	defer conn.Close(context.WithoutCancel(ctx)) // releases the lock
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(lockMigrate)); err != nil {
		return fmt.Errorf("migrate postgres: take turn: %w", classify(err))
	}
	steps, err := migrations()
	if err != nil {
		return fmt.Errorf("migrate postgres: %w", err)
	}
	version, err := schemaVersion(ctx, conn)
	if err != nil {
		return fmt.Errorf("migrate postgres: %w", err)
	}
	if err := compareSchema(version); errors.Is(err, ErrNewerSchema) {
		return fmt.Errorf("migrate postgres: %w", err)
	}
	if err := makeRoles(ctx, conn, o.Passwords); err != nil {
		return fmt.Errorf("migrate postgres: %w", err)
	}
	for _, m := range steps {
		if m.version <= version {
			continue
		}
		if err := m.apply(ctx, conn); err != nil {
			return fmt.Errorf("migrate postgres: %s: %w", m.name, classify(err))
		}
		o.Log.InfoContext(ctx, "database migrated", "version", m.version, "migration", m.name)
	}
	now := monthOf(time.Now().UnixMilli())
	for _, m := range []month{now, now + 1} {
		if _, err := conn.Exec(ctx, "SELECT public.sealstream_add_month($1)", m.first()); err != nil {
			return fmt.Errorf("migrate postgres: add partition %s: %w", m, classify(err))
		}
	}
	return nil
}

// rowQuerier is a pool or a connection.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// schemaVersion returns the version of the database, 0 for an empty one.
func schemaVersion(ctx context.Context, conn rowQuerier) (int, error) {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('public.sealstream_schema') IS NOT NULL").Scan(&there); err != nil {
		return 0, fmt.Errorf("look for schema version: %w", classify(err))
	}
	version := 0
	if there {
		if err := conn.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM public.sealstream_schema").Scan(&version); err != nil {
			return 0, fmt.Errorf("read schema version: %w", classify(err))
		}
	}
	return version, nil
}

// migration is one numbered file.
type migration struct {
	version int
	name    string
	sql     string
}

// migrations returns all of them in order: 1, 2, 3 without gaps.
func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	form := regexp.MustCompile(`^migrations/(\d{4})_[a-z_]+\.sql$`)
	var ms []migration
	for _, name := range names {
		parts := form.FindStringSubmatch(name)
		if parts == nil {
			return nil, fmt.Errorf("migration %s: want NNNN_what.sql", name)
		}
		version, err := strconv.Atoi(parts[1])
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		sql := strings.ReplaceAll(string(text), "-- projection 1\n", projectionDDL(1)+"\n")
		ms = append(ms, migration{version, strings.TrimPrefix(name, "migrations/"), sql})
	}
	slices.SortFunc(ms, func(a, b migration) int { return cmp.Compare(a.version, b.version) })
	for i, m := range ms {
		if m.version != i+1 {
			return nil, fmt.Errorf("migration %s: number %d is due", m.name, i+1)
		}
	}
	return ms, nil
}

// apply runs one migration as the owner, so that everything it makes is the owner's.
func (m migration) apply(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range []string{
			"SET LOCAL ROLE " + RoleOwner,
			`CREATE TABLE IF NOT EXISTS public.sealstream_schema (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`,
			"GRANT SELECT ON TABLE public.sealstream_schema TO " + strings.Join([]string{RoleWriter, RoleReader, RoleRepair, RoleJobs}, ", "),
			m.sql,
		} {
			// The simple protocol takes a whole file of statements.
			if _, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "INSERT INTO public.sealstream_schema (version, name) VALUES ($1, $2)", m.version, m.name)
		return err
	})
}
