package postgres

import (
	"fmt"
	"strings"

	"github.com/sealstream/sealstream/schemas"
)

// Columns of the table events, in the order in which rows are encoded: first the
// fixed ones, then those of the projection.
func fixedColumns() []string {
	return []string{
		"ledger", "seq", "event_time", "record_time", "sealed_offset", "month", "sealed_partition", "kind", "projection_version",
		"sealed_topic", "tenant", "leaf_hash", "statement", "salt", "frame", "decode_error",
	}
}

func columnNames() []string {
	names := fixedColumns()
	for _, c := range schemas.Columns(schemas.ProjectionVersion) {
		names = append(names, c.Name)
	}
	return names
}

// sqlType is how PostgreSQL holds a projected column.
func sqlType(t schemas.ColumnType) string {
	switch t {
	case schemas.TextList:
		return "text[]"
	case schemas.Int:
		return "bigint"
	case schemas.Bool:
		return "boolean"
	case schemas.TimeMs:
		return "timestamptz"
	default:
		return "text"
	}
}

// projectionDDL renders the projected columns of a version for a migration.
func projectionDDL(version int) string {
	var b strings.Builder
	for _, c := range schemas.Columns(version) {
		fmt.Fprintf(&b, "%s %s,\n    ", c.Name, sqlType(c.Type))
	}
	return strings.TrimSuffix(b.String(), "\n    ")
}

// fixedCount is the number of fixedColumns; the others say where two of them are.
const (
	fixedCount   = 16
	columnSeq    = 1
	columnOffset = 4
)

func columnName(i int) string { return columnNames()[i] }
