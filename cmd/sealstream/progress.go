package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far something is, on a terminal only. The zero progress is quiet.
type progress struct {
	bar   *progressbar.ProgressBar
	label string
	count int
	shown time.Time
}

func newProgress(w io.Writer, wanted bool, label string) progress {
	if !wanted || !isTerminal(w) {
		return progress{}
	}
	return progress{label: label, bar: progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(label), progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(), progressbar.OptionShowBytes(true))}
}

// set moves the bar to read of total bytes; n events more are through.
func (p *progress) set(read, total int64, n int) {
	if p.bar == nil {
		return
	}
	p.count += n
	if time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = time.Now()
	if total > 0 {
		p.bar.ChangeMax64(total)
	}
	p.bar.Describe(fmt.Sprintf("%s: %d events", p.label, p.count))
	_ = p.bar.Set64(min(read, max(total, read)))
}

// clear takes the bar off the line, so that something else can be printed.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
