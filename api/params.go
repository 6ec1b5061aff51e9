package api

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

const (
	keyQuery      = "query"
	maxParamBytes = 1024
	maxPurpose    = 256
	defaultLimit  = 100
	maxLimit      = 1000
)

// params are the query parameters, each at most once and never empty.
type params map[string]string

func queryOf(c *gin.Context) params {
	p, _ := c.Get(keyQuery)
	q, _ := p.(params)
	return q
}

// takeQuery reads the query strictly: a filter that is misspelt, given twice or
// left empty must not turn into "no filter".
func takeQuery(c *gin.Context, taken []string) *problem {
	values, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return badParameter("(all of them)", "the query string is not valid", "percent-encode names and values and join them with &")
	}
	q := params{}
	for _, name := range slices.Sorted(maps.Keys(values)) { // sorted: of several mistakes, always the same is named
		vs := values[name]
		shown := fmt.Sprintf("%q", bounded(name, 64))
		if !slices.Contains(taken, name) {
			fix := "this route takes none"
			if len(taken) > 0 {
				fix = "use " + strings.Join(taken, ", ")
			}
			return badParameter(shown, "this route does not know the parameter", fix)
		}
		v := vs[0]
		switch {
		case len(vs) > 1:
			return badParameter(name, "the parameter is given more than once", "give it once")
		case v == "":
			return badParameter(name, "the parameter is empty", "leave it out or give it a value")
		case len(v) > maxParamBytes:
			return badParameter(name, fmt.Sprintf("the value is longer than %d bytes", maxParamBytes), "shorten it")
		case !utf8.ValidString(v) || strings.ContainsRune(v, 0):
			return badParameter(name, "the value is not valid UTF-8 text, or holds a zero byte", "send UTF-8, percent-encoded")
		}
		q[name] = v
	}
	c.Set(keyQuery, q)
	return nil
}

// listing turns the parameters of GET /v1/events into a query of the store, within
// what the principal may see.
func listing(q params, p auth.Principal) (sinks.Query, *problem) {
	out := sinks.Query{
		Action: q["action"], Category: q["category"], Outcome: q["outcome"], Actor: q["actor"],
		Object: q["object"], Source: q["source"], Order: sinks.OrderTime, Limit: defaultLimit,
	}
	var prob *problem
	if out.Tenant, prob = tenantFor(q["tenant"], p); prob != nil {
		return out, prob
	}
	if out.From, prob = timeParam(q, "from"); prob != nil {
		return out, prob
	}
	if out.To, prob = timeParam(q, "to"); prob != nil {
		return out, prob
	}
	if !out.From.IsZero() && !out.To.IsZero() && !out.From.Before(out.To) {
		return out, badParameter("to", "the range from..to is empty", "from is included, to is not: give a to that is later than from")
	}
	if v := out.Outcome; v != "" && v != "success" && v != "failure" && v != "unknown" {
		return out, badParameter("outcome", "no such outcome", "use success, failure or unknown")
	}
	if v, ok := q["ledger"]; ok {
		id, err := ledger.ParseID(v)
		if err != nil {
			return out, badParameter("ledger", "this is not a ledger id", "give 32 lower-case hexadecimal digits, or the same as a UUID")
		}
		out.Ledger = &id
	}
	switch q["order"] {
	case "", string(sinks.OrderTime):
	case string(sinks.OrderLedger):
		// A walk over several ledgers would miss what is sealed meanwhile in those it
		// has passed, so a gap-free order exists within one ledger only.
		if out.Ledger == nil {
			return out, badParameter("order", "order=ledger is gap-free, which only one ledger can be", "add ledger, one of /v1/ledgers")
		}
		out.Order = sinks.OrderLedger
	default:
		return out, badParameter("order", "no such order", "use time or ledger")
	}
	if v, ok := q["limit"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxLimit {
			return out, badParameter("limit", fmt.Sprintf("the limit is not a whole number from 1 to %d", maxLimit), "ask for at most that many and follow next")
		}
		out.Limit = n
	}
	if v, ok := q["cursor"]; ok {
		after, prob := openCursor(v, out)
		if prob != nil {
			return out, prob
		}
		out.After = &after
	}
	return out, nil
}

// tenantFor is the tenant a read is restricted to; "" only for global principals
// that did not ask for one.
func tenantFor(asked string, p auth.Principal) (string, *problem) {
	if p.Global() {
		return asked, nil
	}
	if asked != "" && !p.MayRead(asked) {
		return "", &problem{kind: kindTenant, detail: "the token does not open the tenant that was asked for",
			where: "query parameter tenant", fix: "leave tenant out to read your own, or use a token of that tenant"}
	}
	return p.Tenant, nil
}

func timeParam(q params, name string) (time.Time, *problem) {
	v, ok := q[name]
	if !ok {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		return t, badParameter(name, "this is not a time", "use RFC 3339, such as 2026-01-31T08:00:00Z (a + in an offset must be sent as %2B)")
	}
	return t.UTC(), nil
}

// purposeOf reads the optional purpose of use, which goes into the evidence as it is.
func purposeOf(c *gin.Context) (string, *problem) {
	values := c.Request.Header.Values("Purpose-Of-Use")
	if len(values) == 0 {
		return "", nil
	}
	v := strings.TrimSpace(values[0])
	bad := len(values) > 1 || v == "" || len(v) > maxPurpose || !utf8.ValidString(v) ||
		strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) })
	if bad {
		return "", badHeader("Purpose-Of-Use", "the purpose is empty, unprintable, given twice or too long",
			fmt.Sprintf("give one line of 1 to %d bytes of UTF-8, or leave the header out", maxPurpose))
	}
	return v, nil
}
