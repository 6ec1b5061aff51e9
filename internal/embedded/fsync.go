package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sealedSuffix ends the names of sealed topics. Their records are made from
// source records, so they go to disk after them.
const sealedSuffix = ".sealed"

// syncWorkers is how many files of one class are synced at once; the file
// system merges their journal commits.
const syncWorkers = 4

// racyFor is how long after a change a directory is listed again at every
// pass: two changes within one tick of the file system's clock look like one.
const racyFor = 2 * time.Second

// The classes of a pass, in the order in which they reach the disk: a record
// never becomes durable before its topic, a sealed record never before its
// source, an offset never before the records it speaks of. A power cut between two passes can still break the
// order, as the kernel writes back when it likes; what depends on it must be
// able to tell (the seal compares its head with the source at start).
const (
	classTopics = iota
	classSource
	classSealed
	classState
	classes
)

// fileMark is what shows that a file changed since it was last synced.
type fileMark struct {
	size  int64
	mtime time.Time
}

// syncedDir is one directory of the broker's log.
type syncedDir struct {
	path   string
	class  int
	wants  func(name string) bool // nil = every file
	mtime  time.Time              // of the directory, when it was last listed
	listed time.Time              // when that was; zero = never
	files  map[string]fileMark    // as of the last successful sync
	top    int64                  // base of the newest segment, -1 = none
	sealed map[string]bool        // segments that are synced and never change again
}

// syncer brings the broker's files to disk in passes. kfake writes with plain
// write(2) and never syncs by itself: that survives the death of the process,
// not that of the machine.
type syncer struct {
	root    string
	every   time.Duration
	metrics *brokerMetrics
	// syncFile is fdatasync of the file at a path; tests break it.
	syncFile func(path string) error

	passMu sync.Mutex // one pass at a time
	dirs   map[dirKey]*syncedDir

	mu      sync.Mutex
	begun   uint64        // passes begun
	ended   chan struct{} // closed and replaced when a pass ends
	last    uint64        // the last pass that ended well
	err     error         // the first failure, for ever
	waiting chan struct{} // capacity 1: somebody waits for a pass

	restUntil time.Time // no pass for a waiter before this
}

func newSyncer(root string, every time.Duration, m *brokerMetrics) *syncer {
	return &syncer{
		root: root, every: every, metrics: m, syncFile: syncPath,
		dirs: map[dirKey]*syncedDir{}, ended: make(chan struct{}), waiting: make(chan struct{}, 1),
	}
}

// restFactor is how many times its own length a pass is followed by rest, when
// somebody waits for the next one: the disk is at most a sixth of its time busy
// with syncing, and a caller on a quiet machine waits for milliseconds instead
// of for the tick.
const restFactor = 5

// run makes passes until ctx ends or one fails.
func (s *syncer) run(ctx context.Context, fail func(error)) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	early := time.NewTimer(s.every)
	defer early.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.waiting:
			early.Reset(s.restLeft())
			continue
		case <-tick.C:
		case <-early.C:
		}
		if err := s.pass(); err != nil {
			fail(err)
			return
		}
	}
}

func (s *syncer) restLeft() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.restUntil)
}

// wait returns when a pass that began after the call has ended.
func (s *syncer) wait(ctx context.Context) error {
	s.mu.Lock()
	want := s.begun + 1
	s.mu.Unlock()
	select {
	case s.waiting <- struct{}{}:
	default:
	}
	for {
		s.mu.Lock()
		err, last, ended := s.err, s.last, s.ended
		s.mu.Unlock()
		switch {
		case last >= want:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return fmt.Errorf("wait for the group fsync: %w", ctx.Err())
		}
	}
}

// pass brings everything that changed so far to disk.
func (s *syncer) pass() error {
	s.passMu.Lock()
	defer s.passMu.Unlock()
	s.mu.Lock()
	if err := s.err; err != nil {
		s.mu.Unlock()
		return err
	}
	s.begun++
	n := s.begun
	s.mu.Unlock()

	start := time.Now()
	files, err := s.syncAll()
	took := time.Since(start)
	s.metrics.pass(took, files, err)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		// The kernel reports a failed write-back once and forgets the
		// pages: the next sync of the same file would succeed without
		// them. So this is the end of acknowledging.
		s.err = fmt.Errorf("group fsync: %w", err)
		err = s.err
	} else {
		s.last = n
		s.restUntil = time.Now().Add(restFactor * took)
	}
	close(s.ended)
	s.ended = make(chan struct{})
	return err
}

// end has everybody who waits, or will, told that there are no more passes.
func (s *syncer) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = why
	}
	close(s.ended)
	s.ended = make(chan struct{})
}

