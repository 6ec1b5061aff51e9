package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// lockBind is the key of the advisory lock under which a database is tied to an
// installation.
const lockBind = 8242466327370003

// Bind ties the stored offsets of topics to where they come from, or says which are tied
// to something else. A database is one installation's as a whole: verify holds every row
// in it against one set of sealed topics.
func (s *Sink) Bind(ctx context.Context, from sinks.Origin, topics map[string]ledger.TopicID) (map[string]string, error) {
	if err := s.checkSchema(ctx); err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(topics))
	ids := make([]string, len(names))
	for i, n := range names {
		ids[i] = topics[n].String()
	}
	var refused map[string]string
	// Each statement has to see what was committed before it, whatever the server's default.
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) (err error) {
		// Of an empty database two installations would both see that it is nobody's.
		if _, err = tx.Exec(ctx, "SELECT pg_catalog.pg_advisory_xact_lock($1)", int64(lockBind)); err != nil {
			return err
		}
		if refused, err = s.strangers(ctx, tx, from, names); err != nil || len(refused) > 0 {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO public.sink_topics (sink, topic, topic_id, cluster, prefix)
			SELECT $1, n.topic, n.id::uuid, $4, $5 FROM unnest($2::text[], $3::text[]) AS n(topic, id)
			ORDER BY n.topic ON CONFLICT DO NOTHING`, s.name, names, ids, from.Cluster, from.Prefix)
		if err != nil {
			return err
		}
		refused, err = s.madeAnew(ctx, tx, topics)
		return err
	})
	return refused, classify(err)
}

// strangers refuses all topics when the database has those of another installation.
func (s *Sink) strangers(ctx context.Context, tx pgx.Tx, from sinks.Origin, names []string) (map[string]string, error) {
	_, err := whose(ctx, tx, s.name, from)
	other, ok := errors.AsType[*sinks.OtherInstallation](err)
	if !ok {
		return nil, err
	}
	refused := map[string]string{}
	for _, n := range names {
		refused[n] = other.Error() + ": give each installation a database of its own, or point kafka.brokers at the right cluster"
	}
	return refused, nil
}

// whose says whether the database is already tied to an installation. When it is another
// one than from, the error is a *sinks.OtherInstallation.
func whose(ctx context.Context, q querier, sink string, from sinks.Origin) (tied bool, err error) {
	rows, err := q.Query(ctx, `SELECT cluster, prefix FROM public.sink_topics
		WHERE sink = $1 ORDER BY (cluster, prefix) = ($2, $3), since LIMIT 1`, sink, from.Cluster, from.Prefix)
	if err != nil {
		return false, err
	}
	var found sinks.Origin
	_, err = pgx.ForEachRow(rows, []any{&found.Cluster, &found.Prefix}, func() error { tied = true; return nil })
	if err == nil && tied && found != from {
		err = &sinks.OtherInstallation{Theirs: found, Ours: from}
	}
	return tied, err
}

// CheckOrigin asks the database at url, as any role that reads, whose it is before its
// rows are compared or shown: those of another installation would all look like
// forgeries. When it is another one's, the error is a *sinks.OtherInstallation; tied is
// false for a database in which nothing was stored yet.
func CheckOrigin(ctx context.Context, url, sink string, from sinks.Origin) (tied bool, err error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return false, fmt.Errorf("postgres: %w", badURL(err))
	}
	prepare(cfg, "sealstream origin")
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return false, readError(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if sink == "" {
		sink = defaultSink
	}
	tied, err = whose(ctx, conn, sink, from)
	if _, other := errors.AsType[*sinks.OtherInstallation](err); other {
		return tied, err
	}
	return tied, readError(err)
}

// madeAnew refuses the topics whose name is known under another id.
func (s *Sink) madeAnew(ctx context.Context, tx pgx.Tx, topics map[string]ledger.TopicID) (map[string]string, error) {
	rows, err := tx.Query(ctx, "SELECT topic, topic_id::text FROM public.sink_topics WHERE sink = $1 AND topic = ANY($2)",
		s.name, slices.Sorted(maps.Keys(topics)))
	if err != nil {
		return nil, err
	}
	refused := map[string]string{}
	var topic, id string
	_, err = pgx.ForEachRow(rows, []any{&topic, &id}, func() error {
		if now := topics[topic].String(); id != now {
			refused[topic] = fmt.Sprintf("the stored offsets of %s are about topic id %s, the topic has id %s now: it was made anew; nothing of it is stored until the database is told to begin with it again (docs/runbook.md)",
				topic, id, now)
		}
		return nil
	})
	return refused, err
}
