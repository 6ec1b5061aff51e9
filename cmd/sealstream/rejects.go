package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// rejectLine is one record of the rejects topic, for printing.
type rejectLine struct {
	At       string    `json:"at"` // partition@offset in the rejects topic
	Sink     string    `json:"sink"`
	Record   string    `json:"record"` // topic/partition@offset of the sealed record
	Ledger   ledger.ID `json:"ledger"`
	Seq      uint64    `json:"seq"`
	Reason   string    `json:"reason"`
	Code     string    `json:"code"`
	Detail   string    `json:"detail"`
	Attempts int       `json:"attempts"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Bytes    int       `json:"bytes"` // of the value
	Error    string    `json:"error,omitempty"`
}

func runRejects(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "rejects list|show [AT] [flags]", `
list     lists the records that a sink could not hold, and why. They are sealed and
         verified like all others; only the sink has no row of them.
show AT  shows one of them, AT as list prints it (partition@offset). With --value it
         writes the value, byte for byte, to standard output.`)
	var t target
	t.flags(fs, e)
	sink := fs.String("sink", "", "only rejects of this `sink`, such as postgres")
	limit := fs.Int("limit", 100, "print at most `N` records, the newest; 0: all")
	asJSON := fs.Bool("json", false, "print JSON")
	value := fs.Bool("value", false, "show: write the value")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	cfg, err := t.load(e)
	if err != nil {
		return err
	}
	sc, err := cfg.kafka()
	if err != nil {
		return err
	}
	r, err := stream.NewReader(sc)
	if err != nil {
		return err
	}
	defer r.Close()
	topic := cfg.Kafka.Prefix + schemas.TopicRejects
	switch {
	case len(rest) == 1 && rest[0] == "list":
		lines, err := readRejects(ctx, r, topic, func(l rejectLine) bool { return *sink == "" || l.Sink == *sink })
		if err != nil {
			return err
		}
		return printRejects(e.stdout, lines, *limit, *asJSON)
	case len(rest) == 2 && rest[0] == "show":
		return showReject(ctx, e.stdout, r, showOptions{topic: topic, at: rest[1], value: *value, json: *asJSON})
	}
	return errors.New("say what to do: sealstream rejects list, or sealstream rejects show PARTITION@OFFSET")
}

func readRejects(ctx context.Context, r *stream.Reader, topic string, keep func(rejectLine) bool) ([]rejectLine, error) {
	parts, err := partitions(ctx, r, topic)
	if err != nil {
		return nil, err
	}
	var lines []rejectLine
	for _, p := range parts {
		err := r.Read(ctx, p, func(rs []ledger.Record) error {
			for i := range rs {
				if l := describeReject(p.ID, &rs[i]); keep(l) {
					lines = append(lines, l)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return lines, nil
}

// partitions asks with a time limit: a broker that is not there must not hang the mode.
func partitions(ctx context.Context, r *stream.Reader, topic string) ([]stream.Partition, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	parts, _, err := r.Partitions(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", topic, err)
	}
	return parts, nil
}

func describeReject(partition int32, r *ledger.Record) rejectLine {
	l := rejectLine{At: fmt.Sprintf("%d@%d", partition, r.Offset), Bytes: len(r.Value)}
	rej, err := sinks.ParseRejection(r.Headers)
	if err != nil {
		l.Error = err.Error()
		return l
	}
	l.Sink, l.Reason, l.Code, l.Detail = rej.Sink, rej.Reason, rej.Code, rej.Detail
	l.Record = fmt.Sprintf("%s@%d", rej.Partition, rej.Record.Offset)
	l.Ledger, l.Seq = rej.Record.Statement.Ledger, rej.Record.Statement.Seq
	l.Attempts, l.First, l.Last = rej.Attempts, rej.First, rej.Last
	return l
}

func printRejects(w io.Writer, lines []rejectLine, limit int, asJSON bool) error {
	total := len(lines)
	if limit > 0 && total > limit {
		lines = lines[total-limit:]
	}
	if asJSON {
		return writeJSON(w, map[string]any{"items": emptyNotNull(lines), "total": total})
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if total > 0 {
		_, _ = fmt.Fprintln(tw, "AT\tSINK\tRECORD\tLEDGER/SEQ\tREASON\tCODE\tDETAIL")
	}
	for _, l := range lines {
		if l.Error != "" {
			_, _ = fmt.Fprintf(tw, "%s\t\t\t\tnot a record of ours\t\t%s\n", l.At, l.Error)
			continue
		}
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%s/%d\t%s\t%s\t%s\n", l.At, l.Sink, l.Record, l.Ledger, l.Seq, l.Reason, l.Code, l.Detail)
	}
	_, _ = fmt.Fprintf(tw, "%d rejects", total)
	if len(lines) < total {
		_, _ = fmt.Fprintf(tw, ", the newest %d shown", len(lines))
	}
	_, _ = fmt.Fprintln(tw)
	return tw.Flush()
}

type showOptions struct {
	topic, at   string
	value, json bool
}

func showReject(ctx context.Context, w io.Writer, r *stream.Reader, o showOptions) error {
	id, offset, err := parseAt(o.at)
	if err != nil {
		return err
	}
	parts, err := partitions(ctx, r, o.topic)
	if err != nil {
		return err
	}
	var found *ledger.Record
	for _, p := range parts {
		if p.ID != id || offset < p.Start || offset >= p.Stable {
			continue
		}
		p.Start, p.Stable = offset, offset+1
		err := r.Read(ctx, p, func(rs []ledger.Record) error {
			for i := range rs {
				if r := rs[i]; r.Offset == offset {
					found = &r
					return stream.ErrStop
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	switch {
	case found == nil:
		return fmt.Errorf("there is no record at %s in %s", o.at, o.topic)
	case o.value:
		_, err := w.Write(found.Value)
		return err
	}
	l := describeReject(id, found)
	if o.json {
		return writeJSON(w, l)
	}
	return printReject(w, l, found)
}

func printReject(w io.Writer, l rejectLine, r *ledger.Record) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if l.Error != "" {
		_, _ = fmt.Fprintf(tw, "error\t%s\n", l.Error)
	}
	for _, kv := range [][2]string{
		{"at", l.At}, {"sink", l.Sink}, {"record", l.Record}, {"ledger", l.Ledger.String()}, {"seq", strconv.FormatUint(l.Seq, 10)},
		{"reason", l.Reason}, {"code", l.Code}, {"detail", l.Detail}, {"attempts", strconv.Itoa(l.Attempts)},
		{"first", l.First.Format(time.RFC3339Nano)}, {"last", l.Last.Format(time.RFC3339Nano)},
		{"key", fmt.Sprintf("%d bytes", len(r.Key))}, {"value", fmt.Sprintf("%d bytes (--value writes them)", len(r.Value))},
	} {
		_, _ = fmt.Fprintf(tw, "%s\t%s\n", kv[0], kv[1])
	}
	for _, h := range r.Headers {
		text := sinks.Text(string(h.Value), 80)
		if h.Name == ledger.SealHeader {
			text = hex.EncodeToString(h.Value)
		}
		_, _ = fmt.Fprintf(tw, "header %s\t%q\n", sinks.Text(h.Name, 80), text)
	}
	return tw.Flush()
}

func parseAt(s string) (partition int32, offset int64, err error) {
	p, o, ok := strings.Cut(s, "@")
	n, err1 := strconv.ParseInt(p, 10, 32)
	offset, err2 := strconv.ParseInt(o, 10, 64)
	if !ok || err1 != nil || err2 != nil || n < 0 || offset < 0 {
		return 0, 0, fmt.Errorf("%q is no place: want PARTITION@OFFSET, as sealstream rejects list prints it", clip(s))
	}
	return int32(n), offset, nil
}
