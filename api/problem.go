package api

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
)

// kind names a class of error; clients switch on the type URI made from it.
type kind string

const (
	kindParameter      kind = "invalid-parameter"
	kindHeader         kind = "invalid-header"
	kindCursor         kind = "invalid-cursor"
	kindBody           kind = "malformed-body"
	kindNoToken        kind = "unauthenticated"
	kindToken          kind = "invalid-token"
	kindPermission     kind = "forbidden"
	kindTenant         kind = "other-tenant"
	kindSeparation     kind = "separation-of-duty"
	kindWithheld       kind = "withheld"
	kindNotFound       kind = "not-found"
	kindMethod         kind = "method-not-allowed"
	kindTimeout        kind = "request-timeout"
	kindInProgress     kind = "request-in-progress"
	kindTooLarge       kind = "body-too-large"
	kindMediaType      kind = "unsupported-media-type"
	kindEncoding       kind = "unsupported-encoding"
	kindEvents         kind = "invalid-events"
	kindKeyReused      kind = "idempotency-key-reused"
	kindRate           kind = "rate-limited"
	kindBusy           kind = "busy"
	kindInternal       kind = "internal"
	kindIngest         kind = "ingest-unavailable"
	kindStore          kind = "store-unavailable"
	kindAccessLog      kind = "access-log-unavailable"
	kindKeys           kind = "issuer-keys-unavailable"
	kindQueryTimeout   kind = "query-timeout"
	kindRequest        kind = "malformed-request"
	kindVerify         kind = "invalid-verification"
	kindVerifyActive   kind = "verification-active"
	kindVerifyOff      kind = "verification-off"
	problemTypePrefix       = "urn:sealstream:problem:"
	problemContentType      = "application/problem+json"
)

// meaning is the one map from error kind to status and title.
func (k kind) meaning() (status int, title string) {
	switch k {
	case kindParameter:
		return http.StatusBadRequest, "A query parameter is wrong"
	case kindHeader:
		return http.StatusBadRequest, "A header is wrong"
	case kindCursor:
		return http.StatusBadRequest, "The cursor is not one of this listing"
	case kindBody:
		return http.StatusBadRequest, "The body cannot be read as events"
	case kindNoToken:
		return http.StatusUnauthorized, "An access token is needed"
	case kindToken:
		return http.StatusUnauthorized, "The access token is refused"
	case kindPermission:
		return http.StatusForbidden, "None of the token's roles permits this"
	case kindTenant:
		return http.StatusForbidden, "The token is for another tenant"
	case kindSeparation:
		return http.StatusForbidden, "The token joins roles that must be kept apart"
	case kindWithheld:
		return http.StatusForbidden, "The event is withheld"
	case kindNotFound:
		return http.StatusNotFound, "There is no such thing"
	case kindMethod:
		return http.StatusMethodNotAllowed, "The method is not allowed here"
	case kindTimeout:
		return http.StatusRequestTimeout, "The body came too slowly"
	case kindInProgress:
		return http.StatusConflict, "The first request with this key is still running"
	case kindTooLarge:
		return http.StatusRequestEntityTooLarge, "The body is too large"
	case kindMediaType:
		return http.StatusUnsupportedMediaType, "The content type is not taken"
	case kindEncoding:
		return http.StatusUnsupportedMediaType, "The content encoding is not taken"
	case kindEvents:
		return http.StatusUnprocessableEntity, "No event of the body was taken"
	case kindKeyReused:
		return http.StatusUnprocessableEntity, "The idempotency key was used for another request"
	case kindRate:
		return http.StatusTooManyRequests, "Too many requests"
	case kindBusy:
		return http.StatusTooManyRequests, "The server is working at its limit"
	case kindIngest:
		return http.StatusServiceUnavailable, "Events cannot be made durable now"
	case kindStore:
		return http.StatusServiceUnavailable, "The event store does not answer"
	case kindAccessLog:
		return http.StatusServiceUnavailable, "The read cannot be recorded, so nothing is shown"
	case kindKeys:
		return http.StatusServiceUnavailable, "The token cannot be checked now"
	case kindQueryTimeout:
		return http.StatusGatewayTimeout, "The query took too long"
	case kindRequest:
		return http.StatusBadRequest, "The body cannot be read"
	case kindVerify:
		return http.StatusUnprocessableEntity, "The verification cannot be done as asked"
	case kindVerifyActive:
		return http.StatusConflict, "Another verification is not finished"
	case kindVerifyOff:
		return http.StatusNotImplemented, "This server keeps no verifications"
	}
	return http.StatusInternalServerError, "The server made a mistake"
}

