package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// killBroker kills the only broker, at times together with seal and sink, which are then
// started before the broker is.
func killBroker(ctx context.Context, s *scene) error {
	if err := s.open(ctx, roleSeal, roleSink); err != nil {
		return err
	}
	procs := map[string]*testbed.Proc{}
	var err error
	for _, role := range s.roles {
		if procs[role], err = s.role(role, "a"); err != nil {
			return err
		}
	}
	s.startLoad(ctx)
	if err := s.flowing(ctx); err != nil {
		return err
	}
	for i := range s.n(3, 16) {
		if err := pass(ctx, s.between(0, 1500*time.Millisecond)); err != nil {
			return err
		}
		if err := s.strike(s.kafka.Proc(1)); err != nil {
			return err
		}
		for k, role := range s.roles {
			if i%3 == k { // one of both, or none
				if err := s.strike(procs[role]); err != nil {
					return err
				}
				if procs[role], err = s.role(role, "a"); err != nil {
					return err
				}
			}
		}
		if err := pass(ctx, s.between(0, 3*time.Second)); err != nil {
			return err
		}
		if err := errors.Join(s.kafka.Start(1), s.kafka.Ready(ctx)); err != nil {
			return err
		}
		s.begin(brokerBack, "")
		if err := s.back(ctx, slowest); err != nil {
			return errors.Join(err, alive(procs[roleSeal]), alive(procs[roleSink]))
		}
	}
	return errors.Join(s.settle(ctx), alive(procs[roleSeal]), alive(procs[roleSink]))
}

