package embedded

import (
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"
)

// syncPath brings the content of a file, or the names in a directory, to disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open to sync: %w", err)
	}
	// fdatasync writes the new length too, which is all an append needs.
	for {
		if err = syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// freeBytes is the room that is left for us on the disk of path.
func freeBytes(path string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("look at the free space of %s: %w", path, err)
	}
	free := st.Bavail
	if os.Geteuid() == 0 {
		free = st.Bfree
	}
	return free * uint64(st.Bsize), nil
}

// openFileLimit is how many files this process may have open.
func openFileLimit() uint64 {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return math.MaxUint64
	}
	return r.Cur
}
