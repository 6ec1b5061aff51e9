package embedded

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// brokerMetrics are the numbers the embedded broker publishes.
type brokerMetrics struct {
	passSeconds prometheus.Histogram
	files       prometheus.Counter
	failed      prometheus.Gauge
	full        prometheus.Gauge
	refused     prometheus.Counter
}

func newBrokerMetrics(r prometheus.Registerer) *brokerMetrics {
	m := &brokerMetrics{
		passSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sealstream_broker_fsync_seconds", Help: "Time of one group fsync of the embedded broker.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}),
		files: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealstream_broker_fsync_files_total", Help: "Files brought to disk by the embedded broker's group fsync.",
		}),
		failed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sealstream_broker_failed_state", Help: "1 when the embedded broker cannot keep what it is given and refuses every change.",
		}),
		full: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sealstream_broker_disk_full_state", Help: "1 while the embedded broker refuses records because its disk is full.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealstream_broker_refused_requests_total", Help: "Produce requests that the embedded broker refused because its disk was full.",
		}),
	}
	if r != nil {
		r.MustRegister(m.passSeconds, m.files, m.failed, m.full, m.refused)
	}
	return m
}

func (m *brokerMetrics) pass(d time.Duration, files int, err error) {
	m.passSeconds.Observe(d.Seconds())
	if err == nil {
		m.files.Add(float64(files))
	}
}
