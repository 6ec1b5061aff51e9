package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Behind the last record of an input there may be nothing but markers of transactions.
// No output says that they were passed. When the input's retention takes them, its log
// start lies beyond the head although nothing was lost, and that must not look like a
// loss. So a member that has nothing to do looks whether the rest of an input holds no
// record, and keeps how far that is true beside the group offset, in words of the
// processor: others can write there too, and what to believe is for it to say.

// seenEvery is the time between two looks of a member that has nothing to do.
const seenEvery = 5 * time.Second

// noteSeen looks behind the heads, and commits what it finds.
func (s *session) noteSeen(ctx context.Context) error {
	if time.Since(s.sawAt) < seenEvery {
		return nil
	}
	s.sawAt = time.Now()
	byTopic := map[string][]*part{}
	for _, p := range s.owned() {
		if p.fold != nil {
			byTopic[p.id.topic] = append(byTopic[p.id.topic], p)
		}
	}
	lctx, cancel := context.WithTimeout(ctx, seenEvery)
	defer cancel()
	var found []*part
	for topic, parts := range byTopic {
		more, err := s.lookBehind(lctx, topic, parts)
		if err != nil {
			return nil // the next look may tell; brokers that do not answer are noticed elsewhere
		}
		found = append(found, more...)
	}
	if len(found) == 0 {
		return nil
	}
	if err := s.gts.Begin(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	s.unwritten.Store(nil)
	for _, p := range found {
		p.touched = true
	}
	ectx, stop := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer stop()
	return (&txn{s: s, began: time.Now()}).end(ectx)
}

// lookBehind moves seen of those parts whose input holds no record behind the head.
func (s *session) lookBehind(ctx context.Context, topic string, parts []*part) (found []*part, err error) {
	log := newTopicLog(s.adm, topic)
	spans, err := log.spans(ctx)
	if err != nil {
		return nil, err
	}
	td, _, err := log.describe(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if text := p.keepText(); text != "" && text != p.kept {
			found = append(found, p) // the last commit of it was aborted
			continue
		}
		from, to := max(p.fold.Next(), p.input.Start, p.seen), spans[p.id.id].stable
		if from >= to || td.ID != [16]byte(p.input.TopicID) {
			continue
		}
		pl, err := log.partition(td, p.id.id)
		if err != nil {
			return nil, err
		}
		r, err := pl.first(ctx, from, to)
		if err != nil {
			return nil, err
		}
		if r != nil {
			continue
		}
		p.seen = to
		if text := p.keepText(); text != "" && text != p.kept {
			found = append(found, p)
		}
	}
	return found, nil
}

// keepText is what belongs beside the group offset now, empty for nothing.
func (p *part) keepText() string {
	if p.fold == nil || p.seen <= p.fold.Next() {
		return ""
	}
	return p.fold.Keep(p.seen)
}

// keptOf reads what stands beside the group offsets of a topic.
func keptOf(ctx context.Context, cl *kgo.Client, group, topic string) (map[int32]string, error) {
	rs, err := kadm.NewClient(cl).FetchOffsetsForTopics(ctx, group, topic)
	if err != nil {
		return nil, fmt.Errorf("read what group %s has kept of %s: %w", group, topic, err)
	}
	out := map[int32]string{}
	for id, r := range rs[topic] {
		if r.Err == nil {
			out[id] = r.Metadata
		}
	}
	return out, nil
}
