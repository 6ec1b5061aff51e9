package api

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestLRUAgainstAList checks the bounds and the order of eviction against the
// obvious slow version.
func TestLRUAgainstAList(t *testing.T) {
	type entry struct{ k, v, cost int }
	rapid.Check(t, func(t *rapid.T) {
		entries, cost := rapid.IntRange(1, 5).Draw(t, "entries"), rapid.IntRange(1, 20).Draw(t, "cost")
		l := newLRU[int, int](int64(entries), int64(cost))
		var list []entry // used last first
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			k := rapid.IntRange(0, 6).Draw(t, "key")
			at := -1
			for n, e := range list {
				if e.k == k {
					at = n
				}
			}
			if rapid.Bool().Draw(t, "get") {
				v, ok := l.get(k)
				if ok != (at >= 0) || ok && v != list[at].v {
					t.Fatalf("get %d: %d %v, list %v", k, v, ok, list)
				}
				if ok {
					e := list[at]
					list = append([]entry{e}, append(append([]entry{}, list[:at]...), list[at+1:]...)...)
				}
				continue
			}
			e := entry{k, rapid.Int().Draw(t, "value"), rapid.IntRange(0, 25).Draw(t, "size")}
			if at >= 0 {
				list = append(append([]entry{}, list[:at]...), list[at+1:]...)
			}
			list = append([]entry{e}, list...)
			l.put(e.k, e.v, int64(e.cost))
			for {
				sum := 0
				for _, e := range list {
					sum += e.cost
				}
				if sum <= cost && len(list) <= entries {
					break
				}
				list = list[:len(list)-1]
			}
			if len(l.byKey) != len(list) || l.order.Len() != len(list) || l.used > int64(cost) {
				t.Fatalf("%d entries of cost %d, want %v", len(l.byKey), l.used, list)
			}
		}
	})
}

func TestRatesForgetTheOldestAndStayBounded(t *testing.T) {
	r := newRates(1, 1, 3)
	now := time.Unix(1000, 0)
	for n := range 100 {
		if wait := r.take(fmt.Sprint(n), now); wait != 0 {
			t.Errorf("first request of %d must wait %s", n, wait)
		}
	}
	if n := len(r.perKey.byKey); n != 3 {
		t.Errorf("%d principals remembered, want 3", n)
	}
	for range 5 { // being refused does not push the turn further away
		if wait := r.take("99", now); wait != time.Second {
			t.Errorf("wait %s, want 1s", wait)
		}
	}
	if wait := r.take("99", now.Add(time.Second)); wait != 0 {
		t.Errorf("after the wait: %s more", wait)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	a := newAnswers(2, 1000)
	now := time.Unix(1000, 0)
	keep := func(k byte, size int) {
		if got, _ := a.claim(digest{k}, digest{k}, now); got != claimFresh {
			t.Fatalf("key %d: claim %d", k, got)
		}
		a.finish(digest{k}, make([]byte, size), now)
	}
	keep(1, 10)
	keep(2, 10)
	keep(3, 10)   // pushes 1 out by number
	keep(4, 2000) // too big to be kept; pushes nothing useful into its place
	if got, _ := a.claim(digest{4}, digest{4}, now); got != claimFresh {
		t.Errorf("an answer above the bound was kept: %d", got)
	}
	a.finish(digest{4}, nil, now)
	if len(a.open) != 0 {
		t.Errorf("%d claims left open", len(a.open))
	}
	keep(1, 10)
	if got, _ := a.claim(digest{1}, digest{9}, now); got != claimOther {
		t.Errorf("another request with the key: %d", got)
	}
	if got, body := a.claim(digest{1}, digest{1}, now.Add(idempotencyLife-1)); got != claimReplay || len(body) != 10 {
		t.Errorf("the same request: %d, %d bytes", got, len(body))
	}
	if got, _ := a.claim(digest{1}, digest{1}, now.Add(idempotencyLife)); got != claimFresh {
		t.Errorf("after its life: %d", got)
	}
}
