package logrepair

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	batchHeader   = 61      // of a record batch, magic 2
	maxBatch      = 1 << 30 // kfake's own bound
	maxControl    = 1 << 10 // a marker is some 80 bytes
	indexEntry    = 15
	flagTxn       = 0x10
	flagControl   = 0x20
	scanBuffer    = 256 << 10
	windowEntries = 5
)

// batch is the header of one record batch.
type batch struct {
	offset, end      int64 // first offset, and the one behind the last
	size             int64
	epoch            int32 // of the partition's leader
	crc              uint32
	flags            uint16
	firstTime        int64
	maxTime          int64
	pid              int64
	pidEpoch         int16
	sequence, number int32
}

// parseHeader takes a header apart. It says nothing about the body.
func parseHeader(h []byte) (batch, error) {
	b := batch{
		offset:    int64(binary.BigEndian.Uint64(h)),
		size:      int64(binary.BigEndian.Uint32(h[8:])) + 12,
		epoch:     int32(binary.BigEndian.Uint32(h[12:])),
		crc:       binary.BigEndian.Uint32(h[17:]),
		flags:     binary.BigEndian.Uint16(h[21:]),
		firstTime: int64(binary.BigEndian.Uint64(h[27:])),
		maxTime:   int64(binary.BigEndian.Uint64(h[35:])),
		pid:       int64(binary.BigEndian.Uint64(h[43:])),
		pidEpoch:  int16(binary.BigEndian.Uint16(h[51:])),
		sequence:  int32(binary.BigEndian.Uint32(h[53:])),
		number:    int32(binary.BigEndian.Uint32(h[57:])),
	}
	last := int32(binary.BigEndian.Uint32(h[23:]))
	b.end = b.offset + int64(last) + 1
	switch {
	case h[16] != 2:
		return b, fmt.Errorf("magic byte %d, want 2", h[16])
	case b.size < batchHeader || b.size > maxBatch:
		return b, fmt.Errorf("a length of %d bytes", b.size)
	case b.offset < 0 || last < 0 || b.number < 0:
		return b, errors.New("negative offsets")
	}
	return b, nil
}

func (b *batch) control() bool { return b.flags&flagControl != 0 }
func (b *batch) txn() bool     { return b.flags&flagTxn != 0 && !b.control() }

// segment is one pair of files.
type segment struct {
	segmentFile
	batches  int
	torn     int64 // bytes behind the last whole batch
	badIndex bool
	index    []byte // as it should be, kept only when badIndex
}

type openTxn struct {
	first, last int64
	epoch       int16
}

// partition is what the files of one partition hold.
type partition struct {
	dir      string
	topic    topicFile
	number   int32
	segments []segment
	empty    []int64 // bases of segment files without a batch
	before   snapshotFile
	torn     int64 // bytes behind the last whole batch
	batches  int64
	first    int64 // offset of the first batch
	last     batch // the last batch
	created  int64 // time stamp of the first batch
	maxTime  int64
	open     map[int64]openTxn
	aborted  []abortedTxn
	windows  map[int64]*windowRecord
	floor    Floor
}

// scanner reads partitions, one after the other.
type scanner struct {
	known func(pid int64) bool
	clean bool
	buf   *bufio.Reader
	table *crc32.Table
}

func newScanner(known func(int64) bool, clean bool) *scanner {
	return &scanner{known: known, clean: clean, buf: bufio.NewReaderSize(nil, scanBuffer), table: castagnoli()}
}

func (s *scanner) partition(dir string, t topicFile, number int32) (*partition, error) {
	p := &partition{dir: dir, topic: t, number: number, open: map[int64]openTxn{}, windows: map[int64]*windowRecord{}}
	var err error
	if p.before.fileExists, err = readJSON(filepath.Join(dir, "snapshot.json"), &p.before); err != nil {
		return nil, err
	}
	if p.before.fileExists && p.before.Version != FormatVersion {
		return nil, formatError(filepath.Join(dir, "snapshot.json"), p.before.Version)
	}
	bases, err := segmentBases(dir)
	if err != nil {
		return nil, err
	}
	for i, base := range bases {
		seg, err := s.segment(p, base, i == len(bases)-1)
		if err != nil {
			return nil, err
		}
		p.torn += seg.torn
		if seg.batches == 0 {
			p.empty = append(p.empty, base)
			continue
		}
		p.segments = append(p.segments, seg)
	}
	return p, nil
}

