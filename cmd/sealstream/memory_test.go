package main

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestMemoryIsGivenBackOnceWorkRests: once for each rest, never while there is work.
func TestMemoryIsGivenBackOnceWorkRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var bytes, freed atomic.Uint64
		bytes.Store(1 << 40)
		go giveBack(ctx, bytes.Load, func() { freed.Add(1) })
		for i, step := range []struct {
			allocates uint64
			want      uint64
		}{{quietBytes, 0}, {10 * quietBytes, 0}, {quietBytes - 1, 1}, {1, 1}, {2 * quietBytes, 1}, {0, 2}, {0, 2}} {
			synctest.Wait()
			bytes.Add(step.allocates)
			time.Sleep(quietTime)
			synctest.Wait()
			if freed.Load() != step.want {
				t.Fatalf("after step %d memory was given back %d times, want %d", i, freed.Load(), step.want)
			}
		}
	})
}
