package sinks

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the numbers of all sinks of a process, told apart by the label sink.
type Metrics struct {
	records  *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	batch    *prometheus.HistogramVec
	write    *prometheus.HistogramVec
	stored   *prometheus.HistogramVec
	retries  *prometheus.CounterVec
	breaker  *prometheus.GaugeVec
	rejected *prometheus.CounterVec
	bisect   *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealstream_sink_" + name, Help: help}, append([]string{"sink"}, more...))
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sealstream_sink_" + name, Help: help, Buckets: buckets}, []string{"sink"})
	}
	m := &Metrics{
		records:  counter("records_total", "Sealed records stored."),
		bytes:    counter("bytes_total", "Key and value bytes of the sealed records stored."),
		batch:    histogram("batch_records", "Records in one write that was stored.", prometheus.ExponentialBuckets(1, 4, 8)),
		write:    histogram("write_seconds", "Duration of one write, whatever its outcome.", prometheus.ExponentialBuckets(0.001, 2.5, 13)),
		stored:   histogram("stored_latency_seconds", "From a record's timestamp to its being durable in the sink.", prometheus.ExponentialBuckets(0.005, 3, 13)),
		retries:  counter("retries_total", "Failures that were tried again, by class.", "class"),
		breaker:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sealstream_sink_breaker_state", Help: "0 closed, 1 half-open, 2 open."}, []string{"sink"}),
		rejected: counter("rejects_total", "Records set aside in the rejects topic, by reason.", "reason"),
		bisect:   counter("bisect_steps_total", "Writes made to isolate records that the sink refuses."),
	}
	if reg != nil {
		reg.MustRegister(m.records, m.bytes, m.batch, m.write, m.stored, m.retries, m.breaker, m.rejected, m.bisect)
	}
	return m
}

// sinkMetrics are the metrics of one sink, looked up once.
type sinkMetrics struct {
	records, bytes, bisect prometheus.Counter
	batch, write, stored   prometheus.Observer
	breaker                prometheus.Gauge
	retry, reject          func(label string)
}

func (m *Metrics) of(sink string) *sinkMetrics {
	return &sinkMetrics{
		records: m.records.WithLabelValues(sink),
		bytes:   m.bytes.WithLabelValues(sink),
		bisect:  m.bisect.WithLabelValues(sink),
		batch:   m.batch.WithLabelValues(sink),
		write:   m.write.WithLabelValues(sink),
		stored:  m.stored.WithLabelValues(sink),
		breaker: m.breaker.WithLabelValues(sink),
		retry:   func(class string) { m.retries.WithLabelValues(sink, class).Inc() },
		reject:  func(reason string) { m.rejected.WithLabelValues(sink, reason).Inc() },
	}
}
