// Package logrepair brings the data directory of the embedded broker (kfake)
// into a state that kfake reads back without loss, before each start.
//
// kfake recovers from a crash by itself, but not well enough for evidence: it
// reads the whole retained log into memory at once; it leaves transactions
// that the crash cut short without an end, so that a later commit of the same
// producer makes their records valid, or a reader drops good records behind
// them; it silently cuts a log at a damaged batch; it appends behind a torn
// entry of its state logs, which the next start then does not get past; it
// lets the offsets of a partition whose records were all deleted begin again
// at 0; and it forgets the sequence numbers of idempotent producers, so that a
// retry over a crash doubles records.
//
// Repair streams every batch once, in constant memory, and checks it. After an
// unclean stop it cuts what a crash left half written, ends open transactions
// with real ABORT markers, fences their producers, rebuilds the sequence
// windows from the batches, and writes the snapshots that spare kfake its own
// recovery. After a clean stop it changes nothing that is in order.
//
// It fails closed: a directory in another format version, or damage that a
// crash cannot explain, is an error that names the file and what to do, and
// nothing is touched. The format is that of the pinned kfake version
// (persist version 1); a test compares what Repair writes with what kfake
// itself writes at a clean stop.
//
// Only package embedded uses it. It is not a general Kafka log tool.
package logrepair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

// FormatVersion is the version of kfake's files that this package knows.
const FormatVersion = 1

// ErrFormat says that a file is in a format version that is not known.
var ErrFormat = errors.New("broker files have another format version")

// ErrDamaged says that the files hold something no crash explains.
var ErrDamaged = errors.New("broker files are damaged")

// Options says what is known about a directory.
type Options struct {
	// Clean: the last stop was clean, so that nothing may be half written.
	Clean bool
	// Cluster is the cluster id the directory must have.
	Cluster string
	// Listeners is how many brokers kfake runs; leaders are spread over them.
	Listeners int
	// Floors are log starts that were promised to clients; see Floor.
	Floors []Floor
	// Now stamps the markers.
	Now time.Time
}

// Floor is a log start that a DeleteRecords request set. kfake keeps it only at
// a clean stop.
type Floor struct {
	TopicID   string `json:"topic_id"` // as in topics.json
	Partition int32  `json:"partition"`
	Start     int64  `json:"start"` // records below it are deleted
	End       int64  `json:"end"`   // where the log ended then
}

// Report says what was found and done.
type Report struct {
	Fresh      bool // there was no log yet
	Repaired   bool // something was changed
	Partitions int
	Segments   int
	Batches    int64
	Bytes      int64
	TornBytes  int64    // cut off, never acknowledged as durable
	Aborted    int      // transactions that were open, now aborted, counted per partition
	Fenced     int      // producers whose epoch was raised
	Orphans    []string // partition directories of no topic, set aside
}

// repairer is one run.
type repairer struct {
	dir    string
	opt    Options
	topics map[string]topicFile // by partition directory name
	report Report
	clean  bool
	pids   *pidLog
}

// Repair checks the directory and, after a crash, repairs it. It must own the
// directory. A repair that is itself cut short is completed by the next one.
func Repair(ctx context.Context, dir string, opt Options) (Report, error) {
	r := &repairer{dir: dir, opt: opt, clean: opt.Clean}
	err := r.run(ctx)
	return r.report, err
}

func (r *repairer) run(ctx context.Context) error {
	fresh, err := r.readMeta()
	if err != nil || fresh {
		r.report.Fresh = fresh
		return err
	}
	if err := r.readTopics(); err != nil {
		return err
	}
	if r.pids, err = readPIDLog(filepath.Join(r.dir, "pids.log")); err != nil {
		return err
	}
	groupsEnd, err := checkStateLog(filepath.Join(r.dir, "groups.log"))
	if err != nil {
		return err
	}
	parts, err := r.scan(ctx)
	if err != nil {
		return err
	}
	if r.clean && r.inOrder(parts) && groupsEnd.torn == 0 && r.pids.torn == 0 {
		return r.keepEmptied(parts)
	}
	r.report.Repaired = true
	return r.repair(parts, groupsEnd)
}

