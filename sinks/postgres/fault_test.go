package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealstream/sealstream/internal/embedded"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

// quick is a Deliverer that does not wait for long.
func quick(s sinks.Sink, rejects sinks.Rejecter, alarm func(kind, detail string)) *sinks.Deliverer {
	return sinks.NewDeliverer(s, rejects, sinks.DeliverOptions{
		Sink: "postgres", RetryMin: time.Millisecond, RetryMax: 100 * time.Millisecond, BreakerOpen: 50 * time.Millisecond, ConfigOpen: 50 * time.Millisecond, Alarm: alarm,
	}, quiet(), sinks.NewMetrics(nil))
}

// complete says what is wrong with the rows of src's first n records, which must be
// there once each, in order.
func complete(rows []sinktest.Row, n int) error {
	if len(rows) != n {
		return fmt.Errorf("%d rows, want %d", len(rows), n)
	}
	slices.SortStableFunc(rows, func(a, b sinktest.Row) int { return int(a.Seq) - int(b.Seq) })
	for i, r := range rows {
		if r.Seq != uint64(i) {
			return fmt.Errorf("seq %d where %d is due", r.Seq, i)
		}
	}
	return nil
}

// cutter is a way to the server that breaks at a COMMIT on command.
type cutter struct {
	addr   string
	target string
	cut    atomic.Int32 // the next commits to break
	before atomic.Bool  // break before the server gets it, else before its answer comes back
	fired  atomic.Int32
}

func newCutter(t *testing.T) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{addr: l.Addr().String(), target: fmt.Sprintf("127.0.0.1:%d", server.Port())}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return c
}

func (c *cutter) serve(client net.Conn) {
	defer client.Close()
	pg, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer pg.Close()
	var lose atomic.Bool
	back := make(chan struct{})
	go func() {
		defer close(back)
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := pg.Read(buf)
			if err != nil || lose.Load() { // the answer is there, so the server has done it
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			break
		}
		if bytes.Contains(buf[:n], []byte("commit\x00")) && c.cut.Add(-1) >= 0 {
			c.fired.Add(1)
			if c.before.Load() {
				break
			}
			lose.Store(true)
		}
		if _, err := pg.Write(buf[:n]); err != nil {
			break
		}
	}
	pg.Close()
	<-back
}

// The connection breaks at COMMIT, before or behind it: the rows are there once.
func TestConnectionBreaksAtCommit(t *testing.T) {
	for _, before := range []bool{false, true} {
		d, proxy := newDatabase(t), newCutter(t)
		proxy.before.Store(before)
		s := d.sink(func(o *postgres.Options) {
			o.URL = fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", postgres.RoleWriter, "password%20of%20"+postgres.RoleWriter, proxy.addr, d.name)
		})
		src, rejects := sinktest.NewSource(t, sinktest.Topic, 0), &sinktest.Rejects{}
		deliver := quick(s, rejects, nil)
		n := 1
		if err := deliver.Deliver(t.Context(), []sinks.Batch{src.Batch([]sinks.Record{src.First()})}); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if i%3 == 0 {
				proxy.cut.Store(int32(1 + i%2))
			}
			if err := deliver.Deliver(t.Context(), []sinks.Batch{src.Batch(src.Events(50))}); err != nil {
				t.Fatal(err)
			}
			n += 50
		}
		if err := complete(d.rows(), n); err != nil {
			t.Errorf("before=%t: %v", before, err)
		}
		if got := proxy.fired.Load(); got < 7 {
			t.Errorf("before=%t: the connection broke %d times, want at least 7", before, got)
		}
		if len(rejects.Kept()) > 0 {
			t.Errorf("before=%t: an outage set %d records aside", before, len(rejects.Kept()))
		}
	}
}

