package secrets

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// tmpPrefix starts the names of files being written; a crash can leave one behind.
const tmpPrefix = ".tmp-"

// Create writes a new file of mode 0600 and returns once the file and its name are
// on disk. An existing file is never touched: the error is then fs.ErrExist. Other
// processes see the whole content or no file, also after a crash.
func Create(path string, data []byte) error {
	return write(path, data, func(tmp string) error {
		// Link, unlike rename, fails when the name is taken: of two processes that
		// start at once, one makes the key and the other reads it.
		if err := os.Link(tmp, path); err != nil {
			return err
		}
		return os.Remove(tmp)
	})
}

// Replace is [Create] for a file that may exist: the old content stays until the
// new one is on disk.
func Replace(path string, data []byte) error {
	return write(path, data, func(tmp string) error { return os.Rename(tmp, path) })
}

func write(path string, data []byte, publish func(tmp string) error) (err error) {
	suffix := make([]byte, 8)
	_, _ = rand.Read(suffix) // never fails: crypto/rand ends the process instead
	dir := filepath.Dir(path)
	tmp := filepath.Join(dir, tmpPrefix+hex.EncodeToString(suffix))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, bare(err))
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, bare(err))
	}
	// A crash before this line leaves a temporary file that nobody reads; a crash
	// after it leaves the whole file.
	if err = publish(tmp); err != nil {
		var le *os.LinkError
		if errors.As(err, &le) {
			err = le.Err
		}
		return fmt.Errorf("create %s: %w", path, bare(err))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, bare(err))
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, bare(err))
	}
	return nil
}

// EnsureKey reads the key at path, or makes one of size random bytes there, with
// its directory, when nothing is there yet.
func EnsureKey(path string, size int) (Secret, error) {
	s, err := ReadKey(path, size)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err := MakeDir(filepath.Dir(path)); err != nil {
		return Secret{}, err
	}
	key := make([]byte, size)
	_, _ = rand.Read(key)
	if err := Create(path, key); err != nil && !errors.Is(err, fs.ErrExist) {
		return Secret{}, err
	}
	return ReadKey(path, size) // what is on disk counts, whoever won
}

// MakeDir makes a directory of mode 0700, with its parents, unless it exists.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory %s: %w", dir, bare(err))
	}
	return nil
}