func segmentBases(dir string) ([]int64, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var bases []int64
	for _, n := range names {
		base, ok := strings.CutSuffix(n.Name(), ".dat")
		if !ok {
			continue
		}
		b, err := strconv.ParseInt(base, 10, 64)
		if err != nil || b < 0 {
			return nil, fmt.Errorf("%w: %s holds a file %s, which is no segment: move it away", ErrDamaged, dir, n.Name())
		}
		bases = append(bases, b)
	}
	sort.Slice(bases, func(i, j int) bool { return bases[i] < bases[j] })
	return bases, nil
}

// segment reads one segment file batch by batch.
func (s *scanner) segment(p *partition, base int64, last bool) (segment, error) {
	seg := segment{segmentFile: segmentFile{Base: base}}
	path := filepath.Join(p.dir, strconv.FormatInt(base, 10)+".dat")
	f, err := os.Open(path)
	if err != nil {
		return seg, fmt.Errorf("open a segment: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return seg, fmt.Errorf("open a segment: %w", err)
	}
	idx, err := openIndex(filepath.Join(p.dir, strconv.FormatInt(base, 10)+".idx"))
	if err != nil {
		return seg, err
	}
	s.buf.Reset(f)
	for seg.Size < st.Size() {
		b, marker, err := s.batch(st.Size() - seg.Size)
		// The cleaner never runs on this log, so that offsets have no gaps.
		// They are outside the checksum of a batch: this is what covers them.
		next := base
		if p.batches > 0 {
			next = p.last.end
		}
		if err == nil && (b.offset != next || (seg.batches == 0 && b.offset != base)) {
			err = fmt.Errorf("offset %d where %d was to follow", b.offset, next)
		}
		if err != nil {
			seg.torn = st.Size() - seg.Size
			if !last { // a later segment was begun, so this one was whole
				return seg, damaged(path, &seg, err)
			}
			if err := s.explain(f, path, p, &seg, err); err != nil {
				return seg, err
			}
			break
		}
		if seg.batches == 0 {
			seg.MinEpoch, seg.MaxEpoch = b.epoch, b.epoch
		}
		seg.MinEpoch, seg.MaxEpoch = min(seg.MinEpoch, b.epoch), max(seg.MaxEpoch, b.epoch)
		p.take(&b, marker, s.known)
		idx.expect(&b)
		seg.batches++
		seg.Size += b.size
	}
	seg.index, seg.badIndex = idx.done()
	return seg, nil
}

// batch reads the next batch and checks it. marker is the body of a control
// batch.
func (s *scanner) batch(left int64) (b batch, marker []byte, err error) {
	if left < batchHeader {
		return b, nil, errCut
	}
	h, err := s.buf.Peek(batchHeader)
	if err != nil {
		return b, nil, err
	}
	if b, err = parseHeader(h); err != nil {
		return b, nil, err
	}
	if b.size > left {
		return b, nil, errCut
	}
	if b.control() && b.size > maxControl {
		return b, nil, fmt.Errorf("a control batch of %d bytes", b.size)
	}
	crc := crc32.Checksum(h[21:], s.table)
	if _, err := s.buf.Discard(batchHeader); err != nil {
		return b, nil, err
	}
	for body := b.size - batchHeader; body > 0; {
		part, err := s.buf.Peek(int(min(body, scanBuffer)))
		if err != nil {
			return b, nil, err
		}
		crc = crc32.Update(crc, s.table, part)
		if b.control() {
			marker = append(marker, part...)
		}
		if _, err := s.buf.Discard(len(part)); err != nil {
			return b, nil, err
		}
		body -= int64(len(part))
	}
	if crc != b.crc {
		return b, nil, errChecksum
	}
	return b, marker, nil
}

var (
	errCut      = errors.New("the end of the file within a batch")
	errChecksum = errors.New("a wrong checksum")
)

// explain decides whether a crash can have left what does not read as a batch:
// the beginning of one at the end of the last segment, blanks, or one whole
// batch of which not every page arrived. Anything else is damage, and so is
// each of these with a whole batch behind it: a crash does not skip one. The
// records there are evidence that must not be cut off unasked.
func (s *scanner) explain(f *os.File, path string, p *partition, seg *segment, why error) error {
	if s.clean {
		return damaged(path, seg, why)
	}
	rest := make([]byte, seg.torn)
	if _, err := f.ReadAt(rest, seg.Size); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	cut := errors.Is(why, errCut) || allZero(rest)
	if !cut && errors.Is(why, errChecksum) {
		b, err := parseHeader(rest)
		cut = err == nil && b.size == seg.torn
	}
	if !cut || s.holdsBatch(rest[1:], p.last.end) {
		return damaged(path, seg, why)
	}
	return nil
}

func damaged(path string, seg *segment, why error) error {
	return fmt.Errorf("%w: %s holds %w at byte %d, and %d bytes follow: restore the file from a backup, or, if nothing behind that byte matters, cut it there (truncate -s %d %s)",
		ErrDamaged, path, why, seg.Size, seg.torn, seg.Size, path)
}

// holdsBatch looks for a whole batch with an offset from next on, anywhere.
func (s *scanner) holdsBatch(rest []byte, next int64) bool {
	for ; len(rest) >= batchHeader; rest = rest[1:] {
		if rest[16] != 2 {
			continue
		}
		b, err := parseHeader(rest)
		if err != nil || b.offset < next || b.offset-next > maxBatch || b.size > int64(len(rest)) {
			continue
		}
		if crc32.Checksum(rest[21:b.size], s.table) == b.crc {
			return true
		}
	}
	return false
}

// take notes one batch.
func (p *partition) take(b *batch, marker []byte, known func(int64) bool) {
	if p.batches == 0 {
		p.first, p.created, p.maxTime = b.offset, b.firstTime, b.maxTime
	}
	p.batches++
	p.maxTime = max(p.maxTime, b.maxTime)
	p.last = *b
	switch {
	case b.control():
		if t, ok := p.open[b.pid]; ok && isAbort(marker) {
			p.aborted = append(p.aborted, abortedTxn{b.pid, t.first, b.offset})
		}
		delete(p.open, b.pid)
		return
	case b.txn():
		t, ok := p.open[b.pid]
		if ok && t.epoch != b.pidEpoch {
			// The log of a kfake that recovered by itself: it ended
			// the earlier transaction without a marker.
			p.aborted = append(p.aborted, abortedTxn{b.pid, t.first, t.last})
			ok = false
		}
		if !ok {
			t = openTxn{first: b.offset, epoch: b.pidEpoch}
		}
		t.last = b.end - 1
		p.open[b.pid] = t
	}
	if b.pid >= 0 && known(b.pid) {
		p.sequence(b)
	}
}

// isAbort reads the type of a marker; one that cannot be read counts as an
// abort, as kfake has it.
func isAbort(marker []byte) bool {
	if len(marker) < 4 {
		return true
	}
	var rec kmsg.Record
	if err := rec.ReadFrom(marker); err != nil || len(rec.Key) < 4 {
		return true
	}
	return binary.BigEndian.Uint16(rec.Key[2:]) == uint16(kmsg.ControlRecordKeyTypeAbort)
}

// sequence does what the broker did when it took the batch.
func (p *partition) sequence(b *batch) {
	w := p.windows[b.pid]
	if w == nil {
		w = &windowRecord{PID: b.pid, Topic: p.topic.Name, Part: p.number}
		p.windows[b.pid] = w
	}
	if !w.Seen || w.Epoch != b.pidEpoch {
		*w = windowRecord{PID: w.PID, Topic: w.Topic, Part: w.Part, Seen: true, Epoch: b.pidEpoch}
	}
	const wrap = 1<<31 - 1
	w.Next = int32((int64(b.sequence) + int64(b.number)) % wrap)
	w.Entries[w.At] = window{First: b.sequence, Next: w.Next, Offset: b.offset}
	w.At = (w.At + 1) % windowEntries
	w.Count = min(w.Count+1, windowEntries)
}
