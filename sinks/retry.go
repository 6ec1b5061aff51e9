package sinks

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// backoff returns how long to wait before retry number attempt (from 0): anything
// between 0 and a bound that doubles from lo to hi. Full jitter, because many
// partitions that failed in one moment must not come back in one moment.
func backoff(lo, hi time.Duration, attempt int) time.Duration {
	bound := hi
	if shift := min(attempt, 30); lo < hi>>shift {
		bound = lo << shift
	}
	return rand.N(bound + 1)
}

// classOf labels a failure for metrics.
func classOf(err error) string {
	var cfg *ConfigError
	var un *Unavailable
	switch {
	case errors.As(err, &cfg):
		return "config"
	case errors.As(err, &un):
		return un.Class
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "other"
}
