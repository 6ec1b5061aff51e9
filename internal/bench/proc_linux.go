package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTicks is the unit of the times in /proc, per second: Linux shows user space 100
// on every machine that Go runs on.
const clockTicks = 100

// procStat is what /proc/PID/stat tells.
type procStat struct {
	parent        int
	own, children time.Duration // CPU; children: of those that ended
}

func readStat(pid int) (procStat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	// The name is in brackets and may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 15 {
		return procStat{}, fmt.Errorf("/proc/%d/stat has %d fields behind the name", pid, len(f))
	}
	n := make([]int64, 15)
	for i := 1; i < 15; i++ { // the first one is the state, a letter
		if n[i], err = strconv.ParseInt(f[i], 10, 64); err != nil && i != 5 {
			return procStat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	ticks := func(n int64) time.Duration { return time.Duration(n) * time.Second / clockTicks }
	return procStat{parent: int(n[1]), own: ticks(n[11] + n[12]), children: ticks(n[13] + n[14])}, nil
}

// ownCPU is the CPU time of one process.
func ownCPU(pid int) (time.Duration, error) {
	s, err := readStat(pid)
	return s.own, err
}

// treeCPU is the CPU time of a process and its children, those that ended included.
func treeCPU(pid int) (time.Duration, error) {
	root, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	sum := root.own + root.children
	kids, err := children(pid)
	if err != nil {
		return 0, err
	}
	for _, kid := range kids {
		if s, err := readStat(kid); err == nil { // else it has ended: its parent's figure has it
			sum += s.own + s.children
		}
	}
	return sum, nil
}

// children lists the processes whose parent is pid.
func children(pid int) ([]int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, p := range paths {
		kid, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			continue
		}
		if s, err := readStat(kid); err == nil && s.parent == pid {
			out = append(out, kid)
		}
	}
	return out, nil
}

// memory is what a process holds, in bytes: now, and at most since its start.
type memory struct{ now, peak int64 }

func readMemory(pid int) (m memory, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		if len(f) != 2 || name != "VmRSS" && name != "VmHWM" {
			continue
		}
		kb, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			return m, fmt.Errorf("/proc/%d/status: %w", pid, err)
		}
		if name == "VmRSS" {
			m.now = kb << 10
		} else {
			m.peak = kb << 10
		}
	}
	return m, nil
}

// load is the load average of the last minute.
func load() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	f, _, _ := strings.Cut(string(b), " ")
	v, _ := strconv.ParseFloat(f, 64)
	return v
}

// machine describes the machine in a line.
func machine() string {
	model := "unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	total := ""
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			if kb, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				total = fmt.Sprintf(", %d GB", kb/1e6)
			}
		}
	}
	return model + total
}
