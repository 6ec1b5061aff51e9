package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// AuditorOptions sets up an [Auditor]. Sink, Codec and Tenants must be those of the
// sink that wrote the rows.
type AuditorOptions struct {
	URL     string // of the database, as sealstream_reader
	Sink    string // name in sink_offsets; "" = "postgres"
	Codec   *schemas.Codec
	Tenants Tenants
}

// Auditor compares what is stored with what must be stored: it makes each row again
// from the sealed record, with the code that made it, and compares every column byte
// by byte.
type Auditor struct {
	o   AuditorOptions
	cfg *pgx.ConnConfig
}

// NewAuditor makes the auditor; it does not connect.
func NewAuditor(o AuditorOptions) (*Auditor, error) {
	cfg, err := pgx.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres auditor: %w", badURL(err))
	}
	prepare(cfg, "sealstream verify")
	if o.Sink == "" {
		o.Sink = defaultSink
	}
	return &Auditor{o: o, cfg: cfg}, nil
}

// Ledgers returns the ids of all ledgers that have a row. One that no sealed topic has
// is EXTRA as a whole: Compare it and Finish at once.
func (a *Auditor) Ledgers(ctx context.Context) ([]ledger.ID, error) {
	conn, err := pgx.ConnectConfig(ctx, a.cfg)
	if err != nil {
		return nil, readError(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `WITH RECURSIVE l(ledger) AS (
			(SELECT x.ledger FROM public.events x ORDER BY x.ledger LIMIT 1)
			UNION ALL
			SELECT (SELECT x.ledger FROM public.events x WHERE x.ledger > l.ledger ORDER BY x.ledger LIMIT 1) FROM l WHERE l.ledger IS NOT NULL
		) SELECT ledger FROM l WHERE ledger IS NOT NULL`)
	if err != nil {
		return nil, readError(err)
	}
	raw, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	if err != nil {
		return nil, readError(err)
	}
	ids := make([]ledger.ID, len(raw))
	for i := range raw {
		ids[i] = raw[i]
	}
	return ids, nil
}

// Positions returns stored offsets.
func (a *Auditor) Positions(ctx context.Context, ps []sinks.Partition) (map[sinks.Partition]int64, error) {
	conn, err := pgx.ConnectConfig(ctx, a.cfg)
	if err != nil {
		return nil, readError(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	at, err := positions(ctx, conn, a.o.Sink, ps)
	return at, readError(err)
}

// CompareOptions say which ledger, and what is known of its partition.
type CompareOptions struct {
	Ledger    ledger.ID
	Partition sinks.Partition // the sealed partition it is in; zero when no topic has the ledger
	// Stored is the stored offset, taken before the end of the sealed partition was:
	// a record at or above it that has no row is lag.
	Stored int64
	// Rejected tells whether the record at an offset of the sealed partition is in the
	// rejects topic for this sink. nil: none is.
	Rejected func(offset int64) bool
}

// Counts is what a comparison came to, findings aside.
type Counts struct {
	Rows     uint64 // rows seen
	Lag      uint64 // records without a row at or above the stored offset
	Rejected uint64 // records without a row that are in the rejects topic
	Unread   uint64 // rows stored meanwhile, for records behind the last one compared: not judged
}

// Comparison goes through the rows of one ledger in order of seq, in one snapshot of
// the database. It ends with Finish, or with Close.
type Comparison struct {
	o      CompareOptions
	ctx    context.Context // of Compare: the query runs under it
	stored int64           // the stored offset in the snapshot
	enc    *encoder
	conn   *pgx.Conn
	rows   *pgconn.ResultReader
	row    [][]byte // the row under the cursor, nil at the end
	seq    int64    // of that row
	next   int64    // lowest seq that may come
	counts Counts
}

// Compare takes a snapshot and begins; ctx must last until the comparison ends.
func (a *Auditor) Compare(ctx context.Context, o CompareOptions) (*Comparison, error) {
	conn, err := pgx.ConnectConfig(ctx, a.cfg)
	if err != nil {
		return nil, readError(err)
	}
	c := &Comparison{o: o, ctx: ctx, enc: newEncoder(a.o.Codec, a.o.Tenants), conn: conn}
	if err = readError(c.begin(a.o.Sink)); err == nil {
		err = c.advance()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Comparison) begin(sink string) error {
	// Offset and rows from one snapshot; the rows from the primary key, so that none has
	// to be sorted, however many there are.
	for _, sql := range []string{
		"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SET LOCAL enable_sort = off", "SET LOCAL enable_seqscan = off",
		"SET LOCAL enable_bitmapscan = off", "SET LOCAL jit = off", "SET LOCAL max_parallel_workers_per_gather = 0", "SET LOCAL statement_timeout = 0",
	} {
		if _, err := c.conn.Exec(c.ctx, sql); err != nil {
			return err
		}
	}
	at, err := positions(c.ctx, c.conn, sink, []sinks.Partition{c.o.Partition})
	if err != nil {
		return err
	}
	c.stored = at[c.o.Partition]
	sql := "SELECT " + strings.Join(columnNames(), ", ") + " FROM public.events WHERE ledger = $1 ORDER BY seq, month"
	c.rows = c.conn.PgConn().ExecParams(c.ctx, sql, [][]byte{c.o.Ledger[:]}, []uint32{oidUUID}, []int16{1}, []int16{1})
	return nil
}

const oidUUID = 2950

// Close ends the comparison without reading the rest. It may be called more than once.
func (c *Comparison) Close() {
	// With a context that has ended the connection is dropped at once; else the rest of
	// the rows would be read first.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.conn.Close(ctx)
}

// advance goes to the next row.
func (c *Comparison) advance() error {
	if !c.rows.NextRow() {
		c.row = nil
		_, err := c.rows.Close()
		return readError(err)
	}
	c.row = c.rows.Values()
	if len(c.row[columnSeq]) != 8 || len(c.row[columnOffset]) != 8 {
		return errors.New("postgres: columns seq and sealed_offset of public.events are not bigint: the table was changed")
	}
	c.seq = int64(binary.BigEndian.Uint64(c.row[columnSeq]))
	c.counts.Rows++
	return nil
}

func (c *Comparison) find(v ledger.Verdict, seq int64, detail string) ledger.Finding {
	return ledger.Finding{Verdict: v, Ledger: c.o.Ledger, Seq: uint64(seq), Where: "postgres", Detail: detail}
}

// Next compares the next record of the ledger, which lies at offset in the sealed
// partition. Records come in order of seq; one whose seq came before is not compared,
// because what is wrong there is wrong in the topic. An error means that the comparison
// cannot go on: the database or the schema registry does not answer.
func (c *Comparison) Next(offset int64, s *ledger.Sealed) (found []ledger.Finding, err error) {
	seq := int64(s.Statement.Seq)
	if seq < c.next {
		return nil, nil
	}
	if found, err = c.upTo(seq); err != nil {
		return found, err
	}
	if c.row == nil || c.seq != seq {
		switch {
		case offset >= c.o.Stored:
			c.counts.Lag++
		case c.o.Rejected != nil && c.o.Rejected(offset):
			c.counts.Rejected++
		default:
			found = append(found, c.find(ledger.Missing, seq, fmt.Sprintf("no row, and offset %d is below the stored offset %d", offset, c.o.Stored)))
		}
		return found, nil
	}
	c.enc.buf = c.enc.buf[:0]
	if err := c.enc.row(c.ctx, c.o.Partition, &sinks.Record{Offset: offset, Sealed: *s}); err != nil {
		return found, err
	}
	if bad := c.differs(); bad != nil {
		found = append(found, c.find(ledger.Altered, seq, "differs in "+strings.Join(bad, ", ")))
	}
	return found, c.advance()
}

// Pass goes by a record whose row is not to be compared. Rows before it that no record
// has are found all the same.
func (c *Comparison) Pass(s *ledger.Sealed) ([]ledger.Finding, error) {
	seq := int64(s.Statement.Seq)
	if seq < c.next {
		return nil, nil
	}
	found, err := c.upTo(seq)
	if err == nil && c.row != nil && c.seq == seq {
		err = c.advance()
	}
	return found, err
}

// upTo goes to the first row that is not below seq; those it passes have no record.
func (c *Comparison) upTo(seq int64) (found []ledger.Finding, err error) {
	for c.row != nil && c.seq < seq {
		found = append(found, c.extra())
		if err := c.advance(); err != nil {
			return found, err
		}
	}
	c.next = seq + 1
	return found, nil
}

// extra is the finding about the row under the cursor, which no record has.
func (c *Comparison) extra() ledger.Finding {
	if c.seq >= 0 && c.seq < c.next {
		return c.find(ledger.Extra, c.seq, "a second row of this seq, or one that the topic skips")
	}
	return c.find(ledger.Extra, c.seq, "no record of the ledger has this row")
}

// Finish reports the rows behind the last record, and closes the comparison. A row
// stored since Stored was taken may belong to a record that the caller did not read; it
// lies below the stored offset of the snapshot. No other row is excused.
func (c *Comparison) Finish() ([]ledger.Finding, Counts, error) {
	defer c.Close()
	var found []ledger.Finding
	for c.row != nil {
		offset := int64(binary.BigEndian.Uint64(c.row[columnOffset]))
		if c.seq >= c.next && offset >= c.o.Stored && offset < c.stored {
			c.counts.Unread++
		} else {
			found = append(found, c.extra())
		}
		if err := c.advance(); err != nil {
			return found, c.counts, err
		}
	}
	return found, c.counts, nil
}

// differs compares the row under the cursor with the one in the encoder's buffer and
// names the columns that differ.
func (c *Comparison) differs() (bad []string) {
	want := c.enc.buf[2:]
	for i, have := range c.row {
		n := int32(binary.BigEndian.Uint32(want))
		want = want[4:]
		if n < 0 {
			if have != nil {
				bad = append(bad, columnName(i))
			}
			continue
		}
		if have == nil || string(have) != string(want[:n]) {
			bad = append(bad, columnName(i))
		}
		want = want[n:]
	}
	return bad
}
