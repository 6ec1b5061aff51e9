package ingest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// settle is the age at which a checkpoint is believed. An acknowledged record of the
// embedded broker reaches the disk a group fsync later; what a power cut may still
// have taken is looked up, not believed.
const settle = 2 * time.Second

// state is the state file of one input.
type state struct {
	Version  int    `json:"version"`
	Input    string `json:"input"` // path, for people
	Identity string `json:"identity"`
	// Checkpoints, oldest first: the newest believed one and those after it.
	Checkpoints []checkpoint `json:"checkpoints"`
	Doubled     []Place      `json:"doubled,omitempty"`
	Complete    bool         `json:"complete"` // the last checkpoint was at the end of the input
}

// checkpoint says: the first Events events are acknowledged or refused, and every
// record of a later one lies at or above Ends. It stays true for ever.
type checkpoint struct {
	Events  int             `json:"events"`
	Refused int             `json:"refused"`
	SHA256  string          `json:"sha256"` // over length and bytes of these events
	Ends    map[int32]int64 `json:"ends"`
	UnixMs  int64           `json:"unix_ms"`
}

const stateVersion = 1

// digest names an input: its topic, its path, how it begins, and how many inputs of
// the same name and beginning came before it.
func digest(identity string, in *Input, generation int) string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(identity), []byte(in.Path), in.Head, binary.BigEndian.AppendUint64(nil, uint64(generation))} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// randomDigest names an input that cannot be read again.
func randomDigest() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b)
}

// resume returns the checkpoint to go on from: the newest that is believed, compared
// with the newest there is, or else the oldest.
func (s *state) resume() checkpoint {
	for i := len(s.Checkpoints) - 1; i >= 0; i-- {
		if s.Checkpoints[i].UnixMs <= s.last().UnixMs-settle.Milliseconds() {
			return s.Checkpoints[i]
		}
	}
	return s.Checkpoints[0]
}

func (s *state) last() checkpoint { return s.Checkpoints[len(s.Checkpoints)-1] }

// add appends a checkpoint and drops those that no resume can choose any more.
func (s *state) add(c checkpoint) {
	s.Checkpoints = append(s.Checkpoints, c)
	for len(s.Checkpoints) > 1 && s.Checkpoints[1].UnixMs <= c.UnixMs-settle.Milliseconds() {
		s.Checkpoints = s.Checkpoints[1:]
	}
}

func loadState(path string) (*state, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ingest state: %w", err)
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("ingest state %s is damaged (%w): delete it to ingest the file from its start", path, err)
	}
	if s.Version != stateVersion || len(s.Checkpoints) == 0 {
		return nil, fmt.Errorf("ingest state %s has version %d with %d checkpoints, want version %d: it was written by another release", path, s.Version, len(s.Checkpoints), stateVersion)
	}
	return &s, nil
}

// finished is an input that was ingested to its end in this run, with checkpoints that
// are not believed yet.
type finished struct {
	path string
	last checkpoint
}

func (f *feed) finished() []finished {
	if f.path == "" || !f.state.Complete || len(f.state.Checkpoints) < 2 {
		return nil
	}
	return []finished{{f.path, f.state.last()}}
}

// confirmOld shortens the states of inputs whose last checkpoint has come of age, so
// that the next run has nothing to look up for them. It returns the others.
func (o *Options) confirmOld(list []finished) []finished {
	for len(list) > 0 && o.Now().UnixMilli()-list[0].last.UnixMs >= settle.Milliseconds() {
		o.confirm(list[0])
		list = list[1:]
	}
	return list
}

// confirm changes nothing that another process has touched meanwhile. It is not synced,
// and errors are not reported: the longer state is as true, and only costs a look.
func (o *Options) confirm(f finished) {
	l := flock.New(o.lockPath(filepath.Base(f.path)), flock.SetPermissions(0o600))
	if ok, err := l.TryLock(); err != nil || !ok {
		return
	}
	defer func() { _ = l.Unlock() }()
	s, err := loadState(f.path)
	if err != nil || s == nil || !s.Complete || s.last().UnixMs != f.last.UnixMs || s.last().SHA256 != f.last.SHA256 {
		return
	}
	s.Checkpoints = []checkpoint{s.last()}
	if b, err := json.Marshal(s); err == nil {
		_ = replace(f.path, b, false)
	}
}

// save returns when the file and its name are on disk.
func (s *state) save(path string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("ingest state: %w", err)
	}
	if err := replace(path, b, true); err != nil {
		return fmt.Errorf("keep ingest state: %w", err)
	}
	return nil
}

func replace(path string, data []byte, sync bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// A crash before this line leaves the old state, which is true too.
	if err = os.Rename(f.Name(), path); err != nil || !sync {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (o *Options) lockPath(digest string) string {
	return filepath.Join(o.StateDir, "lock-"+digest[:1])
}

// lock keeps two processes from ingesting one input at the same time. There are few
// lock files for many inputs, and a process holds one at a time.
func (f *feed) lock(ctx context.Context, digest string) (unlock func(), err error) {
	l := flock.New(f.o.lockPath(digest), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err == nil && !ok {
		f.o.Notice("waiting for another ingest with the same state directory, " + f.o.StateDir)
		_, err = l.TryLockContext(ctx, 100*time.Millisecond)
	}
	if err != nil {
		return nil, fmt.Errorf("lock ingest state: %w", err)
	}
	return func() { _ = l.Unlock() }, nil
}