// fillBroker gives a broker a small disk and fills it up: it falls, and starts again
// when there is room.
func fillBroker(ctx context.Context, s *scene) error {
	disk, err := s.smallDisk("broker", 256)
	if err != nil {
		return fmt.Errorf("this case needs a small file system, which only root can mount: %w", err)
	}
	if s.kafka, err = s.bed.Kafka(ctx, testbed.KafkaOptions{Nodes: 1, Data: disk.dir, Txn: s.o.mortalTxn()}); err != nil {
		return err
	}
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	for range s.n(1, 4) {
		if err := disk.fill(); err != nil {
			return err
		}
		fctx, cancel := context.WithTimeout(ctx, 45*time.Second)
		err := until(fctx, func() (bool, error) { return s.kafka.Proc(1).Ended(), disk.fill() })
		cancel()
		if err != nil {
			return fmt.Errorf("the disk is full, and the broker has not felt it: %w", err)
		}
		s.struck("full disk of the broker")
		if err := disk.free(); err != nil {
			return err
		}
		if err := errors.Join(s.kafka.Start(1), s.kafka.Ready(ctx)); err != nil {
			return err
		}
		s.begin(brokerBack, "")
		if err := errors.Join(s.back(ctx, slowest), s.stands()); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// killLeader kills the broker that leads a partition of the load.
func killLeader(ctx context.Context, s *scene) error {
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	for range s.n(1, 8) {
		if err := pass(ctx, s.between(0, 1500*time.Millisecond)); err != nil {
			return err
		}
		id, err := s.leader(ctx)
		if err != nil {
			return err
		}
		s.load.gap.begin()
		if err := s.strike(s.kafka.Proc(id)); err != nil {
			return err
		}
		s.begin(brokerGone, "")
		if err := s.back(ctx, slowest); err != nil {
			return fmt.Errorf("broker %d of three was killed, the others must take over: %w", id, err)
		}
		s.res.Times = append(s.res.Times, Timing{"longest time without an acknowledgement, a broker killed", s.load.gap.longest()})
		if err := errors.Join(s.kafka.Start(id), s.kafka.Ready(ctx), s.inSync(ctx), s.stands()); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// leader picks a partition of the load and returns the broker that leads it.
func (s *scene) leader(ctx context.Context) (int, error) {
	topic := s.topics()[s.rnd.IntN(2)]
	md, err := s.watch.adm.Metadata(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("ask for leaders: %w", err)
	}
	parts := md.Topics[topic].Partitions
	return int(parts[int32(s.rnd.IntN(len(parts)))].Leader), nil
}

// inSync waits until every replica has all its leader has: only then can the next
// broker go without taking anything along.
func (s *scene) inSync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	last := ""
	err := until(ctx, func() (bool, error) {
		md, err := s.watch.adm.Metadata(ctx)
		if err != nil {
			last = err.Error()
			return false, nil
		}
		last = ""
		md.Topics.EachPartition(func(p kadm.PartitionDetail) {
			if len(p.ISR) < len(p.Replicas) || p.Err != nil {
				last = fmt.Sprintf("%s/%d has %d replicas in sync of %d", p.Topic, p.Partition, len(p.ISR), len(p.Replicas))
			}
		})
		return last == "", nil
	})
	if err != nil {
		return fmt.Errorf("wait for all replicas: %s: %w", last, err)
	}
	return nil
}

// rollBrokers stops and starts one broker after the other, as an upgrade does.
func rollBrokers(ctx context.Context, s *scene) error {
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	for range s.n(1, 2) {
		for id := 1; id <= 3; id++ {
			s.load.gap.begin()
			tctx, cancel := context.WithTimeout(ctx, 60*time.Second)
			err := s.kafka.Terminate(tctx, id)
			cancel()
			if err != nil {
				return err
			}
			// Not before: while it hands its partitions over, all goes on.
			s.begin(brokerLeft, "")
			s.struck("SIGTERM of a broker of three")
			if err := s.back(ctx, slowest); err != nil {
				return fmt.Errorf("broker %d has stopped, the others must take over: %w", id, err)
			}
			// From the order on, so that a stall while it leaves is seen as well.
			s.res.Times = append(s.res.Times, Timing{"longest time without an acknowledgement, a broker left in order", s.load.gap.longest()})
			if err := errors.Join(s.kafka.Start(id), s.kafka.Ready(ctx), s.inSync(ctx), s.stands()); err != nil {
				return err
			}
		}
	}
	return s.settle(ctx)
}

// moveCoordinators gives the partitions of Kafka's own topics other leaders, so that
// groups and transactions get other coordinators in the middle of their work.
func moveCoordinators(ctx context.Context, s *scene) error {
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	for range s.n(1, 6) {
		for _, topic := range []string{"__consumer_offsets", "__transaction_state"} {
			if err := pass(ctx, s.between(0, time.Second)); err != nil {
				return err
			}
			before, err := s.agreed(ctx, func(coordinating) bool { return true })
			if err != nil {
				return err
			}
			began := time.Now()
			if err := s.moveLeaders(ctx, topic); err != nil {
				return err
			}
			if _, err = s.agreed(ctx, func(now coordinating) bool {
				return topic == "__consumer_offsets" && now.group != before.group || topic == "__transaction_state" && now.txn != before.txn
			}); err != nil {
				return fmt.Errorf("the leaders of %s were moved, and the coordinators are the same: %w", topic, err)
			}
			s.begin(coordinatorsMoved, "") // not before: until then the old ones do the work
			s.timed("from the order until other coordinators are named", began)
			s.struck("coordinator moved, " + topic)
			if err := errors.Join(s.back(ctx, slowest), s.stands()); err != nil {
				return err
			}
		}
	}
	return s.settle(ctx)
}

// coordinating are the brokers that look after the seal's group and transactions.
type coordinating struct{ group, txn int32 }

// agreed waits until every broker names the same coordinators, and those are wanted.
func (s *scene) agreed(ctx context.Context, wanted func(coordinating) bool) (c coordinating, err error) {
	ctx, cancel := context.WithTimeout(ctx, slowest)
	defer cancel()
	var last error
	err = until(ctx, func() (bool, error) {
		c, last = s.coordinators(ctx)
		return last == nil && wanted(c), nil
	})
	if err != nil {
		return c, errors.Join(err, last)
	}
	return c, nil
}

func (s *scene) coordinators(ctx context.Context) (c coordinating, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if c.group, err = s.coordinator(ctx, s.prefix+schemas.GroupSeal, 0); err != nil {
		return c, err
	}
	c.txn, err = s.coordinator(ctx, s.prefix+schemas.TransactionSeal+"base", 1)
	return c, err
}

// coordinator is what every broker names: the old one, too, knows that it is none.
func (s *scene) coordinator(ctx context.Context, key string, kind int8) (int32, error) {
	named := int32(-1)
	for id := 1; id <= 3; id++ {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorKeys, req.CoordinatorType = key, []string{key}, kind
		resp, err := req.RequestWith(ctx, s.watch.cl.Broker(id))
		if err != nil {
			return 0, fmt.Errorf("ask broker %d for the coordinator of %s: %w", id, key, err)
		}
		at, code := resp.NodeID, resp.ErrorCode
		for _, c := range resp.Coordinators {
			at, code = c.NodeID, c.ErrorCode
		}
		if err := kerr.ErrorForCode(code); err != nil {
			return 0, fmt.Errorf("ask broker %d for the coordinator of %s: %w", id, key, err)
		}
		if named >= 0 && at != named {
			return 0, fmt.Errorf("brokers name %d and %d as the coordinator of %s", named, at, key)
		}
		named = at
	}
	return named, nil
}

// moveLeaders makes the second replica of each partition the leader.
func (s *scene) moveLeaders(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, slowest)
	defer cancel()
	md, err := s.watch.adm.Metadata(ctx, topic)
	if err != nil {
		return fmt.Errorf("move the leaders of %s: %w", topic, err)
	}
	var to kadm.AlterPartitionAssignmentsReq
	parts := kadm.TopicsSet{}
	for id, p := range md.Topics[topic].Partitions {
		turned := []int32{}
		for i, r := range p.Replicas {
			if r == p.Leader {
				turned = append(append(turned, p.Replicas[i+1:]...), p.Replicas[:i+1]...)
			}
		}
		to.Assign(topic, id, turned)
		parts.Add(topic, id)
	}
	if rs, err := s.watch.adm.AlterPartitionAssignments(ctx, to); errors.Join(err, rs.Error()) != nil {
		return fmt.Errorf("move the leaders of %s: %w", topic, errors.Join(err, rs.Error()))
	}
	// The order of the replicas is known before anybody may be elected by it.
	return until(ctx, func() (bool, error) {
		rs, err := s.watch.adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, parts)
		if err != nil {
			return false, nil // asked again
		}
		for _, ps := range rs {
			for _, r := range ps {
				if r.Err != nil && !errors.Is(r.Err, kerr.ElectionNotNeeded) {
					return false, nil
				}
			}
		}
		return true, nil
	})
}
