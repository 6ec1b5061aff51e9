package sinks

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/sealstream/sealstream/ledger"
)

// ErrNotFound says that a queryable sink holds no row of that ledger and seq.
var ErrNotFound = errors.New("no such event")

// Query asks a queryable sink for events. Zero fields do not restrict. Genesis and
// close rows are never events.
type Query struct {
	From, To                  time.Time // event time, [From, To)
	Action, Category, Outcome string
	Actor, Object, Source     string // user_id or user_name; audit_object_id; source_ip
	Tenant                    string
	Ledger                    *ledger.ID
	Order                     Order
	Limit                     int  // 1..1000, checked by the caller
	After                     *Key // continue behind this row
}

// Order is the order of a listing.
type Order string

// OrderTime lists newest first by (event_time, ledger, seq); OrderLedger lists
// oldest first by (ledger, seq) and is gap-free.
const (
	OrderTime   Order = "time"
	OrderLedger Order = "ledger"
)

// Key is the keyset position of a row.
type Key struct {
	Time   time.Time
	Ledger ledger.ID
	Seq    uint64
}

// Event is one stored event as answers show it.
type Event struct {
	Ledger      ledger.ID
	Seq         uint64
	LeafHash    ledger.Hash
	Time        time.Time // event_time: payload time, else record time
	RecordTime  time.Time // zero when the record has none
	Tenant      string
	Fields      map[string]any  // ECS names with dots, only non-null ones
	Value       json.RawMessage // the event as ECS JSON; nil when it could not be decoded
	DecodeError string
	DuplicateOf *Key // an earlier event with the same event id, or nil
}

// Evidence is what an auditor needs to check one event.
type Evidence struct {
	Event
	Kind      ledger.Kind
	Frame     []byte
	Statement []byte
	Salt      []byte // empty when unsalted or not for the caller to see
}

// LedgerInfo is one ledger as a queryable sink knows it.
type LedgerInfo struct {
	ID        ledger.ID
	Source    string // source topic
	Partition int32
	Size      uint64 // rows stored, genesis and close included
	Head      ledger.Hash
	Closed    bool
	Genesis   string // the genesis body
}
