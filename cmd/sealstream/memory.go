package main

import "runtime/debug"

// Memory of a long-running process. What is in hand at a time is bounded by queues and
// fetch sizes to about 200 MB; the limit keeps garbage on top of that from being paid for
// in memory while little of it is, and is soft: 21 MB records may pass it. Collecting less
// often than Go's default saves some percent of the CPU.
const (
	serverGC    = 200
	serverLimit = 350 << 20
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
