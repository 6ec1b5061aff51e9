package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// originEvery is the time between two looks of guardOrigin, originTimeout bounds each.
const (
	originEvery   = 2 * time.Second
	originTimeout = 10 * time.Second
)

// checkOrigin refuses a database that is another installation's: compared with our
// topics, each of its rows would look forged. The error is then a
// *sinks.OtherInstallation. tied is false for a database in which nothing is stored yet.
func (cfg *Config) checkOrigin(ctx context.Context, sc stream.Config, dbURL string) (tied bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, originTimeout)
	defer cancel()
	cluster, err := clusterID(ctx, sc)
	if err != nil {
		return false, cfg.atBrokers(kafkaCause(ctx, sc, &cfg.Kafka, err))
	}
	tied, err = postgres.CheckOrigin(ctx, dbURL, sinkName, sinks.Origin{Cluster: cluster, Prefix: cfg.Kafka.Prefix})
	switch {
	case otherInstallation(err):
		err = fmt.Errorf("database %s: %w: name that cluster and prefix in kafka.brokers and kafka.prefix, or this installation's own database in sink_postgres.reader_url_file", hostOf(dbURL), err)
	case err != nil:
		err = fmt.Errorf("database %s of sink_postgres.reader_url_file: %w", hostOf(dbURL), err)
	}
	return tied, err
}

func otherInstallation(err error) bool {
	_, ok := errors.AsType[*sinks.OtherInstallation](err)
	return ok
}

// clusterID asks the brokers which cluster they are; no ACL is needed for it.
func clusterID(ctx context.Context, sc stream.Config) (string, error) {
	cl, err := kgo.NewClient(sc.Opts()...)
	if err != nil {
		return "", fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	m, err := kadm.NewClient(cl).BrokerMetadata(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for the cluster id: %w", err)
	}
	return m.Cluster, nil
}

// guardOrigin refuses to serve another installation's database: its events would be read
// under this one's access rules, and the reads recorded in this one's ledgers. While
// brokers or database do not answer, or nothing is stored yet, it asks on beside the
// role, and ends the process when the answer is no.
func (cfg *Config) guardOrigin(ctx context.Context, c *crew, log *slog.Logger, again func() (string, error)) error {
	sc, err := cfg.kafka()
	if err != nil {
		return err
	}
	ask := func(ctx context.Context) (bool, error) {
		dbURL, err := again()
		if err != nil {
			return false, err
		}
		return cfg.checkOrigin(ctx, sc, dbURL)
	}
	first, cancel := context.WithTimeout(ctx, originTimeout/2)
	defer cancel()
	tied, err := ask(first)
	if tied && err == nil || otherInstallation(err) {
		return err
	}
	c.start("origin", func(ctx context.Context) error {
		tick := time.NewTicker(originEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			switch tied, err := ask(ctx); {
			case otherInstallation(err):
				return err
			case tied && err == nil:
				<-ctx.Done()
				return nil
			}
		}
	})
	if err != nil {
		log.WarnContext(ctx, "cannot ask yet whose database this is, asking again", "err", err)
	}
	return nil
}
