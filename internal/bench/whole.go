package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
)

// whole measures `up` as people run it: the whole path from a file to the last row,
// then its memory, at rest and with a database that has fallen asleep, and its starts.
func (r *runner) whole(ctx context.Context) error {
	in, err := r.install(ctx, "whole")
	if err != nil {
		return err
	}
	defer func() { in.leave(ctx) }()
	steps := []func(context.Context, *installation) error{r.path, r.rest, r.stuck, r.starts}
	for _, step := range steps {
		if err := step(ctx, in); err != nil {
			return err
		}
	}
	return in.stop(ctx)
}

// path measures from the start of ingest until the last row is stored.
func (r *runner) path(ctx context.Context, in *installation) error {
	if _, err := r.events(ctx); err != nil {
		return err
	}
	at := load()
	before, err := in.meter()
	if err != nil {
		return err
	}
	began := time.Now()
	n, cpu, err := r.ingest(ctx, in)
	if err != nil {
		return err
	}
	ingested := time.Since(began)
	want, err := in.expected(ctx)
	if err != nil {
		return err
	}
	end, err := in.stored(ctx, want)
	if err != nil {
		return err
	}
	after, err := in.meter()
	if err != nil {
		return err
	}
	mem, err := readMemory(in.PID())
	if err != nil {
		return err
	}
	used := after.since(before)
	const command = "`up`, then `ingest --format ndjson FILE`"
	r.add(Row{What: "whole path: file, sealed, stored", Rate: perSecond(n, end.Sub(began), "events"),
		CPU:      costs(n, share{"ingest", cpu}, share{"up", used.up}, share{"PostgreSQL", used.postgres}),
		Required: "20,000/s", Goal: "40,000/s", Load: at, Command: command})
	r.add(Row{What: "of it: file to acknowledged", Rate: perSecond(n, ingested, "events"), CPU: costs(n, share{"ingest", cpu}), Load: at, Command: command})
	r.add(Row{What: "memory of up, most during it", Rate: megabytes(mem.peak), Load: at, Command: command})
	return in.count(ctx, want)
}

// rest reads the memory after a while without work.
func (r *runner) rest(ctx context.Context, in *installation) error {
	r.say("leaving up alone for %s", r.o.Settle)
	if err := wait(ctx, r.o.Settle); err != nil {
		return err
	}
	mem, err := readMemory(in.PID())
	if err != nil {
		return err
	}
	r.add(Row{What: fmt.Sprintf("memory of up %s after %s events, PostgreSQL aside", r.o.Settle, thousands(r.o.Events)), Rate: megabytes(mem.now),
		Required: "400 MB", Load: load(), Command: "the same, left alone"})
	return nil
}

// stuck brings more events in while the database answers nothing, and looks at the
// memory while they come and after.
func (r *runner) stuck(ctx context.Context, in *installation) error {
	file, err := r.some(r.o.Events * 3 / 10)
	if err != nil {
		return err
	}
	if err := in.freeze(syscall.SIGSTOP); err != nil {
		return err
	}
	defer func() { _ = in.freeze(syscall.SIGCONT) }()
	at := load()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	most := make(chan int64, 1)
	go func() { most <- mostMemory(watch, in.PID()) }()
	n, _, err := r.ingestFile(ctx, in, file)
	if err != nil {
		return err
	}
	if err := in.sealed(ctx); err != nil {
		return err
	}
	during, err := readMemory(in.PID())
	if err != nil {
		return err
	}
	if err := wait(ctx, 10*time.Second); err != nil {
		return err
	}
	later, err := readMemory(in.PID())
	if err != nil {
		return err
	}
	stop()
	r.add(Row{What: fmt.Sprintf("memory of up with PostgreSQL stopped, %s events more: when all are sealed, 10 s later, most", thousands(n)),
		Rate: megabytes(during.now) + ", " + megabytes(later.now) + ", " + megabytes(<-most), Required: "flat", Load: at, Command: "`ingest`, PostgreSQL under SIGSTOP"})
	if err := in.freeze(syscall.SIGCONT); err != nil {
		return err
	}
	want, err := in.expected(ctx)
	if err != nil {
		return err
	}
	if _, err := in.stored(ctx, want); err != nil {
		return err
	}
	return in.count(ctx, want)
}

// some makes a file of the first n events without the very first one, so that it is
// another file.
func (r *runner) some(n int64) (path string, err error) {
	src, err := os.Open(r.file)
	if err != nil {
		return "", err
	}
	defer src.Close()
	path = r.bed.Path("more.ndjson")
	dst, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	w := bufio.NewWriter(dst)
	lines := bufio.NewReader(src)
	for i := int64(0); i <= n; i++ {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // fewer will do
		}
		if i == 0 {
			continue
		}
		if _, err := w.Write(line); err != nil {
			return "", err
		}
	}
	return path, w.Flush()
}

// mostMemory watches a process's memory until ctx ends.
func mostMemory(ctx context.Context, pid int) (most int64) {
	for {
		if m, err := readMemory(pid); err == nil {
			most = max(most, m.now)
		}
		if wait(ctx, 50*time.Millisecond) != nil {
			return most
		}
	}
}

// starts measures two starts on what is there now: after a stop in order, and after
// kill -9 while events come in.
func (r *runner) starts(ctx context.Context, in *installation) error {
	if err := in.stop(ctx); err != nil {
		return err
	}
	if err := r.restart(ctx, in, "after a stop in order"); err != nil {
		return err
	}
	file, err := r.some(r.o.Events * 2 / 10)
	if err != nil {
		return err
	}
	p, err := r.bed.Start("ingest", r.o.Binary, "ingest", "--data", in.data, "--format", "ndjson", "--quiet", "--state", r.bed.Path("other-state"), file)
	if err != nil {
		return err
	}
	before, _, err := in.ends(ctx)
	if err != nil {
		return err
	}
	err = testbed.Until(ctx, func() (bool, error) {
		now, _, err := in.ends(ctx)
		return now > before+r.o.Events/20, err
	})
	if err != nil {
		return fmt.Errorf("wait for events: %w", err)
	}
	in.leave(ctx)
	if err := errors.Join(in.Kill(), p.Kill()); err != nil {
		return err
	}
	return r.restart(ctx, in, "after kill -9 while events come in")
}

// restart starts `up` on the same data directory.
func (r *runner) restart(ctx context.Context, in *installation, how string) error {
	at := load()
	up, err := r.bed.Up(ctx, r.o.Binary, testbed.UpOptions{Data: in.data})
	if err != nil {
		return err
	}
	in.Up = up
	if err := in.connect(ctx); err != nil {
		return err
	}
	want, err := in.expected(ctx)
	if err != nil {
		return err
	}
	if _, err := in.stored(ctx, want); err != nil {
		return err
	}
	mem, err := readMemory(in.PID())
	if err != nil {
		return err
	}
	r.add(Row{What: "start " + how + ": time to ready, most memory until all is stored", Rate: fmt.Sprintf("%.1f s, %s", up.Took.Seconds(), megabytes(mem.peak)), Load: at, Command: "`up`"})
	return in.count(ctx, want)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
