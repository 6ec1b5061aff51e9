package processors

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sealstream/sealstream/ledger"
)

// OrderAction is the event.action, and the ce_type header, of an order in ledger.control.
const OrderAction = "order.resume"

// NoneReadable stands in [Order] for the leaf of an output without a readable record.
const NoneReadable = "none readable"

// Order is an operator's command, an event of ledger.control, that lets a stopped
// partition go on. It fits one state of the output partition only (OutputID, End
// and Leaf), which applying it changes for good, so it is used once.
type Order struct {
	ID        string `json:"id"`     // ULID or UUID, for the record
	Source    string `json:"source"` // the topic, prefix included
	Partition int32  `json:"partition"`
	OutputID  string `json:"output_id"` // topic id of the sealed topic, UUID text
	End       int64  `json:"end"`       // end offset of the stopped output partition
	Leaf      string `json:"leaf"`      // hex leaf hash of its last readable record, or [NoneReadable]
	Previous  string `json:"previous"`  // "none" or "<ledger id> <size> <base64 leaf>"; what the new genesis says when none is readable
	Reason    string `json:"reason"`
	By        string `json:"by"`
}

// Validate says what is missing from an order, naming the field.
func (o Order) Validate() error {
	switch {
	case o.ID == "":
		return errors.New("id: missing")
	case o.Source == "":
		return errors.New("source: missing")
	case o.Partition < 0:
		return fmt.Errorf("partition: %d is negative", o.Partition)
	case o.OutputID == "" || o.Leaf == "":
		return errors.New("output_id and leaf: both must name the state the order is for")
	case strings.TrimSpace(o.Reason) == "":
		return errors.New("reason: missing: an order is evidence and must say why")
	}
	if _, err := ledger.ParsePrevious(o.Previous); err != nil {
		return fmt.Errorf("previous: %w", err)
	}
	return nil
}

// ParseOrder recognises an order among the records of ledger.control: a JSON event
// whose ce_type header and event.action are [OrderAction], with the order under
// audit.order. Anything else, and an order that does not validate, is not one.
func ParseOrder(r ledger.Record) (Order, bool) {
	typed := false
	for _, h := range r.Headers {
		typed = typed || h.Name == "ce_type" && string(h.Value) == OrderAction
	}
	if !typed {
		return Order{}, false
	}
	var e struct {
		Event struct {
			Action string `json:"action"`
		} `json:"event"`
		Audit struct {
			Order *Order `json:"order"`
		} `json:"audit"`
	}
	if json.Unmarshal(r.Value, &e) != nil || e.Event.Action != OrderAction || e.Audit.Order == nil {
		return Order{}, false
	}
	return *e.Audit.Order, e.Audit.Order.Validate() == nil
}
