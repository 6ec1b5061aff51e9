package api

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
)

const keyRequestID = "request_id"

func requestID(c *gin.Context) string { return c.GetString(keyRequestID) }

// identify gives every request an id of our own. One sent by the caller is not
// taken: it would let a caller write into our logs and evidence.
func (s *server) identify(c *gin.Context) {
	id := s.NewRequestID()
	c.Set(keyRequestID, id)
	h := c.Writer.Header()
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
}

// observe counts and, at debug level, logs. It knows the route's pattern, never
// the path or the query, because those hold what people look for.
func (s *server) observe(c *gin.Context) {
	start := s.Now()
	s.metrics.inFlight.Inc()
	defer func() {
		s.metrics.inFlight.Dec()
		took := s.Now().Sub(start)
		name := c.FullPath()
		if name == "" {
			name = "none"
		}
		status := c.Writer.Status()
		s.metrics.requests.WithLabelValues(methodLabel(c.Request.Method), name, strconv.Itoa(status)).Inc()
		s.metrics.duration.WithLabelValues(name).Observe(took.Seconds())
		s.Log.DebugContext(c.Request.Context(), "request answered", "request_id", requestID(c), "route", name,
			"method", methodLabel(c.Request.Method), "status", status, "bytes", c.Writer.Size(), "took_ms", took.Milliseconds())
	}()
	c.Next()
}

// methodLabel keeps callers from making up label values.
func methodLabel(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return m
	}
	return "other"
}

// recover turns a panic into a 500. The panic's value may hold data of the
// request, so only errors of the runtime are logged in words; of others, the type.
func (s *server) recover(c *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v) // the server's own way to cut a connection
		}
		what := fmt.Sprintf("panic of type %T", v)
		if e, ok := v.(runtime.Error); ok {
			what = bounded(e.Error(), 300)
		}
		s.metrics.panics.Inc()
		s.Log.LogAttrs(c.Request.Context(), slog.LevelError, "request handler panicked", slog.String("request_id", requestID(c)),
			slog.String("route", c.FullPath()), slog.String("err", what), slog.String("stack", string(debug.Stack())))
		if !c.Writer.Written() {
			s.answerProblem(c, internal(nil))
		}
		c.Abort()
	}()
	c.Next()
}

// serve puts the checks that every route shares in front of its handler.
func (s *server) serve(r route) gin.HandlerFunc {
	return func(c *gin.Context) {
		if r.needs != auth.Open && !r.local { // probes and scrapes must get through when the server is full
			select {
			case s.slots <- struct{}{}:
				defer func() { <-s.slots }()
			default:
				s.answerProblem(c, &problem{kind: kindBusy, detail: "as many requests as the server works on at the same time are running",
					where: "server", fix: "send the same request again after Retry-After seconds", retryAfter: time.Second})
				return
			}
		}
		p, prob := s.admit(c, r)
		if prob == nil && p.Subject != "" {
			var leave func()
			if leave, prob = s.enter(c, p); prob == nil {
				defer leave()
			}
		}
		if prob == nil {
			prob = takeQuery(c, r.query)
		}
		if prob == nil {
			prob = r.handle(c, p)
		}
		if prob != nil {
			s.answerProblem(c, prob)
		}
	}
}

// admit says who is calling and that they may.
func (s *server) admit(c *gin.Context, r route) (auth.Principal, *problem) {
	if r.needs == auth.Open || r.local && fromThisMachine(c.Request) {
		return auth.Principal{}, nil
	}
	p, prob := s.authenticate(c.Request)
	if prob != nil {
		return p, prob
	}
	if wait := s.rates.take(callerKey(p), s.Now()); wait > 0 {
		return p, &problem{kind: kindRate, where: "principal of the token", retryAfter: wait,
			detail: fmt.Sprintf("more than %g requests a second", s.Limits.Rate),
			fix:    "send the same request again after Retry-After seconds; many events fit into one body"}
	}
	if !p.Can(r.needs) {
		return p, forbidden(r.needs)
	}
	return p, nil
}

// authenticate says whose token the request carries. An address whose tokens were
// refused too often waits, unless it comes with a token that was good before.
func (s *server) authenticate(r *http.Request) (auth.Principal, *problem) {
	token, prob := bearer(r)
	from := addressKey(r)
	if wait := s.guests.wait(from, token, s.Now()); wait > 0 {
		return auth.Principal{}, &problem{kind: kindRate, where: "address of the caller", retryAfter: wait, reason: "strangers",
			detail: "too many requests without a good token came from this address",
			fix:    "send the same request again after Retry-After seconds, with a token of your issuer"}
	}
	if prob != nil {
		s.guests.refused(from, s.Now())
		return auth.Principal{}, prob
	}
	p, err := s.Auth.Authenticate(r.Context(), token)
	if err == nil {
		s.guests.good(token)
		return p, nil
	}
	if e, ok := asAuthError(err); ok {
		if e.Reason != auth.ReasonUnavailable { // which is no fault of the caller's
			s.guests.refused(from, s.Now())
		}
		return auth.Principal{}, refusedToken(e)
	}
	return auth.Principal{}, internal(fmt.Errorf("authenticate: %w", err))
}

func bearer(r *http.Request) (string, *problem) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", noToken("there is no Authorization header")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", noToken("the Authorization header is not one Bearer token")
	}
	return token, nil
}

// fromThisMachine is true for a peer on the loopback interface that does not say
// it speaks for someone else. A proxy on this machine that hides its callers (by
// adding none of these headers) opens /metrics to them.
func fromThisMachine(r *http.Request) bool {
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

func peerAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

func answerJSON(c *gin.Context, status int, body []byte) {
	c.Writer.Header().Set("Content-Type", "application/json")
	write(c, status, body)
}

func write(c *gin.Context, status int, body []byte) {
	c.Writer.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.Writer.WriteHeader(status)
	_, _ = c.Writer.Write(body) // a caller that has gone is no event of ours
}
