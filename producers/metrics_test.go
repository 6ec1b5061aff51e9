package producers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"
)

// TestCountByNeighbours: counting a batch at once is counting each of its messages.
func TestCountByNeighbours(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reg := prometheus.NewRegistry()
		m, want := newMetrics(reg), map[[2]string]float64{}
		n := rapid.IntRange(0, 12).Draw(t, "n")
		topics, results := make([]string, n), make([]Result, n)
		for i := range n {
			topics[i] = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic")
			results[i].Err = rapid.SampledFrom([]error{nil, nil, &TooLargeError{}, &UnreachableError{}}).Draw(t, "err")
			want[[2]string{topics[i], outcome(results[i].Err)}]++
		}
		m.count(topics, results)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[[2]string]float64{}
		for _, f := range families {
			for _, c := range f.GetMetric() {
				if l := c.GetLabel(); len(l) == 2 { // by name: outcome, topic
					got[[2]string{l[1].GetValue(), l[0].GetValue()}] = c.GetCounter().GetValue()
				}
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	})
}
