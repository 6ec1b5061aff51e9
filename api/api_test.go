package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealstream/sealstream/api/auth"
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	r := newRig(t, Limits{})
	full := Options{Store: r.store, Ingester: r.ingest, AccessLog: r.access, Health: r.health, Auth: r.keys,
		Validate: fakeValidate, Log: quietLog(), Registry: prometheus.NewRegistry()}
	for name, drop := range map[string]func(*Options){
		"Store": func(o *Options) { o.Store = nil }, "Ingester": func(o *Options) { o.Ingester = nil },
		"AccessLog": func(o *Options) { o.AccessLog = nil }, "Health": func(o *Options) { o.Health = nil },
		"Auth": func(o *Options) { o.Auth = nil }, "Validate": func(o *Options) { o.Validate = nil },
		"Log": func(o *Options) { o.Log = nil }, "Registry": func(o *Options) { o.Registry = nil },
	} {
		o := full
		drop(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: error %v", name, err)
		}
	}
	if _, err := New(full); err != nil {
		t.Error(err)
	}
	if _, err := New(full); err == nil {
		t.Error("metrics were registered twice in one registry without a word")
	}
}

func post(t *testing.T, r *rig, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/events?stream=audit", body)
	req.Header.Set("Authorization", "Bearer "+r.token(auth.Ingest, "acme"))
	req.Header.Set("Content-Type", typeNDJSON)
	for n := 0; n < len(headers); n += 2 {
		req.Header.Set(headers[n], headers[n+1])
	}
	return do(r, req)
}

func get(t *testing.T, r *rig, target string) *http.Request {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	req.Header.Set("Authorization", "Bearer "+r.token(auth.Auditor, "acme"))
	return req
}

// Invariant I11: the record of a read is durable before anything of it is sent.
func TestI11NothingIsSentBeforeTheReadIsRecorded(t *testing.T) {
	for _, target := range []string{"/v1/events", "/v1/events/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/1", "/v1/events/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/99"} {
		r := newRig(t, Limits{})
		w := &countingWriter{header: http.Header{}}
		var recorded bool
		r.access.hook = func() {
			recorded = true
			if w.status != 0 || w.bytes != 0 {
				t.Errorf("%s: status %d and %d bytes were sent before the read was recorded", target, w.status, w.bytes)
			}
		}
		r.handler.ServeHTTP(w, get(t, r, target))
		if !recorded || w.bytes == 0 {
			t.Errorf("%s: recorded %v, %d bytes", target, recorded, w.bytes)
		}
	}
}

type countingWriter struct {
	header        http.Header
	status, bytes int
}

func (w *countingWriter) Header() http.Header { return w.header }
func (w *countingWriter) WriteHeader(s int)   { w.status = s }
func (w *countingWriter) Write(b []byte) (int, error) {
	w.bytes += len(b)
	return len(b), nil
}

// Invariant I12: no payload, token, subject, address or query value in logs and metrics.
func TestI12LogsAndMetricsHoldNoSecrets(t *testing.T) {
	r := newRig(t, Limits{})
	const canary = "canary-7f3a"
	post(t, r, strings.NewReader(`{"event":{"id":"`+canary+`"}}`), "Idempotency-Key", canary, "X-Request-Id", canary, "User-Agent", canary)
	post(t, r, strings.NewReader(`{"event":{"id":"panic"},"user":"`+canary+`"}`))
	r.ingest.mode = "none"
	post(t, r, strings.NewReader(`{"event":{"id":"`+canary+`"}}`))
	post(t, r, strings.NewReader(`{"`+canary))
	do(r, get(t, r, "/v1/events?actor="+canary))
	do(r, get(t, r, "/v1/events?"+canary+"="+canary))
	do(r, get(t, r, "/"+canary))
	do(r, httptest.NewRequestWithContext(t.Context(), canary, "/v1/events", nil))
	for _, mode := range []string{"down", "slow", "panic"} {
		r.store.mode = mode
		do(r, get(t, r, "/v1/events?actor="+canary))
	}
	r.store.mode, r.access.mode = "", "down"
	req := get(t, r, "/v1/events?actor="+canary)
	req.Header.Set("Purpose-Of-Use", canary)
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	do(r, req)
	bad := get(t, r, "/v1/events")
	bad.Header.Set("Authorization", "Bearer "+canary)
	do(r, bad)
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var metrics strings.Builder
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sealstream_api_") {
			t.Errorf("metric %s is not named after its stage", f.GetName())
		}
		metrics.WriteString(f.String())
	}
	logs := r.logs.String()
	if !strings.Contains(logs, "request handler panicked") || !strings.Contains(logs, "request not answered as asked") || !strings.Contains(logs, "request answered") {
		t.Fatal("the test does not reach the logs any more")
	}
	for _, secret := range []string{canary, "secret row content", "payload of", "subject-", "192.0.2.1", token[len(token)-20:]} {
		if strings.Contains(logs, secret) {
			t.Errorf("%q is in the logs", secret)
		}
		if strings.Contains(metrics.String(), secret) {
			t.Errorf("%q is in the metrics", secret)
		}
	}
}

