package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// frozen says whether every thread of a process is stopped by a signal.
func frozen(pid int) (bool, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(paths) == 0 {
		return false, fmt.Errorf("process %d is gone: %w", pid, err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that has ended
		}
		if err != nil {
			return false, err
		}
		// The state follows the name, which may hold anything.
		_, state, ok := bytes.Cut(raw[bytes.LastIndexByte(raw, ')')+1:], []byte(" "))
		if !ok || !bytes.HasPrefix(state, []byte("T")) {
			return false, nil
		}
	}
	return true, nil
}
