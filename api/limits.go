package api

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// lru is a map bounded by entries and by cost; the entry that was used longest ago
// goes first. It is not safe for concurrent use.
type lru[K comparable, V any] struct {
	entries, cost int64 // bounds
	used          int64
	order         *list.List // front = used last
	byKey         map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
	cost  int64
}

func newLRU[K comparable, V any](entries, cost int64) *lru[K, V] {
	return &lru[K, V]{entries: entries, cost: cost, order: list.New(), byKey: map[K]*list.Element{}}
}

func (l *lru[K, V]) get(k K) (v V, ok bool) {
	e, ok := l.byKey[k]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(lruEntry[K, V]).value, true
}

func (l *lru[K, V]) put(k K, v V, cost int64) {
	l.drop(k)
	l.byKey[k] = l.order.PushFront(lruEntry[K, V]{k, v, cost})
	l.used += cost
	for l.order.Len() > 0 && (l.used > l.cost || int64(l.order.Len()) > l.entries) {
		l.drop(l.order.Back().Value.(lruEntry[K, V]).key)
	}
}

func (l *lru[K, V]) drop(k K) {
	if e, ok := l.byKey[k]; ok {
		l.used -= e.Value.(lruEntry[K, V]).cost
		l.order.Remove(e)
		delete(l.byKey, k)
	}
}

// rates limits the requests of each principal. A principal that was forgotten,
// because many others came since, starts with a full burst.
type rates struct {
	mu       sync.Mutex
	perKey   *lru[string, *rate.Limiter]
	perSec   rate.Limit
	maxBurst int
}

func newRates(perSecond float64, burst, principals int) *rates {
	return &rates{perKey: newLRU[string, *rate.Limiter](int64(principals), int64(principals)), perSec: rate.Limit(perSecond), maxBurst: burst}
}

// take lets one request through, or says how long to wait.
func (r *rates) take(key string, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.perKey.get(key)
	if !ok {
		l = rate.NewLimiter(r.perSec, r.maxBurst)
		r.perKey.put(key, l, 1)
	}
	res := l.ReserveN(now, 1)
	wait := res.DelayFrom(now)
	if wait > 0 {
		res.CancelAt(now) // a refused request does not use up what comes later
	}
	return wait
}

// peek says how long the next request would have to wait, and lets none through.
func (r *rates) peek(key string, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.perKey.get(key)
	if !ok {
		return 0
	}
	missing := 1 - l.TokensAt(now)
	return time.Duration(max(0, missing) / float64(r.perSec) * float64(time.Second))
}

// budget is the memory that all bodies may take together.
type budget struct {
	total int64
	used  atomic.Int64
}

func newBudget(total int64) *budget { return &budget{total: total} }

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.total {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }
