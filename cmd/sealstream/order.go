package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/sealstream/sealstream/internal/secrets"
	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// noneReadable is how --expect-leaf spells processors.NoneReadable.
const noneReadable = "none-readable"

// orderFlags are what the operator says.
type orderFlags struct {
	target
	source, reason, leaf, previous, by string
	partition                          int
	wait                               time.Duration
}

func runOrder(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "order resume --source TOPIC --partition N --reason TEXT [flags]", `
Lets a partition go on that the seal has stopped because its ledger and its source do
not fit together. The order is an event of ledger.control, so it is evidence; it fits
one state of the sealed partition only, and the seal that owns the partition uses it
once. The old ledger is closed where its head can be read, and a new one begins that
names it.

Look first: the alarm in the seal's log, metrics and /readyz says what does not fit.
With --expect-leaf the order is written only if the last readable record is still the
one you looked at.`)
	var o orderFlags
	o.flags(fs, e)
	fs.StringVar(&o.source, "source", "", "source `topic`, without prefix, such as audit.events")
	fs.IntVar(&o.partition, "partition", -1, "`number` of the stopped partition")
	fs.StringVar(&o.reason, "reason", "", "why it may go on; kept for ever")
	fs.StringVar(&o.leaf, "expect-leaf", "", "`leaf` hash the last readable record must have, or "+noneReadable)
	fs.StringVar(&o.previous, "previous", "none", "when nothing is readable: the ledger before, as \"<id> <size> <base64 leaf>\", from a report or a backup")
	fs.StringVar(&o.by, "by", "", "who orders it; default: the user of this process")
	fs.DurationVar(&o.wait, "wait", 30*time.Second, "how long to wait until the seal has applied it; 0s: do not wait")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || rest[0] != "resume" {
		return errors.New("say what to order: sealstream order resume")
	}
	if err := o.check(); err != nil {
		return err
	}
	cfg, err := o.load(e)
	if err != nil {
		return err
	}
	return resume(ctx, e, cfg, &o)
}

func (o *orderFlags) check() error {
	switch {
	case o.source == "":
		return errors.New("--source is missing: name the source topic, without prefix")
	case o.partition < 0:
		return errors.New("--partition is missing: name the stopped partition")
	case strings.TrimSpace(o.reason) == "":
		return errors.New("--reason is missing: an order is evidence and must say why")
	}
	if _, err := ledger.ParsePrevious(o.previous); err != nil {
		return fmt.Errorf("--previous: %w", err)
	}
	if o.by == "" {
		u, err := user.Current()
		if err != nil {
			return fmt.Errorf("who orders it? give --by: %w", err)
		}
		o.by = u.Username
	}
	return nil
}

// resume writes the order for the state that is there now.
func resume(ctx context.Context, e *env, cfg *Config, o *orderFlags) error {
	sc, err := cfg.kafka()
	if err != nil {
		return err
	}
	source := cfg.Kafka.Prefix + o.source
	if !cfg.hasSource(o.source) {
		return fmt.Errorf("--source %s is not among the configured sources", clip(o.source))
	}
	if err := o.mustBeStopped(ctx, e, source); err != nil {
		return err
	}
	order, err := o.order(ctx, sc, source)
	if err != nil {
		return err
	}
	if order.Leaf == processors.NoneReadable && order.Previous == "none" {
		if order.Previous, err = storedLedger(ctx, cfg, source, order.Partition); err != nil {
			return fmt.Errorf("nothing of %s/%d is readable, so the order must name the ledger that was there: give --previous \"<id> <size> <base64 leaf>\" from a report or a backup: %w", source, o.partition, err)
		}
		_, _ = fmt.Fprintf(e.stderr, "the ledger before, as PostgreSQL has it: %s\n", order.Previous)
	}
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	object := fmt.Sprintf("%s/%d", source, o.partition)
	act, err := newAct(o.by, object, o.reason)
	if err != nil {
		return err
	}
	act.ID = order.ID
	event, err := schemas.OrderResume(act, text)
	if err != nil {
		return err
	}
	msg, err := controlMessage(cfg.Kafka.Prefix, event, object)
	if err != nil {
		return err
	}
	p, err := cfg.producer(sc, nil, nil)
	if err != nil {
		return err
	}
	defer p.Close()
	at, err := record(ctx, p, msg)
	if err != nil {
		return fmt.Errorf("write the order: %w", err)
	}
	_, _ = fmt.Fprintf(e.stdout, "order %s written at %s/%d@%d, for %s with end %d and leaf %s\n",
		order.ID, msg.Topic, at.Partition, at.Offset, object, order.End, order.Leaf)
	return o.applied(ctx, e, sc, order)
}

func (cfg *Config) hasSource(name string) bool {
	for _, s := range cfg.sources() {
		if s.Name == name {
			return true
		}
	}
	return false
}

