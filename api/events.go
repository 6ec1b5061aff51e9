package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// eventJSON is one event as answers show it.
type eventJSON struct {
	Ledger      ledger.ID       `json:"ledger"`
	Seq         uint64          `json:"seq"`
	LeafHash    ledger.Hash     `json:"leaf_hash"`
	EventTime   *string         `json:"event_time"`
	RecordTime  *string         `json:"record_time"`
	Tenant      string          `json:"tenant"`
	Event       json.RawMessage `json:"event"`
	Fields      map[string]any  `json:"fields"`
	DecodeError string          `json:"decode_error,omitempty"`
	DuplicateOf *placeJSON      `json:"duplicate_of,omitempty"`
	Withheld    string          `json:"withheld,omitempty"`
}

type placeJSON struct {
	Ledger ledger.ID `json:"ledger"`
	Seq    uint64    `json:"seq"`
}

// evidenceJSON adds what an auditor needs to check the event.
type evidenceJSON struct {
	eventJSON
	Kind         string  `json:"kind"`
	Frame        string  `json:"frame"`
	Statement    string  `json:"statement"`
	Salt         *string `json:"salt"`
	SaltWithheld bool    `json:"salt_withheld,omitempty"`
}

// withheldClaim marks an event whose payload claims another tenant than the one it
// came from. It stays in the listing, without content, so that nobody can make an
// event vanish by such a claim.
const withheldClaim = "tenant_claim"

// listEvents answers one page.
func (s *server) listEvents(c *gin.Context, p auth.Principal) *problem {
	params := queryOf(c)
	q, prob := listing(params, p)
	if prob != nil {
		return prob
	}
	purpose, prob := purposeOf(c)
	if prob != nil {
		return prob
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.Limits.QueryTimeout)
	defer cancel()
	events, next, err := s.Store.Events(ctx, q)
	if err != nil {
		return storeProblem(ctx, fmt.Errorf("list events: %w", err))
	}
	page := struct {
		Items  []eventJSON `json:"items"`
		Next   string      `json:"next,omitempty"`
		Resume string      `json:"resume,omitempty"`
	}{Items: make([]eventJSON, len(events))}
	places := make([]placeJSON, len(events))
	for n := range events {
		e := &events[n]
		if !p.MayRead(e.Tenant) {
			s.metrics.crossTenant.Inc()
			return internal(fmt.Errorf("the store returned ledger %s seq %d, which is not of the reader's tenant", e.Ledger, e.Seq))
		}
		places[n] = placeJSON{e.Ledger, e.Seq}
		page.Items[n] = show(e, p)
	}
	if next != nil {
		page.Next = sealCursor(*next, q)
	}
	if q.Order == sinks.OrderLedger {
		page.Resume = params["cursor"]
		if n := len(events); n > 0 {
			last := events[n-1]
			page.Resume = sealCursor(sinks.Key{Time: last.Time, Ledger: last.Ledger, Seq: last.Seq}, q)
		}
	}
	body, err := render(page)
	if err != nil {
		return internal(fmt.Errorf("render events: %w", err))
	}
	a := s.access(c, p, OpList, places)
	a.Purpose, a.Query = purpose, asked(params, q)
	if prob := s.record(c, a); prob != nil {
		return prob
	}
	answerJSON(c, http.StatusOK, body) // only now, with the access durable
	return nil
}

// getEvent answers one row with its evidence. What the caller must not see looks
// the same as what is not there.
func (s *server) getEvent(c *gin.Context, p auth.Principal) *problem {
	id, seq, prob := placeOf(c)
	if prob != nil {
		return prob
	}
	purpose, prob := purposeOf(c)
	if prob != nil {
		return prob
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.Limits.QueryTimeout)
	defer cancel()
	ev, err := s.Store.Event(ctx, id, seq)
	found := err == nil
	if err != nil && !errors.Is(err, sinks.ErrNotFound) {
		return storeProblem(ctx, fmt.Errorf("read event: %w", err))
	}
	if found && ev.Kind == ledger.KindEvent {
		found = p.MayRead(ev.Tenant) // a genesis or close record has no tenant and no event in it
		if found && mismatched(&ev.Event) && !p.Can(auth.EventsMismatched) {
			return &problem{kind: kindWithheld, where: "path", detail: "the event's payload claims another tenant than the one it came from",
				fix: "ask someone with one of the roles " + rolesWith(auth.EventsMismatched)}
		}
	}
	a := s.access(c, p, OpGet, nil)
	var body []byte
	if found {
		out := showEvidence(&ev, p)
		if body, err = render(out); err != nil {
			return internal(fmt.Errorf("render event: %w", err))
		}
		a = s.access(c, p, OpGet, []placeJSON{{ev.Ledger, ev.Seq}})
		a.Salt = out.Salt != nil
	}
	a.Purpose, a.Query = purpose, map[string]string{"ledger": id.String(), "seq": strconv.FormatUint(seq, 10)}
	if prob := s.record(c, a); prob != nil {
		return prob
	}
	if !found {
		return &problem{kind: kindNotFound, where: "path", detail: "there is no such event, or the token does not open it",
			fix: "check ledger and seq; an event that was sealed a moment ago may not be stored yet"}
	}
	answerJSON(c, http.StatusOK, body) // only now, with the access durable
	return nil
}

func placeOf(c *gin.Context) (ledger.ID, uint64, *problem) {
	id, err := ledger.ParseID(c.Param("ledger"))
	if err != nil {
		return id, 0, &problem{kind: kindParameter, where: "path, first part behind events", detail: "this is not a ledger id",
			fix: "give 32 lower-case hexadecimal digits, or the same as a UUID"}
	}
	seq, err := strconv.ParseUint(c.Param("seq"), 10, 64)
	if err != nil || seq > math.MaxInt64 {
		return id, 0, &problem{kind: kindParameter, where: "path, second part behind events", detail: "this is not a seq",
			fix: "give a whole number from 0 to 9223372036854775807"}
	}
	return id, seq, nil
}

