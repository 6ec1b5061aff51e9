package embedded

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"sync"

	"github.com/sealstream/sealstream/internal/embedded/logrepair"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// floors remembers the log starts that DeleteRecords requests set. kfake keeps
// them only at a clean stop: after kill -9 records that a client was told are
// deleted could be read again, and a partition emptied that way would begin at
// offset 0 again.
type floors struct {
	path string
	mu   sync.Mutex
	of   map[floorKey]logrepair.Floor
}

type floorKey struct {
	topic string
	part  int32
}

type floorsFile struct {
	Version int               `json:"version"`
	Floors  []logrepair.Floor `json:"floors"`
}

func loadFloors(path string) (*floors, error) {
	f := &floors{path: path, of: map[floorKey]logrepair.Floor{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read floors.json: %w", explain(err))
	}
	var file floorsFile
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("read floors.json: %w: restore it from a backup", err)
	}
	if file.Version != brokerDirVersion {
		return nil, fmt.Errorf("%w: floors.json says %d, this sealstream reads %d", ErrDirVersion, file.Version, brokerDirVersion)
	}
	for _, fl := range file.Floors {
		f.of[floorKey{fl.TopicID, fl.Partition}] = fl
	}
	return f, nil
}

func (f *floors) all() []logrepair.Floor {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]logrepair.Floor, 0, len(f.of))
	for _, fl := range f.of {
		out = append(out, fl)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].TopicID != out[j].TopicID {
			return out[i].TopicID < out[j].TopicID
		}
		return out[i].Partition < out[j].Partition
	})
	return out
}

// note writes down what a request is about to delete. It runs in a control
// function, while the broker does nothing else.
func (f *floors) note(c *kfake.Cluster, req *kmsg.DeleteRecordsRequest) error {
	changed := false
	for _, t := range req.Topics {
		topic := c.TopicInfo(t.Topic)
		if topic == nil {
			continue
		}
		id := base64.StdEncoding.EncodeToString(topic.TopicID[:])
		for _, p := range t.Partitions {
			info := c.PartitionInfo(t.Topic, p.Partition)
			if info == nil || info.Leader != c.CurrentNode() {
				continue // the broker will refuse it
			}
			start := p.Offset
			if start == -1 {
				start = info.HighWatermark
			}
			if start <= info.LogStartOffset || start > info.HighWatermark {
				continue
			}
			f.mu.Lock()
			f.of[floorKey{id, p.Partition}] = logrepair.Floor{TopicID: id, Partition: p.Partition, Start: start, End: info.HighWatermark}
			f.mu.Unlock()
			changed = true
		}
	}
	if !changed {
		return nil
	}
	b, err := json.Marshal(floorsFile{Version: brokerDirVersion, Floors: f.all()})
	if err != nil {
		return fmt.Errorf("write floors.json: %w", err)
	}
	return writeFileSync(f.path, b)
}
