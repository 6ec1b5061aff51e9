package postgres

import "github.com/sealstream/sealstream/sinks"

// ListingSQL shows tests the query of a listing, to look at its plan.
func ListingSQL(q sinks.Query) (string, []any) {
	s := selectEvents(&q)
	return s.sql, s.args
}

// LedgersSQL is the query of Ledgers.
func LedgersSQL() string { return selectLedgers }

// Classify is classify.
func Classify(err error) error { return classify(err) }