// The server stops as in a crash and comes back, twice, while batches go in.
func TestImmediateStop(t *testing.T) {
	dir, err := os.MkdirTemp("", "sealstream-postgres-stop-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	start := func() *embedded.Postgres {
		pg, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{Dir: filepath.Join(dir, "pg"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return pg
	}
	pg := start()
	err = postgres.Migrate(t.Context(), postgres.MigrateOptions{URL: pg.URL(""), Passwords: map[string]string{postgres.RoleWriter: "password"}, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := postgres.New(t.Context(), postgres.Options{URL: pg.RoleURL(postgres.RoleWriter, "password", ""), Codec: schemas.NewCodec(nil), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	src, rejects := sinktest.NewSource(t, sinktest.Topic, 0), &sinktest.Rejects{}
	deliver := quick(s, rejects, nil)
	var batches atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		b := src.Batch([]sinks.Record{src.First()})
		for ctx.Err() == nil {
			if err := deliver.Deliver(t.Context(), []sinks.Batch{b}); err != nil {
				done <- err
				return
			}
			batches.Add(1)
			b = src.Batch(src.Events(200))
		}
		done <- nil
	}()
	more := func(n int64) {
		t.Helper()
		want := batches.Load() + n
		deadline := time.NewTimer(time.Minute)
		defer deadline.Stop()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for batches.Load() < want {
			select {
			case err := <-done:
				t.Fatalf("delivery ended: %v", err)
			case <-deadline.C:
				t.Fatalf("no progress: %d batches, want %d", batches.Load(), want)
			case <-tick.C:
			}
		}
	}
	for range 2 {
		more(5)
		if err := pg.Quit(); err != nil {
			t.Fatal(err)
		}
		pg = start()
	}
	more(5)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	d := &database{t: t, conn: connect(t, pg.URL(""))}
	if err := complete(d.rows(), 1+200*int(batches.Load()-1)); err != nil {
		t.Error(err)
	}
	if len(rejects.Kept()) > 0 {
		t.Errorf("an outage set %d records aside", len(rejects.Kept()))
	}
	if err := pg.Close(); err != nil {
		t.Error(err)
	}
}

// Credentials are taken away while it runs: it holds, raises an alarm, sets nothing
// aside, and goes on by itself when they are given back.
func TestCredentialsRevoked(t *testing.T) {
	d := newDatabase(t)
	src, rejects := sinktest.NewSource(t, sinktest.Topic, 0), &sinktest.Rejects{}
	raised, cleared := make(chan string, 100), make(chan string, 100)
	deliver := quick(d.sink(), rejects, func(kind, detail string) {
		if detail == "" {
			cleared <- kind
		} else {
			raised <- kind
		}
	})
	if err := deliver.Deliver(t.Context(), []sinks.Batch{src.Batch([]sinks.Record{src.First()})}); err != nil {
		t.Fatal(err)
	}
	d.exec("ALTER ROLE sealstream_writer NOLOGIN")
	restore := func() { d.exec("ALTER ROLE sealstream_writer LOGIN") }
	defer restore()
	d.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sealstream_writer' AND datname = current_database()")
	done := make(chan error, 1)
	go func() { done <- deliver.Deliver(t.Context(), []sinks.Batch{src.Batch(src.Events(10))}) }()
	for kind := ""; kind != sinks.AlarmConfig; {
		select {
		case kind = <-raised:
		case err := <-done:
			t.Fatalf("delivered without the right to log in: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatal("no alarm")
		}
	}
	restore()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for kind := ""; kind != sinks.AlarmConfig; {
		select {
		case kind = <-cleared:
		case <-time.After(30 * time.Second):
			t.Fatal("the alarm was not cleared")
		}
	}
	if err := complete(d.rows(), 11); err != nil || len(rejects.Kept()) > 0 {
		t.Errorf("%v, %d set aside", err, len(rejects.Kept()))
	}
}

// Another owner stands still in the middle of its transaction, as SIGSTOP does it: the
// new owner does not wait for it for ever.
func TestStalledOwner(t *testing.T) {
	d := newDatabase(t)
	s := d.sink(func(o *postgres.Options) { o.LockTimeout = 100 * time.Millisecond })
	src, rejects := sinktest.NewSource(t, sinktest.Topic, 0), &sinktest.Rejects{}
	write(t, s, src.Batch([]sinks.Record{src.First()}))
	next := src.Batch(src.Events(5))
	for _, application := range []string{"sealstream sink", "psql"} {
		owner := connect(t, d.url(postgres.RoleWriter)+"&application_name="+url.PathEscape(application))
		tx, err := owner.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "UPDATE sink_offsets SET next_offset = next_offset + 1000"); err != nil {
			t.Fatal(err)
		}
		if application == "psql" { // not a sink's session: it is left alone
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := quick(s, rejects, nil).Deliver(ctx, []sinks.Batch{next}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("deliver behind somebody else's lock: %v, want it to wait", err)
			}
			cancel()
			if err := tx.Rollback(t.Context()); err != nil {
				t.Errorf("a session that is no sink's was ended: %v", err)
			}
			continue
		}
		if err := quick(s, rejects, nil).Deliver(t.Context(), []sinks.Batch{next}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context()); err == nil {
			t.Error("the stalled owner could commit")
		}
		next = src.Batch(src.Events(5))
	}
	if err := complete(d.rows(), 6); err != nil {
		t.Error(err)
	}
}

// The same in the middle of COPY, where the server waits for rows and heeds no time-out.
func TestOwnerStallsInCopy(t *testing.T) {
	d := newDatabase(t)
	s := d.sink(func(o *postgres.Options) { o.LockTimeout = 100 * time.Millisecond })
	src, rejects := sinktest.NewSource(t, sinktest.Topic, 0), &sinktest.Rejects{}
	write(t, s, src.Batch([]sinks.Record{src.First()}))
	owner := connect(t, d.url(postgres.RoleWriter)+"&application_name=sealstream%20sink&statement_timeout=200")
	for _, sql := range []string{"BEGIN", "UPDATE sink_offsets SET next_offset = next_offset + 1000"} {
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	rows, stall := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := owner.PgConn().CopyFrom(t.Context(), rows, "COPY events FROM STDIN (FORMAT BINARY)")
		ended <- err
	}()
	if _, err := stall.Write([]byte("PGCOPY")); err != nil {
		t.Fatal(err)
	}
	if err := quick(s, rejects, nil).Deliver(t.Context(), []sinks.Batch{src.Batch(src.Events(5))}); err != nil {
		t.Fatal(err)
	}
	stall.Close() // it wakes
	if err := <-ended; err == nil {
		t.Error("the stalled owner's COPY went on")
	}
	if err := complete(d.rows(), 6); err != nil {
		t.Error(err)
	}
}
