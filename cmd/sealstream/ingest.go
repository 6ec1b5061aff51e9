package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealstream/sealstream/producers/ingest"
	"github.com/sealstream/sealstream/schemas"
)

// maxRefusalLines bounds what is printed about refused events, per input: a wrong
// format must not drown the reason.
const maxRefusalLines = 100

// recordRoom is what key, headers and framing of an ingested event may take of the
// topic's limit.
const recordRoom = 4 << 10

type ingestFlags struct {
	target
	format, stream, tenant, stateDir string
	quiet                            bool
}

func runIngest(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "ingest --format cloudtrail|ndjson [--stream audit|domain] [--data DIR | --config FILE] PATH...|-", `
Brings files of events in. A PATH is a file, a directory (read in order of names), or -
for standard input; gzip is recognised.

ndjson      one ECS JSON event per line; each line goes into the log byte for byte.
cloudtrail  AWS CloudTrail files: {"Records": [...]} or a bare array; each record is
            mapped to ECS, with its exact bytes in event.original.

An event that is not valid is refused, named with file and line, and the rest goes on.
The last line of output is: ingested N events, M refused. Exit code 0: all is in; 1:
some were refused; 2: it stopped, and says how to go on.

Run it again after it was stopped: it goes on where it was, and what is in the log
already is not sent twice. A file that has grown since is read on from there. Standard
input has no such memory.`)
	var o ingestFlags
	o.flags(fs, e)
	fs.StringVar(&o.format, "format", "", "`format` of the files: cloudtrail or ndjson")
	fs.StringVar(&o.stream, "stream", streamAudit, "which `stream` the events belong to: audit or domain")
	fs.StringVar(&o.tenant, "tenant", "", "`tenant` whose events they are; default: producer.tenant")
	fs.StringVar(&o.stateDir, "state", "", "`directory` that remembers what is in; default: DIR/ingest with --data, else ./sealstream-ingest")
	fs.BoolVar(&o.quiet, "quiet", false, "no progress bar")
	paths, err := parse(fs, args)
	if err != nil {
		return err
	}
	if err := o.check(paths); err != nil {
		return err
	}
	cfg, err := o.load(e)
	if err != nil {
		return err
	}
	if o.tenant == "" {
		o.tenant = cfg.Producer.Tenant
	}
	if !tenantName(o.tenant) {
		return fmt.Errorf("--tenant %q: want 1 to 64 of A-Z a-z 0-9 . _ -", clip(o.tenant))
	}
	if o.stateDir == "" {
		o.stateDir = "sealstream-ingest"
		if o.dataDir != "" {
			o.stateDir = filepath.Join(o.dataDir, ingestDir)
		}
	}
	return ingestPaths(ctx, e, cfg, &o, paths)
}

func (o *ingestFlags) check(paths []string) error {
	switch {
	case o.format != formatCloudTrail && o.format != formatNDJSON:
		return fmt.Errorf("--format is %q: want cloudtrail or ndjson", clip(o.format))
	case len(paths) == 0:
		return errors.New("no PATH given: name files or directories, or - for standard input")
	case o.format == formatCloudTrail && o.stream != streamAudit:
		return errors.New("CloudTrail events are audit events: leave --stream out")
	}
	_, err := streamTopic(o.stream)
	return err
}

func ingestPaths(ctx context.Context, e *env, cfg *Config, o *ingestFlags, paths []string) error {
	tuneMemory(e.getenv, toolGC, 0)
	base, err := streamTopic(o.stream)
	if err != nil {
		return err
	}
	topic := cfg.Kafka.Prefix + base
	sc, err := cfg.kafka()
	if err != nil {
		return err
	}
	keyer, err := cfg.keyer()
	if err != nil {
		return err
	}
	p, err := cfg.producer(sc, nil, nil)
	if err != nil {
		return err
	}
	defer p.Close()
	log, err := ingest.NewTopicLog(topic, sc.Opts()...)
	if err != nil {
		return err
	}
	defer log.Close()
	limit := cfg.limits()[topic]
	if limit == 0 {
		return fmt.Errorf("the stream %s has no topic: %s is not among the configured sources", o.stream, base)
	}
	r := &reader{format: o.format, stream: o.stream, tenant: o.tenant, maxBytes: limit - recordRoom, stdin: e.stdin,
		d: &describer{codec: schemas.NewCodec(nil), keyer: keyer, now: time.Now}, ctx: ctx}
	inputs, notes, err := r.inputs(paths)
	if err != nil {
		return err
	}
	say := newReport(e, r, !o.quiet)
	for _, n := range notes {
		say.notice(n)
	}
	sum, err := ingest.Run(ctx, ingest.Options{
		Sender: ingest.To(p), Log: log, Topic: topic, StateDir: o.stateDir,
		Refused: say.refused, Notice: say.notice, Done: say.done,
	}, inputs)
	say.end()
	return finishIngest(e, sum, err, strings.Join(sc.Brokers, ","))
}

// finishIngest prints the summary, which is always the last line of standard output.
func finishIngest(e *env, sum ingest.Summary, err error, brokers string) error {
	_, _ = fmt.Fprintln(e.stdout, summary(sum))
	var at *ingest.Error
	switch {
	case errors.As(err, &at) && errors.Is(err, ingest.ErrInterrupted):
		return fmt.Errorf("interrupted in %s, with %d of its events in: run the same command again to go on from there", at.Input, at.Events)
	case errors.As(err, &at):
		return fmt.Errorf("stopped in %s, with at least %d of its events in: %w\n  the brokers are %s; when they answer, run the same command again: it goes on where it stopped and doubles nothing",
			at.Input, at.Events, at.Err, brokers)
	case err != nil:
		return fmt.Errorf("nothing was ingested: %w\n  the brokers are %s; run the same command again when they answer", err, brokers)
	case sum.Refused > 0:
		return errLook
	}
	return nil
}

// summary is the line that scripts read: "ingested N events, M refused", then more.
func summary(s ingest.Summary) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ingested %d events, %d refused", s.Ingested, s.Refused)
	if s.Already > 0 {
		fmt.Fprintf(&b, ", %d already there", s.Already)
	}
	if n := len(s.Doubled); n > 0 {
		fmt.Fprintf(&b, ", %d doubled by a retry:", n)
		for _, p := range s.Doubled {
			fmt.Fprintf(&b, " %s", p)
		}
	}
	return b.String()
}

// report tells the person at the terminal what happens.
type report struct {
	e       *env
	bar     progress
	reader  *reader
	printed map[string]int // refusals by input
}

func newReport(e *env, r *reader, wanted bool) *report {
	return &report{e: e, reader: r, printed: map[string]int{}, bar: newProgress(e.stderr, wanted, "ingesting")}
}

func (s *report) refused(input string, it ingest.Item, err error) {
	n := s.printed[input]
	s.printed[input] = n + 1
	switch {
	case n < maxRefusalLines:
		s.print(fmt.Sprintf("%s: %s: refused: %v", input, it.Where, err))
	case n == maxRefusalLines:
		s.print(fmt.Sprintf("%s: more events are refused; the summary counts them", input))
	}
}

func (s *report) notice(text string) { s.print("note: " + text) }

func (s *report) print(line string) {
	s.bar.clear()
	_, _ = fmt.Fprintln(s.e.stderr, line)
}

func (s *report) done(n int) {
	read, total := s.reader.progress()
	s.bar.set(read, total, n)
}

func (s *report) end() { s.bar.clear() }
