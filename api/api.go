// Package api is the HTTP face of Sealstream: it takes events in and gives events,
// evidence and ledgers out.
//
// [New] builds an http.Handler from what it needs, all of it behind small
// interfaces declared here ([Store], [Ingester], [AccessLog], [Health],
// [Authenticator]); cmd/sealstream supplies them. The whole route table is in
// routes.go, all errors are in problem.go, and openapi.yaml is the contract: a test
// holds it true against the table and against every answer the tests have seen.
// [Serve] runs the handler on a listener that is safe by default.
//
// Three promises are kept here and nowhere else:
//   - an event is answered with its place only when it is durable, and its bytes go
//     on exactly as they were sent (they are a slice of the body, never re-encoded);
//   - event content leaves only after the read itself is durable in the access log
//     (invariant I11): no log, no data;
//   - the tenant comes from the token alone, and no answer crosses tenants, whatever
//     the store returned.
//
// It is not a place for storage, Kafka or schemas: Gin stays in here, and nothing
// here knows what is behind the interfaces. Logs of this package hold no payload, no
// token, no subject and no query value (invariant I12).
package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options is everything the handler needs. Fields without a default are required.
type Options struct {
	Store     Store
	Ingester  Ingester
	AccessLog AccessLog
	Health    Health
	Auth      Authenticator
	// Verifications may be nil: then nobody can start one here.
	Verifications Verifications

	// Validate says whether one JSON object is a good event of the stream ("audit"
	// or "domain") and returns its event id. The error is shown to the sender, so it
	// names the field and the fix, and does not grow with the value.
	Validate func(stream string, value []byte) (id string, err error)

	Limits   Limits
	Log      *slog.Logger
	Registry *prometheus.Registry // gets this package's metrics, and is what /metrics shows

	Now          func() time.Time // default time.Now
	NewRequestID func() string    // default: a version 7 UUID
}

// Limits bounds what one caller, and all together, can make the server do. Zero
// fields take the default named.
type Limits struct {
	BodyBytes   int64 // of one body, after decompression; default 32 MiB
	BufferBytes int64 // of all bodies in memory together; default 128 MiB
	ItemBytes   int   // of one event; default 1 MiB less 16 KiB, which leaves room for headers in a Kafka record
	Items       int   // events in one body; default 10,000
	Depth       int   // nesting of one event; default 64

	Rate       float64 // requests a second of one principal; default 200
	Burst      int     // requests a principal may save up; default 400
	Principals int     // principals whose rates are remembered; default 10,000
	Concurrent int     // requests worked on at the same time; default 128
	PerCaller  int     // of these, those of one principal; default a quarter

	StrangerRate  float64 // refused tokens a second of one address; default 5
	StrangerBurst int     // refused tokens an address may save up; default 50

	QueryTimeout  time.Duration // of one read; default 15 s
	IngestTimeout time.Duration // until a body's events must be durable; default 30 s
	RecordTimeout time.Duration // until an access must be durable; default 10 s

	IdempotencyAnswers int   // remembered first answers; default 10,000
	IdempotencyBytes   int64 // of all of them together; default 16 MiB
}

// idempotencyLife is how long a first answer is kept, memory permitting.
const idempotencyLife = 24 * time.Hour

type server struct {
	Options
	metrics *metrics
	rates   *rates
	callers *callers
	guests  *guests
	docs    *docsPage
	ready   *sharedReadiness
	slots   chan struct{} // one token per request in work
	bodies  *budget
	answers *answers
	scrape  http.Handler
}

// New returns the handler. An error names the option that is missing or wrong.
func New(o Options) (http.Handler, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	bodies := newBudget(o.Limits.BufferBytes)
	m, err := newMetrics(o.Registry, bodies)
	if err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	docs, err := newDocsPage(openAPI)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s := &server{
		Options: o,
		metrics: m,
		rates:   newRates(o.Limits.Rate, o.Limits.Burst, o.Limits.Principals),
		callers: newCallers(o.Limits),
		guests:  newGuests(o.Limits),
		docs:    docs,
		ready:   &sharedReadiness{health: o.Health},
		slots:   make(chan struct{}, o.Limits.Concurrent),
		bodies:  bodies,
		answers: newAnswers(o.Limits.IdempotencyAnswers, o.Limits.IdempotencyBytes),
		scrape:  promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{}),
	}
	return s.engine()
}

func (o *Options) complete() error {
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"Store", o.Store == nil}, {"Ingester", o.Ingester == nil}, {"AccessLog", o.AccessLog == nil},
		{"Health", o.Health == nil}, {"Auth", o.Auth == nil}, {"Validate", o.Validate == nil},
		{"Log", o.Log == nil}, {"Registry", o.Registry == nil},
	} {
		if f.missing {
			return errors.New("api: option " + f.name + " is missing")
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewRequestID == nil {
		o.NewRequestID = func() string { return uuid.Must(uuid.NewV7()).String() } // the system's random source does not fail
	}
	o.Limits.setDefaults()
	return nil
}

func (l *Limits) setDefaults() {
	orDefault(&l.BodyBytes, 32<<20)
	orDefault(&l.BufferBytes, 128<<20)
	orDefault(&l.ItemBytes, 1<<20-16<<10)
	orDefault(&l.Items, 10_000)
	orDefault(&l.Depth, 64)
	orDefault(&l.Rate, 200)
	orDefault(&l.Burst, 400)
	orDefault(&l.Principals, 10_000)
	orDefault(&l.Concurrent, 128)
	orDefault(&l.PerCaller, max(1, l.Concurrent/4))
	orDefault(&l.StrangerRate, 5)
	orDefault(&l.StrangerBurst, 50)
	orDefault(&l.QueryTimeout, 15*time.Second)
	orDefault(&l.IngestTimeout, 30*time.Second)
	orDefault(&l.RecordTimeout, 10*time.Second)
	orDefault(&l.IdempotencyAnswers, 10_000)
	orDefault(&l.IdempotencyBytes, 16<<20)
	// One body of the full size must fit, or it would be refused as "busy" forever.
	// While a buffer grows, the old and the new one are held together.
	l.BufferBytes = max(l.BufferBytes, 2*l.BodyBytes)
}

func orDefault[T int | int64 | float64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// engine turns the route table into a Gin engine.
func (s *server) engine() (http.Handler, error) {
	gin.SetMode(gin.ReleaseMode) // Gin's debug mode prints to standard output
	e := gin.New()
	e.RedirectTrailingSlash = false
	e.HandleMethodNotAllowed = true
	if err := e.SetTrustedProxies(nil); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	e.Use(s.identify, s.observe, s.recover)
	e.NoRoute(func(c *gin.Context) { s.answerProblem(c, notFoundRoute()) })
	e.NoMethod(func(c *gin.Context) { s.answerProblem(c, methodNotAllowed(c.Writer.Header().Get("Allow"))) })
	for _, r := range s.routes() {
		e.Handle(r.method, r.path, s.serve(r))
	}
	return e, nil
}
