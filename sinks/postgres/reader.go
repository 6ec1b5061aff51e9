package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// ReaderOptions sets up a [Reader].
type ReaderOptions struct {
	URL     string                 // of the database, as sealstream_reader
	Again   func() (string, error) // the URL as it is now: each new connection takes user and password from it; nil: URL
	Codec   *schemas.Codec         // decodes event values
	Timeout time.Duration          // of one statement in the server; 0 = 10 s
	Conns   int                    // connections at most; 0 = 8
}

// Reader answers queries over stored events. Errors: sinks.ErrNotFound; one that is a
// context.DeadlineExceeded when a statement took too long; anything else means that
// the database cannot be asked now.
type Reader struct {
	codec *schemas.Codec
	pool  *pgxpool.Pool
}

// NewReader makes the reader; it does not connect.
func NewReader(ctx context.Context, o ReaderOptions) (*Reader, error) {
	cfg, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres reader: %w", badURL(err))
	}
	cfg.MaxConns = 8
	if o.Conns > 0 {
		cfg.MaxConns = int32(o.Conns)
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	prepare(cfg.ConnConfig, "sealstream reader")
	relogin(cfg, o.Again)
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = fmt.Sprint(o.Timeout.Milliseconds())
	cfg.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	// A plan that is good for one filter value is not for another.
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres reader: %w", badURL(err))
	}
	return &Reader{codec: o.Codec, pool: pool}, nil
}

// Close closes the connections.
func (r *Reader) Close() { r.pool.Close() }

// Ping asks whether the database answers this role.
func (r *Reader) Ping(ctx context.Context) error {
	_, err := r.pool.Exec(ctx, "SELECT 1 FROM public.events LIMIT 1")
	return readError(err)
}

// readError makes a statement time-out recognizable and keeps row contents out.
func readError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if pg.Code == codeQueryCanceled {
			return fmt.Errorf("postgres: statement took too long: %w", context.DeadlineExceeded)
		}
		return fmt.Errorf("postgres: SQLSTATE %s: %s", pg.Code, pg.Message)
	}
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// Events returns a page of events, and where the next one begins if there is more.
func (r *Reader) Events(ctx context.Context, q sinks.Query) ([]sinks.Event, *sinks.Key, error) {
	if q.Limit < 1 {
		return nil, nil, fmt.Errorf("list events: limit %d: want at least 1", q.Limit)
	}
	if q.Order != sinks.OrderLedger && q.Order != sinks.OrderTime && q.Order != "" {
		return nil, nil, fmt.Errorf("list events: order %q: want %q or %q", sinks.Text(string(q.Order), 32), sinks.OrderTime, sinks.OrderLedger)
	}
	s := selectEvents(&q)
	rows, err := r.pool.Query(ctx, s.sql, s.args...)
	if err != nil {
		return nil, nil, readError(err)
	}
	scan := newScanner()
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sinks.Event, error) {
		if err := row.Scan(scan.targets...); err != nil {
			return sinks.Event{}, err
		}
		return scan.event(ctx, r.codec), nil
	})
	if err != nil {
		return nil, nil, readError(err)
	}
	var next *sinks.Key
	if len(events) > q.Limit {
		events = events[:q.Limit]
		last := &events[q.Limit-1]
		next = &sinks.Key{Time: last.Time, Ledger: last.Ledger, Seq: last.Seq}
	}
	if err := r.markDuplicates(ctx, events); err != nil {
		return nil, nil, err
	}
	return events, next, nil
}

// Event returns one row, genesis and close rows too.
func (r *Reader) Event(ctx context.Context, id ledger.ID, seq uint64) (sinks.Evidence, error) {
	scan := newScanner("kind", "statement", "salt")
	var ev sinks.Evidence
	var kind int16
	scan.extra(&kind, &ev.Statement, &ev.Salt)
	// Two rows of one seq are tampering, and verify says so; the first is shown.
	sql := "SELECT " + listed("", append(listFixed(), "kind", "statement", "salt")) + " FROM public.events WHERE ledger = $1 AND seq = $2 ORDER BY month LIMIT 1"
	err := r.pool.QueryRow(ctx, sql, id.UUID(), int64(seq)).Scan(scan.targets...)
	if errors.Is(err, pgx.ErrNoRows) {
		return sinks.Evidence{}, sinks.ErrNotFound
	}
	if err != nil {
		return sinks.Evidence{}, readError(err)
	}
	ev.Kind, ev.Frame = ledger.Kind(kind), scan.frame
	if ev.Kind != ledger.KindEvent {
		ev.Event = scan.bare()
		return ev, nil
	}
	events := []sinks.Event{scan.event(ctx, r.codec)}
	if err := r.markDuplicates(ctx, events); err != nil {
		return sinks.Evidence{}, err
	}
	ev.Event = events[0]
	return ev, nil
}

