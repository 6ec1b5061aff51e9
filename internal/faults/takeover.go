package faults

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// takeover says who goes on after a fault. Its mark is set when the fault has taken
// effect, not when it is ordered: what was sent in between may be sealed and stored as
// if nothing were.
type takeover string

const (
	restarted         takeover = "restarted under its identity"
	goneForGood       takeover = "gone for good" // others wait for its session to end
	asleepInside      takeover = "asleep inside its transaction"
	replaced          takeover = "replaced by a twin"
	left              takeover = "has left in order"
	joined            takeover = "has joined"
	brokerBack        takeover = "broker is back"
	brokerGone        takeover = "a broker of three is gone"
	brokerLeft        takeover = "a broker of three has left in order"
	coordinatorsMoved takeover = "coordinators have moved"
	wayMended         takeover = "the way is mended"
	postgresBack      takeover = "PostgreSQL or its rights are back"
	registryBack      takeover = "the registry is back"
	upAgain           takeover = "up is started again"
)

// What users are promised. Nothing may take longer than slowest.
const (
	restartMedian = time.Second
	restartP99    = 5 * time.Second
	goneLimit     = session + 5*time.Second
	keepLogsAbove = 15 * time.Second
	slowest       = 30 * time.Second
)

// The long form on real Kafka must measure at least this much, or it has proven little.
const enoughKills = 300

// measure is one kind of take-over: from when its time counts, and how many times the
// long form on real Kafka must have measured it.
type measure struct {
	kind   takeover
	from   string
	needed int
}

func measures() []measure {
	return []measure{
		{restarted, "from the start of the process", 100},
		{goneForGood, "from its end, or from its falling asleep", 10},
		{asleepInside, "from its falling asleep", 2},
		{replaced, "from the sleeper's falling asleep, and from its end", 2},
		{left, "from its end", 10},
		{joined, "from its owning partitions", 10},
		{brokerBack, "from the broker's first answer", 10},
		{brokerGone, "from the broker's end", 5},
		{brokerLeft, "from the broker's end", 5},
		{coordinatorsMoved, "from every broker's naming another", 10},
		{wayMended, "from its mending", 20},
		{postgresBack, "from its start, or from the giving back", 5},
		{registryBack, "from its start", 2},
		{upAgain, "from its start", 0}, // runs the embedded broker
	}
}

// begin sets the mark for what has happened now.
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
	for _, m := range measures() {
		all := takeovers(results, m.kind)
		limit("slowest take-over, "+string(m.kind), quantile(all, 1), slowest)
		if m.kind == restarted {
			limit("median take-over, "+string(m.kind), quantile(all, 0.5), restartMedian)
			limit("p99 take-over, "+string(m.kind), quantile(all, 0.99), restartP99)
		}
		// A member that leaves in order keeps its identity, so its session must end as well.
		if m.kind == goneForGood || m.kind == left {
			limit("slowest take-over, "+string(m.kind), quantile(all, 1), goneLimit)
		}
	}
	return errors.Join(errs...)
}

// tooFew says what the long form of all cases on real Kafka has measured too seldom:
// without samples every promise is kept.
func tooFew(o *Options, results []Result) error {
	if !o.Long || !o.Real || o.Run != nil {
		return nil
	}
	var errs []error
	for _, m := range measures() {
		if n := len(takeovers(results, m.kind)); n < m.needed {
			errs = append(errs, fmt.Errorf("take-overs, %s: measured %d times, needed are %d", m.kind, n, m.needed))
		}
	}
	if n := kills(results); n < enoughKills {
		errs = append(errs, fmt.Errorf("kill -9: struck %d times, needed are %d", n, enoughKills))
	}
	return errors.Join(errs...)
}

// kills is how many faults were a SIGKILL.
func kills(results []Result) int {
	n := 0
	for _, r := range results {
		for _, f := range r.Faults {
			if strings.HasPrefix(f, killed) {
				n++
			}
		}
	}
	return n
}
