package faults

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealstream/sealstream/internal/testbed"
)

// detour is what stands before the servers of an installation on real Kafka: addresses by
// which its roles and the load reach them, in place of the servers' own.
type detour struct {
	kafka    []string
	registry string
	postgres string // host:port

	open func(*testbed.Given) error // called when the servers run and no role does yet
}

// startGiven makes an installation on Kafka brokers that are there already: topics and
// groups under a prefix of the scene's own, database and registry beside it, and every
// role in a process of its own.
func (s *scene) startGiven(ctx context.Context) error {
	s.prefix = fmt.Sprintf("faults-%08x.", s.rnd.Uint32())
	brokers := s.o.Kafka
	if s.kafka != nil {
		brokers = s.kafka.Brokers
	}
	o := testbed.GivenOptions{Binary: s.o.Binary, Kafka: brokers, Prefix: s.prefix, Registry: s.via.registry, PostgresVia: s.via.postgres}
	if s.via.kafka != nil {
		o.Kafka = s.via.kafka
	}
	g, err := s.bed.Given(ctx, o)
	if err != nil {
		return err
	}
	s.given = g
	s.place = place{kafka: brokers, registry: g.Registry, postgres: g.Postgres}
	s.where = g.Args
	if s.via.open != nil {
		if err := s.via.open(g); err != nil {
			return err
		}
	}
	for _, role := range []string{roleSeal, roleSink} {
		if !s.alone(role) {
			p, err := s.role(role, "base")
			if err != nil {
				return err
			}
			s.base = append(s.base, p)
		}
	}
	return nil
}

// stands says that what the case does not end itself still runs.
func (s *scene) stands() error {
	var errs []error
	if s.up != nil {
		errs = append(errs, alive(s.up.Proc))
	}
	for _, p := range s.base {
		errs = append(errs, alive(p))
	}
	return errors.Join(errs...)
}
