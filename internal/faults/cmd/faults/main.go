// Command faults breaks a running Sealstream in every way that internal/faults knows,
// and prints what was lost, doubled, badly linked, and how long each take-over took.
// It is run by make faults and make faults-short, from inside the repository.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/sealstream/sealstream/internal/faults"
	"github.com/sealstream/sealstream/internal/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("faults", flag.ContinueOnError)
	long := fs.Bool("long", os.Getenv("SEALSTREAM_FAULTS") == "long", "many rounds of everything, also by SEALSTREAM_FAULTS=long; else the short form")
	seed := fs.Uint64("seed", 0, "repeats the random choices of a run; 0 = by the clock")
	only := fs.String("run", "", "regular expression of the `cases` to run; empty = all")
	binary := fs.String("binary", "", "the sealstream `binary` to break; empty = built from this repository")
	kafka := fs.String("kafka", "", "host:port,... of `brokers` to use in place of embedded ones; cases that break those are left out")
	real := fs.Bool("real", false, "on Apache Kafka, one node and three, that is started and broken for it")
	txn := fs.Int("txn", 0, "transaction.version of `brokers` that are killed alone; 0 = 1, since version 2 of Kafka 4.3.1 can leave a transaction that nobody ends")
	report := fs.String("report", "", "`file` to write what was measured to, in Markdown")
	keep := fs.Bool("keep", false, "keep the logs of every case, not only of those that fail")
	list := fs.Bool("list", false, "print the cases and run none")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *list {
		for _, n := range faults.Names() {
			fmt.Println(n)
		}
		return nil
	}
	o := faults.Options{Binary: *binary, Long: *long, Seed: *seed, Real: *real, Txn: *txn, Keep: *keep, Out: os.Stdout}
	if *kafka != "" {
		o.Kafka = strings.Split(*kafka, ",")
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().Unix())
	}
	var err error
	if *only != "" {
		if o.Run, err = regexp.Compile(*only); err != nil {
			return fmt.Errorf("-run: %w", err)
		}
	}
	if *real && *kafka != "" {
		return errors.New("-real starts brokers of its own: leave -kafka out")
	}
	var commit string
	if o.Binary == "" {
		bed, err := testbed.New("")
		if err != nil {
			return err
		}
		defer bed.Close(false)
		if o.Binary, commit, err = faults.BuildCommit(ctx, bed.Build); err != nil {
			return err
		}
	} else if commit, err = faults.GivenCommit(ctx, o.Binary); err != nil {
		return err
	}
	o.Setting = faults.SettingNow(commit)
	results, err := faults.Run(ctx, o)
	faults.Report(os.Stdout, o, results)
	if *report != "" && results != nil {
		err = errors.Join(err, faults.WriteReport(*report, o, results, err))
	}
	return err
}
