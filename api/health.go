package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
)

const readyTimeout = 5 * time.Second

type readinessJSON struct {
	Ready  bool        `json:"ready"`
	Checks []checkJSON `json:"checks"`
	Alarms []alarmJSON `json:"alarms"`
}

type checkJSON struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

type alarmJSON struct {
	Name   string  `json:"name"`
	Since  *string `json:"since"`
	Detail string  `json:"detail,omitempty"`
}

// getHealth says that the process answers; restarting it would mend nothing else.
func (s *server) getHealth(c *gin.Context, _ auth.Principal) *problem {
	answerJSON(c, http.StatusOK, []byte(`{"status":"ok"}`))
	return nil
}

// getReadiness names each part that must work. It is open to probes, but details
// (addresses, partitions, errors) are for this machine and for those who may see
// metrics.
func (s *server) getReadiness(c *gin.Context, _ auth.Principal) *problem {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	r := s.ready.ask(ctx)
	full := fromThisMachine(c.Request)
	if !full && c.Request.Header.Get("Authorization") != "" {
		p, prob := s.authenticate(c.Request)
		full = prob == nil && p.Can(auth.MetricsRead)
	}
	out := readinessJSON{Ready: true, Checks: make([]checkJSON, len(r.Checks)), Alarms: make([]alarmJSON, len(r.Alarms))}
	for n, k := range r.Checks {
		out.Ready = out.Ready && k.OK
		out.Checks[n] = checkJSON{Name: k.Name, OK: k.OK}
		if full {
			out.Checks[n].Detail = k.Detail
		}
	}
	for n, a := range r.Alarms {
		out.Alarms[n] = alarmJSON{Name: a.Name, Since: timeText(a.Since)}
		if full {
			out.Alarms[n].Detail = a.Detail
		}
	}
	body, err := json.Marshal(out)
	if err != nil {
		return internal(fmt.Errorf("render readiness: %w", err)) // unreachable: plain strings and booleans
	}
	status := http.StatusOK
	if !out.Ready {
		status = http.StatusServiceUnavailable
	}
	answerJSON(c, status, body)
	return nil
}

func (s *server) getMetrics(c *gin.Context, _ auth.Principal) *problem {
	s.scrape.ServeHTTP(c.Writer, c.Request)
	return nil
}

func asAuthError(err error) (*auth.Error, bool) { return errors.AsType[*auth.Error](err) }

// sharedReadiness asks one question at a time, whoever asks: probes are open to
// strangers, and each costs a round trip to brokers and database. Those who come while
// one is under way get its answer.
type sharedReadiness struct {
	health Health

	mu  sync.Mutex
	now *readinessCall // under way
}

type readinessCall struct {
	done   chan struct{}
	answer Readiness
}

func (s *sharedReadiness) ask(ctx context.Context) Readiness {
	s.mu.Lock()
	if call := s.now; call != nil {
		s.mu.Unlock()
		<-call.done
		return call.answer
	}
	// Should the question panic, those who wait must not take silence for readiness.
	call := &readinessCall{done: make(chan struct{}), answer: Readiness{Checks: []Check{{Name: "server"}}}}
	s.now = call
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now = nil
		s.mu.Unlock()
		close(call.done)
	}()
	// Not the first caller's own context: it may hang up while others wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
	defer cancel()
	call.answer = s.health.Ready(ctx)
	return call.answer
}
