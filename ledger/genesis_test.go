package ledger

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func drawGenesis(t *rapid.T) Genesis {
	g := Genesis{
		Name:      rapid.StringMatching(`[a-z0-9.-]{1,20}(:[0-9]{1,5})?(/[a-z0-9._~-]{1,9}){0,4}`).Draw(t, "name"),
		Cluster:   rapid.StringMatching(`[A-Za-z0-9._-]{1,128}`).Draw(t, "cluster"),
		Source:    rapid.StringMatching(`[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}`).Draw(t, "source"),
		SourceID:  TopicID(rapid.SliceOfN(rapid.ByteMin(1), 16, 16).Draw(t, "source-id")),
		Partition: rapid.Int32Min(0).Draw(t, "partition"),
		Start:     rapid.Int64Min(0).Draw(t, "start"),
		EventIDs:  rapid.Bool().Draw(t, "fields"),
	}
	if rapid.Bool().Draw(t, "previous") {
		g.Previous = &Previous{
			Ledger: ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ledger")),
			Size:   rapid.Uint64Range(1, math.MaxInt64).Draw(t, "size"),
			Leaf:   Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "leaf")),
		}
	}
	return g
}

// TestGenesisRoundTrip: one genesis, one body; and a body with one byte changed is
// another genesis or none.
func TestGenesisRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawGenesis(t)
		body, err := g.Body()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseGenesis(body)
		if err != nil || !cmp.Equal(back, g) {
			t.Fatalf("%v: %s", err, cmp.Diff(back, g))
		}
		if p, err := ParsePrevious(g.Previous.String()); err != nil || !cmp.Equal(p, g.Previous) {
			t.Fatalf("ParsePrevious(%q) = %v, %v", g.Previous, p, err)
		}
		at := rapid.IntRange(0, len(body)-1).Draw(t, "at")
		body[at] ^= rapid.ByteMin(1).Draw(t, "flip")
		if other, err := ParseGenesis(body); err == nil {
			if again, err := other.Body(); err != nil || string(again) != string(body) || cmp.Equal(other, g) {
				t.Fatalf("%q is read as %+v", body, other)
			}
		}
	})
}

func TestGenesisBodyRefuses(t *testing.T) {
	for field, change := range map[string]func(g *Genesis){
		"name":        func(g *Genesis) { g.Name = "" },
		"name ":       func(g *Genesis) { g.Name = "Audit.example.com" },
		"name  ":      func(g *Genesis) { g.Name = "a.example/" },
		"name   ":     func(g *Genesis) { g.Name = "a.example//b" },
		"name    ":    func(g *Genesis) { g.Name = "a.example:" },
		"name     ":   func(g *Genesis) { g.Name = "a.example:80:81" },
		"name      ":  func(g *Genesis) { g.Name = "/log" },
		"name       ": func(g *Genesis) { g.Name = "a\nb" },
		"name .":      func(g *Genesis) { g.Name = strings.Repeat("a", 201) },
		"cluster":     func(g *Genesis) { g.Cluster = "" },
		"cluster ":    func(g *Genesis) { g.Cluster = "a b" },
		"cluster .":   func(g *Genesis) { g.Cluster = strings.Repeat("a", 129) },
		"source":      func(g *Genesis) { g.Source = ".." },
		"source ":     func(g *Genesis) { g.Source = strings.Repeat("a", 250) },
		"source-id":   func(g *Genesis) { g.SourceID = TopicID{} },
		"partition":   func(g *Genesis) { g.Partition = -1 },
		"start":       func(g *Genesis) { g.Start = -1 },
		"previous":    func(g *Genesis) { g.Previous = &Previous{} },
		"previous ":   func(g *Genesis) { g.Previous = &Previous{Size: 1 << 63} },
	} {
		g := testGenesis()
		change(&g)
		if _, err := g.Body(); err == nil || !strings.Contains(err.Error(), "genesis body: "+strings.TrimRight(field, " .")) {
			t.Errorf("%s: error %v", field, err)
		}
		if _, _, err := Start(g, nil); err == nil {
			t.Errorf("%s: a ledger was started", field)
		}
	}
	for _, name := range []string{"a", "a.example:8443/x/~y_z", strings.Repeat("a", 200)} {
		g := testGenesis()
		g.Name = name
		g.Cluster, g.Source = strings.Repeat("c", 128), strings.Repeat("s", 249)
		g.Previous = &Previous{Size: math.MaxInt64}
		if _, err := g.Body(); err != nil {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestParsePreviousRefuses(t *testing.T) {
	leaf := base64.StdEncoding.EncodeToString(make([]byte, 32))
	id := strings.Repeat("0a", 16)
	for _, s := range []string{
		"", "None", "none ", " none", id, id + " 1", id + " 1 " + leaf + " ", id + "  1 " + leaf, id + " 0 " + leaf, id + " 01 " + leaf, id + " +1 " + leaf,
		id + " 9223372036854775808 " + leaf, id + " 1 " + leaf[:43], id + " 1 " + leaf + "\n", id + " 1 " + leaf[:42] + "B=", strings.ToUpper(id) + " 1 " + leaf,
		"0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a 1 " + leaf, id + " 1 " + leaf[:20] + "\n" + leaf[20:],
	} {
		if p, err := ParsePrevious(s); err == nil {
			t.Errorf("%q was taken as %v", s, p)
		}
	}
}
