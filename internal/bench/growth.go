package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/schemas"
)

// disk is what an installation holds on disk, in bytes, and the WAL it has written.
type disk struct {
	topics                      map[string]int64
	heap, toast, indexes, byKey int64
	wal, walKept                int64
}

// growth measures what a million events add on disk, for broker and database.
func (r *runner) growth(ctx context.Context) error {
	in, err := r.install(ctx, "growth")
	if err != nil {
		return err
	}
	defer func() { in.leave(ctx) }()
	if _, err := r.events(ctx); err != nil {
		return err
	}
	at := load()
	logs := filepath.Join(in.data, "broker", "log", "partitions")
	before, err := readDisk(ctx, in.db, logs)
	if err != nil {
		return err
	}
	n, _, err := r.ingest(ctx, in)
	if err != nil {
		return err
	}
	want, err := in.expected(ctx)
	if err != nil {
		return err
	}
	if _, err := in.stored(ctx, want); err != nil {
		return err
	}
	after, err := readDisk(ctx, in.db, logs)
	if err != nil {
		return err
	}
	if err := in.count(ctx, want); err != nil {
		return err
	}
	info, err := os.Stat(r.file)
	if err != nil {
		return fmt.Errorf("size of the events: %w", err)
	}
	for _, row := range growthRows(n, info.Size(), before, after) {
		row.Load, row.Command = at, "`up`, then `ingest --format ndjson FILE`"
		r.add(row)
	}
	return in.stop(ctx)
}

// growthRows writes what was added, by a million events.
func growthRows(n, input int64, before, after disk) []Row {
	perEvent := func(bytes int64) string {
		return fmt.Sprintf("%d MB, %d bytes an event", bytes*1_000_000/n>>20, bytes/n)
	}
	row := func(what string, bytes int64) Row {
		return Row{What: "disk, 1,000,000 events: " + what, Rate: perEvent(bytes)}
	}
	rows := []Row{row("the events themselves, as JSON lines", input)}
	names := make([]string, 0, len(after.topics))
	for name := range after.topics {
		names = append(names, name)
	}
	slices.Sort(names)
	broker := int64(0)
	for _, name := range names {
		added := after.topics[name] - before.topics[name]
		broker += added
		if name == schemas.TopicAudit || name == schemas.SealedName(schemas.TopicAudit) {
			rows = append(rows, row("topic "+name+", one replica", added))
		}
	}
	heap, toast, byKey := after.heap-before.heap, after.toast-before.toast, after.byKey-before.byKey
	indexes := after.indexes - before.indexes
	return append(rows,
		row("all topics, one replica", broker),
		row("PostgreSQL, table", heap), row("PostgreSQL, table, values stored aside (TOAST)", toast),
		row("PostgreSQL, primary key", byKey), row("PostgreSQL, the other indexes", indexes-byKey),
		row("PostgreSQL, table and indexes", heap+toast+indexes),
		row("PostgreSQL, WAL written (removed after the next checkpoints)", after.wal-before.wal),
		Row{What: "disk: WAL kept when all was stored", Rate: megabytes(after.walKept)})
}

// readDisk reads what a database and the log directories of a broker hold now.
func readDisk(ctx context.Context, db *pgx.Conn, logDirs ...string) (d disk, err error) {
	if d.topics, err = topicBytes(logDirs...); err != nil {
		return d, err
	}
	// What is still only in the server's memory has its place in the files already.
	err = db.QueryRow(ctx, `SELECT coalesce(sum(pg_table_size(c.oid)) - sum(CASE WHEN c.reltoastrelid <> 0 THEN pg_total_relation_size(c.reltoastrelid) ELSE 0 END), 0)::bigint,
			coalesce(sum(CASE WHEN c.reltoastrelid <> 0 THEN pg_total_relation_size(c.reltoastrelid) ELSE 0 END), 0)::bigint,
			coalesce(sum(pg_indexes_size(c.oid)), 0)::bigint,
			coalesce(sum((SELECT sum(pg_relation_size(i.indexrelid)) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)), 0)::bigint,
			(pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint,
			(SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir())
		FROM pg_partition_tree('public.events') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf`).
		Scan(&d.heap, &d.toast, &d.indexes, &d.byKey, &d.wal, &d.walKept)
	if err != nil {
		return d, fmt.Errorf("read sizes of the table: %w", err)
	}
	return d, nil
}

// partitionDir is how brokers name the directory of a partition, ours and Apache Kafka.
var partitionDir = regexp.MustCompile(`^(.+)-[0-9]+$`)

// topicBytes sums up what the partitions of each topic take on disk, in the directories
// that lie directly below a broker's log directories.
func topicBytes(logDirs ...string) (map[string]int64, error) {
	sums := map[string]int64{}
	for _, dir := range logDirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("sizes of topics: %w", err)
		}
		for _, e := range entries {
			m := partitionDir.FindStringSubmatch(e.Name())
			if m == nil || !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			n, err := allocated(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("size of %s: %w", e.Name(), err)
			}
			sums[m[1]] += n
		}
	}
	return sums, nil
}

// allocated is what the files below a directory take on disk. It counts blocks: brokers
// make index files larger than what is in them.
func allocated(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the broker has removed it meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			n += st.Blocks * 512
		} else {
			n += info.Size()
		}
		return nil
	})
	return n, err
}
