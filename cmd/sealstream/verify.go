package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/sealstream/sealstream/internal/secrets"
	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/internal/verify"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks/postgres"
)

func runVerify(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "verify [--json] [--ledger-only] [--data DIR | --config FILE]", `
Reads every sealed topic, checks each statement, salt and link, then compares each row
of PostgreSQL with the ledger. Prints one finding per record or row, with what differs.
Exit code 0: clean; 1: findings; 2: something could not be checked.`)
	var t target
	t.flags(fs, e)
	asJSON := fs.Bool("json", false, "print one JSON document")
	ledgerOnly := fs.Bool("ledger-only", false, "do not compare rows")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if err := noArguments(fs, rest); err != nil {
		return err
	}
	cfg, err := t.load(e)
	if err != nil {
		return err
	}
	tuneMemory(e.getenv, toolGC, 0)
	if !*ledgerOnly {
		if err := refuseSchema(ctx, cfg.SinkPostgres.ReaderURLFile); err != nil {
			return err
		}
	}
	o, closeAll, err := verifyOptions(ctx, cfg, *ledgerOnly)
	if err != nil {
		return err
	}
	defer closeAll()
	if isTerminal(e.stderr) {
		o.Progress = verifyBar(e.stderr)
	}
	began := time.Now()
	rep, err := verify.Run(ctx, o)
	if err != nil {
		return fmt.Errorf("could not check: %w", err)
	}
	if *asJSON {
		err = json.NewEncoder(e.stdout).Encode(rep)
	} else {
		err = printReport(e.stdout, rep, time.Since(began))
	}
	switch {
	case err != nil:
		return err
	case rep.Result == verify.ResultFindings:
		return errLook
	case rep.Result == verify.ResultIncomplete:
		return fmt.Errorf("could not check everything: %s", rep.Errors[0])
	}
	return nil
}

// verifyOptions opens what verify reads, and refuses a database that is not of these topics.
func verifyOptions(ctx context.Context, cfg *Config, ledgerOnly bool) (verify.Options, func(), error) {
	sc, err := cfg.kafka()
	if err != nil {
		return verify.Options{}, nil, err
	}
	reader, err := stream.NewReader(sc)
	if err != nil {
		return verify.Options{}, nil, err
	}
	rt := &runtime{topics: cfg.topics()}
	names, _ := rt.sources()
	o := verify.Options{Sources: names, SealedName: schemas.SealedName, RejectsTopic: rt.named(schemas.TopicRejects).Name,
		SinkName: sinkName, Log: sealedLog{reader, cfg}}
	if keys, err := loadKeys(cfg); err == nil {
		o.Keys = keys // without masters, salts are checked against their commitments only
	}
	if !ledgerOnly {
		url, err := secrets.ReadText(cfg.SinkPostgres.ReaderURLFile)
		if err != nil {
			reader.Close()
			return o, nil, fmt.Errorf("sink_postgres.reader_url_file: %w: name it, or give --ledger-only", err)
		}
		if _, err := cfg.checkOrigin(ctx, sc, url.Reveal()); err != nil {
			reader.Close()
			return o, nil, fmt.Errorf("could not check: %w", err)
		}
		resolver, err := cfg.resolver()
		if err != nil {
			reader.Close()
			return o, nil, err
		}
		auditor, err := postgres.NewAuditor(postgres.AuditorOptions{URL: url.Reveal(), Sink: sinkName,
			Codec: schemas.NewCodec(resolver), Tenants: cfg.tenants()})
		if err != nil {
			reader.Close()
			return o, nil, err
		}
		o.Rows = rows{auditor}
	}
	return o, reader.Close, nil
}

// sealedLog lets verify read the brokers.
type sealedLog struct {
	*stream.Reader
	cfg *Config
}

func (l sealedLog) Partitions(ctx context.Context, topic string) ([]verify.Partition, error) {
	ps, _, err := l.Reader.Partitions(ctx, topic)
	out := make([]verify.Partition, len(ps))
	for i, p := range ps {
		out[i] = verify.Partition(p)
	}
	return out, l.cfg.atBrokers(err)
}

func (l sealedLog) Read(ctx context.Context, p verify.Partition, fn func([]ledger.Record) error) error {
	return l.Reader.Read(ctx, stream.Partition(p), fn)
}

// rows lets verify compare with what PostgreSQL holds.
type rows struct{ *postgres.Auditor }

func (r rows) Compare(ctx context.Context, c verify.Comparing) (verify.Comparison, error) {
	cmp, err := r.Auditor.Compare(ctx, postgres.CompareOptions{Ledger: c.Ledger, Partition: c.Partition, Stored: c.Stored, Rejected: c.Rejected})
	if err != nil {
		return nil, err
	}
	return comparison{cmp}, nil
}

type comparison struct{ *postgres.Comparison }

func (c comparison) Finish() ([]ledger.Finding, verify.Counts, error) {
	fs, n, err := c.Comparison.Finish()
	return fs, verify.Counts{Rows: n.Rows, Lag: n.Lag, Rejected: n.Rejected}, err
}

// verifyBar draws a bar that is renewed a few times a second.
func verifyBar(w io.Writer) func(done, total uint64) {
	var bar *progressbar.ProgressBar
	return func(done, total uint64) {
		if bar == nil {
			bar = progressbar.NewOptions64(int64(max(total, 1)), progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("verify"),
				progressbar.OptionShowCount(), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish())
		}
		_ = bar.Set64(int64(min(done, total))) // a display that fails is no reason to stop
	}
}

// printReport is the report for people.
func printReport(w io.Writer, r *verify.Report, took time.Duration) error {
	p := &reportLines{w: w}
	for _, f := range r.Findings {
		p.line("%-9s ledger %s seq %d  %s: %s", f.Verdict, f.Ledger, f.Seq, f.Where, f.Detail)
	}
	if n := r.FindingsTotal - uint64(len(r.Findings)); n > 0 {
		p.line("... and %d findings more", n)
	}
	for _, e := range r.Errors {
		p.line("NOT CHECKED  %s", e)
	}
	p.line("%d records in %d ledgers, %d rows compared, %d waiting to be stored, %d set aside (REJECTED), in %s",
		r.Records, len(r.Ledgers), r.Rows, r.Lag, r.Rejected, took.Round(time.Millisecond))
	for _, n := range r.NotChecked {
		p.line("not checked: %s", n)
	}
	switch r.Result {
	case verify.ResultOK:
		p.line("%s: everything is as it was sealed", ledger.OK)
	case verify.ResultFindings:
		p.line("%d findings", r.FindingsTotal)
	default:
		p.line("INCOMPLETE: what could be read is clean, the rest is not known")
	}
	return p.err
}

// reportLines keeps the first error of many lines.
type reportLines struct {
	w   io.Writer
	err error
}

func (p *reportLines) line(format string, args ...any) {
	_, err := fmt.Fprintf(p.w, format+"\n", args...)
	p.err = errors.Join(p.err, err)
}
