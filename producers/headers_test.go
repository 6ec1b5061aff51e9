package producers_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/producers"
)

func TestHeaders(t *testing.T) {
	a := producers.Attributes{
		ID: "018f-1", Source: "sealstream/ingest", Type: "user.login", Tenant: "acme", ContentType: producers.ContentJSON,
		Time: time.Date(2026, 3, 1, 13, 0, 0, 5e6, time.FixedZone("CET", 3600)),
	}
	got, err := a.Headers(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []ledger.Header{
		{Name: "ce_specversion", Value: []byte("1.0")}, {Name: "ce_id", Value: []byte("018f-1")},
		{Name: "ce_source", Value: []byte("sealstream/ingest")}, {Name: "ce_type", Value: []byte("user.login")},
		{Name: "ce_time", Value: []byte("2026-03-01T12:00:00.005Z")}, {Name: "ce_tenant", Value: []byte("acme")},
		{Name: "content-type", Value: []byte("application/json")},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	a.Time, a.Tenant, a.ContentType = time.Time{}, "", ""
	if got, err = a.Headers(nil); err != nil || len(got) != 4 {
		t.Errorf("only required attributes: %v, %v", got, err)
	}
}

func TestHeadersRefuse(t *testing.T) {
	good := producers.Attributes{ID: "1", Source: "s", Type: "t"}
	for _, c := range []struct {
		edit func(*producers.Attributes)
		want []string
	}{
		{func(a *producers.Attributes) { a.ID = "" }, []string{"ce_id", "empty"}},
		{func(a *producers.Attributes) { a.Source = "" }, []string{"ce_source", "empty"}},
		{func(a *producers.Attributes) { a.Type = "" }, []string{"ce_type", "empty"}},
		{func(a *producers.Attributes) { a.Type = "a\xff" }, []string{"ce_type", "UTF-8"}},
		{func(a *producers.Attributes) { a.ID = "a\nb" }, []string{"ce_id", "control"}},
		{func(a *producers.Attributes) { a.Tenant = "a\x7f" }, []string{"ce_tenant", "control"}},
		{func(a *producers.Attributes) { a.ID = strings.Repeat("x", 1025) }, []string{"ce_id", "1024"}},
	} {
		a := good
		c.edit(&a)
		_, err := a.Headers(nil)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: error %v does not name %q", a, err, want)
			}
		}
	}
}

func TestNewIDsSort(t *testing.T) {
	last := ""
	for range 1000 {
		id, err := producers.NewID()
		if err != nil {
			t.Fatal(err)
		}
		if u, err := uuid.Parse(id); err != nil || u.Version() != 7 || id <= last {
			t.Fatalf("id %q after %q: version %d, %v", id, last, u.Version(), err)
		}
		last = id
	}
}

func TestKeys(t *testing.T) {
	if _, err := producers.NewKeyer(make([]byte, 31)); err == nil || !strings.Contains(err.Error(), "31 bytes") {
		t.Errorf("short key: %v", err)
	}
	k, err := producers.NewKeyer([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	// Made with: printf '4:acmealice' | openssl dgst -sha256 -hmac "$(printf 'k%.0s' $(seq 32))"
	if got := string(k.Audit("acme", "alice")); got != "acme/ea276a81035f7db713f5bfe4a881b49f" {
		t.Errorf("audit key %q", got)
	}
	if k.Audit("acme", "") != nil || k.Domain("") != nil {
		t.Error("no actor, no aggregate: want a null key")
	}
	if string(k.Domain("order-7")) != "order-7" || string(k.Control("order.resume", "9")) != "order.resume/9" {
		t.Errorf("keys %q, %q", k.Domain("order-7"), k.Control("order.resume", "9"))
	}
}

// TestPseudonymsKeepTenantAndActorApart: no shift of letters between the two makes
// the same pseudonym, and no key holds the actor's name.
func TestPseudonymsKeepTenantAndActorApart(t *testing.T) {
	k, err := producers.NewKeyer([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z0-9:]{2,20}`).Draw(t, "text")
		i := rapid.IntRange(0, len(text)).Draw(t, "i")
		j := rapid.IntRange(0, len(text)).Draw(t, "j")
		if (k.Pseudonym(text[:i], text[i:]) == k.Pseudonym(text[:j], text[j:])) != (i == j) {
			t.Fatalf("%q cut at %d and %d", text, i, j)
		}
		actor := text + "@example.com"
		if strings.Contains(string(k.Audit("t", actor)), actor) {
			t.Fatal("the key holds the actor")
		}
	})
}
