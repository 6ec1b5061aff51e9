package api

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
)

// route is one row of the table. A handler either writes an answer and returns nil,
// or returns the problem and writes nothing.
type route struct {
	method, path string
	needs        auth.Permission // auth.Open: no principal
	local        bool            // callers on this machine need no principal
	query        []string        // parameters taken; any other is refused
	handle       func(c *gin.Context, p auth.Principal) *problem
}

// routes is the whole table. All /v1 routes only ever gain fields and parameters.
func (s *server) routes() []route {
	filters := strings.Fields("from to action category outcome actor object tenant source ledger order limit cursor")
	return []route{
		{http.MethodPost, "/v1/events", auth.EventsWrite, false, []string{"stream"}, s.postEvents},
		{http.MethodGet, "/v1/events", auth.EventsRead, false, filters, s.listEvents},
		{http.MethodGet, "/v1/events/:ledger/:seq", auth.EventsRead, false, nil, s.getEvent},
		{http.MethodGet, "/v1/ledgers", auth.LedgersRead, false, nil, s.listLedgers},
		{http.MethodPost, "/v1/verify", auth.VerifyRun, false, nil, s.postVerification},
		{http.MethodGet, "/v1/verify", auth.VerifyRun, false, nil, s.listVerifications},
		{http.MethodGet, "/v1/verify/:job", auth.VerifyRun, false, nil, s.getVerification},
		{http.MethodDelete, "/v1/verify/:job", auth.VerifyRun, false, nil, s.cancelVerification},
		{http.MethodGet, "/v1/verify/:job/findings", auth.VerifyRun, false, []string{"limit", "cursor"}, s.listFindings},
		{http.MethodGet, "/docs", auth.Open, false, nil, s.getDocs},
		{http.MethodGet, "/v1/openapi.yaml", auth.Open, false, nil, s.getOpenAPI},
		{http.MethodGet, "/healthz", auth.Open, false, nil, s.getHealth},
		{http.MethodGet, "/readyz", auth.Open, false, nil, s.getReadiness},
		{http.MethodGet, "/metrics", auth.MetricsRead, true, nil, s.getMetrics},
	}
}
