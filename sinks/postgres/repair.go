package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// RepairerOptions sets up a [Repairer]. Codec and Tenants must be the sink's.
type RepairerOptions struct {
	URL     string // of the database, as sealstream_repair
	Codec   *schemas.Codec
	Tenants Tenants
}

// Repairer brings the table back to what the ledger says. It is the second way rows
// come into the table; each use is written down in public.repairs, by functions that
// the repair role cannot get around. It moves no stored offset.
type Repairer struct {
	o   RepairerOptions
	cfg *pgx.ConnConfig
}

// NewRepairer makes the repairer; it does not connect.
func NewRepairer(o RepairerOptions) (*Repairer, error) {
	cfg, err := pgx.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres repair: %w", badURL(err))
	}
	prepare(cfg, "sealstream repair")
	return &Repairer{o: o, cfg: cfg}, nil
}

// Replace puts the rows of these records, all of one sealed partition, in the place of
// whatever stands under their (ledger, seq): all of them or none. The caller has
// verified the records; reason is kept.
func (r *Repairer) Replace(ctx context.Context, p sinks.Partition, rs []sinks.Record, reason string) error {
	enc := newEncoder(r.o.Codec, r.o.Tenants)
	if _, err := enc.batches(ctx, []sinks.Batch{{Partition: p, Records: rs}}); err != nil {
		return err
	}
	return r.run(ctx, reason, func(tx pgx.Tx) error {
		for i := range rs {
			if m := monthOf(rs[i].Statement.TimeMs); m != odd {
				if _, err := tx.Exec(ctx, "SELECT public.sealstream_add_month($1)", m.first()); err != nil {
					return err
				}
			}
		}
		if _, err := tx.Exec(ctx, "CREATE TEMPORARY TABLE sealstream_repair (LIKE public.events) ON COMMIT DROP"); err != nil {
			return err
		}
		sql := "COPY pg_temp.sealstream_repair (" + strings.Join(columnNames(), ", ") + ") FROM STDIN (FORMAT BINARY)"
		if _, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(enc.buf), sql); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT public.sealstream_replace(ROW(r.*)::public.events, $1) FROM pg_temp.sealstream_repair r ORDER BY r.ledger, r.seq", reason)
		return err
	})
}

// Remove takes away what stands under a (ledger, seq) that no sealed topic has, and
// returns the number of rows.
func (r *Repairer) Remove(ctx context.Context, id ledger.ID, seq uint64, reason string) (rows int, err error) {
	err = r.run(ctx, reason, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT public.sealstream_remove($1, $2, $3)", id.UUID(), int64(seq), reason).Scan(&rows)
	})
	return rows, err
}

func (r *Repairer) run(ctx context.Context, reason string, fn func(pgx.Tx) error) error {
	if strings.TrimSpace(reason) == "" {
		return errors.New("postgres repair: a reason is required")
	}
	conn, err := pgx.ConnectConfig(ctx, r.cfg)
	if err != nil {
		return fmt.Errorf("postgres repair: %w", classify(err))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := pgx.BeginFunc(ctx, conn, fn); err != nil {
		return fmt.Errorf("postgres repair: %w", classify(err))
	}
	return nil
}
