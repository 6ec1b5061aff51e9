package api

import (
	"encoding/base64"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

func drawKey(t *rapid.T) sinks.Key {
	k := sinks.Key{Seq: rapid.Uint64().Draw(t, "seq"), Time: time.UnixMicro(rapid.Int64().Draw(t, "time")).UTC()}
	copy(k.Ledger[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ledger"))
	return k
}

func TestCursorComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := sinks.Query{Tenant: rapid.String().Draw(t, "tenant"), Action: rapid.String().Draw(t, "action"), Order: sinks.OrderTime}
		k := drawKey(t)
		got, prob := openCursor(sealCursor(k, q), q)
		if prob != nil {
			t.Fatal(prob.detail)
		}
		if d := cmp.Diff(k, got); d != "" {
			t.Fatal(d)
		}
	})
	// No time at all, as records without one have, must come back as no time.
	got, prob := openCursor(sealCursor(sinks.Key{}, sinks.Query{}), sinks.Query{})
	if prob != nil || !got.Time.IsZero() {
		t.Errorf("%v, %v", got.Time, prob)
	}
	far := time.UnixMilli(math.MaxInt64 / 1_000_000).UTC()
	if got, _ := openCursor(sealCursor(sinks.Key{Time: far}, sinks.Query{}), sinks.Query{}); !got.Time.Equal(far) {
		t.Errorf("%v, want %v", got.Time, far)
	}
}

func TestCursorIsBoundToEveryFilter(t *testing.T) {
	id := ledger.ID{1}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	base := sinks.Query{Order: sinks.OrderTime, Limit: 100}
	cursor := sealCursor(sinks.Key{Time: now}, base)
	for name, change := range map[string]func(*sinks.Query){
		"from": func(q *sinks.Query) { q.From = now }, "to": func(q *sinks.Query) { q.To = now },
		"action": func(q *sinks.Query) { q.Action = "a" }, "category": func(q *sinks.Query) { q.Category = "a" },
		"outcome": func(q *sinks.Query) { q.Outcome = "a" }, "actor": func(q *sinks.Query) { q.Actor = "a" },
		"object": func(q *sinks.Query) { q.Object = "a" }, "source": func(q *sinks.Query) { q.Source = "a" },
		"tenant": func(q *sinks.Query) { q.Tenant = "a" }, "ledger": func(q *sinks.Query) { q.Ledger = &id },
		"order": func(q *sinks.Query) { q.Order = sinks.OrderLedger },
	} {
		q := base
		change(&q)
		if _, prob := openCursor(cursor, q); prob == nil {
			t.Errorf("a cursor made without %s is taken with it", name)
		}
	}
	q := base
	q.Limit = 1
	if _, prob := openCursor(cursor, q); prob != nil {
		t.Error("another page size is the same listing")
	}
	// Values that run into each other must not look alike.
	a, b := base, base
	a.Action, b.Category = "x", "x"
	if string(filtersOf(a)) == string(filtersOf(b)) {
		t.Error("action=x and category=x have the same filters")
	}
}

func TestCursorEveryFlippedBitIsRefused(t *testing.T) {
	q := sinks.Query{Tenant: "acme"}
	s := sealCursor(sinks.Key{Seq: 7, Time: time.Unix(1, 0)}, q)
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(raw) != cursorSize {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	for n := range len(raw) * 8 {
		raw[n/8] ^= 1 << (n % 8)
		if _, prob := openCursor(base64.RawURLEncoding.EncodeToString(raw), q); prob == nil {
			t.Errorf("bit %d flipped and taken", n)
		}
		raw[n/8] ^= 1 << (n % 8)
	}
	// The last character has bits that no byte needs: only one spelling is right.
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		spelt := s[:len(s)-1] + string(c)
		if _, prob := openCursor(spelt, q); (prob == nil) != (spelt == s) {
			t.Errorf("ends in %c: %v", c, prob)
		}
	}
	for n := range len(s) {
		if _, prob := openCursor(s[:n], q); prob == nil {
			t.Errorf("cut to %d characters and taken", n)
		}
	}
}

// FuzzCursor: what is taken is exactly what was made.
func FuzzCursor(f *testing.F) {
	q := sinks.Query{Tenant: "acme", Order: sinks.OrderTime}
	f.Add(sealCursor(sinks.Key{Seq: 7, Time: time.Unix(1, 0)}, q))
	f.Add(sealCursor(sinks.Key{}, sinks.Query{}))
	f.Add("")
	f.Add("AQ==")
	f.Fuzz(func(t *testing.T, s string) {
		k, prob := openCursor(s, q)
		if prob == nil && sealCursor(k, q) != s {
			t.Fatalf("%q is taken as %v, which is %q", s, k, sealCursor(k, q))
		}
	})
}
