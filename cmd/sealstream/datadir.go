package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// lockData takes the data directory for this process. The kernel drops the lock with
// the process, so nothing is left to clean up after kill -9.
func lockData(dir string) (unlock func(), err error) {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		// PostgreSQL does not run as root, and its own user has to pass through. What is in
		// here has modes of its own.
		mode = 0o711
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return nil, fmt.Errorf("make data directory %s: %w", dir, plainError(err))
	}
	path := filepath.Join(dir, lockFile)
	l := flock.New(path, flock.SetPermissions(0o600))
	// Other commands look at the lock for a moment: that is no reason to give up.
	for deadline := time.Now().Add(time.Second); ; {
		ok, err := l.TryLock()
		if err != nil {
			return nil, fmt.Errorf("take data directory %s: %w", dir, plainError(err))
		}
		if ok {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("data directory %s is in use by process %s: stop it first, or give another directory", dir, holderOf(path))
		}
		time.Sleep(20 * time.Millisecond)
	}
	// Only for the message above, so that a failure costs nothing.
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	return func() { _ = l.Unlock() }, nil
}

func holderOf(lockPath string) string {
	b, err := os.ReadFile(lockPath)
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return pid
	}
	return "(unknown)"
}

// plainError takes the path out of an error of package os.
func plainError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
