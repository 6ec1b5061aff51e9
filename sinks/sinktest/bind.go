package sinktest

import (
	"maps"
	"slices"
	"testing"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// Offsets of one topic are nothing to another one of its name.
func testBind(t *testing.T, f Fixture) {
	here := sinks.Origin{Cluster: "c1", Prefix: "p."}
	a, b := ledger.TopicID{1}, ledger.TopicID{2}
	for _, c := range []struct {
		what    string
		from    sinks.Origin
		topics  map[string]ledger.TopicID
		refused []string
	}{
		{"none at all", here, nil, nil},
		{"first", here, map[string]ledger.TopicID{"x": a}, nil},
		{"again, and one more", here, map[string]ledger.TopicID{"x": a, "y": b}, nil},
		{"one made anew", here, map[string]ledger.TopicID{"x": b, "y": b}, []string{"x"}},
		{"another cluster", sinks.Origin{Cluster: "c2", Prefix: "p."}, map[string]ledger.TopicID{"x": a, "z": a}, []string{"x", "z"}},
		{"another prefix", sinks.Origin{Cluster: "c1", Prefix: "q."}, map[string]ledger.TopicID{"z": a}, []string{"z"}},
		{"as it was", here, map[string]ledger.TopicID{"x": a, "y": b, "z": b}, nil},
	} {
		refused, err := f.Open().Bind(t.Context(), c.from, c.topics)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if got := slices.Sorted(maps.Keys(refused)); !slices.Equal(got, c.refused) {
			t.Errorf("%s: refused %v, want %v: %v", c.what, got, c.refused, refused)
		}
		for topic, why := range refused {
			if why == "" {
				t.Errorf("%s: no reason for %s", c.what, topic)
			}
		}
	}
}
