package stream

import (
	"context"
	"time"
)

// lookEvery is the time between two looks at an output that lacks a partition.
const lookEvery = 2 * time.Second

// grown returns an output topic that lacked a partition and has it now, else "". A new
// session then takes the partition up; this one would not be asked for it again.
func (s *session) grown(ctx context.Context) string {
	want := map[string]int32{}
	for _, p := range s.owned() {
		if p.narrow {
			want[p.out] = max(want[p.out], p.id.id)
		}
	}
	if len(want) == 0 || time.Since(s.looked) < lookEvery {
		return ""
	}
	s.looked = time.Now()
	lctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	for topic, id := range want {
		td, _, err := newTopicLog(s.adm, topic).describe(lctx)
		if err != nil {
			continue // the next look may tell
		}
		if p, ok := td.Partitions[id]; ok && p.Err == nil {
			return topic
		}
	}
	return ""
}
