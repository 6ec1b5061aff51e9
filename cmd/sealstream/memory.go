package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Memory of a long-running process. What is in hand at a time is bounded by queues and
// fetch sizes to about 200 MB; the limit keeps garbage on top of that from being paid for
// in memory while little of it is, and is soft: 21 MB records may pass it. Collecting less
// often than Go's default saves some percent of the CPU.
const (
	serverGC    = 200
	serverLimit = 320 << 20
	toolGC      = 400 // of commands with little in hand
)

// tuneMemory sets the collector, unless GOGC or GOMEMLIMIT say otherwise.
func tuneMemory(getenv func(string) string, percent int, limit int64) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if getenv("GOMEMLIMIT") == "" && limit > 0 {
		debug.SetMemoryLimit(limit)
	}
}

// serverMemory is tuneMemory for a process that runs until ctx ends.
func serverMemory(ctx context.Context, getenv func(string) string) {
	tuneMemory(getenv, serverGC, serverLimit)
	go giveBack(ctx, allocated, debug.FreeOSMemory)
}

// A process that allocates less than quietBytes in quietTime has little to do.
const (
	quietTime  = 15 * time.Second
	quietBytes = 150 << 20
)

// giveBack calls free each time that work has come to rest, until ctx ends: the
// collector by itself keeps for many minutes what the last busy one needed.
func giveBack(ctx context.Context, allocated func() uint64, free func()) {
	t := time.NewTicker(quietTime)
	defer t.Stop()
	before, busy := allocated(), true
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		now := allocated()
		quiet := now-before < quietBytes
		if quiet && busy {
			free()
		}
		before, busy = now, !quiet
	}
}

// allocated is how many bytes the process has allocated since its start.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
