package producers

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	records  *prometheus.CounterVec
	buffered prometheus.Gauge
	seconds  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealstream_produce_records_total",
			Help: "Messages by topic and outcome: acked, too_large, unknown_topic, unreachable, refused.",
		}, []string{"topic", "outcome"}),
		buffered: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sealstream_produce_buffered_bytes",
			Help: "Bytes of messages handed over and not yet acknowledged.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sealstream_produce_batch_seconds",
			Help:    "Time from handing a batch over to its last acknowledgement, disk included where it is waited for.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
	}
	if reg != nil {
		reg.MustRegister(m.records, m.buffered, m.seconds)
	}
	return m
}

// count counts the results of a batch, neighbours with the same fate together.
func (m *metrics) count(topics []string, results []Result) {
	for i, from := 0, 0; i < len(results); i++ {
		if next := i + 1; next == len(results) || topics[next] != topics[i] || results[next].Err != nil || results[i].Err != nil {
			m.records.WithLabelValues(topics[i], outcome(results[i].Err)).Add(float64(next - from))
			from = next
		}
	}
}

func outcome(err error) string {
	var (
		large   *TooLargeError
		unknown *UnknownTopicError
		gone    *UnreachableError
	)
	switch {
	case err == nil:
		return "acked"
	case errors.As(err, &large):
		return "too_large"
	case errors.As(err, &unknown):
		return "unknown_topic"
	case errors.As(err, &gone):
		return "unreachable"
	}
	return "refused"
}
