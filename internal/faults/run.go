package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
)

// Options say what is run.
type Options struct {
	Binary string         // sealstream
	Long   bool           // more rounds of everything
	Seed   uint64         // repeats the random choices of a run
	Run    *regexp.Regexp // the cases to run; nil = all
	Kafka  []string       // brokers to use in place of embedded ones; cases that break those are left out
	Real   bool           // on Apache Kafka that the run starts, and breaks
	Txn    int            // transaction.version of brokers that are killed alone; 0 = 1
	Keep   bool           // leave all logs
	TmpDir string         // where beds are made; empty = the system's
	Out    io.Writer
	Setting
}

// Result is what came of one case.
type Result struct {
	Name       string
	Seed       uint64
	Fired      int
	Starts     []time.Duration // of `up`, until ready
	Recoveries []Recovery
	Times      []Timing // what else was measured
	Faults     []string // by what the fault struck, once for each time
	Verdict    *Verdict
	Notes      []string // what happened; the same thing may happen often
	Took       time.Duration
	Logs       string // where they are, when kept
	Err        error
}

// Timing is something that was measured.
type Timing struct {
	What string
	Took time.Duration
}

// faultCase is one way to break things.
type faultCase struct {
	name   string
	about  string
	within time.Duration // of the short form; the long one has five times as long
	on     ground        // what it can be run on
	run    func(context.Context, *scene) error
}

// Names lists all cases, each with what it does.
func Names() []string {
	var out []string
	for _, c := range cases() {
		out = append(out, fmt.Sprintf("%-14s %s", c.name, c.about))
	}
	return out
}

// Run runs the chosen cases one after the other and reports on each. An error means
// that a promise was broken, a fault did not strike, or nothing was run.
func Run(ctx context.Context, o Options) ([]Result, error) {
	var results []Result
	failed := 0
	park := &park{o: &o}
	defer park.close(false)
	for i, c := range cases() {
		if o.Run != nil && !o.Run.MatchString(c.name) || !c.on.suits(&o) {
			continue
		}
		// Each case has a seed of its own, so that it repeats when run alone.
		r := o.runCase(ctx, &c, park, o.Seed+uint64(i))
		results = append(results, r)
		if r.Err != nil {
			failed++
			fmt.Fprintf(o.Out, "FAILED %s (seed %d): %v\n", r.Name, r.Seed, r.Err)
		}
		if r.Logs != "" {
			fmt.Fprintf(o.Out, "  logs of %s are in %s\n", r.Name, r.Logs)
		}
		if ctx.Err() != nil {
			return results, fmt.Errorf("stopped: %w", ctx.Err())
		}
	}
	switch {
	case len(results) == 0:
		return nil, errors.New("no case has such a name")
	case failed > 0:
		return results, fmt.Errorf("%d of %d cases failed", failed, len(results))
	}
	return results, errors.Join(tooFew(&o, results), tooSlow(results))
}

