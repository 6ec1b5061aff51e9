package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// Options sets up a [Sink].
type Options struct {
	URL     string                 // of the database, as sealstream_writer
	Again   func() (string, error) // the URL as it is now: each new connection takes user and password from it; nil: URL
	Sink    string                 // name in sink_offsets; "" = "postgres"
	Codec   *schemas.Codec         // decodes event values
	Tenants Tenants
	Conns   int // connections at most; 0 = 4. Two writes at a time use a machine of two cores fully
	// LockTimeout is how long a write waits for another owner's transaction before it
	// asks the server to end one that has stalled for as long; 0 = 15 s.
	LockTimeout time.Duration
	Log         *slog.Logger
}

const (
	defaultSink     = "postgres"
	sinkApplication = "sealstream sink" // application_name of every sink's sessions
)

// Sink writes sealed records to PostgreSQL. It implements sinks.Sink.
type Sink struct {
	name    string
	codec   *schemas.Codec
	tenants Tenants
	pool    *pgxpool.Pool
	lock    time.Duration
	log     *slog.Logger
	copySQL string

	encoders sync.Pool
	fits     atomic.Bool // the schema's version was seen to be ours

	mu     sync.Mutex
	months map[month]bool           // partitions of the table known to exist
	seen   map[sinks.Partition]bool // partitions known to have a row in sink_offsets
}

// New makes the sink. It does not connect: that a database is down at the start is no
// different from its going down later, and is for the Deliverer to wait out.
func New(ctx context.Context, o Options) (*Sink, error) {
	cfg, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres sink: url: %w", badURL(err))
	}
	cfg.MaxConns = 4
	if o.Conns > 0 {
		cfg.MaxConns = int32(o.Conns)
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = 15 * time.Second
	}
	prepare(cfg.ConnConfig, sinkApplication)
	relogin(cfg, o.Again)
	cfg.ConnConfig.RuntimeParams["lock_timeout"] = strconv.FormatInt(o.LockTimeout.Milliseconds(), 10)
	// An owner that falls asleep between two statements of its transaction holds the lock
	// of its stored offsets: the server lets go before the owner's group session is over.
	// In the middle of COPY the server heeds no time-out (statement_timeout neither, see
	// TestOwnerStallsInCopy): there the next owner helps itself, by endStalled.
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "5000"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres sink: %w", badURL(err))
	}
	s := &Sink{
		name: o.Sink, codec: o.Codec, tenants: o.Tenants, pool: pool, lock: o.LockTimeout, log: o.Log,
		copySQL: "COPY public.events (" + strings.Join(columnNames(), ", ") + ") FROM STDIN (FORMAT BINARY)",
		months:  map[month]bool{}, seen: map[sinks.Partition]bool{},
	}
	if s.name == "" {
		s.name = defaultSink
	}
	s.encoders.New = func() any { return newEncoder(s.codec, s.tenants) }
	return s, nil
}

// Close closes the connections; a write under way ends first.
func (s *Sink) Close() { s.pool.Close() }

// Probe asks whether the database answers this role.
func (s *Sink) Probe(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, "SELECT 1 FROM public.sink_offsets LIMIT 1")
	return classify(err)
}

// checkSchema stops the sink at a schema that is not ours, also when the database came up
// after it: whoever writes asks first where to go on.
func (s *Sink) checkSchema(ctx context.Context) error {
	if s.fits.Load() {
		return nil
	}
	has, err := schemaVersion(ctx, s.pool)
	if err != nil {
		return err
	}
	if err := compareSchema(has); err != nil {
		return &sinks.ConfigError{Err: err}
	}
	s.fits.Store(true)
	return nil
}

// Positions returns stored offsets.
func (s *Sink) Positions(ctx context.Context, ps []sinks.Partition) (map[sinks.Partition]int64, error) {
	if err := s.checkSchema(ctx); err != nil {
		return nil, err
	}
	at, err := positions(ctx, s.pool, s.name, ps)
	return at, classify(err)
}

// positions reads stored offsets, 0 for a partition never seen.
func positions(ctx context.Context, db querier, sink string, ps []sinks.Partition) (map[sinks.Partition]int64, error) {
	topics, ids := make([]string, len(ps)), make([]int32, len(ps))
	at := make(map[sinks.Partition]int64, len(ps))
	for i, p := range ps {
		topics[i], ids[i] = p.Topic, p.ID
		at[p] = 0
	}
	rows, err := db.Query(ctx, `SELECT o.topic, o.partition, o.next_offset FROM public.sink_offsets o
		JOIN unnest($2::text[], $3::int[]) AS n(topic, partition) ON o.topic = n.topic AND o.partition = n.partition
		WHERE o.sink = $1`, sink, topics, ids)
	if err != nil {
		return nil, err
	}
	var p sinks.Partition
	var next int64
	_, err = pgx.ForEachRow(rows, []any{&p.Topic, &p.ID, &next}, func() error {
		at[p] = next
		return nil
	})
	return at, err
}

