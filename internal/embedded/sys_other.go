//go:build !linux

package embedded

import (
	"errors"
	"fmt"
	"math"
	"os"
)

// syncPath brings the content of a file, or the names in a directory, to disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open to sync: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// freeBytes is not known here; a full disk then shows as a failed write.
func freeBytes(string) (uint64, error) { return math.MaxUint64, nil }

// openFileLimit is not known here.
func openFileLimit() uint64 { return math.MaxUint64 }
