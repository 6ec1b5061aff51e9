package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Ready is what `up` writes into its ready file.
type Ready struct {
	API      string            `json:"api"`
	Kafka    []string          `json:"kafka"`
	Registry string            `json:"registry"`
	Postgres string            `json:"postgres"` // as the superuser
	Tokens   map[string]string `json:"tokens"`   // role -> file
	PID      int               `json:"pid"`
}

// Token reads the token of a role.
func (r Ready) Token(role string) (string, error) {
	path, ok := r.Tokens[role]
	if !ok {
		return "", fmt.Errorf("the ready file names no token of role %s", role)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the token of role %s: %w", role, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Up is a running `sealstream up`.
type Up struct {
	*Proc
	Ready Ready
	Took  time.Duration // from its start to its being ready

	readyFile string
	began     time.Time
}

// UpOptions say how to start `up`.
type UpOptions struct {
	Data    string   // its data directory
	Without []string // roles that run elsewhere
	Args    []string // more arguments
}

// StartUp starts `up` without waiting: see [Bed.Up].
func (b *Bed) StartUp(bin string, o UpOptions) (*Up, error) {
	if err := os.Remove(readyFile(o)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove an old ready file: %w", err)
	}
	args := []string{"up", "--data", o.Data, "--ready-file", readyFile(o), "--listen", "127.0.0.1:0"}
	if len(o.Without) > 0 {
		args = append(args, "--without", strings.Join(o.Without, ","))
	}
	began := time.Now()
	p, err := b.Start("up", bin, append(args, o.Args...)...)
	if err != nil {
		return nil, err
	}
	return &Up{Proc: p, readyFile: readyFile(o), began: began}, nil
}

// Up starts `up` and waits until it is ready. An error shows the end of its log.
func (b *Bed) Up(ctx context.Context, bin string, o UpOptions) (*Up, error) {
	u, err := b.StartUp(bin, o)
	if err != nil {
		return nil, err
	}
	if err := u.AwaitReady(ctx); err != nil {
		return nil, errors.Join(err, u.Kill())
	}
	return u, nil
}

// AwaitReady waits until `up` has written its ready file.
func (u *Up) AwaitReady(ctx context.Context) error {
	err := Until(ctx, func() (bool, error) {
		raw, err := os.ReadFile(u.readyFile)
		if err == nil && json.Unmarshal(raw, &u.Ready) == nil {
			return true, nil
		}
		if u.Ended() {
			return false, fmt.Errorf("it ended with exit code %d", u.Exit())
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("wait for up to be ready: %w; its log %s ends with:\n%s", err, u.LogPath, u.Tail())
	}
	u.Took = time.Since(u.began)
	if u.Ready.PID != u.PID() {
		return fmt.Errorf("the ready file names pid %d, up has %d", u.Ready.PID, u.PID())
	}
	return nil
}

func readyFile(o UpOptions) string { return strings.TrimRight(o.Data, "/") + ".ready" }