// querier is a pool or a connection.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Write stores batches in one transaction: first the compare-and-set of the stored
// offsets, so that a zombie learns that it is one before it touches the table, then
// the rows.
func (s *Sink) Write(ctx context.Context, batches []sinks.Batch) error {
	if err := sinks.Check(batches); err != nil {
		return fmt.Errorf("postgres sink: %w", err)
	}
	// Rows are made before the transaction begins: asking the schema registry may take
	// time, and locks must not be held for that long.
	enc := s.encoders.Get().(*encoder)
	defer s.release(enc)
	n, err := enc.batches(ctx, batches)
	if err != nil {
		return err
	}
	if err := s.addMonths(ctx, batches); err != nil {
		return classify(err)
	}
	err = classify(s.commit(ctx, batches, enc.buf, n))
	switch {
	case errors.Is(err, errNoPartition):
		s.forgetMonths()
	case errors.Is(err, sinks.ErrMoved):
		s.forgetSeen(batches)
	case errors.Is(err, errLocked):
		s.endStalled(ctx)
	}
	if rej := (*sinks.Rejected)(nil); n == 1 && errors.As(err, &rej) && rej.Reason == sinks.ReasonConflict {
		return s.settle(ctx, batches, rej)
	}
	return err
}

// settle decides what it means that a single record's (ledger, seq) is taken. The
// compare-and-set makes that impossible in regular work: it is a bug, a table or
// sink_offsets restored from different moments, or tampering. If the stored row has
// the same statement, salt and frame, the record is durable and the offset passes it.
// Otherwise it stays a refusal with reason "conflict": the ledger's record goes to the
// rejects topic, an alarm is raised, and verify names the row as ALTERED or EXTRA. So
// nothing is dropped, nothing is overwritten, and the partition goes on.
func (s *Sink) settle(ctx context.Context, batches []sinks.Batch, rej *sinks.Rejected) error {
	offsetsOnly := make([]sinks.Batch, len(batches))
	var r *sinks.Record
	for i, b := range batches {
		if len(b.Records) == 1 {
			r = &b.Records[0]
		}
		offsetsOnly[i] = sinks.Batch{Partition: b.Partition, From: b.From, Next: b.Next}
	}
	var salt []byte
	if r.Statement.SaltKey != 0 {
		salt = r.Salt[:]
	}
	var same bool
	err := s.pool.QueryRow(ctx, "SELECT public.sealstream_holds($1, $2, $3, $4, $5)", r.Statement.Ledger.UUID(), int64(r.Statement.Seq),
		r.Raw[:], salt, ledger.AppendFrame(nil, &r.Source)).Scan(&same)
	if err != nil {
		return classify(err)
	}
	if !same {
		s.log.ErrorContext(ctx, "another row has the place of a record", "ledger", r.Statement.Ledger.String(), "seq", r.Statement.Seq)
		return rej
	}
	s.log.WarnContext(ctx, "record was stored already", "ledger", r.Statement.Ledger.String(), "seq", r.Statement.Seq)
	return classify(s.commit(ctx, offsetsOnly, nil, 0))
}

// keepBuffer is the largest buffer that is kept for the next write, in bytes. Larger
// ones come from rare huge values.
const keepBuffer = 32 << 20

func (s *Sink) release(e *encoder) {
	if cap(e.buf) <= keepBuffer {
		s.encoders.Put(e)
	}
}

// batches encodes a whole COPY stream and returns its number of rows.
func (e *encoder) batches(ctx context.Context, bs []sinks.Batch) (rows int, err error) {
	e.buf = append(e.buf[:0], "PGCOPY\n\377\r\n\000\x00\x00\x00\x00\x00\x00\x00\x00"...)
	for i := range bs {
		for j := range bs[i].Records {
			if err := e.row(ctx, bs[i].Partition, &bs[i].Records[j]); err != nil {
				return 0, err
			}
			rows++
		}
	}
	e.buf = binary.BigEndian.AppendUint16(e.buf, 0xFFFF)
	return rows, nil
}

