package bench

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// TestScrape reads what the Prometheus client itself serves.
func TestScrape(t *testing.T) {
	reg := prometheus.NewRegistry()
	records := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "records_total"}, []string{"topic"})
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Buckets: []float64{0.1, 0.2, 0.4}})
	reg.MustRegister(records, took)
	records.WithLabelValues("a").Add(3)
	records.WithLabelValues("b").Add(1.5e6)
	for range 50 {
		took.Observe(0.05)
	}
	srv := httptest.NewServer(http.StripPrefix("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{})))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	before, err := scrape(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	if got := before.sums["records_total"]; got != 1_500_003 {
		t.Errorf("sum %v", got)
	}
	for range 90 {
		took.Observe(0.15)
	}
	for range 10 {
		took.Observe(0.3)
	}
	after, err := scrape(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	h := after.histograms["took_seconds"].since(before.histograms["took_seconds"])
	if h.total() != 100 || len(h) != 4 {
		t.Errorf("%v", h)
	}
	for share, want := range map[float64]float64{0.45: 0.15, 0.9: 0.2, 0.99: 0.38} {
		if got := h.quantile(share); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v is %v, want %v", share, got, want)
		}
	}
	took.Observe(7)
	if after, err = scrape(t.Context(), addr); err != nil || after.histograms["took_seconds"].quantile(1) != 0.4 {
		t.Errorf("beyond all bounds: %v, %v", after.histograms["took_seconds"].quantile(1), err)
	}
	if !math.IsNaN(histogram(nil).quantile(0.5)) || !math.IsNaN(h.since(h).quantile(0.5)) {
		t.Error("nothing observed has a quantile")
	}
}

func TestParseFiguresRefuses(t *testing.T) {
	for _, bad := range []string{"a", "a b", "a_bucket 1", `a_bucket{le="x"} 1`} {
		if f, err := parseFigures(bad); err == nil {
			t.Errorf("%q: %v, want an error", bad, f)
		}
	}
}

func FuzzParseFigures(f *testing.F) {
	f.Add("# HELP a b\na{x=\"y\"} 1\nb_bucket{le=\"+Inf\"} 2\nb_bucket{le=\"1\"} 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseFigures(text)
		if err != nil {
			return
		}
		for name, h := range got.histograms {
			for i := 1; i < len(h); i++ {
				if h[i-1].most >= h[i].most {
					t.Errorf("%s: bounds %v, %v", name, h[i-1].most, h[i].most)
				}
			}
			_ = h.quantile(0.5)
		}
	})
}