// markDuplicates sets DuplicateOf where an event with the same id and tenant was
// there before. Nothing is left out for it: that would let a forger suppress evidence.
func (r *Reader) markDuplicates(ctx context.Context, events []sinks.Event) error {
	type key struct{ tenant, id string }
	at := map[key]int{}
	var tenants, ids []string
	keyOf := func(e *sinks.Event) (key, bool) {
		id, ok := e.Fields["event.id"].(string)
		return key{e.Tenant, id}, ok
	}
	for i := range events {
		if k, ok := keyOf(&events[i]); ok {
			if _, seen := at[k]; !seen {
				at[k] = len(ids)
				tenants, ids = append(tenants, k.tenant), append(ids, k.id)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := r.pool.Query(ctx, selectEarliest, tenants, ids)
	if err != nil {
		return readError(err)
	}
	first := make([]*sinks.Key, len(ids))
	var i, seq int64
	var t time.Time
	var id [16]byte
	_, err = pgx.ForEachRow(rows, []any{&i, &t, &id, &seq}, func() error {
		first[i-1] = &sinks.Key{Time: t.UTC(), Ledger: id, Seq: uint64(seq)}
		return nil
	})
	if err != nil {
		return readError(err)
	}
	for i := range events {
		e := &events[i]
		if k, ok := keyOf(e); ok {
			if f := first[at[k]]; f != nil && (f.Ledger != e.Ledger || f.Seq != e.Seq) {
				e.DuplicateOf = f
			}
		}
	}
	return nil
}

// Ledgers returns what is stored of each ledger, in order of id. Size is one more than
// the highest seq stored: records set aside count, as they do in the ledger.
func (r *Reader) Ledgers(ctx context.Context) ([]sinks.LedgerInfo, error) {
	rows, err := r.pool.Query(ctx, selectLedgers)
	if err != nil {
		return nil, readError(err)
	}
	infos, err := pgx.CollectRows(rows, scanLedger)
	if err != nil {
		return nil, readError(err)
	}
	return infos, nil
}

func scanLedger(row pgx.CollectableRow) (sinks.LedgerInfo, error) {
	var info sinks.LedgerInfo
	var id [16]byte
	var frame, leaf []byte
	var firstKind, lastKind int16
	var seq int64
	err := row.Scan(&id, &firstKind, &frame, &seq, &leaf, &lastKind, &info.Source, &info.Partition)
	if err != nil {
		return info, err
	}
	info.ID, info.Size, info.Closed = id, uint64(seq)+1, ledger.Kind(lastKind) == ledger.KindClose
	copy(info.Head[:], leaf)
	// The genesis says which topic was sealed; the row's own column names the sealed one.
	if rec, err := ledger.ParseFrame(frame); err == nil && ledger.Kind(firstKind) == ledger.KindGenesis && len(rec.Headers) > 0 {
		info.Genesis = string(rec.Headers[0].Value)
		if g, err := ledger.ParseGenesis(rec.Headers[0].Value); err == nil {
			info.Source, info.Partition = g.Source, g.Partition
		}
	}
	return info, nil
}

// Positions returns the stored offsets of a sink; 0 for a partition of which nothing is
// stored.
func (r *Reader) Positions(ctx context.Context, sink string, ps []sinks.Partition) (map[sinks.Partition]int64, error) {
	at, err := positions(ctx, r.pool, sink, ps)
	return at, readError(err)
}

// CountEvents says how many rows have one of the event ids.
func (r *Reader) CountEvents(ctx context.Context, ids []string) (n int, err error) {
	err = r.pool.QueryRow(ctx, "SELECT count(*) FROM public.events WHERE event_id = ANY($1)", ids).Scan(&n)
	return n, readError(err)
}
