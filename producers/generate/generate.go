// Package generate makes audit and domain events like those of a company at work: a
// few busy actors and many quiet ones, office hours and nights, services that never
// sleep, logins that fail, orders that go their way, and, when asked, senders that make
// mistakes.
//
// The same [Options] give the same messages, byte for byte, on every machine: there is
// no clock and no other source of chance than the seed. Tests, benchmarks, the sample
// of a first start and `sealstream generate` use it. It writes nothing anywhere; the
// caller sends what it makes.
//
// Speed: an event is put together from prepared pieces (see template.go), so that a
// benchmark measures its subject and not this package.
package generate

import (
	"errors"
	"fmt"
	"time"

	"github.com/sealstream/sealstream/ledger"
)

// Format is the form of the values.
type Format uint8

// The formats. Mixed is a third of Avro among JSON.
const (
	JSON Format = iota
	Avro
	Mixed
)

// Mistakes is how often senders go wrong, each a share from 0 to 1.
type Mistakes struct {
	// Malformed values are cut short, binary, not UTF-8, or framed with a schema id
	// that no registry has.
	Malformed float64
	// Duplicates are the message before once more, as after a lost acknowledgement.
	Duplicates float64
}

// Options says what to generate. Zero fields take the defaults.
type Options struct {
	Seed  uint64
	Start time.Time // of the first event; 2026-11-23T08:00:00Z

	// Rate is the mean number of events per second of event time in office hours; 50.
	Rate float64
	// NoNights keeps the offices open all day, every day.
	NoNights bool

	// DomainShare is how many of the events are domain events, from 0 to 1; 0.3.
	// Negative: none.
	DomainShare float64

	Tenants int // 3, at most 20
	Actors  int // people and services of all tenants; 200, at most 100,000

	Format Format
	// AuditSchemaID and DomainSchemaID go into the frames of Avro values.
	AuditSchemaID, DomainSchemaID uint32

	// Key makes the key of an audit event, from tenant and actor. Without it the key
	// is the tenant and the number of the actor, which names nobody.
	Key func(tenant, actor string) []byte

	Mistakes Mistakes
}

// Message is one event to send. Its memory belongs to the generator and is written over
// by the next call; [Message.Clone] keeps it.
type Message struct {
	Stream  string // schemas.TopicAudit or schemas.TopicDomain
	Tenant  string
	Key     []byte
	Value   []byte
	Headers []ledger.Header // CloudEvents
	TimeMs  int64           // when it happened: also "@timestamp"

	Malformed bool
	Duplicate bool

	id   [36]byte
	time [24]byte
}

// ID is the event's id, as in the header ce_id.
func (m *Message) ID() string { return string(m.id[:]) }

// Clone returns a copy that shares no memory.
func (m *Message) Clone() Message {
	c := *m
	c.Key = append([]byte(nil), m.Key...)
	c.Value = append([]byte(nil), m.Value...)
	c.Headers = make([]ledger.Header, len(m.Headers))
	for i, h := range m.Headers {
		c.Headers[i] = ledger.Header{Name: h.Name, Value: append([]byte(nil), h.Value...)}
	}
	return c
}

// Generator makes messages. It is not safe for concurrent use.
type Generator struct {
	o    Options
	rand chance

	world  world
	audit  []auditAction
	pick   [2]table // audit actions: by day, by night
	orders orders
	domain []domainAction
	share  uint64 // of domain events, in 2^32nds
	faults struct{ malformed, duplicate uint64 }

	auditCache  []*template // by actor and action, made when first needed
	domainCache []*template

	now    int64  // of the event time, ms
	micros uint64 // below now
	gaps   [1024]uint32
	burst  burst
	holes  holes
	clock  clockText
	any    bool // a message has been made

	contents [2][]byte // content types: JSON, Avro
}

const maxTenants, maxActors = 20, 100_000

