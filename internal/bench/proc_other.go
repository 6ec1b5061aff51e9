//go:build !linux

package bench

import (
	"errors"
	"time"
)

var errLinux = errors.New("CPU and memory of processes are read from /proc: run the benchmarks on Linux")

type memory struct{ now, peak int64 }

func ownCPU(int) (time.Duration, error)  { return 0, errLinux }
func treeCPU(int) (time.Duration, error) { return 0, errLinux }
func children(int) ([]int, error)        { return nil, errLinux }
func readMemory(int) (memory, error)     { return memory{}, errLinux }
func load() float64                      { return 0 }
func machine() string                    { return "unknown processor" }
