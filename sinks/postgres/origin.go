package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

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
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
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
	rows, err := tx.Query(ctx, `SELECT cluster, prefix FROM public.sink_topics
		WHERE sink = $1 AND (cluster, prefix) <> ($2, $3) ORDER BY since LIMIT 1`, s.name, from.Cluster, from.Prefix)
	if err != nil {
		return nil, err
	}
	refused := map[string]string{}
	var cluster, prefix string
	_, err = pgx.ForEachRow(rows, []any{&cluster, &prefix}, func() error {
		for _, n := range names {
			refused[n] = fmt.Sprintf("the database belongs to the installation with prefix %q on Kafka cluster %s, this one has prefix %q on cluster %s: give each installation a database of its own, or point kafka.brokers at the right cluster",
				prefix, cluster, from.Prefix, from.Cluster)
		}
		return nil
	})
	return refused, err
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
