package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealstream/sealstream/api/auth"
)

// ask sends a GET with a token, from an address.
func ask(t *testing.T, r *rig, token, from string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/ledgers", nil)
	req.RemoteAddr = from
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return do(r, req)
}

// A rate is that of a principal: neither another token nor another address has one of
// its own.
func TestRatesArePerPrincipal(t *testing.T) {
	r := newRig(t, Limits{Rate: 1, Burst: 2})
	first, second := r.token(auth.Analyst, "acme"), r.token(auth.Analyst, "acme")
	if first == second {
		t.Fatal("the tokens are the same")
	}
	for n, c := range []struct {
		token, from string
		want        int
	}{{first, "192.0.2.1:1", 200}, {second, "192.0.2.2:1", 200}, {first, "192.0.2.3:1", 429}, {second, "192.0.2.1:1", 429}, {r.token(auth.Auditor, "acme"), "192.0.2.1:1", 200}} {
		if w := ask(t, r, c.token, c.from); w.Code != c.want || (w.Code == 429) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("request %d: %d, want %d", n, w.Code, c.want)
		}
	}
}

func TestOneCallerCannotTakeAllPlaces(t *testing.T) {
	r := newRig(t, Limits{Concurrent: 4, PerCaller: 2})
	r.ingest.mode, r.ingest.wait, r.ingest.busy = "block", make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if w := post(t, r, strings.NewReader(`{"event":{"id":"a"}}`)); w.Code != http.StatusAccepted {
				t.Errorf("status %d", w.Code)
			}
		})
		<-r.ingest.busy
	}
	w := post(t, r, strings.NewReader(`{"event":{"id":"a"}}`))
	if w.Code != 429 || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "principal of the token") {
		t.Errorf("a third one of the same caller: %d: %s", w.Code, w.Body)
	}
	if w := do(r, get(t, r, "/v1/events")); w.Code != 200 {
		t.Errorf("another caller: %d: %s", w.Code, w.Body)
	}
	close(r.ingest.wait)
	wg.Wait()
	r.ingest.mode = ""
	if w := post(t, r, strings.NewReader(`{"event":{"id":"a"}}`)); w.Code != http.StatusAccepted {
		t.Errorf("the places were not given back: %d", w.Code)
	}
}

func TestOneCallerCannotTakeAllBodyMemory(t *testing.T) {
	r := newRig(t, Limits{BodyBytes: 1 << 20, BufferBytes: 8 << 20, PerCaller: 100})
	line := `{"event":{"id":"a"}}` + "\n"
	var wg sync.WaitGroup
	var feeds []*io.PipeWriter
	for range 3 { // a buffer of 1 MiB each; half of all there is may be one caller's
		slow, feed := io.Pipe()
		feeds = append(feeds, feed)
		wg.Go(func() { post(t, r, slow) })
		if _, err := io.WriteString(feed, strings.Repeat(line, 30_000)); err != nil {
			t.Fatal(err)
		}
	}
	big := func() io.Reader { return struct{ io.Reader }{strings.NewReader(strings.Repeat(line, 45_000))} } // of unknown length
	if w := post(t, r, big()); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one body more of the same caller: %d: %s", w.Code, w.Body)
	}
	other, err := r.issuer.Mint(auth.Ingest, "acme", "somebody else", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if w := post(t, r, big(), "Authorization", "Bearer "+other); w.Code != http.StatusRequestEntityTooLarge { // 45,000 events: it was read whole
		t.Errorf("a body of another caller: %d: %s", w.Code, w.Body)
	}
	for _, f := range feeds {
		_ = f.CloseWithError(io.ErrUnexpectedEOF)
	}
	wg.Wait()
	wantBudgetFree(t, r)
}