// readMeta tells whether there is a log at all, and checks whose it is.
func (r *repairer) readMeta() (fresh bool, err error) {
	var m metaFile
	ok, err := readJSON(filepath.Join(r.dir, "meta.json"), &m)
	if err != nil {
		return false, err
	}
	if !ok {
		// kfake would take the directory for a new one and write over
		// what is there.
		names, err := os.ReadDir(filepath.Join(r.dir, "partitions"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("list partitions: %w", err)
		}
		if len(names) > 0 {
			return false, fmt.Errorf("%w: meta.json is missing beside %d partitions in %s: restore it from a backup", ErrDamaged, len(names), r.dir)
		}
		return true, nil
	}
	if m.Version != FormatVersion {
		return false, formatError("meta.json", m.Version)
	}
	if m.Cluster != r.opt.Cluster {
		return false, fmt.Errorf("%w: meta.json in %s belongs to cluster %s, the directory around it to %s: they were mixed up", ErrDamaged, r.dir, m.Cluster, r.opt.Cluster)
	}
	return false, nil
}

func formatError(file string, version int) error {
	return fmt.Errorf("%w: %s says %d, this sealstream reads %d; run the version that wrote it, or give a new directory and ingest again", ErrFormat, file, version, FormatVersion)
}

// readTopics learns which partition directories there should be. kfake ignores
// a missing or empty topics.json, and would lay new topics over old files.
func (r *repairer) readTopics() error {
	var ts topicsFile
	ok, err := readJSON(filepath.Join(r.dir, "topics.json"), &ts)
	if err != nil {
		return err
	}
	if ok && ts.Version != FormatVersion {
		return formatError("topics.json", ts.Version)
	}
	names, err := os.ReadDir(filepath.Join(r.dir, "partitions"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list partitions: %w", err)
	}
	if !ok && len(names) > 0 {
		return fmt.Errorf("%w: topics.json is missing beside %d partitions in %s: restore it from a backup", ErrDamaged, len(names), r.dir)
	}
	r.topics = map[string]topicFile{}
	for _, t := range ts.Topics {
		for p := range t.Partitions {
			r.topics[partitionDir(t.Name, int32(p))] = t
		}
	}
	return nil
}

// scan reads every partition there is.
func (r *repairer) scan(ctx context.Context) ([]*partition, error) {
	root := filepath.Join(r.dir, "partitions")
	names, err := os.ReadDir(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	s := newScanner(r.pids.known, r.clean)
	var parts []*partition
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("check the log: %w", err)
		}
		t, ok := r.topics[n.Name()]
		if !ok {
			r.report.Orphans = append(r.report.Orphans, n.Name())
			continue
		}
		p, err := s.partition(filepath.Join(root, n.Name()), t, numberOf(n.Name()))
		if err != nil {
			return nil, err
		}
		for _, f := range r.opt.Floors {
			if f.TopicID == t.ID && f.Partition == p.number {
				p.raise(f)
			}
		}
		r.report.Partitions++
		r.report.Segments += len(p.segments)
		r.report.Batches += p.batches
		r.report.Bytes += p.size()
		r.report.TornBytes += p.torn
		parts = append(parts, p)
	}
	sort.Slice(parts, func(i, j int) bool { return parts[i].dir < parts[j].dir })
	return parts, nil
}

// inOrder tells whether all partitions are as kfake left them at a clean stop.
func (r *repairer) inOrder(parts []*partition) bool {
	if len(r.report.Orphans) > 0 {
		return false
	}
	for _, p := range parts {
		if !p.matchesSnapshot() {
			return false
		}
	}
	return true
}

// keepEmptied is all that is needed after a clean stop.
func (r *repairer) keepEmptied(parts []*partition) error {
	for _, p := range parts {
		if !p.bare() {
			continue
		}
		r.report.Repaired = true
		if err := p.write(r.opt); err != nil {
			return err
		}
	}
	return nil
}

// repair writes. The order matters should it be cut short: the producers are
// fenced first, while their open transactions can still be seen.
func (r *repairer) repair(parts []*partition, groups stateLog) error {
	if err := r.dropStale(); err != nil {
		return err
	}
	if err := groups.cut(); err != nil {
		return err
	}
	if err := r.pids.cut(); err != nil {
		return err
	}
	open := map[int64]bool{}
	for _, p := range parts {
		for pid := range p.open {
			open[pid] = true
		}
	}
	fenced, err := r.pids.fence(open)
	if err != nil {
		return err
	}
	r.report.Fenced = fenced
	for _, p := range parts {
		r.report.Aborted += len(p.open)
		if err := p.write(r.opt); err != nil {
			return err
		}
	}
	return writeWindows(filepath.Join(r.dir, "seq_windows.json"), parts)
}

// dropStale removes what speaks of a state that is gone: half-written files,
// live sessions of the last clean stop, directories of topics that were
// deleted or never quite created. Those are set aside, not removed.
func (r *repairer) dropStale() error {
	for _, name := range []string{"session_state.json", "seq_windows.json"} {
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	tmps, err := filepath.Glob(filepath.Join(r.dir, "partitions", "*", "*.tmp"))
	if err != nil {
		return fmt.Errorf("look for unfinished files: %w", err)
	}
	for _, t := range tmps {
		if err := os.Remove(t); err != nil {
			return fmt.Errorf("remove an unfinished file: %w", err)
		}
	}
	for _, name := range r.report.Orphans {
		aside := filepath.Join(r.dir, "orphans")
		if err := os.MkdirAll(aside, 0o700); err != nil {
			return fmt.Errorf("set a partition without a topic aside: %w", err)
		}
		to := filepath.Join(aside, fmt.Sprintf("%s.%d", name, r.opt.Now.UnixNano()))
		if err := os.Rename(filepath.Join(r.dir, "partitions", name), to); err != nil {
			return fmt.Errorf("set a partition without a topic aside: %w", err)
		}
	}
	return nil
}

// numberOf takes the partition's number out of its directory's name.
func numberOf(dir string) int32 {
	n, _ := strconv.ParseInt(dir[strings.LastIndexByte(dir, '-')+1:], 10, 32) // it came out of topics.json
	return int32(n)
}
