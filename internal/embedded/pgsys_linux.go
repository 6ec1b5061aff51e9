package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dieWithParent has the kernel end the child when we end.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = signalFast }

// stopLeftover ends what an earlier server left running on data: after
// kill -9 of ours the server may still be shutting down, and after kill -9 of
// the server its backends may still be attached to it. Only processes whose
// working directory is data are touched; PostgreSQL's processes stay in it all
// their life.
func stopLeftover(ctx context.Context, data string, log *slog.Logger) error {
	pidFile := filepath.Join(data, "postmaster.pid")
	b, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read postmaster.pid: %w", explain(err))
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		pid = 0
	}
	ctx, cancel := context.WithTimeout(ctx, 2*stopWithin)
	defer cancel()
	if pid > 1 && worksIn(pid, data) {
		log.WarnContext(ctx, "a postgres of an earlier start still runs on this data directory: it is stopped", "pid", pid)
		if err := endForeign(ctx, pid, data); err != nil {
			return err
		}
	}
	if err := waitUntil(ctx, func() bool { return !anyWorksIn(data) }); err != nil {
		return fmt.Errorf("processes of an earlier postgres still use %s: %w", data, err)
	}
	// The file may outlive its server, and its number may belong to some
	// other process by now, which the server would take for a rival.
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a stale postmaster.pid: %w", explain(err))
	}
	return nil
}

// endForeign ends a server that is not our child.
func endForeign(ctx context.Context, pid int, data string) error {
	for _, s := range []stopSignal{signalFast, signalImmediate, signalKill} {
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop postgres process %d: %w", pid, err)
		}
		wait, cancel := context.WithTimeout(ctx, stopWithin/2)
		err := waitUntil(wait, func() bool { return !worksIn(pid, data) })
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("stop postgres process %d: %w", pid, ctx.Err())
		}
	}
	return fmt.Errorf("postgres process %d does not end: stop it by hand", pid)
}

// worksIn tells whether a process runs with dir as its working directory.
func worksIn(pid int, dir string) bool {
	cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	if err != nil {
		return false // gone, or a zombie, or not ours to see
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		real = dir
	}
	return cwd == real
}

func anyWorksIn(dir string) bool {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range procs {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && worksIn(pid, dir) {
			return true
		}
	}
	return false
}

func waitUntil(ctx context.Context, ok func() bool) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}
