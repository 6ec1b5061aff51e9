package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newBed(t *testing.T) *Bed {
	t.Helper()
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(false); err != nil {
			t.Error(err)
		}
	})
	return b
}

func start(t *testing.T, b *Bed, script string) *Proc {
	t.Helper()
	p, err := b.Start("script", "sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestProcessEnds(t *testing.T) {
	b, ctx := newBed(t), bounded(t)
	p := start(t, b, "echo ready; exit 3")
	if err := p.WaitLog(ctx, "ready"); err != nil {
		t.Error(err)
	}
	if code, err := p.Wait(ctx); err != nil || code != 3 || !p.Ended() {
		t.Errorf("exit code %d, %v, want 3", code, err)
	}
	if err := p.WaitLog(ctx, "nothing like this"); err == nil || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("waiting for what an ended process never said gave %v", err)
	}
}

func TestKillAndTerminate(t *testing.T) {
	b, ctx := newBed(t), bounded(t)
	p := start(t, b, "echo ready; exec sleep 60")
	if err := p.WaitLog(ctx, "ready"); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil || p.Exit() != -1 {
		t.Errorf("kill: %v, exit code %d", err, p.Exit())
	}
	if err := p.Kill(); err != nil {
		t.Errorf("kill of a dead process: %v", err)
	}
	q := start(t, b, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
	if err := q.WaitLog(ctx, "ready"); err != nil {
		t.Fatal(err)
	}
	if code, err := q.Terminate(ctx); err != nil || code != 7 {
		t.Errorf("terminate: exit code %d, %v, want 7", code, err)
	}
	if q.LogPath == p.LogPath {
		t.Error("two processes share a log")
	}
}

func TestStopAndContinue(t *testing.T) {
	b, ctx := newBed(t), bounded(t)
	p := start(t, b, "while :; do echo tick; sleep 0.02; done")
	if err := p.WaitLog(ctx, "tick"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	err := Until(ctx, func() (bool, error) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		if errors.Is(err, os.ErrNotExist) && !exists("/proc/self/stat") {
			return true, nil // no such file system here
		}
		_, state, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(state, "T"), err
	})
	if err != nil {
		t.Errorf("not stopped: %v", err)
	}
	said := len(p.Log())
	if err := p.Continue(); err != nil {
		t.Fatal(err)
	}
	if err := Until(ctx, func() (bool, error) { return len(p.Log()) > said, nil }); err != nil {
		t.Errorf("it does not go on: %v", err)
	}
}

// Whatever happens to a test, nothing it started may outlive it.
func TestCloseEndsEverything(t *testing.T) {
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	running, stopped := start(t, b, "exec sleep 60"), start(t, b, "exec sleep 60")
	if err := stopped.Stop(); err != nil {
		t.Fatal(err)
	}
	var order []string
	b.AtClose(func() error { order = append(order, "first"); return nil })
	b.AtClose(func() error {
		order = append(order, "last")
		if !running.Ended() {
			t.Error("a closer ran before the processes had ended")
		}
		return nil
	})
	if err := b.Close(false); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Proc{running, stopped} {
		if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", p.PID(), err)
		}
	}
	if exists(b.Path()) {
		t.Error("the directory is still there")
	}
	if strings.Join(order, " ") != "last first" {
		t.Errorf("closers ran in the order %v", order)
	}
}

// A database that lies outside the bed goes with it; nothing else outside does.
func TestCloseRemovesFarDatabases(t *testing.T) {
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	for _, name := range []string{"pg-0123", "other"} {
		dir := b.Path(name, "postgres")
		far := outside + "/" + name
		state := fmt.Sprintf(`{"version": 1, "data": %q}`, far)
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Mkdir(far, 0o700), os.WriteFile(dir+"/postgres.json", []byte(state), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(false); err != nil {
		t.Fatal(err)
	}
	if exists(outside+"/pg-0123") || !exists(outside+"/other") {
		t.Error("not exactly the database of the bed is gone")
	}
}

func TestRunReturnsTheExitCode(t *testing.T) {
	b, ctx := newBed(t), bounded(t)
	r, err := b.Run(ctx, "sh", "-c", "echo out; echo err >&2; exit 2")
	if err != nil || r.Exit != 2 || r.Stdout != "out\n" || r.Stderr != "err\n" {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := b.Run(ctx, "/nowhere/program"); err == nil {
		t.Error("no error about a program that is not there")
	}
}

func TestUpThatEndsIsNoUp(t *testing.T) {
	b, ctx := newBed(t), bounded(t)
	bin := b.Path("program")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\necho no disk; exit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := b.Up(ctx, bin, UpOptions{Data: b.Path("data")})
	if err == nil || !strings.Contains(err.Error(), "exit code 2") || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("got %v", err)
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }
