package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealstream/sealstream/schemas"
)

// assigned returns how many partitions each static member of a group owns.
func (s *scene) assigned(ctx context.Context, group string) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	group = s.prefix + group
	gs, err := s.watch.adm.DescribeGroups(ctx, group)
	if err == nil {
		err = gs.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("describe group %s: %w", group, err)
	}
	out := map[string]int{}
	for _, m := range gs[group].Members {
		if m.InstanceID == nil {
			continue
		}
		c, ok := m.Assigned.AsConsumer()
		if !ok {
			continue
		}
		for _, t := range c.Topics {
			out[strings.TrimPrefix(*m.InstanceID, s.prefix)] += len(t.Partitions)
		}
	}
	return out, nil
}

// shared waits until each of the slots owns partitions.
func (s *scene) shared(ctx context.Context, group string, slots ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	var last map[string]int
	var lastErr error
	err := until(ctx, func() (bool, error) {
		last, lastErr = s.assigned(ctx, group)
		for _, slot := range slots {
			if last[slot] == 0 {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("slots %v must share the partitions of group %s, owned now: %v: %w", slots, group, last, errors.Join(err, lastErr))
	}
	return nil
}

// openTransactions says whether a transaction is open on any sealed topic.
func (s *scene) openTransactions(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var topics []string
	for _, t := range s.coll.sources {
		topics = append(topics, schemas.SealedName(t))
	}
	stable, err1 := s.watch.adm.ListCommittedOffsets(ctx, topics...)
	ends, err2 := s.watch.adm.ListEndOffsets(ctx, topics...)
	if err := errors.Join(err1, err2, stable.Error(), ends.Error()); err != nil {
		return false, fmt.Errorf("list offsets: %w", err)
	}
	for _, t := range topics {
		for id, o := range ends[t] {
			if l, ok := stable.Lookup(t, id); ok && l.Offset < o.Offset {
				return true, nil
			}
		}
	}
	return false, nil
}

// groupBehind says whether the sink's group offset of some partition is below the
// stored one: the sink has committed its rows and not its offset.
func (s *scene) groupBehind(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	at, err := s.watch.adm.FetchOffsets(ctx, s.prefix+schemas.GroupPostgres)
	if err != nil {
		return false, fmt.Errorf("fetch offsets of group %s: %w", schemas.GroupPostgres, err)
	}
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	for p, stored := range s.watch.stored {
		if o, ok := at.Lookup(p.Topic, p.ID); stored > 0 && (!ok || o.At < stored) {
			return true, nil
		}
	}
	return false, nil
}
