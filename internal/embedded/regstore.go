package embedded

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// registryVersion is the version of the registry's file.
const registryVersion = 1

// maxLine bounds one line of the file: a schema's text grows by its escapes.
const maxLine = 8 * maxSchemaBytes

// Operations of a change.
const (
	opFormat   = "format"
	opRegister = "register"
	opDelete   = "delete"
	opLevel    = "level"
)

// change is one line of the registry's file. A line is whole or it is not
// there, so that everything one answer speaks of is in one line.
type change struct {
	Op        string `json:"op"`
	Format    int    `json:"format,omitempty"`
	Subject   string `json:"subject,omitempty"`
	Versions  []int  `json:"versions,omitempty"`
	ID        uint32 `json:"id,omitempty"`
	Schema    string `json:"schema,omitempty"`
	Permanent bool   `json:"permanent,omitempty"`
	Level     level  `json:"level,omitempty"`
}

// registryStore is the registry's file: lines of "crc32c json", only ever
// appended to.
type registryStore struct {
	f    *os.File
	size int64
	err  error // the first failed write, for ever: what is on disk is not known
	sync func(*os.File) error
}

// openRegistryStore reads the file and gives every change to apply.
func openRegistryStore(dir string, log *slog.Logger, apply func(*change) error) (*registryStore, error) {
	path := filepath.Join(dir, "registry.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open registry.log: %w", explain(err))
	}
	s := &registryStore{f: f, sync: (*os.File).Sync}
	if err := s.load(log, apply); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if s.size == 0 {
		if err := s.append(&change{Op: opFormat, Format: registryVersion}); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if err := syncDir(dir); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return s, nil
}

// load reads up to the first line that is not whole. When that is the beginning
// of a line and the end of the file, it is the write that a crash cut short,
// whose answer was never given, and it is cut off. Anything else is damage, and
// a guess would hand out ids a second time.
func (s *registryStore) load(log *slog.Logger, apply func(*change) error) error {
	r := bufio.NewReaderSize(s.f, 64<<10)
	torn := int64(-1)
	pos := int64(0)
	for n := 1; ; n++ {
		line, err := readLine(r)
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("read registry.log: %w", err)
		}
		c, ok := decodeLine(line)
		switch {
		case torn >= 0 || (!ok && line[len(line)-1] == '\n'):
			return fmt.Errorf("registry.log is damaged at byte %d: restore the file from a backup", max(torn, s.size))
		case !ok:
			torn = pos
		case ok && n == 1 && (c.Op != opFormat || c.Format != registryVersion):
			return fmt.Errorf("%w: registry.log says %d, this sealstream reads %d; run the version that wrote it, or give a new directory", ErrDirVersion, c.Format, registryVersion)
		case ok && n > 1:
			if err := apply(c); err != nil {
				return fmt.Errorf("registry.log line %d %w: restore the file from a backup", n, err)
			}
		}
		pos += int64(len(line))
		if torn < 0 {
			s.size = pos
		}
	}
	if torn >= 0 {
		log.Warn("registry.log ended in a write that a crash cut short: it is cut off", "at_byte", torn, "bytes", pos-torn)
		if err := errors.Join(s.f.Truncate(torn), s.f.Sync()); err != nil {
			return fmt.Errorf("repair registry.log: %w", explain(err))
		}
	}
	if _, err := s.f.Seek(s.size, io.SeekStart); err != nil {
		return fmt.Errorf("open registry.log: %w", err)
	}
	return nil
}

// readLine reads up to and with the next newline; a line that is too long comes
// in pieces, none of which is whole.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLine {
			if errors.Is(err, bufio.ErrBufferFull) {
				err = nil
			}
			return line, err
		}
	}
}

func crcOf(b []byte) []byte {
	c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	return hex.AppendEncode(nil, []byte{byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)})
}

func encodeLine(c *change) ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	line := append(crcOf(body), ' ')
	line = append(line, body...)
	return append(line, '\n'), nil
}

// decodeLine takes a whole line apart; ok is false for any other.
func decodeLine(line []byte) (c *change, ok bool) {
	if len(line) < 10 || line[len(line)-1] != '\n' || line[8] != ' ' {
		return nil, false
	}
	body := line[9 : len(line)-1]
	if !bytes.Equal(crcOf(body), line[:8]) {
		return nil, false
	}
	c = &change{}
	if err := json.Unmarshal(body, c); err != nil {
		return nil, false
	}
	return c, true
}

// append writes a change and brings it to disk. After a failure it refuses
// everything: the file may end in half a line, which the next start cuts off.
func (s *registryStore) append(c *change) error {
	if s.err != nil {
		return s.err
	}
	line, err := encodeLine(c)
	if err != nil {
		return fmt.Errorf("encode a change: %w", err)
	}
	if _, err := s.f.Write(line); err != nil {
		s.err = fmt.Errorf("write registry.log: %w", explain(err))
		return s.err
	}
	if err := s.sync(s.f); err != nil {
		s.err = fmt.Errorf("sync registry.log: %w", explain(err))
		return s.err
	}
	s.size += int64(len(line))
	return nil
}

func (s *registryStore) close() error {
	if s.err == nil {
		s.err = errors.New("the registry is closed")
	}
	return s.f.Close()
}
