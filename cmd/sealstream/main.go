// Command sealstream is the whole product in one binary: a mode per job, one file per
// mode, the same code for one machine (`sealstream up`) and for many (`sealstream run`).
//
// Here the parts are put together and nothing else happens: flags and the
// configuration file are read, secrets are opened, stages get their small option
// structs. What a stage does is in its own package. `sealstream help` lists the modes.
//
// Exit codes: 0, it is done; 1, it is done and there is something to look at (events
// refused, findings of verify, problems of topics); 2, it could not be done, and
// standard error says why and what to do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Exit codes.
const (
	exitDone    = 0
	exitLook    = 1
	exitNotDone = 2
)

// errLook ends a mode that is done and has said what there is to look at.
var errLook = errors.New("there is something to look at")

// env is what a process has from outside.
type env struct {
	getenv func(string) string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	kafka *KafkaConfig // of the configuration that the mode has read; nil before
}

// mode is one thing the binary does.
type mode struct {
	name, args, summary string
	run                 func(ctx context.Context, e *env, args []string) error
}

func modes() []mode {
	return []mode{
		{"up", "[--data DIR]", "run everything on this machine", runUp},
		{"run", "ROLE... [--data DIR]", "run single roles against servers elsewhere", runRoles},
		{"verify", "[--json]", "check that everything is as it was sealed", runVerify},
		{"config", "[--defaults]", "print the effective configuration, or a commented one to begin with", runConfig},
		{"token", "--role ROLE [--tenant T] [--ttl D]", "make an access token of the built-in issuer", runToken},
		{"topics", "create|check|list|--acls", "make and check topics, print what each role may do", runTopics},
		{"database", "migrate", "make the tables, or bring them up to date", runDatabase},
		{"ingest", "--format F PATH...|-", "bring files of events in, each event once", runIngest},
		{"bench-path", "--yes [--events N]", "measure your own installation, end to end", runBenchPath},
		{"generate", "[--count N] [--rate R]", "make realistic events, to a topic or to standard output", runGenerate},
		{"rejects", "list|show", "look at records that a sink could not hold", runRejects},
		{"order", "resume", "let a stopped partition go on", runOrder},
		{"version", "", "print the version", runVersion},
	}
}

func main() {
	// The first signal asks every part to end in order; the second is not caught any
	// more and ends the process at once. One that comes within a second is the same one:
	// tools that stop a process and its group send it twice.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	err := run(ctx, os.Args[1:], &env{getenv: os.Getenv, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr})
	stop()
	os.Exit(exitCode(os.Stderr, err))
}

// exitCode prints the error, unless all has been said, and turns it into a number.
func exitCode(stderr io.Writer, err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.Is(err, errLook):
		return exitLook
	}
	_, _ = fmt.Fprintf(stderr, "sealstream: %v\n", err)
	return exitNotDone
}

// run is the program, without the process around it.
func run(ctx context.Context, args []string, e *env) error {
	if len(args) == 0 {
		usage(e.stderr)
		return errors.New("no mode given")
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(rest) == 0 {
			usage(e.stdout)
			return nil
		}
		name, rest = rest[0], []string{"--help"}
	case "--version", "-version":
		name = "version"
	}
	for _, m := range modes() {
		if m.name == name {
			return explained(e, m.run(ctx, e, rest))
		}
	}
	usage(e.stderr)
	return fmt.Errorf("there is no mode %q", clip(name))
}

// explained puts before an error of the brokers which setting is behind it.
func explained(e *env, err error) error {
	var said *refusedError
	if e.kafka == nil || errors.As(err, &said) {
		return err
	}
	if hint := kafkaHint(e.kafka, err); hint != "" {
		return &refusedError{hint, err}
	}
	return err
}

func usage(w io.Writer) {
	var b strings.Builder
	b.WriteString("usage: sealstream MODE [flags] [arguments]\n\n")
	for _, m := range modes() {
		fmt.Fprintf(&b, "  %-10s %-38s %s\n", m.name, m.args, m.summary)
	}
	b.WriteString("\nsealstream help MODE lists the flags of a mode. Most modes take --data DIR to find a\n" +
		"running `sealstream up`, or --config FILE to use the servers it names.\n")
	_, _ = io.WriteString(w, b.String())
}

// clip bounds what is repeated from outside.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