func (s *syncer) syncAll() (files int, err error) {
	if err := s.findDirs(); err != nil {
		return 0, err
	}
	for class := range classes {
		var jobs []syncJob
		for _, d := range s.dirs {
			if d.class != class {
				continue
			}
			js, err := d.changed()
			if err != nil {
				return files, err
			}
			jobs = append(jobs, js...)
		}
		if err := s.do(jobs); err != nil {
			return files, err
		}
		files += len(jobs)
	}
	return files, nil
}

// dirKey names a directory in a pass: the root is there twice, as its state
// files come first and its logs last.
type dirKey struct {
	path  string
	class int
}

// findDirs takes up partition directories that are new and forgets those that
// are gone.
func (s *syncer) findDirs() error {
	isLog := func(name string) bool { return strings.HasSuffix(name, ".log") }
	parts := filepath.Join(s.root, "partitions")
	here := map[dirKey]func(string) bool{
		{s.root, classTopics}: func(name string) bool { return !isLog(name) },
		{s.root, classState}:  isLog,
		{parts, classTopics}:  nil,
	}
	names, err := os.ReadDir(parts)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list partitions: %w", err)
	}
	for _, n := range names {
		class := classSource
		if topic := n.Name()[:max(strings.LastIndexByte(n.Name(), '-'), 0)]; strings.HasSuffix(topic, sealedSuffix) {
			class = classSealed
		}
		here[dirKey{filepath.Join(parts, n.Name()), class}] = nil
	}
	for k, wants := range here {
		if s.dirs[k] == nil {
			s.dirs[k] = &syncedDir{path: k.path, class: k.class, wants: wants, files: map[string]fileMark{}, top: -1, sealed: map[string]bool{}}
		}
	}
	for k := range s.dirs {
		if _, ok := here[k]; !ok {
			delete(s.dirs, k)
		}
	}
	return nil
}

// syncJob is one file or directory to be synced. done remembers what was
// synced; it runs only after success.
type syncJob struct {
	path string
	done func()
}

// changed lists what has to be synced in a directory.
func (d *syncedDir) changed() ([]syncJob, error) {
	st, err := os.Stat(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // its topic was deleted meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", d.path, err)
	}
	var jobs []syncJob
	now := time.Now()
	if !st.ModTime().Equal(d.mtime) || d.listed.Sub(d.mtime) < racyFor {
		if err := d.list(); err != nil {
			return nil, err
		}
		if !st.ModTime().Equal(d.mtime) {
			mtime := st.ModTime()
			jobs = append(jobs, syncJob{d.path, func() { d.mtime = mtime }})
		}
		d.listed = now
	}
	for name, old := range d.files {
		path := filepath.Join(d.path, name)
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			delete(d.files, name)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", path, err)
		}
		mark := fileMark{st.Size(), st.ModTime()}
		switch {
		case mark.size != old.size || !mark.mtime.Equal(old.mtime):
			jobs = append(jobs, syncJob{path, func() { d.files[name] = mark }})
		case baseOf(name) < d.top:
			// Synced as it is, and only the newest segment is ever
			// written to: no need to look at it again.
			delete(d.files, name)
			d.sealed[name] = true
		}
	}
	return jobs, nil
}

// list takes up files that are new.
func (d *syncedDir) list() error {
	names, err := os.ReadDir(d.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list %s: %w", d.path, err)
	}
	for _, n := range names {
		if n.IsDir() || strings.HasSuffix(n.Name(), ".tmp") || (d.wants != nil && !d.wants(n.Name())) {
			continue
		}
		if _, ok := d.files[n.Name()]; !ok && !d.sealed[n.Name()] {
			d.files[n.Name()] = fileMark{size: -1}
		}
		if base := baseOf(n.Name()); base != notASegment {
			d.top = max(d.top, base)
		}
	}
	return nil
}

const notASegment = math.MaxInt64

// baseOf is the first offset of a segment, which names its two files.
func baseOf(name string) int64 {
	base, ok := strings.CutSuffix(name, ".dat")
	if !ok {
		base, ok = strings.CutSuffix(name, ".idx")
	}
	n, err := strconv.ParseInt(base, 10, 64)
	if !ok || err != nil {
		return notASegment
	}
	return n
}

// do syncs the files of one class, a few at a time.
func (s *syncer) do(jobs []syncJob) error {
	errs := make([]error, len(jobs))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(syncWorkers, len(jobs)) {
		wg.Go(func() {
			for i := range next {
				errs[i] = s.syncFile(jobs[i].path)
			}
		})
	}
	for i := range jobs {
		next <- i
	}
	close(next)
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted or replaced since it was listed
		}
		if err != nil {
			return err
		}
		jobs[i].done()
	}
	return nil
}
