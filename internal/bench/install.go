package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// servers are a broker and a database with clients of our own.
type servers struct {
	prefix   string // before topics and groups
	postgres int    // pid of the server
	adm      *kadm.Client
	db       *pgx.Conn
}

// installation is a running `up` with clients of our own.
type installation struct {
	*testbed.Up
	servers
	data string
}

// install starts `up` on a data directory and connects to it.
func (r *runner) install(ctx context.Context, name string, without ...string) (*installation, error) {
	dir, err := r.bed.MakeDir(name)
	if err != nil {
		return nil, err
	}
	up, err := r.bed.Up(ctx, r.o.Binary, testbed.UpOptions{Data: dir, Without: without})
	if err != nil {
		return nil, err
	}
	in := &installation{Up: up, data: dir}
	return in, in.connect(ctx)
}

// connect is done again after each start.
func (in *installation) connect(ctx context.Context) error {
	if err := in.dial(ctx, in.Ready.Kafka, in.Ready.Postgres); err != nil {
		return err
	}
	var err error
	in.postgres, err = postmaster(in.data)
	return err
}

// dial makes the clients.
func (in *servers) dial(ctx context.Context, brokers []string, database string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	in.adm = kadm.NewClient(cl)
	if in.db, err = pgx.Connect(ctx, database); err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	return nil
}

// leave closes our own connections.
func (in *servers) leave(ctx context.Context) {
	if in.adm != nil {
		in.adm.Close()
	}
	if in.db != nil {
		_ = in.db.Close(ctx)
	}
}

// stop ends `up` in order.
func (in *installation) stop(ctx context.Context) error {
	in.leave(ctx)
	code, err := in.Terminate(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("up ended with exit code %d; its log ends with:\n%s", code, in.Tail())
	}
	return err
}

// postmaster reads the pid of the database server of a data directory.
func postmaster(data string) (int, error) {
	var state struct {
		Data string `json:"data"`
	}
	raw, err := os.ReadFile(filepath.Join(data, "postgres", "postgres.json"))
	if err == nil {
		err = json.Unmarshal(raw, &state)
	}
	if !filepath.IsAbs(state.Data) {
		state.Data = filepath.Join(data, "postgres", state.Data)
	}
	if err == nil {
		raw, err = os.ReadFile(filepath.Join(state.Data, "data", "postmaster.pid"))
	}
	if err != nil {
		return 0, fmt.Errorf("find the database server: %w", err)
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0, fmt.Errorf("find the database server: %w", err)
	}
	return pid, nil
}

// sources are the topics that are sealed.
func (in *servers) sources() []string {
	return []string{in.prefix + schemas.TopicAudit, in.prefix + schemas.TopicDomain, in.prefix + schemas.TopicControl}
}

// ends returns how many records the source topics hold, and how many partitions they are.
func (in *servers) ends(ctx context.Context) (records, partitions int64, err error) {
	offsets, err := in.adm.ListEndOffsets(ctx, in.sources()...)
	if err = errors.Join(err, offsets.Error()); err != nil {
		return 0, 0, fmt.Errorf("list offsets: %w", err)
	}
	offsets.Each(func(o kadm.ListedOffset) { records, partitions = records+o.Offset, partitions+1 })
	return records, partitions, nil
}

// expected is how many rows there must be: one for each record, and for each ledger's genesis.
func (in *servers) expected(ctx context.Context) (int64, error) {
	records, partitions, err := in.ends(ctx)
	return records + partitions, err
}

// sealed waits until the seal has committed all source records.
func (in *servers) sealed(ctx context.Context) error {
	return testbed.Until(ctx, func() (bool, error) {
		want, _, err := in.ends(ctx)
		if err != nil {
			return false, err
		}
		groups, err := in.adm.FetchOffsets(ctx, in.prefix+"seal")
		if err != nil {
			return false, fmt.Errorf("read the seal's offsets: %w", err)
		}
		got := int64(0)
		groups.Each(func(o kadm.OffsetResponse) { got += o.At })
		return got == want, nil
	})
}

// rowsByIndex sums up how far each ledger's rows reach, by the primary key alone: seq
// has no gaps. It costs a few milliseconds whatever the table holds.
const rowsByIndex = `WITH RECURSIVE l(ledger) AS (
	(SELECT ledger FROM public.events ORDER BY ledger LIMIT 1)
	UNION ALL
	SELECT (SELECT e.ledger FROM public.events e WHERE e.ledger > l.ledger ORDER BY e.ledger LIMIT 1) FROM l WHERE l.ledger IS NOT NULL)
SELECT coalesce(sum((SELECT max(e.seq) + 1 FROM public.events e WHERE e.ledger = l.ledger)), 0)::bigint FROM l WHERE l.ledger IS NOT NULL`

// pollRows is the time between two looks at the table, and so how exact its times are.
const pollRows = 100 * time.Millisecond

// stored waits until the table holds so many rows. At the end it counts them.
func (in *servers) stored(ctx context.Context, want int64) (at time.Time, err error) {
	t := time.NewTicker(pollRows)
	defer t.Stop()
	for {
		var n int64
		if err := in.db.QueryRow(ctx, rowsByIndex).Scan(&n); err != nil {
			return at, fmt.Errorf("look how far the rows reach: %w", err)
		}
		if n >= want {
			break
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return at, fmt.Errorf("%d of %d rows are stored: %w", n, want, ctx.Err())
		}
	}
	return time.Now(), nil
}

// count counts the rows and says so when they are not as many as there must be.
func (in *servers) count(ctx context.Context, want int64) error {
	var n int64
	if err := in.db.QueryRow(ctx, "SELECT count(*) FROM public.events").Scan(&n); err != nil {
		return fmt.Errorf("count the rows: %w", err)
	}
	if n != want {
		return fmt.Errorf("the table holds %d rows, not %d", n, want)
	}
	return nil
}

// freeze stops all processes of the database server, or wakes them up.
func (in *servers) freeze(s syscall.Signal) error {
	kids, err := children(in.postgres)
	if err != nil {
		return err
	}
	for _, pid := range append(kids, in.postgres) {
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal the database server (pid %d): %w", pid, err)
		}
	}
	return nil
}

// meter reads the CPU that `up` and the database server have used so far.
type meter struct{ up, postgres time.Duration }

func (in *installation) meter() (m meter, err error) {
	if m.up, err = ownCPU(in.PID()); err == nil {
		m.postgres, err = treeCPU(in.postgres)
	}
	return m, err
}

func (m meter) since(before meter) meter {
	return meter{m.up - before.up, m.postgres - before.postgres}
}
