package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/schemas"
)

// controlSource is ce_source of the product's own acts.
const controlSource = "sealstream/control"

// controlMessage makes the record of an act for ledger.control. The actor stays out of
// headers and key: those are in clear for as long as the record lives.
func controlMessage(prefix string, e *schemas.AuditEvent, object string) (producers.Message, error) {
	value, err := json.Marshal(e)
	if err != nil {
		return producers.Message{}, fmt.Errorf("control event: %w", err)
	}
	action := deref(e.Event.Action)
	headers, err := producers.Attributes{
		ID: e.Event.ID, Source: controlSource, Type: action, Time: e.Timestamp, ContentType: producers.ContentJSON,
	}.Headers(make([]ledger.Header, 0, 6))
	if err != nil {
		return producers.Message{}, fmt.Errorf("control event: %w", err)
	}
	var keyer producers.Keyer // the key of a control event needs no secret
	return producers.Message{Topic: prefix + schemas.TopicControl, Key: keyer.Control(action, object), Value: value, Headers: headers}, nil
}

// record writes one act and returns when it is acknowledged.
func record(ctx context.Context, p *producers.Producer, m producers.Message) (producers.Result, error) {
	r := p.Send(ctx, []producers.Message{m})[0]
	return r, r.Err
}

// newAct begins a control event.
func newAct(actor, object, reason string) (schemas.Act, error) {
	id, err := producers.NewID()
	if err != nil {
		return schemas.Act{}, err
	}
	return schemas.Act{ID: id, Time: time.Now(), Actor: actor, Object: object, Reason: reason}, nil
}
