package sinks

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/sealstream/sealstream/ledger"
)

// Verification is a job that checks an installation: asked for by the API, worked off by
// one process at a time, kept where all processes see it. It holds no event content.
type Verification struct {
	ID         string
	State      VerificationState
	Cancelling bool // asked to stop, and the process at work has not yet done so
	TakenUp    int  // how often a process began or went on with it
	Created    time.Time
	Started    time.Time // zero: not yet
	Finished   time.Time // zero: not yet
	Request    VerificationRequest
	Progress   VerificationProgress
	Report     json.RawMessage // of a job that is done: the document of `sealstream verify --json` without its findings
	Error      string          // why it failed, or what interrupted it last
}

// VerificationState is where a job stands.
type VerificationState string

// The states. The last three are final.
const (
	VerificationQueued    VerificationState = "queued"
	VerificationRunning   VerificationState = "running"
	VerificationDone      VerificationState = "done"
	VerificationFailed    VerificationState = "failed"
	VerificationCancelled VerificationState = "cancelled"
)

// VerificationRequest is what is to be verified.
type VerificationRequest struct {
	Sources []string    `json:"sources"` // source topics; empty: all
	Ledgers []ledger.ID `json:"ledgers"` // empty: all
	From    time.Time   `json:"from,omitzero"`
	To      time.Time   `json:"to,omitzero"`
	Rows    bool        `json:"rows"`
	Rate    int         `json:"rate"` // records a second
	// Partitions of source topics, made of Sources and Ledgers when the job is taken; nil: all.
	Partitions []Partition `json:"partitions,omitempty"`
}

// VerificationProgress is how far a job has come. Counts other than Records are of
// partitions that are done.
type VerificationProgress struct {
	Partitions       int                       `json:"partitions"`
	PartitionsDone   int                       `json:"partitions_done"`
	Records          uint64                    `json:"records"`
	RecordsKnown     uint64                    `json:"records_known"`
	RecordsPerSecond float64                   `json:"records_per_second"`
	Rows             uint64                    `json:"rows"`
	Lag              uint64                    `json:"lag"`
	Rejected         uint64                    `json:"rejected"`
	Ledgers          int                       `json:"ledgers"`
	Findings         uint64                    `json:"findings"`
	Verdicts         map[ledger.Verdict]uint64 `json:"verdicts"`
}

// VerificationFinding is a kept finding and its place in the list.
type VerificationFinding struct {
	N int64
	ledger.Finding
}

// VerificationActive says that a job is active already.
type VerificationActive struct{ ID string }

func (e *VerificationActive) Error() string { return "verification " + e.ID + " is not finished" }

// ErrVerificationLost says to a process at work that the job is not its any more.
var ErrVerificationLost = errors.New("the verification was taken over or ended")

// VerificationClaim is the right to work on a job until a lease ends. Every write under
// it is refused once somebody else has claimed the job.
type VerificationClaim struct {
	Verification
	Fence int64
	Idle  int // claims since a partition was last finished, this one included
}
