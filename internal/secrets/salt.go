package secrets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// SaltBytes is the length of a salt master in bytes.
const SaltBytes = 32

// errNoSalts is fs.ErrNotExist for the directory as a whole; a single master that
// cannot be found (a dangling link) is another matter.
var errNoSalts = fmt.Errorf("no salt master: %w", fs.ErrNotExist)

// LoadSalts reads every salt master of dir: files <id>.key, id a decimal number
// from 1 to 4294967295 without leading zeros, 32 raw bytes each, mode 0600. A
// directory without masters is an error (fs.ErrNotExist), and so is any other file
// in it: a master that is passed over for its name would seal under the wrong key.
func LoadSalts(dir string) (map[uint32][]byte, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("salt directory %s: %w", dir, errNoSalts)
	}
	if err != nil {
		return nil, fmt.Errorf("salt directory %s: %w", dir, bare(err))
	}
	salts := make(map[uint32][]byte, len(entries))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			continue // left by a crash in Create, never published
		}
		path := filepath.Join(dir, e.Name())
		id, err := saltID(e.Name())
		if err != nil {
			return nil, fmt.Errorf("salt master %s: %w", path, err)
		}
		b, err := readOwnerOnly(path)
		if err != nil {
			return nil, fmt.Errorf("salt master %d: %w", id, err)
		}
		if len(b) != SaltBytes {
			return nil, fmt.Errorf("salt master %s has %d bytes, want exactly %d raw bytes: restore it from a backup; a new one goes into a file of its own with the next number",
				path, len(b), SaltBytes)
		}
		salts[id] = b
	}
	if len(salts) == 0 {
		return nil, fmt.Errorf("salt directory %s holds no <id>.key file: %w", dir, errNoSalts)
	}
	return salts, nil
}

// EnsureSalts is [LoadSalts], after making the first master, 1.key, when dir does
// not exist or is empty. It makes nothing when any file is there: a master that was
// lost must be restored, never replaced by another one of the same number.
func EnsureSalts(dir string) (map[uint32][]byte, error) {
	salts, err := LoadSalts(dir)
	if !errors.Is(err, errNoSalts) {
		return salts, err
	}
	if _, err := EnsureKey(filepath.Join(dir, "1.key"), SaltBytes); err != nil {
		return nil, fmt.Errorf("make the first salt master: %w", err)
	}
	return LoadSalts(dir)
}

func saltID(name string) (uint32, error) {
	digits, ok := strings.CutSuffix(name, ".key")
	id, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || id == 0 || strconv.FormatUint(id, 10) != digits {
		return 0, errors.New("want a name like 1.key, 2.key: a number from 1 to 4294967295, then .key; nothing else may lie in this directory")
	}
	return uint32(id), nil
}
