package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
)

// Options say what is measured.
type Options struct {
	Binary string        // the sealstream binary; empty: built from this repository
	Events int64         // of the path's measurements; the seal alone takes twice as many
	Parts  []string      // some of [Parts]; empty: all
	Settle time.Duration // how long memory is left alone before it is read
	Log    io.Writer     // progress, and what went wrong
}

// Parts are the measurements that can be asked for by name.
func Parts() []string { return []string{"ledger", "seal", "check", "stages", "whole", "growth"} }

// runner measures.
type runner struct {
	o    Options
	bed  *testbed.Bed
	file string // events as NDJSON
	rows []Row
}

func (r *runner) add(row Row) {
	r.rows = append(r.rows, row)
	fmt.Fprintf(r.o.Log, "%s: %s (%s)\n", row.What, row.Rate, row.CPU)
}

func (r *runner) say(format string, args ...any) { fmt.Fprintf(r.o.Log, format+"\n", args...) }

// Run measures and returns the rows, those before an error too.
func Run(ctx context.Context, o Options) (rows []Row, err error) {
	bed, err := testbed.New("")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bed.Close(false)) }()
	r := &runner{o: o, bed: bed}
	if len(o.Parts) == 0 {
		r.o.Parts = Parts()
	}
	if r.o.Binary == "" {
		r.say("building the binary")
		if r.o.Binary, err = bed.Build(ctx); err != nil {
			return nil, err
		}
	}
	steps := map[string]func(context.Context) error{
		"ledger": r.ledgerStep, "seal": r.sealing, "check": r.checking, "stages": r.stages, "whole": r.whole, "growth": r.growth,
	}
	for _, name := range Parts() {
		if !slices.Contains(r.o.Parts, name) {
			continue
		}
		if err := steps[name](ctx); err != nil {
			return r.rows, fmt.Errorf("measure %s: %w", name, err)
		}
	}
	return r.rows, nil
}

// events makes the file of events once.
func (r *runner) events(ctx context.Context) (string, error) {
	if r.file != "" {
		return r.file, nil
	}
	r.say("making %s events", thousands(r.o.Events))
	// A week ago: whatever the office hours, none of them lies in the future.
	start := time.Now().Add(-7 * 24 * time.Hour).UTC().Format(time.RFC3339)
	p, err := r.bed.Start("generate", r.o.Binary, "generate", "--count", fmt.Sprint(r.o.Events), "--start", start)
	if err != nil {
		return "", err
	}
	if code, err := p.Wait(ctx); err != nil || code != 0 {
		return "", errors.Join(err, fmt.Errorf("generate ended with exit code %d", code))
	}
	r.file = p.LogPath // what it printed
	return r.file, nil
}