// order describes the sealed partition as it is.
func (o *orderFlags) order(ctx context.Context, sc stream.Config, source string) (processors.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, out, err := stream.Inspect(ctx, sc, source, schemas.SealedName(source), int32(o.partition))
	if err != nil {
		return processors.Order{}, fmt.Errorf("look at %s/%d: %w", schemas.SealedName(source), o.partition, err)
	}
	leaf := out.LastLeaf()
	want := o.leaf
	if want == noneReadable {
		want = processors.NoneReadable
	}
	if want != "" && want != leaf {
		return processors.Order{}, fmt.Errorf("the last readable record of %s/%d has leaf %q, you expect %q: nothing was ordered; look again",
			schemas.SealedName(source), o.partition, leaf, clip(want))
	}
	act, err := newAct(o.by, "", o.reason)
	if err != nil {
		return processors.Order{}, err
	}
	order := processors.Order{ID: act.ID, Source: source, Partition: int32(o.partition), OutputID: out.ID.String(), End: out.End,
		Leaf: leaf, Previous: o.previous, Reason: o.reason, By: o.by}
	return order, order.Validate()
}

// storedLedger asks PostgreSQL which open ledger a partition had, and how far it got.
func storedLedger(ctx context.Context, cfg *Config, source string, partition int32) (string, error) {
	url, err := secrets.ReadText(cfg.SinkPostgres.ReaderURLFile)
	if err != nil {
		return "", err
	}
	r, err := postgres.NewReader(ctx, postgres.ReaderOptions{URL: url.Reveal(), Codec: schemas.NewCodec(nil), Conns: 1})
	if err != nil {
		return "", err
	}
	defer r.Close()
	all, err := r.Ledgers(ctx)
	if err != nil {
		return "", err
	}
	found := ""
	for _, l := range all {
		if l.Source != source || l.Partition != partition || l.Closed || l.Size == 0 {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("PostgreSQL has several open ledgers of %s/%d", source, partition)
		}
		found = (&ledger.Previous{Ledger: l.ID, Size: l.Size, Leaf: l.Head}).String()
	}
	if found == "" {
		return "", fmt.Errorf("PostgreSQL has no open ledger of %s/%d", source, partition)
	}
	return found, nil
}

// applied waits until the sealed partition has grown: the owning seal took the order.
func (o *orderFlags) applied(ctx context.Context, e *env, sc stream.Config, order processors.Order) error {
	if o.wait <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_, _ = fmt.Fprintf(e.stderr, "the seal has not applied the order within %s: it stays, and fits as long as the partition does not change; the seal's log says why it waits\n", o.wait)
			return errLook
		case <-tick.C:
		}
		_, out, err := stream.Inspect(ctx, sc, order.Source, schemas.SealedName(order.Source), order.Partition)
		if err == nil && (out.End > order.End || out.ID.String() != order.OutputID) {
			_, _ = fmt.Fprintf(e.stdout, "%s/%d goes on\n", order.Source, order.Partition)
			return nil
		}
	}
}

// sealStage names the seal in alarms, groups and metrics.
const sealStage = "seal"

// alarmName is how an alarm of a stage is called in /readyz.
func alarmName(stage, kind string) string { return stage + "/" + kind }

// mustBeStopped asks a running `up` whether the partition stands still. An order for
// one that runs would wait for its first stop and then decide what nobody looked at.
func (o *orderFlags) mustBeStopped(ctx context.Context, e *env, source string) error {
	if o.dataDir == "" {
		_, _ = fmt.Fprintln(e.stderr, "note: without --data it is not checked here that the partition stands still; an order for one that runs has no effect unless it stops at this very record")
		return nil
	}
	info, err := LoadRunInfo(o.dataDir)
	if err != nil {
		return err
	}
	if info.API == "" {
		return nil
	}
	var ready struct {
		Alarms []struct{ Name, Detail string }
	}
	if err := getJSON(ctx, info.API+"/readyz", &ready); err != nil {
		return err
	}
	about := source + "/" + strconv.Itoa(o.partition) + ": "
	for _, a := range ready.Alarms {
		if strings.HasPrefix(a.Name, alarmName(sealStage, "")) && strings.HasPrefix(a.Detail, about) {
			_, _ = fmt.Fprintf(e.stderr, "the alarm: %s, %s\n", a.Name, a.Detail)
			return nil
		}
	}
	return fmt.Errorf("%s/%d is not stopped: no alarm of the seal stands for it, so there is nothing to order", source, o.partition)
}

// getJSON reads a document from a server on this machine.
func getJSON(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 4<<20)).Decode(into); err != nil {
		return fmt.Errorf("ask %s: status %d: %w", url, resp.StatusCode, err)
	}
	return nil
}