func (o *Options) runCase(ctx context.Context, c *faultCase, park *park, seed uint64) Result {
	within := c.within
	if o.Long {
		within *= 5
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	began := time.Now()
	s := &scene{o: o, name: c.name, long: o.Long, out: o.Out, rnd: rand.New(rand.NewPCG(seed, 1)), res: Result{Name: c.name, Seed: seed}}
	s.logf("begins, seed %d, at most %v: %s", seed, within, c.about)
	var err error
	if s.bed, err = testbed.New(o.TmpDir); err != nil {
		s.res.Err = err
		return s.res
	}
	if nodes := c.on.nodes(o); nodes > 0 {
		s.kafka, err = park.cluster(ctx, nodes, c.on.txn(o))
	}
	if err == nil {
		err = c.run(ctx, s)
	}
	if err == nil && s.res.Fired == 0 {
		err = errors.New("the fault never struck, so nothing was proven")
	}
	if err != nil && s.res.Verdict == nil {
		err = errors.Join(err, s.autopsy())
	}
	keep := err != nil || o.Keep || s.slow()
	if keep {
		s.res.Logs = s.bed.Path()
	}
	if keep && s.kafka != nil {
		err = errors.Join(err, park.copyLogs(s.bed.Path()))
	}
	if s.kafka != nil {
		err = errors.Join(err, park.tidy(ctx, s.prefix, err == nil))
	}
	s.res.Err = errors.Join(err, s.close(keep))
	s.res.Took = time.Since(began)
	s.logf("ends after %v, fault struck %d times", s.res.Took.Round(100*time.Millisecond), s.res.Fired)
	return s.res
}

// Report prints one line per case, and the notes below.
func Report(w io.Writer, o Options, results []Result) {
	form := "short"
	if o.Long {
		form = "long"
	}
	fmt.Fprintf(w, "\nfaults, %s form, seed %d, %s/%s, %d cores\n", form, o.Seed, runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	fmt.Fprintln(w, "back = from when the fault had struck or was mended until an event sent after it is sealed / stored: median and maximum of the first partition, maximum of the last")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\tseed\tstruck\tacked\tsource\tsealed\trows\tlost\tdoubled\tbad links\tother\tset aside\tback sealed\tback stored\ttook\tresult\t")
	for _, r := range results {
		v := r.Verdict
		if v == nil {
			v = &Verdict{}
		}
		other := 0
		for c, n := range v.Counts {
			if !slices.Contains([]Charge{Lost, Doubled, BadLink, Rejected}, c) {
				other += n
			}
		}
		result := "ok"
		if r.Err != nil {
			result = "FAILED"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%.1fs\t%s\t\n", r.Name, r.Seed, r.Fired,
			v.Acked, v.Source, v.Sealed, v.Rows, v.Counts[Lost], v.Counts[Doubled], v.Counts[BadLink], other, v.Counts[Rejected],
			spread(r.Recoveries, func(x Recovery) (time.Duration, time.Duration) { return x.Sealed, x.SealedAll }),
			spread(r.Recoveries, func(x Recovery) (time.Duration, time.Duration) { return x.Stored, x.StoredAll }),
			r.Took.Seconds(), result)
	}
	t.Flush()
	for _, r := range results {
		if lines := r.details(); len(lines) > 0 {
			fmt.Fprintf(w, "%s: %s\n", r.Name, strings.Join(lines, "; "))
		}
	}
}

// details are what the table has no room for.
func (r *Result) details() []string {
	var out []string
	for i, n := range r.Notes {
		switch {
		case slices.Contains(r.Notes[:i], n):
		case slices.Contains(r.Notes[i+1:], n):
			times := 0
			for _, other := range r.Notes {
				if other == n {
					times++
				}
			}
			out = append(out, fmt.Sprintf("%s (%d times)", n, times))
		default:
			out = append(out, n)
		}
	}
	all := slices.Clone(r.Times)
	if len(r.Starts) > 1 {
		for _, d := range r.Starts {
			all = append(all, Timing{"up was ready", d})
		}
	}
	if len(r.Recoveries) > 2 {
		for _, x := range r.Recoveries {
			all = append(all, Timing{"first partition sealed again", x.Sealed}, Timing{"all sealed again", x.SealedAll}, Timing{"all stored again", x.StoredAll})
		}
	}
	for len(all) > 0 {
		what := all[0].What
		var ds []time.Duration
		all = slices.DeleteFunc(all, func(t Timing) bool {
			if t.What == what {
				ds = append(ds, t.Took)
			}
			return t.What == what
		})
		out = append(out, what+" after "+durations(ds))
	}
	return out
}

// spread is "median / max first partition, max all partitions" of the recoveries.
func spread(rs []Recovery, of func(Recovery) (first, all time.Duration)) string {
	if len(rs) == 0 {
		return "-"
	}
	var first, all []time.Duration
	for _, r := range rs {
		a, b := of(r)
		first, all = append(first, a), append(all, b)
	}
	slices.Sort(first)
	return fmt.Sprintf("%.2f %.2f %.2fs", first[len(first)/2].Seconds(), slices.Max(first).Seconds(), slices.Max(all).Seconds())
}

// durations is the distribution of some durations in words.
func durations(ds []time.Duration) string {
	ds = slices.Clone(ds)
	slices.Sort(ds)
	if len(ds) == 1 {
		return fmt.Sprintf("%.2f s", ds[0].Seconds())
	}
	at := func(q float64) float64 { return ds[min(len(ds)-1, int(q*float64(len(ds))))].Seconds() }
	return fmt.Sprintf("%.2f s median, %.2f s p90, %.2f s max of %d", at(0.5), at(0.9), ds[len(ds)-1].Seconds(), len(ds))
}
