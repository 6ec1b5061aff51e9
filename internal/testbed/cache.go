package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// doneMarker is written last into a cached directory. What lacks it is a rest of a
// fetch that was cut off, whatever else lies there.
const doneMarker = ".done"

// tries is how often something is asked of a registry before its answer counts.
const tries = 3

// cacheRoot is where foreign programs are kept from one run to the next.
func cacheRoot(dir string) (string, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the user's cache directory (set XDG_CACHE_HOME or HOME): %w", err)
		}
		dir = filepath.Join(user, "sealstream-testbed")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache of foreign programs: %w", err)
	}
	return dir, nil
}

// cacheKey names what was fetched by all that decides about its contents.
func cacheKey(kind string, what ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(what, "\n")))
	return kind + "-" + hex.EncodeToString(sum[:8])
}

// cached returns the directory of that name in the cache. If it is not whole it is
// emptied and filled first, by one process at a time. It is filled where it stays,
// because some programs (Python's environments) do not survive a move.
func cached(ctx context.Context, root, name string, fill func(dir string) error) (string, error) {
	dir, err := cacheRoot(root)
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, name)
	if isDone(dir) {
		return dir, nil
	}
	lock := flock.New(dir + ".lock")
	if ok, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil || !ok {
		return "", fmt.Errorf("wait for another process that fills %s: %w", dir, errors.Join(err, ctx.Err()))
	}
	defer lock.Close()
	if isDone(dir) {
		return dir, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("remove what an interrupted fetch left: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", dir, err)
	}
	if err := fill(dir); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, doneMarker), nil, 0o644); err != nil {
		return "", fmt.Errorf("mark %s as whole: %w", dir, err)
	}
	return dir, nil
}

func isDone(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, doneMarker))
	return err == nil
}

// isEmpty says whether a directory holds nothing.
func isEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}

// again runs a program that talks to a registry until it succeeds, three times at the
// most: registries drop connections. An answer that contains one of the texts is final.
func again(ctx context.Context, dir string, command, final []string) error {
	var last error
	for i := range tries {
		if i > 0 {
			select {
			case <-ctx.Done():
				return errors.Join(last, ctx.Err())
			case <-time.After(time.Duration(i) * time.Second):
			}
		}
		out, err := output(ctx, dir, command)
		if err == nil {
			return nil
		}
		last = fmt.Errorf("run %s: %w; it printed:\n%s", command[0], err, lastLines(out, 12))
		for _, text := range final {
			if strings.Contains(out, text) {
				return last
			}
		}
	}
	return last
}

// output runs a program to its end and returns what it printed.
func output(ctx context.Context, dir string, command []string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// tool finds a program, or says what to install.
func tool(name, debian string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed; on Debian: apt-get install %s", name, debian)
	}
	return path, nil
}
