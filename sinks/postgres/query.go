package postgres

import (
	"fmt"
	"strings"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// statement is SQL with parameters; nothing that a caller gave is ever part of the
// text.
type statement struct {
	sql  string
	args []any
}

// param adds a parameter and returns its place in the text.
func (s *statement) param(v any) string {
	s.args = append(s.args, v)
	return fmt.Sprintf("$%d", len(s.args))
}

// listed are the columns of a listing: the fixed ones in scanning order, then the
// projection.
func listed(alias string, fixed []string) string {
	names := fixed
	for _, c := range schemas.Columns(schemas.ProjectionVersion) {
		names = append(names, c.Name)
	}
	return alias + strings.Join(names, ", "+alias)
}

func listFixed() []string {
	return []string{"ledger", "seq", "leaf_hash", "event_time", "record_time", "tenant", "decode_error", "frame"}
}

// selectEvents makes the query of one page; it asks for one row more than the page
// has, to know whether there is another.
//
// A listing by time without a tenant has no index of its own: it takes the first rows
// of each tenant by (tenant, event_time), of which there are few, and merges those.
func selectEvents(q *sinks.Query) statement {
	var s statement
	where := s.filters(q)
	limit := s.param(q.Limit + 1)
	if q.Order == sinks.OrderLedger {
		s.byLedger(q, where, limit)
		return s
	}
	if q.After != nil {
		at, id, seq := s.param(q.After.Time), s.param(q.After.Ledger.UUID()), s.param(int64(q.After.Seq))
		where += " AND e.event_time <= " + at + " AND (e.event_time, e.ledger, e.seq) < (" + at + ", " + id + ", " + seq + ")"
	}
	const order = " ORDER BY e.event_time DESC, e.ledger DESC, e.seq DESC LIMIT "
	if q.Tenant != "" || q.Ledger != nil {
		s.sql = "SELECT " + listed("e.", listFixed()) + " FROM public.events e WHERE " + where + order + limit
		return s
	}
	s.sql = `WITH RECURSIVE t(tenant) AS (
			(SELECT x.tenant FROM public.events x ORDER BY x.tenant LIMIT 1)
			UNION ALL
			SELECT (SELECT x.tenant FROM public.events x WHERE x.tenant > t.tenant ORDER BY x.tenant LIMIT 1) FROM t WHERE t.tenant IS NOT NULL
		)
		SELECT ` + listed("e.", listFixed()) + ` FROM t CROSS JOIN LATERAL (
			SELECT e.* FROM public.events e WHERE e.tenant = t.tenant AND ` + where + order + limit + `
		) e` + order + limit
	return s
}

// byLedger continues in the ledger of After and then in the ledgers behind it. Those are
// two conditions and not one on the pair, because PostgreSQL estimates the number of
// rows of such a condition by its first column, and then sorts what it could read in order.
func (s *statement) byLedger(q *sinks.Query, where, limit string) {
	const order = " ORDER BY e.ledger, e.seq LIMIT "
	part := func(more string) string {
		return "SELECT e.* FROM public.events e WHERE " + where + more + order + limit
	}
	from := "(" + part("") + ")"
	if q.After != nil {
		id, seq := s.param(q.After.Ledger.UUID()), s.param(int64(q.After.Seq))
		from = "((" + part(" AND e.ledger = "+id+" AND e.seq > "+seq) + ") UNION ALL (" + part(" AND e.ledger > "+id) + "))"
	}
	s.sql = "SELECT " + listed("e.", listFixed()) + " FROM " + from + " e" + order + limit
}

// filters renders the restrictions of a query.
func (s *statement) filters(q *sinks.Query) string {
	conds := []string{fmt.Sprintf("e.kind = %d", ledger.KindEvent)}
	add := func(form string, v any) { conds = append(conds, strings.ReplaceAll(form, "?", s.param(v))) }
	text := func(form, v string) {
		if v != "" {
			add(form, sinks.Text(v, schemas.MaxKeyword)) // as columns are cut
		}
	}
	if !q.From.IsZero() {
		add("e.event_time >= ?", q.From)
	}
	if !q.To.IsZero() {
		add("e.event_time < ?", q.To)
	}
	if q.Ledger != nil {
		add("e.ledger = ?", q.Ledger.UUID())
	}
	text("e.tenant = ?", q.Tenant)
	text("e.event_action = ?", q.Action)
	text("? = ANY (e.event_category)", q.Category)
	text("e.event_outcome = ?", q.Outcome)
	text("(e.user_id = ? OR e.user_name = ?)", q.Actor)
	text("(e.audit_object_id = ? OR e.aggregate_id = ?)", q.Object)
	text("e.source_ip = ?", q.Source)
	return strings.Join(conds, " AND ")
}

// selectEarliest finds, for pairs of tenant and event id, the row that was there
// first: by record time, then by place. A copy in another ledger has no order but that.
const selectEarliest = `SELECT k.i, d.event_time, d.ledger, d.seq
	FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(tenant, id, i)
	CROSS JOIN LATERAL (
		SELECT e.event_time, e.ledger, e.seq FROM public.events e
		WHERE e.event_id = k.id AND e.tenant = k.tenant AND e.kind = 2
		ORDER BY e.record_time NULLS LAST, e.ledger, e.seq LIMIT 1
	) d`

// selectLedgers walks the primary key from ledger to ledger, and takes the first and
// the last row of each.
const selectLedgers = `WITH RECURSIVE l(ledger) AS (
		(SELECT x.ledger FROM public.events x ORDER BY x.ledger LIMIT 1)
		UNION ALL
		SELECT (SELECT x.ledger FROM public.events x WHERE x.ledger > l.ledger ORDER BY x.ledger LIMIT 1) FROM l WHERE l.ledger IS NOT NULL
	)
	SELECT l.ledger, a.kind, a.frame, z.seq, z.leaf_hash, z.kind, z.sealed_topic, z.sealed_partition FROM l
	CROSS JOIN LATERAL (SELECT e.kind, e.frame FROM public.events e WHERE e.ledger = l.ledger ORDER BY e.seq LIMIT 1) a
	CROSS JOIN LATERAL (SELECT e.seq, e.leaf_hash, e.kind, e.sealed_topic, e.sealed_partition FROM public.events e WHERE e.ledger = l.ledger ORDER BY e.seq DESC LIMIT 1) z
	ORDER BY l.ledger`
