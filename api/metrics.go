package api

import "github.com/prometheus/client_golang/prometheus"

// metrics is everything this package measures. No label holds a tenant, a
// principal or anything a caller can make up.
type metrics struct {
	requests     *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	inFlight     prometheus.Gauge
	refused      *prometheus.CounterVec
	panics       prometheus.Counter
	items        *prometheus.CounterVec
	itemBytes    *prometheus.CounterVec
	replays      prometheus.Counter
	rows         *prometheus.CounterVec
	accessFailed prometheus.Counter
	crossTenant  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, bodies *budget) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sealstream_api_body_buffer_bytes", Help: "Memory held by request bodies."},
		func() float64 { return float64(bodies.used.Load()) })
	m := &metrics{
		requests: vec("sealstream_api_requests_total", "Answered requests.", "method", "route", "status"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sealstream_api_request_duration_seconds", Help: "Time from the request's header to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 11),
		}, []string{"route"}),
		inFlight:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "sealstream_api_in_flight_requests", Help: "Requests being worked on."}),
		refused:      vec("sealstream_api_refused_requests_total", "Requests answered with a problem, by its kind, or by what was wrong with the token.", "reason"),
		panics:       counter("sealstream_api_panics_total", "Handlers that panicked. Anything but 0 is a bug."),
		items:        vec("sealstream_api_ingested_items_total", "Events sent by POST, by outcome.", "stream", "outcome"),
		itemBytes:    vec("sealstream_api_ingested_items_bytes_total", "Bytes of the events that were made durable.", "stream"),
		replays:      counter("sealstream_api_idempotent_replays_total", "Answers given again for an Idempotency-Key."),
		rows:         vec("sealstream_api_read_rows_total", "Rows of event content that left, by operation.", "operation"),
		accessFailed: counter("sealstream_api_access_record_failures_total", "Reads refused because they could not be recorded."),
		crossTenant:  counter("sealstream_api_cross_tenant_rows_total", "Rows of another tenant that the store returned and that were held back. Anything but 0 is a bug."),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight, held, m.refused, m.panics,
		m.items, m.itemBytes, m.replays, m.rows, m.accessFailed, m.crossTenant} {
		if err := reg.Register(c); err != nil {
			return nil, err // the caller says what was being done
		}
	}
	return m, nil
}
