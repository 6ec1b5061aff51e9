package faults

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// WriteReport writes what a run found as a page: machine, commit, seed, how often each
// fault struck, what was lost, and how long take-overs took. failure is what the run
// ended with; a page of a run that failed says so first.
func WriteReport(path string, o Options, results []Result, failure error) error {
	var b strings.Builder
	form := "short"
	if o.Long {
		form = "long"
	}
	ground := "the embedded broker"
	if o.Real {
		ground = fmt.Sprintf("Apache Kafka 4.3.1, one node and three (brokers killed alone: transaction.version=%d)", o.mortalTxn())
	}
	b.WriteString("# Reliability\n\nThis page is written by a run: `go run ./internal/faults/cmd/faults -real -long -report docs/reliability.md`\n" +
		"(`make chaos`). Nothing in it is written by hand. What each case does, and how the oracle\njudges, is in `internal/faults`.\n\n")
	if failure != nil {
		fmt.Fprintf(&b, "**This run failed.** %s\n\n", strings.ReplaceAll(firstLine(failure.Error()), "|", " "))
	}
	fmt.Fprintf(&b, "* %s form on %s, seed %d, began %s, took %s\n* %s, run by %s\n* %s/%s, %d cores of %s, load average %s at the start and %s at the end\n",
		form, ground, o.Seed, o.Began.UTC().Format("2006-01-02 15:04 UTC"), time.Since(o.Began).Round(time.Second), o.Commit, runtime.Version(),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor(), o.Load, loadAverage())
	if o.Run != nil {
		fmt.Fprintf(&b, "* only the cases that `%s` names\n", o.Run)
	}
	b.WriteString("\n")
	writeSums(&b, results)
	writeTakeovers(&b, results)
	writeCases(&b, results)
	writeFaults(&b, results)
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// writeSums writes what must be zero, over all cases.
func writeSums(b *strings.Builder, results []Result) {
	sum := map[Charge]int{}
	acked, sealed, rows, struck, failed := 0, 0, 0, 0, 0
	for _, r := range results {
		struck += r.Fired
		if r.Err != nil {
			failed++
		}
		if r.Verdict == nil {
			continue
		}
		acked, sealed, rows = acked+r.Verdict.Acked, sealed+r.Verdict.Sealed, rows+r.Verdict.Rows
		for c, n := range r.Verdict.Counts {
			sum[c] += n
		}
	}
	fmt.Fprintf(b, "%d cases, %d failed. %d faults struck, %d of them kill -9. %d events were acknowledged,\n%d were sealed, %d rows stored, the first record of each ledger among them.\n\n",
		len(results), failed, struck, kills(results), acked, sealed, rows)
	b.WriteString("| lost | doubled | unsealed | sealed twice | out of order | altered | bad link | not stored | stored twice | stored wrong | offset ahead |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n|")
	for _, c := range []Charge{Lost, Doubled, Unsealed, SealedTwice, OutOfOrder, Altered, BadLink, NotStored, StoredTwice, StoredWrong, OffsetAhead} {
		fmt.Fprintf(b, " %d |", sum[c])
	}
	b.WriteString("\n\n")
}

func writeTakeovers(b *strings.Builder, results []Result) {
	b.WriteString("## How long until all goes on\n\nFrom the moment that is named, when the fault had struck or was mended, until every partition\n" +
		"had sealed an event that was sent after it (stored it, unless only the seal was hit). Promised:\n" +
		"restarted under its identity, median 1 s and p99 5 s; gone for good or left in order, session\ntime-out of 6 s and 5 s more; nothing above 30 s.\n\n")
	b.WriteString("| | times | median | p90 | p99 | max |\n|---|---|---|---|---|---|\n")
	for _, m := range measures() {
		if all := takeovers(results, m.kind); len(all) > 0 {
			writeTimes(b, string(m.kind)+", "+m.from, all)
		}
	}
	b.WriteString("\nWhat else was measured:\n\n| | times | median | p90 | p99 | max |\n|---|---|---|---|---|---|\n")
	for _, what := range measured(results) {
		var all []time.Duration
		for _, r := range results {
			for _, t := range r.Times {
				if t.What == what {
					all = append(all, t.Took)
				}
			}
		}
		slices.Sort(all)
		writeTimes(b, what, all)
	}
	b.WriteString("\n")
}

// writeTimes writes the distribution of sorted times as a row.
func writeTimes(b *strings.Builder, what string, all []time.Duration) {
	fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s |\n", what, len(all),
		seconds(quantile(all, 0.5)), seconds(quantile(all, 0.9)), seconds(quantile(all, 0.99)), seconds(quantile(all, 1)))
}

func measured(results []Result) []string {
	names := map[string]bool{}
	for _, r := range results {
		for _, t := range r.Times {
			names[t.What] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func writeCases(b *strings.Builder, results []Result) {
	b.WriteString("## Cases\n\n| case | seed | struck | acknowledged | sealed | rows | set aside | lost or doubled | other charges | result |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		v := r.Verdict
		if v == nil {
			v = &Verdict{}
		}
		other := 0
		for c, n := range v.Counts {
			if c != Lost && c != Doubled && c != Rejected {
				other += n
			}
		}
		result := "ok"
		if r.Err != nil {
			result = "FAILED"
		}
		fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d | %s |\n", r.Name, r.Seed, r.Fired, v.Acked, v.Sealed, v.Rows,
			v.Counts[Rejected], v.Counts[Lost]+v.Counts[Doubled], other, result)
	}
	b.WriteString("\n")
}

func writeFaults(b *strings.Builder, results []Result) {
	b.WriteString("## Faults\n\n| fault | struck |\n|---|---|\n")
	n := map[string]int{}
	for _, r := range results {
		for _, f := range r.Faults {
			n[f]++
		}
	}
	for _, f := range slices.Sorted(maps.Keys(n)) {
		fmt.Fprintf(b, "| %s | %d |\n", f, n[f])
	}
}
