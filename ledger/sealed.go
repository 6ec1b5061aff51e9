package ledger

// Sealed is a sealed record taken apart: the source record as it was committed,
// and the statement about it.
type Sealed struct {
	Source    Record // key, value, headers and timestamp of the source record; headers without the last
	Statement Statement
	Raw       [StatementSize]byte // the statement's bytes, as they are in the record
	Salt      Salt                // zeros when Statement.SaltKey is 0
}
