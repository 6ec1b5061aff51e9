package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
	"github.com/sealstream/sealstream/sinks/sinktest"
)

func TestSuite(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Fixture {
		d := newDatabase(t)
		super, n := d.super(), 0
		return sinktest.Fixture{
			Open: func() sinks.Sink { return d.sink() },
			Rows: d.rows,
			Refuse: func(refs ...sinktest.Ref) {
				if len(refs) == 0 {
					return
				}
				var keys []string
				for _, r := range refs {
					keys = append(keys, fmt.Sprintf("('%s'::uuid, %d)", r.Ledger.UUID(), r.Seq))
				}
				n++
				sql := fmt.Sprintf("ALTER TABLE events ADD CONSTRAINT poison_%d CHECK ((ledger, seq) NOT IN (%s)) NOT VALID", n, strings.Join(keys, ", "))
				if _, err := super.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// rows reads back what is stored, in the order in which the table holds it.
func (d *database) rows() []sinktest.Row {
	d.t.Helper()
	rows, err := d.super().Query(d.t.Context(), "SELECT ledger, seq, sealed_topic, sealed_partition, sealed_offset, statement, salt, frame FROM events ORDER BY tableoid, ctid")
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	var out []sinktest.Row
	for rows.Next() {
		var r sinktest.Row
		var id [16]byte
		var seq int64
		var statement, salt, frame []byte
		if err := rows.Scan(&id, &seq, &r.Partition.Topic, &r.Partition.ID, &r.Offset, &statement, &salt, &frame); err != nil {
			d.t.Fatal(err)
		}
		r.Ledger, r.Seq = ledger.ID(id), uint64(seq)
		r.Statement, r.Salt, r.Frame = string(statement), string(salt), string(frame)
		out = append(out, r)
	}
	if rows.Err() != nil {
		d.t.Fatal(rows.Err())
	}
	return out
}
