package producers

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"
)

// TestCountByNeighbours: counting a batch at once is counting each of its messages.
func TestCountByNeighbours(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, want := newMetrics(prometheus.NewRegistry()), map[[2]string]float64{}
		n := rapid.IntRange(0, 12).Draw(t, "n")
		topics, results := make([]string, n), make([]Result, n)
		for i := range n {
			topics[i] = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic")
			results[i].Err = rapid.SampledFrom([]error{nil, nil, &TooLargeError{}, &UnreachableError{}}).Draw(t, "err")
			want[[2]string{topics[i], outcome(results[i].Err)}]++
		}
		m.count(topics, results)
		for of, n := range want {
			if got := testutil.ToFloat64(m.records.WithLabelValues(of[0], of[1])); got != n {
				t.Fatalf("%v counted %v times, want %v", of, got, n)
			}
		}
		if got := testutil.CollectAndCount(m.records); got != len(want) {
			t.Fatalf("%d counters, want %d", got, len(want))
		}
	})
}
