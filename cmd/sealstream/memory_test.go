package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestMemoryIsGivenBackOnceWorkRests: once for each rest, never while there is work.
func TestMemoryIsGivenBackOnceWorkRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		bytes, freed := uint64(1<<40), 0
		go giveBack(ctx, func() uint64 { return bytes }, func() { freed++ })
		for i, step := range []struct {
			allocates uint64
			want      int
		}{{quietBytes, 0}, {10 * quietBytes, 0}, {quietBytes - 1, 1}, {1, 1}, {2 * quietBytes, 1}, {0, 2}, {0, 2}} {
			synctest.Wait()
			bytes += step.allocates
			time.Sleep(quietTime)
			synctest.Wait()
			if freed != step.want {
				t.Fatalf("after step %d memory was given back %d times, want %d", i, freed, step.want)
			}
		}
	})
}
