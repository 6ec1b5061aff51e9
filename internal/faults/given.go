package faults

import (
	"context"
	"fmt"

	"github.com/sealstream/sealstream/internal/testbed"
)

// startGiven makes an installation on Kafka brokers that are there already: topics and
// groups under a prefix of the scene's own, database and registry beside it, and every
// role in a process of its own.
func (s *scene) startGiven(ctx context.Context) error {
	s.prefix = fmt.Sprintf("faults-%08x.", s.rnd.Uint32())
	g, err := s.bed.Given(ctx, testbed.GivenOptions{Binary: s.o.Binary, Kafka: s.o.Kafka, Prefix: s.prefix})
	if err != nil {
		return err
	}
	s.place = place{kafka: s.o.Kafka, registry: g.Registry, postgres: g.Postgres}
	s.where = g.Args
	for _, role := range []string{roleSeal, roleSink} {
		if !s.alone(role) {
			if _, err := s.role(role, "base"); err != nil {
				return err
			}
		}
	}
	return nil
}
