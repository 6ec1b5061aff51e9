package stream

import "github.com/prometheus/client_golang/prometheus"

// FoldMetrics are the figures of one folding stage.
type FoldMetrics struct {
	records    *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	batch      prometheus.Histogram
	latency    prometheus.Histogram
	end        prometheus.Histogram
	aborts     prometheus.Counter
	sessions   prometheus.Counter
	recoveries prometheus.Histogram
	lag        *prometheus.GaugeVec
}

// NewFoldMetrics registers the metrics of a stage with reg, which may be nil. Names
// begin with sealstream_<stage>_.
func NewFoldMetrics(stage string, reg prometheus.Registerer) *FoldMetrics {
	name := func(what string) string { return "sealstream_" + stage + "_" + what }
	m := &FoldMetrics{
		records:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("records_total"), Help: "Records committed to the output."}, []string{"topic"}),
		bytes:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: name("bytes_total"), Help: "Key and value bytes committed to the output."}, []string{"topic"}),
		batch:      prometheus.NewHistogram(prometheus.HistogramOpts{Name: name("transaction_records"), Help: "Records in one transaction.", Buckets: prometheus.ExponentialBuckets(1, 8, 7)}),
		latency:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: name("latency_seconds"), Help: "From a record's timestamp to the commit of its output, newest record of each partition and transaction.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 14)}),
		end:        prometheus.NewHistogram(prometheus.HistogramOpts{Name: name("commit_seconds"), Help: "Duration of a transaction's end.", Buckets: commitBuckets()}),
		aborts:     prometheus.NewCounter(prometheus.CounterOpts{Name: name("aborts_total"), Help: "Transactions aborted; their records are folded again."}),
		sessions:   prometheus.NewCounter(prometheus.CounterOpts{Name: name("sessions_ended_total"), Help: "Clients thrown away after an error."}),
		recoveries: prometheus.NewHistogram(prometheus.HistogramOpts{Name: name("recovery_seconds"), Help: "From assignment to known heads.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12)}),
		lag:        prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name("lag_records"), Help: "Offsets between the fold and the end of its input."}, []string{"topic", "partition"}),
	}
	if reg != nil {
		reg.MustRegister(m.records, m.bytes, m.batch, m.latency, m.end, m.aborts, m.sessions, m.recoveries, m.lag)
	}
	return m
}

// commitBuckets are narrow where it is decided whether commits are quick enough: the 99th
// of 100 should take no longer than 0.4 s.
func commitBuckets() []float64 {
	return []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.65, 0.8, 1, 1.5, 2.5, 5, 10}
}
