package logrepair

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// The JSON files of kfake, persist version 1.

type metaFile struct {
	Version int    `json:"version"`
	Cluster string `json:"cluster_id"`
}

type topicsFile struct {
	Version int         `json:"version"`
	Topics  []topicFile `json:"topics"`
}

type topicFile struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Partitions int    `json:"partitions"`
}

// snapshotFile is what kfake keeps of one partition at a clean stop.
type snapshotFile struct {
	Version    int           `json:"version"`
	End        int64         `json:"high_watermark"`
	Stable     int64         `json:"last_stable_offset"`
	Start      int64         `json:"log_start_offset"`
	Epoch      int32         `json:"epoch"`
	Leader     int32         `json:"leader_node,omitempty"`
	MaxTime    int64         `json:"max_timestamp"`
	CreatedAt  time.Time     `json:"created_at"`
	Aborted    []abortedTxn  `json:"aborted_txns,omitempty"`
	Segments   []segmentFile `json:"segments"`
	fileExists bool
}

type abortedTxn struct {
	PID   int64 `json:"producer_id"`
	First int64 `json:"first_offset"`
	Last  int64 `json:"last_offset"`
}

type segmentFile struct {
	Base     int64 `json:"base_offset"`
	Size     int64 `json:"size"`
	MinEpoch int32 `json:"min_epoch,omitempty"`
	MaxEpoch int32 `json:"max_epoch,omitempty"`
}

type windowsFile struct {
	Version int            `json:"version"`
	Windows []windowRecord `json:"windows"`
}

type windowRecord struct {
	PID     int64     `json:"pid"`
	Topic   string    `json:"topic"`
	Part    int32     `json:"partition"`
	Entries [5]window `json:"entries,omitempty"`
	Count   uint8     `json:"count,omitempty"`
	At      uint8     `json:"at"`
	Epoch   int16     `json:"epoch"`
	Seen    bool      `json:"seen,omitempty"`
	Next    int32     `json:"next_seq,omitempty"`
}

type window struct {
	First  int32 `json:"first_seq"`
	Next   int32 `json:"next_seq"`
	Offset int64 `json:"offset"`
}

func partitionDir(topic string, p int32) string {
	return fmt.Sprintf("%s-%d", url.PathEscape(topic), p)
}

// readJSON reads a file; ok is false when there is none.
func readJSON(path string, into any) (ok bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return false, fmt.Errorf("%w: %s: %w: restore it from a backup", ErrDamaged, path, err)
	}
	return true, nil
}

// writeJSON replaces a file in one step.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return replace(path, b)
}

func replace(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// cutFile shortens a file and makes that durable.
func cutFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cut %s: %w", path, err)
	}
	if err := errors.Join(f.Truncate(size), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cut %s: %w", path, err)
	}
	return nil
}
