package logrepair

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"sort"
)

// An entry of groups.log or pids.log: length, checksum and version, little
// endian, then JSON. The length counts the version and the JSON.
const entryHeader = 10

// stateLog is how far a state log is whole.
type stateLog struct {
	path string
	size int64 // of the whole part
	torn int64 // bytes behind it
}

// checkStateLog finds the whole part of a state log. kfake stops reading at the
// first entry that is not whole and appends behind it, so that everything it
// appends is lost at the next start.
func checkStateLog(path string) (stateLog, error) {
	_, l, err := readEntries(path)
	return l, err
}

func readEntries(path string) ([][]byte, stateLog, error) {
	l := stateLog{path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l, nil
	}
	if err != nil {
		return nil, l, fmt.Errorf("read %s: %w", path, err)
	}
	var entries [][]byte
	rest := b
	for {
		n := wholeEntry(rest)
		if n == 0 {
			break
		}
		if v := binary.LittleEndian.Uint16(rest[8:]); v != FormatVersion {
			return nil, l, formatError(path, int(v))
		}
		entries = append(entries, rest[entryHeader:n])
		rest = rest[n:]
	}
	l.size = int64(len(b) - len(rest))
	l.torn = int64(len(rest))
	// A crash leaves the beginning of one entry, or blanks where the data
	// did not arrive. What has a whole entry behind it was damaged later.
	for i := 1; i < len(rest); i++ {
		if wholeEntry(rest[i:]) > 0 {
			return nil, l, fmt.Errorf("%w: %s at byte %d, with whole entries behind it: restore the file from a backup, or cut it there (truncate -s %d %s) and lose what follows",
				ErrDamaged, path, l.size, l.size, path)
		}
	}
	return entries, l, nil
}

// wholeEntry is the length of the entry that b begins with, 0 if it does not
// begin with a whole one.
func wholeEntry(b []byte) int64 {
	if len(b) < entryHeader {
		return 0
	}
	n := int64(binary.LittleEndian.Uint32(b)) + 8
	if n < entryHeader || n > int64(len(b)) || crc32.Checksum(b[8:n], castagnoli()) != binary.LittleEndian.Uint32(b[4:]) {
		return 0
	}
	return n
}

func (l stateLog) cut() error {
	if l.torn == 0 {
		return nil
	}
	return cutFile(l.path, l.size)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// pidEntry is an entry of pids.log.
type pidEntry struct {
	Type    string `json:"type"`
	PID     int64  `json:"pid"`
	Epoch   int16  `json:"epoch"`
	TxID    string `json:"txid,omitempty"`
	Timeout int32  `json:"timeout,omitempty"`
	Commit  *bool  `json:"commit,omitempty"`
}

// pidState is what kfake would know of a producer after reading pids.log.
type pidState struct {
	epoch     int16
	txid      string
	committed bool // its last transaction ended in a commit, for all kfake knows
}

// pidLog is pids.log and what it says.
type pidLog struct {
	stateLog
	pids map[int64]pidState
}

func readPIDLog(path string) (*pidLog, error) {
	entries, l, err := readEntries(path)
	if err != nil {
		return nil, err
	}
	p := &pidLog{stateLog: l, pids: map[int64]pidState{}}
	for _, raw := range entries {
		var e pidEntry
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
		}
		st, known := p.pids[e.PID]
		switch {
		case e.Type == "init":
			p.pids[e.PID] = pidState{epoch: e.Epoch, txid: e.TxID, committed: e.Commit != nil && *e.Commit}
		case known: // endtx, timeout
			st.epoch = e.Epoch
			if e.Commit != nil {
				st.committed = *e.Commit
			}
			p.pids[e.PID] = st
		}
	}
	return p, nil
}

func (l *pidLog) known(pid int64) bool {
	_, ok := l.pids[pid]
	return ok
}

// fence raises the epoch of producers that must not go on as if nothing had
// happened, and notes that their last transaction was aborted:
//
//   - those whose transaction was open, named in open: half of it is gone;
//   - transactional ones that kfake believes to have just committed: it would
//     answer the commit of a transaction that it lost with success.
//
// A client that is fenced begins a new transaction; it was not answered.
func (l *pidLog) fence(open map[int64]bool) (int, error) {
	var pids []int64
	for pid, st := range l.pids {
		if open[pid] || (st.txid != "" && st.committed) {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return 0, nil
	}
	sort.Slice(pids, func(i, j int) bool { return pids[i] < pids[j] })
	var b []byte
	no := false
	for _, pid := range pids {
		epoch := l.pids[pid].epoch
		if epoch < math.MaxInt16-1 {
			epoch++
		}
		e, err := json.Marshal(pidEntry{Type: "endtx", PID: pid, Epoch: epoch, Commit: &no})
		if err != nil {
			return 0, fmt.Errorf("fence producers: %w", err)
		}
		b = appendEntry(b, e)
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, fmt.Errorf("fence producers: %w", err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, fmt.Errorf("fence producers: %w", err)
	}
	return len(pids), nil
}

func appendEntry(dst, data []byte) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(2+len(data)))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint16(dst, FormatVersion)
	dst = append(dst, data...)
	binary.LittleEndian.PutUint32(dst[at+4:], crc32.Checksum(dst[at+8:], castagnoli()))
	return dst
}