func TestTenThousandEventsAreTakenAndOneMoreIsNot(t *testing.T) {
	r := newRig(t, Limits{})
	const line = `{"event":{"id":"a"}}`
	w := post(t, r, strings.NewReader("["+strings.Repeat(line+",", 9_999)+line+"]"), "Content-Type", typeJSON)
	var got struct{ Items []item }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusAccepted || len(got.Items) != 10_000 {
		t.Fatalf("status %d, %d items, %v", w.Code, len(got.Items), err)
	}
	for n, it := range got.Items {
		if it.Error != nil || *it.Offset != int64(100+n) {
			t.Fatalf("item %d: %+v", n, it)
		}
	}
	for _, c := range []struct{ kind, body string }{
		{typeJSON, "[" + strings.Repeat(line+",", 10_000) + line + "]"}, {typeNDJSON, strings.Repeat(line+"\n", 10_001)},
	} {
		if w := post(t, r, strings.NewReader(c.body), "Content-Type", c.kind); w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "10000 events") {
			t.Errorf("%s: status %d: %s", c.kind, w.Code, w.Body)
		}
	}
	if n := len(r.ingest.got); n != 1 {
		t.Errorf("%d bodies were passed on, want 1", n)
	}
}

func TestGzipBombStopsAtTheLimit(t *testing.T) {
	r := newRig(t, Limits{BodyBytes: 1 << 20})
	var bomb bytes.Buffer
	z, err := gzip.NewWriterLevel(&bomb, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 48 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w := post(t, r, bytes.NewReader(bomb.Bytes()), "Content-Encoding", "gzip")
	runtime.ReadMemStats(&after)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes were allocated for a bomb of %d that unpacks to 48 MiB", grown, bomb.Len())
	}
	wantBudgetFree(t, r)
}

// A body of 21 MB that compresses to nothing is one event too large.
func TestTwentyOneMegabytesThatCompressToNothing(t *testing.T) {
	r := newRig(t, Limits{})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, `{"event":{"id":"a"},"x":"`+strings.Repeat("0", 21_000_000)+`"}`)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	w := post(t, r, &packed, "Content-Encoding", "gzip", "Content-Type", typeJSON)
	if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "too_large") || len(r.ingest.got) != 0 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	wantBudgetFree(t, r)
}

func TestBodiesShareABudget(t *testing.T) {
	r := newRig(t, Limits{BodyBytes: 1 << 20, BufferBytes: 1}) // becomes 2 MiB
	line := `{"event":{"id":"a"}}` + "\n"
	slow, feed := io.Pipe()
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() { answered <- post(t, r, slow) }()
	for range 40 { // about 800 KB are in memory now, in a buffer of 1 MiB
		if _, err := io.WriteString(feed, strings.Repeat(line, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	big := struct{ io.Reader }{strings.NewReader(strings.Repeat(line, 45_000))} // of unknown length, so that its buffer grows
	if w := post(t, r, big); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("a second large body: status %d: %s", w.Code, w.Body)
	}
	if w := post(t, r, strings.NewReader(line)); w.Code != http.StatusAccepted {
		t.Errorf("a small body must still pass: %d: %s", w.Code, w.Body)
	}
	_ = feed.Close()
	if w := <-answered; w.Code != http.StatusRequestEntityTooLarge { // 40,000 events
		t.Errorf("the first body: status %d", w.Code)
	}
	wantBudgetFree(t, r)
}

// wantBudgetFree reads the gauge, which shows the budget itself.
func wantBudgetFree(t *testing.T, r *rig) {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sealstream_api_body_buffer_bytes" {
			if v := f.GetMetric()[0].GetGauge().GetValue(); v != 0 {
				t.Errorf("%v bytes of body memory were not given back", v)
			}
			return
		}
	}
	t.Error("no gauge of the body memory")
}

