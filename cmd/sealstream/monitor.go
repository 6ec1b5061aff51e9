package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sealstream/sealstream/internal/stream"
)

// awaitTopics waits until the brokers answer and the topics are as they must be: a
// role that is started before its servers waits for them.
func awaitTopics(ctx context.Context, r *runtime) error {
	for first := true; ; first = false {
		cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		problems, err := stream.CheckTopics(cctx, r.kafka, r.topics, r.roles...)
		refused := r.refused(cctx, err)
		cancel()
		switch {
		case err == nil && len(problems) > 0:
			return fmt.Errorf("topics are not as they must be, so nothing is started (sealstream topics check looks again):\n%s", strings.Join(problems, "\n"))
		case err == nil:
			r.alarms.Clear(brokersStage, "all", kindRefused)
			return nil
		case refused != nil:
			r.alarms.Raise(stream.Alarm{Stage: brokersStage, Key: "all", Kind: kindRefused, Detail: refused.Error()})
		case first:
			r.log.WarnContext(ctx, "kafka.brokers do not answer yet, waiting for them", "brokers", r.kafka.Brokers, "err", err)
		}
		t := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil // told to stop before anything began
		case <-t.C:
		}
	}
}

// refused returns what the brokers refuse, nil when err is something that passes.
func (r *runtime) refused(ctx context.Context, err error) error {
	var no *refusedError
	if err == nil || r.conf == nil || !errors.As(kafkaCause(ctx, r.kafka, &r.conf.Kafka, err), &no) {
		return nil
	}
	return no
}

// watchEvery is the time between two looks of watchTopics.
const watchEvery = 5 * time.Second

// watchTopics raises an alarm when a topic disappears or gets a setting that would lose
// or refuse evidence, for as long as that stands. Each look is a connection of its own,
// so a password that the brokers take no more is seen before it is needed.
func watchTopics(ctx context.Context, r *runtime) {
	const stage, key, kind = "topics", "all", "topics_wrong"
	next := time.NewTimer(watchEvery)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		problems, err := stream.CheckTopics(cctx, r.kafka, r.topics, r.roles...)
		refused := r.refused(cctx, err)
		cancel()
		next.Reset(watchEvery)
		switch {
		case ctx.Err() != nil: // what was cut off says nothing
		case err != nil && refused != nil:
			next.Reset(watchEvery / 5) // somebody is mending it
			r.alarms.Raise(stream.Alarm{Stage: brokersStage, Key: "all", Kind: kindRefused, Detail: refused.Error()})
		case err != nil: // brokers that do not answer are for /readyz to say
		case len(problems) == 0:
			r.alarms.Clear(stage, key, kind)
			r.alarms.Clear(brokersStage, "all", kindRefused)
		default:
			r.alarms.Clear(brokersStage, "all", kindRefused)
			r.alarms.Raise(stream.Alarm{Stage: stage, Key: key, Kind: kind,
				Detail: fmt.Sprintf("%s (and %d more): sealstream topics check lists all", problems[0], len(problems)-1)})
		}
	}
}

// serveMonitor answers /metrics, /healthz and /readyz of roles without the API, on
// loopback only: they show what is stored where.
func serveMonitor(ctx context.Context, addr string, r *runtime, metrics *prometheus.Registry) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("monitor.listen: %w", err)
	}
	if a, ok := ln.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		_ = ln.Close()
		return fmt.Errorf("monitor.listen is %s: only a loopback address is served", addr)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		alarms := r.alarms.List()
		w.Header().Set("Content-Type", "application/json")
		if slices.ContainsFunc(alarms, func(a stream.Alarm) bool { return !a.Warning }) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"alarms": alarms}) // the peer has gone
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("monitor: %w", err)
	}
	return nil
}
