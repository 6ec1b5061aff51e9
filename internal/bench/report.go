package bench

import (
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Row is one line of the table.
type Row struct {
	What     string
	Rate     string // the figure itself
	CPU      string // CPU seconds per million records, by process
	Required string
	Goal     string
	Load     float64 // load average when it began
	Command  string  // short; DIR is a new data directory
}

// WriteReport prints the machine, the commit and the rows as Markdown.
func WriteReport(w io.Writer, rows []Row, began time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "machine: %s, %d CPUs, %s/%s\n", machine(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(&b, "commit: %s, %s\n", commit(), runtime.Version())
	fmt.Fprintf(&b, "date: %s, took %s\n\n", began.UTC().Format(time.RFC3339), time.Since(began).Round(time.Second))
	b.WriteString("| what | measured | CPU s per million | required | goal | load | command |\n|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %.1f | %s |\n", r.What, r.Rate, r.CPU, r.Required, r.Goal, r.Load, r.Command)
	}
	b.WriteString("\nload: the machine's load average when the measurement began.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// perSecond writes a rate.
func perSecond(n int64, took time.Duration, unit string) string {
	return fmt.Sprintf("%s %s/s", thousands(int64(float64(n)/took.Seconds())), unit)
}

// perMillion is CPU seconds per million records.
func perMillion(cpu time.Duration, n int64) float64 { return cpu.Seconds() * 1e6 / float64(n) }

// share is one process's part of a cost.
type share struct {
	name string
	cpu  time.Duration
}

// costs writes CPU seconds per million records by process, and their sum.
func costs(n int64, shares ...share) string {
	var b strings.Builder
	sum := time.Duration(0)
	for i, s := range shares {
		if i > 0 {
			b.WriteString(" + ")
		}
		fmt.Fprintf(&b, "%.1f %s", perMillion(s.cpu, n), s.name)
		sum += s.cpu
	}
	if len(shares) > 1 {
		fmt.Fprintf(&b, " = %.1f", perMillion(sum, n))
	}
	return b.String()
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", n>>20) }

// thousands writes a number with commas.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