func TestFullServerStillAnswersProbes(t *testing.T) {
	r := newRig(t, Limits{Concurrent: 1})
	r.ingest.mode, r.ingest.wait, r.ingest.busy = "block", make(chan struct{}), make(chan struct{})
	done := make(chan int, 1)
	go func() { done <- post(t, r, strings.NewReader(`{"event":{"id":"a"}}`)).Code }()
	<-r.ingest.busy
	if w := do(r, get(t, r, "/v1/events")); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "busy") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	for _, probe := range []string{"/healthz", "/readyz", "/v1/openapi.yaml"} {
		if w := do(r, httptest.NewRequestWithContext(t.Context(), http.MethodGet, probe, nil)); w.Code != http.StatusOK {
			t.Errorf("%s: status %d on a full server", probe, w.Code)
		}
	}
	close(r.ingest.wait)
	if code := <-done; code != http.StatusAccepted {
		t.Errorf("the request that filled the server: %d", code)
	}
	if w := do(r, get(t, r, "/v1/events")); w.Code != http.StatusOK {
		t.Errorf("the place was not given back: %d", w.Code)
	}
}

func TestQueryTimeLimitIsKept(t *testing.T) {
	r := newRig(t, Limits{QueryTimeout: time.Millisecond})
	r.store.mode = "block"
	if w := do(r, get(t, r, "/v1/events")); w.Code != http.StatusGatewayTimeout {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// A sender that hangs up while its events become durable gets the answer when it
// comes back with the same key.
func TestHangingUpDoesNotStopEventsHalfWay(t *testing.T) {
	r := newRig(t, Limits{})
	r.ingest.mode, r.ingest.wait, r.ingest.busy = "block", make(chan struct{}), make(chan struct{})
	ctx, hangUp := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/events?stream=audit", strings.NewReader(`{"event":{"id":"a"}}`))
		req.Header.Set("Authorization", "Bearer "+r.token(auth.Ingest, "acme"))
		req.Header.Set("Content-Type", typeNDJSON)
		req.Header.Set("Idempotency-Key", "k")
		do(r, req)
	}()
	<-r.ingest.busy
	hangUp()
	close(r.ingest.wait)
	<-done
	w := post(t, r, strings.NewReader(`{"event":{"id":"a"}}`), "Idempotency-Key", "k")
	if w.Code != http.StatusAccepted || w.Header().Get("Idempotency-Replayed") != "true" || len(r.ingest.got) != 1 {
		t.Errorf("status %d, replayed %q, %d ingests", w.Code, w.Header().Get("Idempotency-Replayed"), len(r.ingest.got))
	}
}

// Pages must neither repeat nor lose a row, whatever their sizes.
func TestPagesCoverTheListingOnce(t *testing.T) {
	r := newRig(t, Limits{Rate: 1e6, Burst: 1e6})
	rnd := rand.New(rand.NewPCG(1, 2))
	base := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for n := range 60 { // few different times, so that ties decide
		r.store.add(byte(0xc0+rnd.IntN(3)), uint64(1000+n), "acme", base.Add(time.Duration(rnd.IntN(4))*time.Minute), nil)
	}
	for _, query := range []string{"/v1/events?limit=", "/v1/events?order=ledger&ledger=" + strings.Repeat("c1", 16) + "&limit="} {
		whole := pages(t, r, query+"1000")
		for _, size := range []string{"1", "2", "7", "59", "60"} {
			if got := pages(t, r, query+size); strings.Join(got, ",") != strings.Join(whole, ",") || len(got) == 0 {
				t.Errorf("%s%s: %d rows, want %d in the same order", query, size, len(got), len(whole))
			}
		}
	}
}

func pages(t *testing.T, r *rig, query string) (rows []string) {
	t.Helper()
	next := query
	for next != "" {
		w := do(r, get(t, r, next))
		var page struct {
			Items []struct {
				Ledger string
				Seq    json.Number
			}
			Next string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: status %d, %v", next, w.Code, errors.Join(err, errors.New(w.Body.String())))
		}
		for _, e := range page.Items {
			rows = append(rows, e.Ledger+"/"+e.Seq.String())
		}
		next = ""
		if page.Next != "" {
			next = query + "&cursor=" + page.Next
		}
		if len(rows) > 1000 {
			t.Fatal("the pages do not end")
		}
	}
	return rows
}
