package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
)

// item is the result of one event of a body, in the place the event had.
type item struct {
	ID        string       `json:"id,omitempty"`
	Topic     string       `json:"topic,omitempty"`
	Partition *int32       `json:"partition,omitempty"`
	Offset    *int64       `json:"offset,omitempty"`
	Error     *itemProblem `json:"error,omitempty"`
}

// itemProblem says why an event was not taken. Retry: the same event may be taken later.
type itemProblem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Retry  bool   `json:"retry"`
}

// postEvents takes events in. It answers 202 when at least one is durable.
func (s *server) postEvents(c *gin.Context, p auth.Principal) *problem {
	received := s.Now()
	stream := queryOf(c)["stream"]
	if stream != "audit" && stream != "domain" {
		return badParameter("stream", "the stream is missing or unknown", "add ?stream=audit or ?stream=domain")
	}
	if p.Global() {
		return &problem{kind: kindTenant, where: "claim tenant of the token", detail: "a token for all tenants cannot send events, because an event belongs to one",
			fix: "use a token of the tenant that the events belong to"}
	}
	format, prob := bodyType(c.Request)
	if prob != nil {
		return prob
	}
	body, done, prob := s.readBody(c)
	if prob != nil {
		return prob
	}
	defer done()
	replay, finish, prob := s.claimKey(c, p.Tenant, stream+" "+format, body)
	if prob != nil {
		return prob
	}
	if replay != nil {
		answerReplay(c, replay)
		return nil
	}
	var answer []byte
	if finish != nil {
		defer func() { finish(answer) }()
	}
	r := IngestRequest{Stream: stream, Tenant: p.Tenant, Principal: p.ClientID, ReceivedMs: received.UnixMilli()}
	items, prob := s.take(c.Request.Context(), r, format, body)
	if prob != nil {
		return prob
	}
	answer, err := json.Marshal(struct {
		Items []item `json:"items"`
	}{items})
	if err != nil {
		return internal(fmt.Errorf("render ingest answer: %w", err)) // unreachable: plain strings and numbers
	}
	answerJSON(c, http.StatusAccepted, answer)
	return nil
}

// take splits and checks a body and makes its good events durable.
func (s *server) take(ctx context.Context, r IngestRequest, format string, body []byte) ([]item, *problem) {
	split := splitter{items: s.Limits.Items, itemBytes: s.Limits.ItemBytes, depth: s.Limits.Depth}
	cut := split.document
	if format == typeNDJSON {
		cut = split.lines
	}
	pieces, bad := cut(body)
	if bad != nil {
		return nil, s.badPieces(bad)
	}
	items := make([]item, len(pieces))
	var places []int // places[k] is where item k of the request was in the body
	for n, piece := range pieces {
		err := piece.err
		if err == nil {
			id, errValid := s.Validate(r.Stream, piece.value)
			items[n].ID = id
			if errValid != nil {
				err = &ItemError{codeInvalid, errValid.Error()}
			}
		}
		if err != nil {
			items[n].fail(err)
			continue
		}
		places = append(places, n)
		r.Items = append(r.Items, piece.value)
	}
	if len(places) > 0 {
		if prob := s.ingest(ctx, r, items, places); prob != nil {
			return nil, prob
		}
	}
	return items, s.verdict(r, items, pieces)
}

// ingest hands the good events over and notes what became of them.
func (s *server) ingest(ctx context.Context, r IngestRequest, items []item, places []int) *problem {
	// A caller that hangs up must not stop events half way: what was begun is ended,
	// and with an Idempotency-Key the caller gets the answer when it comes back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Limits.IngestTimeout)
	defer cancel()
	placed, err := s.Ingester.Ingest(ctx, r)
	if err == nil && len(placed) != len(r.Items) {
		err = fmt.Errorf("%d results for %d events", len(placed), len(r.Items))
	}
	if err != nil {
		s.metrics.items.WithLabelValues(r.Stream, "unavailable").Add(float64(len(r.Items)))
		return ingestUnavailable(fmt.Errorf("ingest %d events: %w", len(r.Items), err))
	}
	var first error
	for k, pl := range placed {
		it := &items[places[k]]
		if pl.ID != "" {
			it.ID = pl.ID
		}
		if final, ok := errors.AsType[*ItemError](pl.Err); ok {
			it.fail(final)
		} else if pl.Err != nil {
			first = pl.Err
			it.Error = &itemProblem{Code: codeLater, Detail: "the event could not be made durable; send it again", Retry: true}
		} else {
			it.Topic, it.Partition, it.Offset = pl.Topic, &pl.Partition, &pl.Offset
			s.metrics.itemBytes.WithLabelValues(r.Stream).Add(float64(len(r.Items[k])))
		}
	}
	if first != nil {
		s.Log.WarnContext(ctx, "some events were not made durable", "stream", r.Stream, "err", bounded(first.Error(), 500))
	}
	return nil
}

func (it *item) fail(e *ItemError) {
	it.Error = &itemProblem{Code: e.Code, Detail: bounded(e.Detail, 500)}
}

// verdict decides how the request as a whole ended, from its items.
func (s *server) verdict(r IngestRequest, items []item, pieces []piece) *problem {
	counts := map[string]int{}
	for n := range items {
		outcome := "durable"
		if e := items[n].Error; e != nil {
			outcome = e.Code
			if !knownCode(outcome) {
				outcome = codeRefused
			}
		}
		counts[outcome]++
	}
	for outcome, n := range counts {
		s.metrics.items.WithLabelValues(r.Stream, outcome).Add(float64(n))
	}
	if counts["durable"] > 0 {
		return nil
	}
	if counts[codeLater] > 0 {
		return ingestUnavailable(errors.New("none of the events was made durable"))
	}
	p := &problem{kind: kindEvents, where: "body", detail: fmt.Sprintf("each of the %d events was refused; items says why", len(pieces)),
		fix: "mend the events and send them again", items: items}
	switch len(pieces) {
	case counts[codeSyntax]:
		p.kind = kindBody
	case counts[codeTooLarge]:
		p.kind = kindTooLarge
	}
	return p
}

func knownCode(c string) bool {
	switch c {
	case codeSyntax, codeObject, codeTooLarge, codeInvalid, codeLater, codeRefused:
		return true
	}
	return false
}

func ingestUnavailable(err error) *problem {
	return &problem{kind: kindIngest, where: "server", detail: "the broker did not confirm that any of the events is durable",
		fix: "send the same request again after Retry-After seconds; events that became durable without a confirmation are then in the ledger twice", retryAfter: 5 * time.Second, err: err}
}

func (s *server) badPieces(e *bodyError) *problem {
	where := fmt.Sprintf("body, byte %d", e.at)
	if e.item >= 0 {
		where = fmt.Sprintf("body, byte %d, event %d (counted from 0)", e.at, e.item)
	}
	p := badBody(where, e.what+"; nothing of the body was taken", "send one JSON object or an array of objects as application/json, or one object a line as application/x-ndjson")
	switch {
	case e.many:
		p.kind, p.fix = kindTooLarge, fmt.Sprintf("send at most %d events in one body", s.Limits.Items)
	case e.cut:
		p.detail = e.what + ": the body is cut short; nothing of it was taken"
		p.fix = "send the whole body again"
	}
	return p
}
