// Command benchreal measures Sealstream on a real Apache Kafka that it starts itself and
// prints a Markdown table. It is run by make bench-real, from inside the repository.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sealstream/sealstream/internal/bench"
)

// most is how long all of it may take, but for the time that the database is stopped and
// the time to catch up, which is less.
const most = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchreal:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("benchreal", flag.ContinueOnError)
	o := bench.RealOptions{Options: bench.Options{Log: stderr}}
	fs.Int64Var(&o.Backlog, "backlog", 2_000_000, "how many `records` the seal finds; three nodes get half of them")
	fs.Int64Var(&o.Events, "events", 500_000, "how many `events` go through the whole path")
	fs.IntVar(&o.Rate, "rate", 20_000, "`records` per second of the steady load")
	fs.DurationVar(&o.Steady, "steady", 20*time.Second, "how long the steady load lasts")
	fs.IntVar(&o.Kills, "kills", 5, "how `many` times the leader is killed")
	fs.DurationVar(&o.Stuck, "memory", 10*time.Minute, "how long PostgreSQL is stopped while memory is watched")
	fs.IntVar(&o.StuckQPS, "memory-rate", 2000, "`events` per second meanwhile")
	fs.StringVar(&o.Binary, "binary", "", "the sealstream `binary` to measure; empty = built from this repository")
	only := fs.String("run", "", "`parts` to measure, comma separated, of "+strings.Join(bench.RealParts(), ", ")+"; empty = all")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if o.Events < 10_000 || o.Backlog < 10_000 {
		return fmt.Errorf("-events %d -backlog %d: want at least 10000 of both", o.Events, o.Backlog)
	}
	for _, part := range strings.FieldsFunc(*only, func(r rune) bool { return r == ',' }) {
		if !slices.Contains(bench.RealParts(), part) {
			return fmt.Errorf("-run: there is no part %q", part)
		}
		o.Parts = append(o.Parts, part)
	}
	ctx, cancel := context.WithTimeout(ctx, most+2*o.Stuck)
	defer cancel()
	began := time.Now()
	rows, err := bench.RunReal(ctx, o)
	if len(rows) > 0 {
		if werr := bench.WriteReport(stdout, rows, began); werr != nil {
			return werr
		}
	}
	return err
}
