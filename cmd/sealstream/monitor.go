package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
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
		problems, err := stream.CheckTopics(cctx, r.kafka, r.topics)
		cancel()
		switch {
		case err == nil && len(problems) > 0:
			return fmt.Errorf("topics are not as they must be: %s (and %d more): run sealstream topics create, or check", problems[0], len(problems)-1)
		case err == nil:
			return nil
		case first:
			r.log.WarnContext(ctx, "brokers do not answer yet, waiting for them", "brokers", r.kafka.Brokers, "err", err)
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

// watchTopics raises an alarm when a topic disappears or gets a setting that would lose
// or refuse evidence, for as long as that stands.
func watchTopics(ctx context.Context, r *runtime) {
	const stage, key, kind = "topics", "all", "topics_wrong"
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		problems, err := stream.CheckTopics(cctx, r.kafka, r.topics)
		cancel()
		switch {
		case err != nil: // brokers that do not answer are for /readyz to say
		case len(problems) == 0:
			r.alarms.Clear(stage, key, kind)
		default:
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
		if len(alarms) > 0 {
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
