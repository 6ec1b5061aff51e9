package api

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
)

const keyCaller = "caller"

// callerKey names a principal across its tokens and addresses.
func callerKey(p auth.Principal) string { return p.Issuer + "\x00" + p.ClientID + "\x00" + p.Subject }

// callers knows what each principal has in work, so that none can take all places or
// all memory. It holds those who are being served, so it needs no other bound.
type callers struct {
	requests int   // of one principal
	bytes    int64 // of its bodies

	mu    sync.Mutex
	byKey map[string]*caller
}

type caller struct {
	requests int
	bytes    int64
}

func newCallers(l Limits) *callers {
	// A body must fit while its buffer grows, or it would be refused for ever.
	return &callers{requests: l.PerCaller, bytes: max(l.BufferBytes/2, 2*l.BodyBytes), byKey: map[string]*caller{}}
}

// enter takes a place for a request of the principal.
func (s *server) enter(c *gin.Context, p auth.Principal) (leave func(), prob *problem) {
	k, key := s.callers, callerKey(p)
	k.mu.Lock()
	defer k.mu.Unlock()
	who := k.byKey[key]
	if who == nil {
		who = &caller{}
		k.byKey[key] = who
	}
	if who.requests >= k.requests {
		return nil, &problem{kind: kindBusy, where: "principal of the token", retryAfter: time.Second, reason: "caller_busy",
			detail: fmt.Sprintf("%d requests of this principal are being worked on, which is as many as one may have", k.requests),
			fix:    "wait for some of them to be answered; many events fit into one body"}
	}
	who.requests++
	c.Set(keyCaller, who)
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if who.requests--; who.requests == 0 {
			delete(k.byKey, key)
		}
	}, nil
}

// purse is the memory of one body: it counts against that of all bodies and against
// that of its sender's.
type purse struct {
	all  *budget
	k    *callers
	who  *caller
	held int64
}

func (s *server) purseOf(c *gin.Context) *purse {
	v, _ := c.Get(keyCaller)
	who, ok := v.(*caller)
	if !ok {
		who = &caller{} // an open route has no body; its own caller keeps it bounded all the same
	}
	return &purse{all: s.bodies, k: s.callers, who: who}
}

func (p *purse) take(n int64) bool {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	if p.who.bytes+n > p.k.bytes || !p.all.take(n) {
		return false
	}
	p.who.bytes += n
	p.held += n
	return true
}

func (p *purse) give(n int64) {
	p.k.mu.Lock()
	defer p.k.mu.Unlock()
	p.who.bytes -= n
	p.held -= n
	p.all.give(n)
}

// empty gives everything back.
func (p *purse) empty() { p.give(p.held) }

// guests bounds what callers without a good token can make the server do: checking a
// signature costs more than asking for it. It counts by address, and lets those through
// whose token was good a while ago, so that somebody behind the same proxy cannot lock
// them out.
type guests struct {
	failures *rates

	mu    sync.Mutex
	known *lru[[sha256.Size]byte, struct{}] // hashes of tokens that were good
}

func newGuests(l Limits) *guests {
	n := int64(l.Principals)
	return &guests{failures: newRates(l.StrangerRate, l.StrangerBurst, l.Principals), known: newLRU[[sha256.Size]byte, struct{}](n, n)}
}

// wait says how long an address with this token must wait; the token may be empty.
func (g *guests) wait(from, token string, now time.Time) time.Duration {
	wait := g.failures.peek(from, now)
	if wait == 0 || token == "" {
		return wait
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, good := g.known.get(sha256.Sum256([]byte(token))); good {
		return 0
	}
	return wait
}

func (g *guests) refused(from string, now time.Time) { g.failures.take(from, now) }

func (g *guests) good(token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := sha256.Sum256([]byte(token))
	if _, ok := g.known.get(h); !ok {
		g.known.put(h, struct{}{}, 1)
	}
}

// addressKey is the peer's address; of IPv6 the network, of which one host has as many
// addresses as it wants.
func addressKey(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if net, err := a.Prefix(64); err == nil {
			return net.String()
		}
	}
	return a.String()
}