// problem is an error on its way to the caller. Every one says what is wrong
// (detail), where, and what to do (fix); err goes to the log and nowhere else.
type problem struct {
	kind               kind
	detail, where, fix string
	status             int           // overrides the kind's, for item answers
	retryAfter         time.Duration // 0: no header
	items              []item        // per item results of a refused body
	challenge          string        // WWW-Authenticate
	allow              string        // header that says what would be taken, or where to look, "Name: value"
	reason             string        // label for the refusal counter; the kind when empty
	err                error
}

type problemJSON struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"`
	Where    string `json:"where"`
	Fix      string `json:"fix"`
	Items    []item `json:"items,omitempty"`
}

func (p *problem) code() int {
	if p.status != 0 {
		return p.status
	}
	status, _ := p.kind.meaning()
	return status
}

// answerProblem writes the problem by RFC 9457 and ends the request.
func (s *server) answerProblem(c *gin.Context, p *problem) {
	status := p.code()
	_, title := p.kind.meaning()
	reason := p.reason
	if reason == "" {
		reason = string(p.kind)
	}
	s.metrics.refused.WithLabelValues(reason).Inc()
	if p.err != nil {
		level := slog.LevelWarn
		if c.Request.Context().Err() != nil {
			level = slog.LevelDebug // the caller has hung up, which is no trouble of ours
		}
		s.Log.Log(c.Request.Context(), level, "request not answered as asked", "request_id", requestID(c),
			"route", c.FullPath(), "status", status, "kind", string(p.kind), "err", bounded(p.err.Error(), 1000))
	}
	h := c.Writer.Header()
	h.Set("Content-Type", problemContentType)
	if p.challenge != "" {
		h.Set("WWW-Authenticate", p.challenge)
	}
	if name, value, ok := strings.Cut(p.allow, ": "); ok {
		h.Set(name, value)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	body, err := json.Marshal(problemJSON{
		Type: problemTypePrefix + string(p.kind), Title: title, Status: status, Detail: p.detail,
		Instance: "urn:uuid:" + requestID(c), Where: p.where, Fix: p.fix, Items: p.items,
	})
	if err != nil { // unreachable: plain strings and numbers
		body = []byte("{}")
	}
	write(c, status, body)
	c.Abort()
}

func badParameter(name, detail, fix string) *problem {
	return &problem{kind: kindParameter, detail: detail, where: "query parameter " + name, fix: fix}
}

func badHeader(name, detail, fix string) *problem {
	return &problem{kind: kindHeader, detail: detail, where: "header " + name, fix: fix}
}

func badBody(where, detail, fix string) *problem {
	return &problem{kind: kindBody, detail: detail, where: where, fix: fix}
}

func notFoundRoute() *problem {
	return &problem{kind: kindNotFound, detail: "no route has this path", where: "path",
		fix: "see /v1/openapi.yaml for the routes"}
}

func methodNotAllowed(allowed string) *problem {
	return &problem{kind: kindMethod, detail: "this path does not take the method", where: "method", fix: "use " + allowed}
}

const realm = `Bearer realm="sealstream"`

func noToken(detail string) *problem {
	return &problem{kind: kindNoToken, detail: detail, where: "header Authorization",
		fix: "send Authorization: Bearer followed by an access token", challenge: realm}
}

func refusedToken(e *auth.Error) *problem {
	p := &problem{kind: kindToken, detail: e.Detail, where: "header Authorization", reason: "token_" + string(e.Reason),
		fix:       "get a new access token for this server from your issuer",
		challenge: realm + `, error="invalid_token", error_description="` + e.Detail + `"`}
	switch e.Reason {
	case auth.ReasonUnavailable:
		p.kind, p.challenge, p.err = kindKeys, "", e.Err
		p.fix, p.retryAfter = "try again in a while; the server reads the keys again by itself", 30*time.Second
	case auth.ReasonSeparation:
		p.kind, p.fix = kindSeparation, "use a token that holds one of the two roles"
		p.challenge = realm + `, error="insufficient_scope", error_description="` + e.Detail + `"`
	}
	return p
}

func forbidden(needs auth.Permission) *problem {
	return &problem{kind: kindPermission, detail: fmt.Sprintf("this needs the permission %s", needs),
		where: "roles of the token", fix: "use a token with one of the roles " + rolesWith(needs),
		challenge: realm + `, error="insufficient_scope", error_description="permission ` + string(needs) + ` is needed"`}
}

func rolesWith(needs auth.Permission) string {
	var names []string
	for _, r := range auth.Roles() {
		for _, p := range auth.Grants(r) {
			if p == needs {
				names = append(names, string(r))
			}
		}
	}
	return strings.Join(names, ", ")
}

func internal(err error) *problem {
	return &problem{kind: kindInternal, detail: "the request could not be finished; the log has the reason",
		where: "server", fix: "try again; if it stays, give the instance above to the operator", err: err}
}

// bounded cuts text that may be long because of what it quotes.
func bounded(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
