package logrepair

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (p *partition) size() (n int64) {
	for _, s := range p.segments {
		n += s.Size
	}
	return n
}

// raise takes a promised log start into account.
func (p *partition) raise(f Floor) {
	p.floor.Start = max(p.floor.Start, f.Start)
	p.floor.End = max(p.floor.End, f.End)
}

// end is the offset that the next record gets.
func (p *partition) end() int64 {
	if p.batches > 0 {
		return p.last.end
	}
	return max(p.before.End, p.floor.End, p.start())
}

// start is the first offset that a client may read.
func (p *partition) start() int64 {
	s := max(p.before.Start, p.floor.Start)
	if p.batches > 0 {
		s = max(s, p.first)
	}
	return s
}

// matchesSnapshot tells whether kfake would load the partition from its
// snapshot, and whether that tells the truth.
func (p *partition) matchesSnapshot() bool {
	b := p.before
	if !b.fileExists || len(b.Segments) != len(p.segments) || len(p.empty) > 0 || p.torn > 0 {
		return false
	}
	for i, s := range p.segments {
		if s.badIndex || s.Base != b.Segments[i].Base || s.Size != b.Segments[i].Size {
			return false
		}
	}
	return b.End == p.end() && p.floor.Start <= b.Start
}

// settled holds for a partition that needs no repair: nothing happened to it
// since a clean stop that left no transaction open.
func (p *partition) settled() bool {
	return p.matchesSnapshot() && p.before.Stable == p.before.End && len(p.open) == 0 && !p.bare()
}

// bare holds for a partition whose offsets only the snapshot knows; see hold.
func (p *partition) bare() bool { return len(p.segments) == 0 && p.end() > 0 }

// deleted holds when all that is left lies below the log start, but for the
// batch that hold wrote.
func (p *partition) deleted() bool {
	return p.batches > 0 && p.start() >= p.last.end && !(p.batches == 1 && p.last.number == 0)
}

// write puts the files of the partition in order: torn ends are cut, open
// transactions get an ABORT marker, the indexes and the snapshot say what the
// segments hold.
func (p *partition) write(opt Options) error {
	if p.settled() {
		return nil
	}
	if p.deleted() {
		p.drop()
	}
	if err := p.trim(); err != nil {
		return err
	}
	snap := snapshotFile{
		Version: FormatVersion, Epoch: p.last.epoch, Leader: p.leader(opt.Listeners), MaxTime: p.maxTime,
		CreatedAt: time.UnixMilli(p.created), Aborted: p.aborted,
	}
	if p.before.fileExists {
		snap.Epoch, snap.CreatedAt = max(snap.Epoch, p.before.Epoch), p.before.CreatedAt
	}
	end := p.end()
	if p.bare() {
		if err := p.hold(end, snap.Epoch); err != nil {
			return err
		}
	}
	for _, pid := range p.openInOrder() {
		t := p.open[pid]
		m := marker(pid, t.epoch, end, snap.Epoch, opt.Now)
		if err := p.append(m, indexOf(snap.Epoch, opt.Now.UnixMilli(), false)); err != nil {
			return err
		}
		snap.Aborted = append(snap.Aborted, abortedTxn{pid, t.first, end})
		end++
		snap.MaxTime = max(snap.MaxTime, opt.Now.UnixMilli())
	}
	snap.End, snap.Stable, snap.Start = end, end, min(p.start(), end)
	snap.Aborted = slices.DeleteFunc(snap.Aborted, func(a abortedTxn) bool { return a.Last < snap.Start })
	sort.SliceStable(snap.Aborted, func(i, j int) bool { return snap.Aborted[i].Last < snap.Aborted[j].Last })
	snap.Segments = []segmentFile{}
	for _, s := range p.segments {
		snap.Segments = append(snap.Segments, s.segmentFile)
	}
	return writeJSON(filepath.Join(p.dir, "snapshot.json"), snap)
}

// drop completes a deletion that the broker had promised and not begun.
func (p *partition) drop() {
	p.before.End = max(p.before.End, p.last.end)
	for _, s := range p.segments {
		p.empty = append(p.empty, s.Base)
	}
	p.segments, p.open, p.aborted, p.batches = nil, nil, nil, 0
}

// leader keeps the partition where it was, else spreads partitions evenly.
func (p *partition) leader(listeners int) int32 {
	if p.before.fileExists && int(p.before.Leader) < listeners {
		return p.before.Leader
	}
	return p.number % int32(max(listeners, 1))
}

func (p *partition) openInOrder() []int64 {
	var pids []int64
	for pid := range p.open {
		pids = append(pids, pid)
	}
	sort.Slice(pids, func(i, j int) bool { return p.open[pids[i]].first < p.open[pids[j]].first })
	return pids
}

func (p *partition) file(base int64, ext string) string {
	return filepath.Join(p.dir, strconv.FormatInt(base, 10)+ext)
}