// New makes a generator; see [Options]. Its error names the option that cannot be.
func New(o Options) (*Generator, error) {
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	}
	if o.Rate == 0 {
		o.Rate = 50
	}
	if o.DomainShare == 0 {
		o.DomainShare = 0.3
	}
	if o.Tenants == 0 {
		o.Tenants = 3
	}
	if o.Actors == 0 {
		o.Actors = max(200, o.Tenants)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	g := &Generator{o: o, rand: chance{state: o.Seed}, now: o.Start.UnixMilli()}
	g.world = newWorld(&g.rand, o)
	g.audit, g.domain = auditActions(), domainActions()
	for i, night := range []bool{false, true} {
		g.pick[i] = newTable(len(g.audit), func(k int) float64 { return g.audit[k].weightAt(night) })
	}
	g.orders = newOrders()
	g.contents = [2][]byte{[]byte("application/json"), []byte("application/vnd.confluent.avro")}
	g.share = fraction(o.DomainShare)
	g.faults.malformed, g.faults.duplicate = fraction(o.Mistakes.Malformed), fraction(o.Mistakes.Duplicates)
	g.auditCache = make([]*template, len(g.world.actors)*len(g.audit))
	g.domainCache = make([]*template, len(g.world.actors)*len(g.domain))
	g.gaps = gapTable(o.Rate)
	return g, nil
}

func (o *Options) check() error {
	switch {
	case o.Start.Year() < 2005 || o.Start.Year() > 2080:
		return fmt.Errorf("start %s: want a time from 2005 to 2080", o.Start.Format(time.DateOnly))
	case o.Rate < 0.001 || o.Rate > 100_000:
		return fmt.Errorf("rate %v: want 0.001 to 100,000 events a second", o.Rate)
	case o.DomainShare > 1:
		return fmt.Errorf("domain share %v: want at most 1", o.DomainShare)
	case o.Tenants < 1 || o.Tenants > maxTenants:
		return fmt.Errorf("tenants %d: want 1 to %d", o.Tenants, maxTenants)
	case o.Actors < o.Tenants || o.Actors > maxActors:
		return fmt.Errorf("actors %d: want at least one a tenant, at most %d", o.Actors, maxActors)
	case o.Mistakes.Malformed < 0 || o.Mistakes.Malformed > 1 || o.Mistakes.Duplicates < 0 || o.Mistakes.Duplicates > 1:
		return errors.New("mistakes: want shares from 0 to 1")
	case o.Format > Mixed:
		return fmt.Errorf("format %d is not known", o.Format)
	case o.Format != JSON && (o.AuditSchemaID == 0 || o.DomainSchemaID == 0):
		return errors.New("avro needs the ids of both schemas")
	}
	return nil
}

// Next makes the next message in m, whose memory it uses again.
func (g *Generator) Next(m *Message) {
	if g.any && g.faults.duplicate > 0 && g.rand.under(g.faults.duplicate) && m.Value != nil {
		m.Duplicate = true
		return
	}
	g.any = true
	g.advance()
	m.Malformed, m.Duplicate = false, false
	if g.burst.left == 0 && g.rand.under(g.share) {
		g.nextDomain(m)
	} else {
		g.nextAudit(m)
	}
	if g.faults.malformed > 0 && g.rand.under(g.faults.malformed) {
		m.Value = g.spoil(m.Value)
		m.Malformed = true
	}
}

// nextAudit lets someone do something, or the one who is failing fail on.
func (g *Generator) nextAudit(m *Message) {
	who, what := g.burst.who, g.burst.what
	if g.burst.left > 0 {
		g.burst.left--
	} else {
		night := g.night()
		who = g.world.pick(&g.rand, night)
		what = g.pick[index(night)].at(&g.rand)
		a := &g.audit[what]
		if a.people && g.world.actors[who].service {
			what = g.world.serviceAction
			a = &g.audit[what]
		}
		if a.retries > 0 {
			g.burst = burst{who: who, what: what, left: g.rand.below(a.retries)}
		}
	}
	cell := &g.auditCache[who*len(g.audit)+what]
	if *cell == nil {
		*cell = g.auditTemplate(who, what)
	}
	g.holes.who = who
	(*cell).render(g, m)
}

// nextDomain moves one order of some tenant a step on.
func (g *Generator) nextDomain(m *Message) {
	who := g.world.pick(&g.rand, g.night())
	what, number, version := g.orders.step(&g.rand, g.world.actors[who].tenant)
	cell := &g.domainCache[who*len(g.domain)+what]
	if *cell == nil {
		*cell = g.domainTemplate(who, what)
	}
	g.holes.who, g.holes.version = who, version
	(*cell).renderOrder(g, m, number)
}

// burst is a login that fails again and again.
type burst struct{ who, what, left int }

func (g *Generator) wantAvro() bool {
	switch g.o.Format {
	case Avro:
		return true
	case Mixed:
		return g.rand.below(3) == 0
	case JSON:
	}
	return false
}
