// Command bench measures Sealstream and prints a Markdown table. It is run by make
// bench, from inside the repository.
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

// most is how long all of it may take.
const most = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, most)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := bench.Options{Log: stderr}
	fs.Int64Var(&o.Events, "events", 1_000_000, "how `many` events go through the stages and the whole path")
	fs.StringVar(&o.Binary, "binary", "", "the sealstream `binary` to measure; empty = built from this repository")
	fs.DurationVar(&o.Settle, "settle", time.Minute, "how long memory is left alone before it is read")
	only := fs.String("run", "", "`parts` to measure, comma separated, of "+strings.Join(bench.Parts(), ", ")+"; empty = all")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if o.Events < 10_000 {
		return fmt.Errorf("-events %d: want at least 10000", o.Events)
	}
	for _, part := range strings.FieldsFunc(*only, func(r rune) bool { return r == ',' }) {
		if !slices.Contains(bench.Parts(), part) {
			return fmt.Errorf("-run: there is no part %q", part)
		}
		o.Parts = append(o.Parts, part)
	}
	began := time.Now()
	rows, err := bench.Run(ctx, o)
	if len(rows) > 0 {
		if werr := bench.WriteReport(stdout, rows, began); werr != nil {
			return werr
		}
	}
	return err
}