// commit is the one transaction of a write.
func (s *Sink) commit(ctx context.Context, batches []sinks.Batch, stream []byte, rows int) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := s.move(ctx, tx, batches); err != nil {
			return err
		}
		if rows == 0 {
			return nil
		}
		tag, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(stream), s.copySQL)
		if err == nil && tag.RowsAffected() != int64(rows) {
			err = &sinks.ConfigError{Err: fmt.Errorf("a trigger or rule on public.events dropped %d of %d rows: remove it", int64(rows)-tag.RowsAffected(), rows)}
		}
		return err
	})
	if err == nil {
		s.mu.Lock()
		for _, b := range batches {
			s.seen[b.Partition] = true
		}
		s.mu.Unlock()
	}
	return err
}

// move is the compare-and-set of the stored offsets of all batches. It also fences:
// two owners of a partition meet at the row's lock, and the second finds it moved.
func (s *Sink) move(ctx context.Context, tx pgx.Tx, batches []sinks.Batch) error {
	n := len(batches)
	topics, ids, from, next := make([]string, n), make([]int32, n), make([]int64, n), make([]int64, n)
	fresh := false
	s.mu.Lock()
	for i, b := range batches {
		topics[i], ids[i], from[i], next[i] = b.Partition.Topic, b.Partition.ID, b.From, b.Next
		fresh = fresh || !s.seen[b.Partition]
	}
	s.mu.Unlock()
	if fresh {
		_, err := tx.Exec(ctx, `INSERT INTO public.sink_offsets (sink, topic, partition, next_offset)
			SELECT $1, n.topic, n.partition, 0 FROM unnest($2::text[], $3::int[]) AS n(topic, partition)
			ORDER BY n.topic, n.partition ON CONFLICT DO NOTHING`, s.name, topics, ids)
		if err != nil {
			return err
		}
	}
	tag, err := tx.Exec(ctx, `UPDATE public.sink_offsets o SET next_offset = n.next, updated_at = now()
		FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS n(topic, partition, expected, next)
		WHERE o.sink = $1 AND o.topic = n.topic AND o.partition = n.partition AND o.next_offset = n.expected`,
		s.name, topics, ids, from, next)
	if err != nil {
		return err
	}
	if tag.RowsAffected() != int64(n) {
		return sinks.ErrMoved
	}
	return nil
}

// endStalled ends sessions of sinks that keep a transaction open and wait for their
// client, which has been silent for longer than a write waits for a lock: a process that
// is stopped, or a machine that is gone without closing its connections. Nothing else
// would free the partitions it holds. A client that lives loses a write that it makes again.
func (s *Sink) endStalled(ctx context.Context) {
	var n int
	err := s.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid)) FROM pg_stat_activity a
		WHERE a.datname = current_database() AND a.usename = current_user AND a.application_name = $1 AND a.pid <> pg_backend_pid()
		AND a.wait_event_type = 'Client' AND a.xact_start < now() - $2::interval`, sinkApplication, s.lock).Scan(&n)
	switch {
	case err != nil:
		s.log.WarnContext(ctx, "look for stalled sessions", "err", classify(err))
	case n > 0:
		s.log.WarnContext(ctx, "ended sessions of another owner that had stalled in a transaction", "sessions", n)
	}
}

// addMonths makes sure that the table has a partition for each record. That is a
// transaction of its own, by a function of the owner's: the writer may not make tables.
func (s *Sink) addMonths(ctx context.Context, batches []sinks.Batch) error {
	var last month
	for i := range batches {
		for j := range batches[i].Records {
			m := monthOf(batches[i].Records[j].Statement.TimeMs)
			if m == last || m == odd {
				continue
			}
			if err := s.addMonth(ctx, m); err != nil {
				return err
			}
			last = m
		}
	}
	return nil
}

func (s *Sink) addMonth(ctx context.Context, m month) error {
	s.mu.Lock()
	known := s.months[m]
	s.mu.Unlock()
	if known {
		return nil
	}
	if _, err := s.pool.Exec(ctx, "SELECT public.sealstream_add_month($1)", m.first()); err != nil {
		return fmt.Errorf("add partition of month %s: %w", m, err)
	}
	s.mu.Lock()
	s.months[m] = true
	s.mu.Unlock()
	return nil
}

// forgetSeen makes the next write of these partitions make sure of their rows in
// sink_offsets: an operator may have deleted them, to have a topic begin again.
func (s *Sink) forgetSeen(batches []sinks.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range batches {
		delete(s.seen, b.Partition)
	}
}

// forgetMonths makes the next write ask again for every partition it needs.
func (s *Sink) forgetMonths() {
	s.mu.Lock()
	clear(s.months)
	s.mu.Unlock()
}
