package ledger

// Verdict is the one list of judgements that verify, API and reports share.
type Verdict string

// Verdicts about one record.
const (
	OK       Verdict = "OK"
	Altered  Verdict = "ALTERED"
	Missing  Verdict = "MISSING"
	Extra    Verdict = "EXTRA"
	Rejected Verdict = "REJECTED" // set aside in the rejects topic; counted, not a finding
	Erased   Verdict = "ERASED"   // covered by a sealed erasure order
)

// Verdicts about a whole ledger.
const (
	Gap       Verdict = "GAP"
	Fork      Verdict = "FORK"
	Skipped   Verdict = "SKIPPED"
	Rollback  Verdict = "ROLLBACK"
	Truncated Verdict = "TRUNCATED"
	SplitView Verdict = "SPLIT-VIEW"
)

// Finding is one thing that is not as it should be. The JSON field names are
// part of the output that scripts rely on.
type Finding struct {
	Verdict Verdict `json:"verdict"`
	Ledger  ID      `json:"ledger"`
	Seq     uint64  `json:"seq"`
	// Where is the place looked at: "topic/partition@offset" or "postgres".
	Where string `json:"where"`
	// Detail says what differs, naming fields, never showing their contents.
	Detail string `json:"detail"`
}
