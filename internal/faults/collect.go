package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// collector reads back what the logs and the table hold. It has clients of its own and
// no code of the product between them and what it sees but the ledger's parser.
type collector struct {
	kafka    []kgo.Opt
	postgres string // superuser URL
	sources  []string
	rejects  string
}

// collect gathers the evidence. The stages must have caught up, or it finds records
// that are not sealed or stored yet.
func (c *collector) collect(ctx context.Context) (*Evidence, error) {
	e := &Evidence{
		SourceIDs: map[string]ledger.TopicID{}, Sources: map[sinks.Partition][]Event{},
		Sealed: map[sinks.Partition][]Statement{}, Rejects: map[sinks.Partition][]Reject{},
	}
	if err := c.rows(ctx, e); err != nil {
		return nil, err
	}
	if err := c.logs(ctx, e); err != nil {
		return nil, err
	}
	return e, nil
}

func (c *collector) logs(ctx context.Context, e *Evidence) error {
	sealed := map[sinks.Partition]*sealedReader{}
	var topics []string
	sealedTopic := map[string]bool{}
	for _, s := range c.sources {
		topics = append(topics, s, schemas.SealedName(s))
		sealedTopic[schemas.SealedName(s)] = true
	}
	ids, err := readAll(ctx, c.kafka, append(topics, c.rejects), func(p sinks.Partition, r *ledger.Record) error {
		switch {
		case sealedTopic[p.Topic]:
			if sealed[p] == nil {
				sealed[p] = newSealedReader(p)
			}
			sealed[p].add(r)
		case p.Topic == c.rejects:
			rej, err := sinks.ParseRejection(r.Headers)
			if err != nil {
				return fmt.Errorf("%s@%d: %w", p, r.Offset, err)
			}
			src := rej.Record.Source
			src.Key, src.Value = r.Key, r.Value
			e.Rejects[rej.Partition] = append(e.Rejects[rej.Partition],
				Reject{Offset: rej.Record.Offset, Reason: rej.Reason, Detail: rej.Detail, Frame: hashFrame(&src)})
		default:
			e.Sources[p] = append(e.Sources[p], eventOf(r))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for p, r := range sealed {
		r.finish()
		e.Sealed[p], e.Links = r.statements, append(e.Links, r.findings...)
	}
	for _, s := range c.sources {
		e.SourceIDs[s] = ids[s]
	}
	return nil
}

// readAll reads every committed record of topics up to the present stable end.
func readAll(ctx context.Context, opts []kgo.Opt, topics []string, fn func(sinks.Partition, *ledger.Record) error) (map[string]ledger.TopicID, error) {
	adm, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	defer adm.Close()
	from, left, ids, err := bounds(ctx, kadm.NewClient(adm), topics)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	cl, err := kgo.NewClient(slices.Concat(opts, []kgo.Opt{
		kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// Markers are seen so that the end of each partition is.
		kgo.KeepControlRecords(), kgo.FetchMaxWait(200 * time.Millisecond)})...)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	defer cl.Close()
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return nil, fmt.Errorf("read back: %d partitions have not been read to their end: %w", len(left), err)
		}
		var failed error
		fs.EachRecord(func(k *kgo.Record) {
			p := sinks.Partition{Topic: k.Topic, ID: k.Partition}
			end, ok := left[p]
			if !ok || failed != nil {
				return
			}
			if k.Offset < end && !k.Attrs.IsControl() {
				r := recordOf(k)
				failed = fn(p, &r)
			}
			if k.Offset >= end-1 {
				delete(left, p)
			}
		})
		if failed != nil {
			return nil, fmt.Errorf("read back: %w", failed)
		}
	}
	return ids, nil
}

// bounds returns where each partition begins, the stable end of those that hold
// anything, and the topics' ids.
func bounds(ctx context.Context, adm *kadm.Client, topics []string) (map[string]map[int32]kgo.Offset, map[sinks.Partition]int64, map[string]ledger.TopicID, error) {
	md, err := adm.Metadata(ctx, topics...)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("list topics: %w", err)
	}
	starts, err1 := adm.ListStartOffsets(ctx, topics...)
	stable, err2 := adm.ListCommittedOffsets(ctx, topics...)
	ends, err3 := adm.ListEndOffsets(ctx, topics...)
	if err := errors.Join(err1, err2, err3, starts.Error(), stable.Error(), ends.Error()); err != nil {
		return nil, nil, nil, fmt.Errorf("list offsets: %w", err)
	}
	from, left, ids := map[string]map[int32]kgo.Offset{}, map[sinks.Partition]int64{}, map[string]ledger.TopicID{}
	for _, t := range topics {
		if err := md.Topics[t].Err; err != nil {
			return nil, nil, nil, fmt.Errorf("topic %s: %w", t, err)
		}
		ids[t] = ledger.TopicID(md.Topics[t].ID)
		from[t] = map[int32]kgo.Offset{}
		for id := range md.Topics[t].Partitions {
			start, _ := starts.Lookup(t, id)
			lso, _ := stable.Lookup(t, id)
			end, _ := ends.Lookup(t, id)
			if lso.Offset != end.Offset {
				return nil, nil, nil, fmt.Errorf("%s/%d: a transaction is open from %d on, the log ends at %d", t, id, lso.Offset, end.Offset)
			}
			if start.Offset < lso.Offset {
				from[t][id] = kgo.NewOffset().At(start.Offset)
				left[sinks.Partition{Topic: t, ID: id}] = lso.Offset
			}
		}
	}
	return from, left, ids, nil
}