// Callers without a good token are bounded by address, and cannot lock out those behind
// the same address whose token was good before.
func TestStrangersAreBounded(t *testing.T) {
	r := newRig(t, Limits{StrangerRate: 1, StrangerBurst: 3})
	known, fresh := r.token(auth.Analyst, "acme"), r.token(auth.Auditor, "acme")
	const here, there = "192.0.2.1:1000", "192.0.2.2:1000"
	if w := ask(t, r, known, here); w.Code != 200 {
		t.Fatalf("status %d", w.Code)
	}
	for n, c := range []struct {
		token, from string
		want        int
	}{{"", here, 401}, {"bad", here, 401}, {"bad", "192.0.2.1:2000", 401}, {"bad", here, 429}, {"", here, 429}, {fresh, here, 429},
		{known, here, 200}, {"bad", there, 401}, {fresh, there, 200}, {fresh, here, 200},
		{"bad", "[2001:db8::1]:1", 401}, {"bad", "[2001:db8::2]:1", 401}, {"bad", "[2001:db8::3]:1", 401}, {"bad", "[2001:db8::4]:1", 429}, {"bad", "[2001:db8:0:1::1]:1", 401}} {
		w := ask(t, r, c.token, c.from)
		if w.Code != c.want || (w.Code == 429) != (w.Header().Get("Retry-After") == "1") {
			t.Errorf("request %d: %d, Retry-After %q, want %d: %s", n, w.Code, w.Header().Get("Retry-After"), c.want, w.Body)
		}
	}
	r.advance(time.Second)
	if w := ask(t, r, "bad", here); w.Code != 401 {
		t.Errorf("a second later: %d", w.Code)
	}
	// An issuer whose keys cannot be had is no fault of the caller's.
	r.keys.mode = "unavailable"
	for range 10 {
		if w := ask(t, r, known, "192.0.2.9:1"); w.Code != 503 {
			t.Fatalf("status %d", w.Code)
		}
	}
}

func TestAddressKey(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.7:5": "192.0.2.7", "[::ffff:192.0.2.7]:5": "192.0.2.7", "[2001:db8::1]:5": "2001:db8::/64", "[fe80::1%eth0]:5": "fe80::/64", "pipe": ""} {
		if got := addressKey(&http.Request{RemoteAddr: addr}); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
}

type countingHealth struct {
	calls atomic.Int32
	wait  chan struct{}
}

func (c *countingHealth) Ready(context.Context) Readiness {
	n := c.calls.Add(1)
	<-c.wait
	return Readiness{Checks: []Check{{Name: fmt.Sprint(n), OK: true}}}
}

// However many ask whether the parts work, the parts are asked once at a time.
func TestReadinessIsAskedOnceAtATime(t *testing.T) {
	h := &countingHealth{wait: make(chan struct{})}
	s := &sharedReadiness{health: h}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := s.ask(t.Context()); len(got.Checks) != 1 || !got.Checks[0].OK {
				t.Errorf("answer %+v", got)
			}
		})
	}
	close(h.wait)
	wg.Wait()
	first := h.calls.Load()
	if first < 1 || first > 20 {
		t.Errorf("%d calls", first)
	}
	if got := s.ask(t.Context()); got.Checks[0].Name != fmt.Sprint(first+1) {
		t.Errorf("a later question got an old answer: %+v", got)
	}
}

func FuzzParseVerification(f *testing.F) {
	for _, seed := range []string{"{}", `{"sources":["a"],"ledgers":["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],"from":"2026-01-01T00:00:00Z","to":"2027-01-01T00:00:00Z","rows":true,"rate":5}`,
		`{"rows":false}`, `{"rate":1e9}`, `{"from":""}`, `{"a":{"b":[1]}}`, `{"rows":true,"rows":true}`, `[`, "", `{"sources":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req, prob := parseVerification(body)
		if prob != nil {
			if status := prob.code(); status != 400 && status != 422 || prob.where == "" || prob.fix == "" || len(prob.where)+len(prob.detail)+len(prob.fix) > 1000 {
				t.Fatalf("problem %+v", prob)
			}
			return
		}
		if req.Rate < 1 || req.Rate > maxRate || len(req.Sources) > maxVerifyNames || len(req.Ledgers) > maxVerifyNames || !req.To.IsZero() && !req.From.Before(req.To) {
			t.Fatalf("request %+v", req)
		}
	})
}
