package faults

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// takeover says who goes on after a fault, and so how long that may take.
type takeover string

const (
	restarted   takeover = "restarted under its identity" // from the start of the process that stays
	goneForGood takeover = "gone for good"                // from its end: others wait for its session to end
	brokerBack  takeover = "broker is back"               // from its answering again
	brokerGone  takeover = "a broker of three is gone"    // from its end
)

// What users are promised. Nothing may take longer than slowest.
const (
	restartMedian = time.Second
	restartP99    = 5 * time.Second
	goneLimit     = session + 5*time.Second
	keepLogsAbove = 15 * time.Second
	slowest       = 30 * time.Second
)

// begin sets the mark for what happens now.
func (s *scene) begin(kind takeover, role string) {
	s.kind, s.hit = kind, role
	s.watch.begin()
}

// took is how long the stage that was hit needed until every partition had new events
// behind it: sealed, or stored where the sink was hit.
func (r *Recovery) took() time.Duration {
	if r.Role == roleSeal {
		return r.SealedAll
	}
	return r.StoredAll
}

// slow says whether something took so long that its logs are wanted.
func (s *scene) slow() bool {
	return slices.ContainsFunc(s.res.Recoveries, func(r Recovery) bool { return r.Kind != "" && r.took() > keepLogsAbove })
}

// takeovers are the sorted times of one kind.
func takeovers(results []Result, kind takeover) []time.Duration {
	var out []time.Duration
	for _, r := range results {
		for i := range r.Recoveries {
			if r.Recoveries[i].Kind == kind {
				out = append(out, r.Recoveries[i].took())
			}
		}
	}
	slices.Sort(out)
	return out
}

// quantile of sorted times; 0 of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// tooSlow holds the run against what users are promised.
func tooSlow(results []Result) error {
	var errs []error
	limit := func(what string, got, most time.Duration) {
		if got > most {
			errs = append(errs, fmt.Errorf("%s: %v, promised are %v", what, ms(got), most))
		}
	}
	for _, kind := range kinds() {
		all := takeovers(results, kind)
		limit("slowest take-over, "+string(kind), quantile(all, 1), slowest)
		switch kind {
		case restarted:
			limit("median take-over, "+string(kind), quantile(all, 0.5), restartMedian)
			limit("p99 take-over, "+string(kind), quantile(all, 0.99), restartP99)
		case goneForGood:
			limit("slowest take-over, "+string(kind), quantile(all, 1), goneLimit)
		case brokerBack, brokerGone:
		}
	}
	return errors.Join(errs...)
}

func kinds() []takeover { return []takeover{restarted, goneForGood, brokerBack, brokerGone} }
