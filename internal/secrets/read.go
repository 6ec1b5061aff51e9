package secrets

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// MaxFileBytes bounds a secret file: nothing that is secret is larger, and a wrong
// path must not pull a log file into memory.
const MaxFileBytes = 64 << 10

// ReadText reads a secret that is text: a password, a database URL, a PEM key. One
// trailing line end is dropped, because editors and echo add one; an empty file is
// an error.
func ReadText(path string) (Secret, error) {
	b, err := readOwnerOnly(path)
	if err != nil {
		return Secret{}, err
	}
	b = bytes.TrimSuffix(b, []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	if len(b) == 0 {
		return Secret{}, fmt.Errorf("secret file %s is empty: write the secret into it", path)
	}
	return Secret{b: b}, nil
}

// ReadKey reads a key of size bytes, kept either raw (exactly size bytes) or as
// 2*size hexadecimal digits, with or without a line end.
func ReadKey(path string, size int) (Secret, error) {
	b, err := readOwnerOnly(path)
	if err != nil {
		return Secret{}, err
	}
	if len(b) == size {
		return Secret{b: b}, nil
	}
	text := bytes.TrimRight(b, "\r\n")
	if len(text) == 2*size {
		key := make([]byte, size)
		if _, err := hex.Decode(key, text); err == nil {
			return Secret{b: key}, nil
		}
	}
	return Secret{}, fmt.Errorf("key file %s has %d bytes: want %d raw bytes or %d hexadecimal digits",
		path, len(b), size, 2*size)
}

// FromEnv reads the secret whose file the variable NAME_FILE names; ok is false
// when that is not set. NAME itself with a value is refused, so that nobody
// believes a secret was taken that was not, or leaves it in the environment.
func FromEnv(getenv func(string) string, name string) (s Secret, ok bool, err error) {
	if getenv(name) != "" {
		return Secret{}, false, fmt.Errorf(
			"environment variable %s holds a secret, which other processes can see: put it into a file of mode 0600 and set %s_FILE to its path", name, name)
	}
	path := getenv(name + "_FILE")
	if path == "" {
		return Secret{}, false, nil
	}
	s, err = ReadText(path)
	if err != nil {
		return Secret{}, false, fmt.Errorf("%s_FILE: %w", name, err)
	}
	return s, true, nil
}

// readOwnerOnly checks the open file, not the path: between a check of the path and
// the opening somebody could put another file there.
func readOwnerOnly(path string) ([]byte, error) {
	// A named pipe would block the open for ever, so look first.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("secret file %s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, explainOpen(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at secret file %s: %w", path, bare(err))
	}
	if err := checkMode(path, info); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read secret file %s: %w", path, bare(err))
	}
	if len(b) > MaxFileBytes {
		return nil, fmt.Errorf("secret file %s is larger than %d bytes: is the path right?", path, MaxFileBytes)
	}
	return b, nil
}

func checkMode(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("secret file %s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&^0o600 != 0 {
		return fmt.Errorf("secret file %s has mode %04o, but only its owner may have access: run: chmod 600 %s",
			path, perm, quote(path))
	}
	return nil
}

func explainOpen(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("secret file %s: %w", path, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("secret file %s: %w: make the user that runs sealstream its owner", path, fs.ErrPermission)
	}
	return fmt.Errorf("open secret file %s: %w", path, bare(err))
}

// bare takes the path out of an error of package os, so that it is not named twice.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// quote makes a path safe to paste into a shell.
func quote(path string) string {
	plain := func(r rune) bool {
		return r == '/' || r == '.' || r == '-' || r == '_' ||
			'0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	if strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
