package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Bed is a temporary directory and the processes started in it.
type Bed struct {
	dir string

	mu      sync.Mutex
	procs   []*Proc
	atClose []func() error
	names   map[string]int // log names given out
	ports   portBook
}

// New makes a bed in a new directory below parent, the system's own temporary
// directory if parent is empty. Other users may pass the directory and not list it:
// as root PostgreSQL runs as somebody else.
func New(parent string) (*Bed, error) {
	dir, err := os.MkdirTemp(parent, "sealstream-test-")
	if err != nil {
		return nil, fmt.Errorf("make a test bed: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make a test bed: %w", err)
	}
	return &Bed{dir: dir, names: map[string]int{}}, nil
}

// Path is a path below the bed's directory.
func (b *Bed) Path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

// MakeDir makes a directory below the bed's that other users may pass.
func (b *Bed) MakeDir(name string) (string, error) {
	dir := b.Path(name)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", fmt.Errorf("make a directory of the test bed: %w", err)
	}
	return dir, nil
}

// AtClose has the bed call fn when it closes, before what was handed over earlier and
// after all processes have ended.
func (b *Bed) AtClose(fn func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.atClose = append(b.atClose, fn)
}

// Close ends every process that still runs, by its pid, and removes the directory.
// With keep the directory stays, for its logs.
func (b *Bed) Close(keep bool) error {
	b.mu.Lock()
	procs, closers := b.procs, b.atClose
	b.procs, b.atClose = nil, nil
	b.mu.Unlock()
	var errs []error
	for i := len(procs) - 1; i >= 0; i-- {
		errs = append(errs, procs[i].Kill())
	}
	for i := len(closers) - 1; i >= 0; i-- {
		errs = append(errs, closers[i]())
	}
	if !keep {
		errs = append(errs, b.removeFar(), removeWhenQuiet(b.dir))
	}
	return errors.Join(errs...)
}

// removeWhenQuiet removes a directory into which a server that lost its parent may still
// write while it stops.
func removeWhenQuiet(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var last error
	if Until(ctx, func() (bool, error) { last = os.RemoveAll(dir); return last == nil, nil }) != nil {
		return last
	}
	return nil
}

// removeFar removes the databases that servers of this bed had to keep elsewhere,
// because their user cannot reach the bed.
func (b *Bed) removeFar() error {
	states, err := filepath.Glob(b.Path("*", "postgres", "postgres.json"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range states {
		var state struct {
			Data string `json:"data"`
		}
		raw, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(raw, &state)
		}
		errs = append(errs, err)
		far := filepath.IsAbs(state.Data) && !strings.HasPrefix(state.Data, b.dir)
		if far && strings.HasPrefix(filepath.Base(state.Data), "pg-") {
			errs = append(errs, os.RemoveAll(state.Data))
		}
	}
	return errors.Join(errs...)
}

// Build makes the sealstream binary from the module that the working directory is in,
// and returns its path.
func (b *Bed) Build(ctx context.Context) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	bin := b.Path("sealstream")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", bin, "./cmd/sealstream")
	cmd.Dir = root
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build cmd/sealstream: %w\n%s", err, out.String())
	}
	return bin, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("find the module: run this inside the repository")
	}
	return filepath.Dir(mod), nil
}

// logPath gives each process a log of its own.
func (b *Bed) logPath(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.names[name]++
	return b.Path(fmt.Sprintf("%s-%d.log", name, b.names[name]))
}