// mismatched says that the payload claims another tenant than the topic or token
// the event came by.
func mismatched(e *sinks.Event) bool {
	claim, _ := e.Fields["organization.id"].(string)
	return claim != "" && e.Tenant != "" && claim != e.Tenant
}

func show(e *sinks.Event, p auth.Principal) eventJSON {
	out := eventJSON{
		Ledger: e.Ledger, Seq: e.Seq, LeafHash: e.LeafHash, Tenant: e.Tenant,
		EventTime: timeText(e.Time), RecordTime: timeText(e.RecordTime),
	}
	if mismatched(e) && !p.Can(auth.EventsMismatched) {
		out.Withheld = withheldClaim
		return out
	}
	out.Event, out.Fields, out.DecodeError = eventText(e.Value), e.Fields, e.DecodeError
	if len(e.Value) > 0 && out.Event == nil {
		out.DecodeError = "the stored JSON of the event is not valid"
	}
	if e.DuplicateOf != nil {
		out.DuplicateOf = &placeJSON{e.DuplicateOf.Ledger, e.DuplicateOf.Seq}
	}
	return out
}

// eventText makes sure that one bad row does not make its neighbours unreadable; the
// frame has its exact bytes. nil stands for null.
func eventText(v json.RawMessage) json.RawMessage {
	v = bytes.ToValidUTF8(v, []byte("\uFFFD"))
	if !json.Valid(v) {
		return nil
	}
	return v
}

func showEvidence(e *sinks.Evidence, p auth.Principal) evidenceJSON {
	enc := base64.StdEncoding
	out := evidenceJSON{
		eventJSON: show(&e.Event, p), Kind: kindText(e.Kind),
		Frame: enc.EncodeToString(e.Frame), Statement: enc.EncodeToString(e.Statement),
	}
	if len(e.Salt) > 0 {
		if p.Can(auth.SaltsRead) {
			salt := enc.EncodeToString(e.Salt)
			out.Salt = &salt
		} else {
			out.SaltWithheld = true
		}
	}
	return out
}

func kindText(k ledger.Kind) string {
	switch k {
	case ledger.KindGenesis:
		return "genesis"
	case ledger.KindClose:
		return "close"
	case ledger.KindEvent:
	}
	return "event"
}

// timeText is RFC 3339 in UTC with at least milliseconds, nil for no time. A record
// may carry any time; years of more than four digits get a sign, as in ISO 8601.
func timeText(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	layout := "2006-01-02T15:04:05.000Z"
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		layout = "2006-01-02T15:04:05.000000000Z"
	}
	text := t.Format(layout)
	if t.Year() > 9999 {
		text = "+" + text
	}
	return &text
}

// render leaves <, > and & of the events as they are.
func render(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err // the caller says what was rendered
	}
	return b.Bytes(), nil
}

// storeProblem tells a query that took too long from a store that is not there.
func storeProblem(ctx context.Context, err error) *problem {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &problem{kind: kindQueryTimeout, where: "query", detail: "the store did not answer the query within its time-out",
			fix: "narrow it: give from and to, a tenant, or a smaller limit", err: err}
	}
	return &problem{kind: kindStore, where: "server", detail: "the event store cannot be asked now; sealing goes on without it",
		fix: "try again after Retry-After seconds", retryAfter: 5 * time.Second, err: err}
}

// asked is what goes into the evidence about the query: what the caller gave, and
// what we made of it where they differ.
func asked(q params, made sinks.Query) map[string]string {
	out := maps.Clone(map[string]string(q))
	if out == nil {
		out = map[string]string{}
	}
	delete(out, "cursor")
	if k := made.After; k != nil {
		out["after"] = fmt.Sprintf("%s %s/%d", k.Time.Format(time.RFC3339Nano), k.Ledger, k.Seq)
	}
	if made.Tenant != "" {
		out["tenant"] = made.Tenant
	}
	out["limit"], out["order"] = strconv.Itoa(made.Limit), string(made.Order)
	return out
}

// access describes a read, ready but for purpose and query.
func (s *server) access(c *gin.Context, p auth.Principal, op string, rows []placeJSON) Access {
	h := sha256.New()
	for _, r := range rows {
		h.Write(r.Ledger[:])
		h.Write(binary.BigEndian.AppendUint64(nil, r.Seq))
	}
	return Access{
		RequestID: requestID(c), At: s.Now().UTC(), Operation: op,
		Issuer: p.Issuer, Subject: p.Subject, ClientID: p.ClientID, TokenID: p.TokenID, Tenant: p.Tenant, Roles: p.Roles,
		Address: peerAddress(c.Request), Rows: len(rows), Digest: hex.EncodeToString(h.Sum(nil)),
	}
}

// record makes the read durable evidence, or keeps the data back. A crash behind
// it leaves a record of a read whose answer never arrived, which is the safe way to err.
func (s *server) record(c *gin.Context, a Access) *problem {
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.Limits.RecordTimeout)
	defer cancel()
	if err := s.AccessLog.Record(ctx, a); err != nil {
		s.metrics.accessFailed.Inc()
		return &problem{kind: kindAccessLog, where: "server", detail: "every read of events is recorded first, and the record could not be made durable",
			fix: "try again after Retry-After seconds", retryAfter: 5 * time.Second, err: fmt.Errorf("record access: %w", err)}
	}
	s.metrics.rows.WithLabelValues(a.Operation).Add(float64(a.Rows))
	return nil
}
