package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// ErrDirInUse says that another process runs on the same data directory.
var ErrDirInUse = errors.New("data directory is in use")

// dirLock keeps a directory for one process. The kernel drops it with the
// process, so that nothing has to be cleaned up after kill -9.
type dirLock struct{ f *flock.Flock }

// lockDir makes dir if need be and takes it.
func lockDir(dir string) (*dirLock, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	l := &dirLock{f: flock.New(path, flock.SetPermissions(0o600))}
	ok, err := l.f.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", dir, explain(err))
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s belongs to %s; stop it first, or give another directory", ErrDirInUse, dir, holder(path))
	}
	// Only a hint for the message above, so that its failure is harmless.
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	return l, nil
}

func holder(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "another process"
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

// release gives the directory back. The file stays: removing it would let two
// processes lock two files of one name.
func (l *dirLock) release() { _ = l.f.Close() }