// trim cuts torn ends, removes segments without a batch and rewrites indexes
// that do not say what their segment holds.
func (p *partition) trim() error {
	for _, s := range p.segments {
		if s.torn > 0 {
			if err := cutFile(p.file(s.Base, ".dat"), s.Size); err != nil {
				return err
			}
		}
		if s.badIndex {
			if err := replace(p.file(s.Base, ".idx"), s.index); err != nil {
				return err
			}
		}
	}
	for _, base := range p.empty {
		for _, ext := range []string{".dat", ".idx"} {
			if err := os.Remove(p.file(base, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove an empty segment: %w", err)
			}
		}
	}
	p.empty = nil
	return nil
}

// append adds one batch to the last segment.
func (p *partition) append(raw, index []byte) error {
	s := &p.segments[len(p.segments)-1]
	for _, w := range []struct {
		ext  string
		data []byte
	}{{".dat", raw}, {".idx", index}} {
		f, err := os.OpenFile(p.file(s.Base, w.ext), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return fmt.Errorf("append to %s: %w", p.dir, err)
		}
		_, err = f.Write(w.data)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("append to %s: %w", p.dir, err)
		}
	}
	s.Size += int64(len(raw))
	s.batches++
	return nil
}

// hold keeps the offsets of a partition that has no records left. kfake knows
// them only from its batches; without any it would begin at 0 again, and a
// ledger would see the same offsets twice. So an empty batch takes the last
// offset that was given out. It lies before the log start, where no client
// reads.
func (p *partition) hold(end int64, epoch int32) error {
	b := kmsg.RecordBatch{
		FirstOffset: end - 1, PartitionLeaderEpoch: epoch, Magic: 2,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
	}
	raw := seal(&b)
	p.segments = append(p.segments, segment{segmentFile: segmentFile{Base: end - 1, MinEpoch: epoch, MaxEpoch: epoch}})
	p.floor.Start = end
	// From scratch: a crash in the middle of this must not leave two.
	for _, ext := range []string{".dat", ".idx"} {
		if err := os.Remove(p.file(end-1, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep the offsets of %s: %w", p.dir, err)
		}
	}
	return p.append(raw, indexOf(epoch, 0, false))
}

// marker is the batch that ends a transaction with an abort.
func marker(pid int64, pidEpoch int16, offset int64, epoch int32, now time.Time) []byte {
	key := kmsg.ControlRecordKey{Type: kmsg.ControlRecordKeyTypeAbort}
	end := kmsg.EndTxnMarker{}
	rec := kmsg.Record{Key: key.AppendTo(nil), Value: end.AppendTo(nil)}
	rec.Length = int32(len(rec.AppendTo(nil)) - 1) // without the length itself, one byte
	b := kmsg.RecordBatch{
		FirstOffset: offset, PartitionLeaderEpoch: epoch, Magic: 2, Attributes: flagTxn | flagControl,
		FirstTimestamp: now.UnixMilli(), MaxTimestamp: now.UnixMilli(),
		ProducerID: pid, ProducerEpoch: pidEpoch, FirstSequence: -1, NumRecords: 1, Records: rec.AppendTo(nil),
	}
	return seal(&b)
}

// seal fills in the length and the checksum.
func seal(b *kmsg.RecordBatch) []byte {
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	b.CRC = int32(crc32.Checksum(b.AppendTo(nil)[21:], castagnoli()))
	return b.AppendTo(nil)
}

// writeWindows keeps what is known of the sequence numbers of producers.
func writeWindows(path string, parts []*partition) error {
	w := windowsFile{Version: FormatVersion, Windows: []windowRecord{}}
	for _, p := range parts {
		for _, rec := range p.windows {
			w.Windows = append(w.Windows, *rec)
		}
	}
	return writeJSON(path, w)
}

// index compares the index file of a segment with what it should hold: per
// batch version, checksum, leader epoch, a time that nobody reads, and whether
// the batch is part of a transaction. It is read whole: 15 bytes a batch.
type index struct {
	have []byte
	want []byte
	bad  bool
	max  int64
}

func openIndex(path string) (*index, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read an index: %w", err)
	}
	return &index{have: b}, nil
}

func (x *index) expect(b *batch) {
	x.max = max(x.max, b.maxTime)
	e := indexOf(b.epoch, x.max, b.txn())
	if at := len(x.want); at+indexEntry > len(x.have) || !sameEntry(x.have[at:at+indexEntry], e) {
		x.bad = true
	}
	x.want = append(x.want, e...)
}

func (x *index) done() ([]byte, bool) {
	return x.want, x.bad || len(x.have) != len(x.want)
}

func sameEntry(have, want []byte) bool {
	return have[1] == byte(crc32.Checksum(have[2:], castagnoli())) && have[0] == want[0] &&
		string(have[2:6]) == string(want[2:6]) && have[14]&1 == want[14]
}

func indexOf(epoch int32, maxTime int64, txn bool) []byte {
	e := make([]byte, indexEntry)
	e[0] = FormatVersion
	binary.LittleEndian.PutUint32(e[2:], uint32(epoch))
	binary.LittleEndian.PutUint64(e[6:], uint64(maxTime))
	if txn {
		e[14] = 1
	}
	e[1] = byte(crc32.Checksum(e[2:], castagnoli()))
	return e
}