// recordOf takes a client's record apart. Timestamps of the load are ordinary ones, and
// -1 comes back as it went in.
func recordOf(k *kgo.Record) ledger.Record {
	r := ledger.Record{Key: k.Key, Value: k.Value, TimeMs: k.Timestamp.UnixMilli(), Offset: k.Offset, LeaderEpoch: k.LeaderEpoch,
		LogAppendTime: k.Attrs.TimestampType() == 1}
	for _, h := range k.Headers {
		r.Headers = append(r.Headers, ledger.Header{Name: h.Key, Value: h.Value})
	}
	return r
}

// rows reads the table and the stored offsets in one snapshot.
func (c *collector) rows(ctx context.Context, e *Evidence) error {
	conn, err := pgx.Connect(ctx, c.postgres)
	if err != nil {
		return fmt.Errorf("read rows back: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = snapshot(ctx, conn, func(tx pgx.Tx) error {
		if e.Stored, err = offsets(ctx, tx); err != nil {
			return err
		}
		e.Rows = map[sinks.Partition][]Row{}
		rows, err := tx.Query(ctx, "SELECT sealed_topic, sealed_partition, ledger, seq, sealed_offset, leaf_hash FROM public.events")
		if err != nil {
			return err
		}
		var p sinks.Partition
		var r Row
		var id [16]byte
		var seq int64
		var leaf []byte
		_, err = pgx.ForEachRow(rows, []any{&p.Topic, &p.ID, &id, &seq, &r.Offset, &leaf}, func() error {
			r.Ledger, r.Seq, r.Leaf = id, uint64(seq), ledger.Hash{}
			copy(r.Leaf[:], leaf)
			e.Rows[p] = append(e.Rows[p], r)
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("read rows back: %w", err)
	}
	return nil
}

func snapshot(ctx context.Context, conn *pgx.Conn, fn func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, fn)
}

// offsets reads the stored offsets. One sink writes the table; two would hide each
// other's mistakes here.
func offsets(ctx context.Context, tx pgx.Tx) (map[sinks.Partition]int64, error) {
	rows, err := tx.Query(ctx, "SELECT topic, partition, next_offset FROM public.sink_offsets")
	if err != nil {
		return nil, err
	}
	at := map[sinks.Partition]int64{}
	var p sinks.Partition
	var next int64
	_, err = pgx.ForEachRow(rows, []any{&p.Topic, &p.ID, &next}, func() error {
		if _, twice := at[p]; twice {
			return fmt.Errorf("two sinks have an offset of %s", p)
		}
		at[p] = next
		return nil
	})
	return at, err
}

// look is one sighting of every partition that the sink knows.
func look(ctx context.Context, conn *pgx.Conn) (out []Sighting, err error) {
	err = snapshot(ctx, conn, func(tx pgx.Tx) error {
		at, err := offsets(ctx, tx)
		if err != nil {
			return err
		}
		now := time.Now()
		seen := map[sinks.Partition]Sighting{}
		for p, next := range at {
			seen[p] = Sighting{At: now, Partition: p, Next: next, Last: -1}
		}
		rows, err := tx.Query(ctx, "SELECT sealed_topic, sealed_partition, count(*), max(sealed_offset) FROM public.events GROUP BY 1, 2")
		if err != nil {
			return err
		}
		s := Sighting{At: now}
		_, err = pgx.ForEachRow(rows, []any{&s.Partition.Topic, &s.Partition.ID, &s.Rows, &s.Last}, func() error {
			s.Next = at[s.Partition]
			seen[s.Partition] = s
			return nil
		})
		for _, p := range partitions(seen) {
			out = append(out, seen[p])
		}
		return err
	})
	return out, err
}
