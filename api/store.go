package api

import (
	"context"
	"time"

	"github.com/sealstream/sealstream/api/auth"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// Store is what the API reads. An error that is a context.DeadlineExceeded means
// that the query took too long; any other unknown error, that the store cannot be
// asked now.
type Store interface {
	// Events returns at most q.Limit events, and the position of the last one when
	// there are more.
	Events(ctx context.Context, q sinks.Query) ([]sinks.Event, *sinks.Key, error)
	// Event returns one row with its evidence, or [sinks.ErrNotFound].
	Event(ctx context.Context, id ledger.ID, seq uint64) (sinks.Evidence, error)
	Ledgers(ctx context.Context) ([]sinks.LedgerInfo, error)
}

// Verifications keeps jobs that check the installation. An unknown id is
// [sinks.ErrNotFound]; any error that is not named means that the store of jobs cannot be
// asked now.
type Verifications interface {
	// Resolve checks a request and completes it with the partitions to look at. A
	// *[VerificationRefused] is shown to the caller.
	Resolve(ctx context.Context, r sinks.VerificationRequest) (sinks.VerificationRequest, error)
	// Create queues a job; while another one is not finished, the error is a
	// *[sinks.VerificationActive].
	Create(ctx context.Context, id string, r sinks.VerificationRequest) (sinks.Verification, error)
	List(ctx context.Context) ([]sinks.Verification, error) // newest first
	Get(ctx context.Context, id string) (sinks.Verification, error)
	Findings(ctx context.Context, id string, after int64, limit int) ([]sinks.VerificationFinding, error)
	Cancel(ctx context.Context, id string) (sinks.Verification, error)
}

// VerificationRefused says which member of a request cannot be.
type VerificationRefused struct{ Where, Detail, Fix string }

func (e *VerificationRefused) Error() string { return e.Where + ": " + e.Detail }

// Ingester makes events durable.
type Ingester interface {
	// Ingest returns one Placed per item, in order, once each of them is durable or
	// refused. The items are slices of one body and stay as they are. An error means
	// that nothing is known about any of them, because the broker did not answer: the
	// caller is told to try again.
	Ingest(ctx context.Context, r IngestRequest) ([]Placed, error)
}

// IngestRequest is the good events of one body.
type IngestRequest struct {
	Stream     string // "audit" or "domain"
	Tenant     string // of the token; never "*"
	Principal  string // client_id of the token: names an application, not a person
	ReceivedMs int64  // the record time of every item
	Items      [][]byte
}

// Placed says where an event went. Err nil means that it is durable there. An
// *[ItemError] is final and shown to the sender; any other Err means "not durable,
// may be sent again".
type Placed struct {
	ID        string
	Topic     string
	Partition int32
	Offset    int64
	Err       error
}

// ItemError refuses one event for good.
type ItemError struct {
	Code   string // bounded label, such as "too_large"
	Detail string // for the sender
}

func (e *ItemError) Error() string { return e.Code + ": " + e.Detail }

// AccessLog keeps who read what.
type AccessLog interface {
	// Record returns nil only when the access is durable. Until then no data leaves.
	Record(ctx context.Context, a Access) error
}

// Access is one read of event content. Its JSON is what the audit event of a read
// carries.
type Access struct {
	RequestID string      `json:"request_id"`
	At        time.Time   `json:"at"`
	Operation string      `json:"operation"` // OpList, OpGet, OpVerifyStart or OpVerifyCancel
	Issuer    string      `json:"issuer"`
	Subject   string      `json:"subject"`
	ClientID  string      `json:"client_id"`
	TokenID   string      `json:"token_id"`
	Tenant    string      `json:"tenant"` // the reader's, "*" for all
	Roles     []auth.Role `json:"roles"`
	Address   string      `json:"address"` // the peer's address, a proxy's if there is one
	Purpose   string      `json:"purpose,omitempty"`
	// Query is what was asked: parameters by name; a cursor appears as "after", the
	// position it stands for.
	Query map[string]string `json:"query"`
	Rows  int               `json:"rows"`
	// Digest is the hexadecimal SHA-256 over the rows in the order returned, 24 bytes
	// each: the ledger id, then seq in big-endian. It is the hash of nothing for no rows.
	Digest string `json:"digest"`
	Salt   bool   `json:"salt,omitempty"` // the answer holds the salt
}

// Operations of an Access. The last two touch no content: what they do is recorded, not
// what was seen.
const (
	OpList         = "events.list"
	OpGet          = "events.get"
	OpVerifyStart  = "verify.start"
	OpVerifyCancel = "verify.cancel"
)

// Health knows whether the parts behind the API work.
type Health interface {
	Ready(ctx context.Context) Readiness
}

// Readiness is the answer of /readyz. An alarm asks for a person; it does not by
// itself make the server unready, because other partitions go on.
type Readiness struct {
	Checks []Check
	Alarms []Alarm
}

// Check is one part that must work. Name is a bounded label; Detail is shown only
// to callers on this machine or with the metrics permission.
type Check struct {
	Name   string
	OK     bool
	Detail string
}

// Alarm is something that stopped and waits for an operator.
type Alarm struct {
	Name   string
	Detail string
	Since  time.Time
}

// Authenticator checks an access token. The error is an *auth.Error.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (auth.Principal, error)
}
