package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sealstream/sealstream/schemas"
)

// path measures from the start of ingest until the last row is stored, each role in a
// process of its own.
func (r *realRunner) path(ctx context.Context) (err error) {
	in, err := r.install(ctx, "p.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.end(ctx)) }()
	file, err := r.events(ctx)
	if err != nil {
		return err
	}
	seal, err := in.start(ctx, "seal", "a")
	if err != nil {
		return err
	}
	sink, err := in.start(ctx, "sink-postgres", "a")
	if err != nil {
		return err
	}
	first, err := r.some(r.runner.o.Events / 10)
	if err != nil {
		return err
	}
	r.say("warming up with %s events", thousands(r.runner.o.Events/10))
	if _, _, err := r.ingestTo(ctx, first, in.Args...); err != nil {
		return err
	}
	if err := in.allStored(ctx); err != nil {
		return err
	}
	if err := r.through(ctx, in, seal, sink, file); err != nil {
		return err
	}
	if err := r.onDisk(ctx, in); err != nil {
		return err
	}
	return errors.Join(sink.finish(ctx), seal.finish(ctx))
}

// allStored waits until each record has its row, and counts them.
func (in *realInstall) allStored(ctx context.Context) error {
	want, err := in.expected(ctx)
	if err != nil {
		return err
	}
	if _, err := in.stored(ctx, want); err != nil {
		return err
	}
	return in.count(ctx, want)
}

// through is the measured run.
func (r *realRunner) through(ctx context.Context, in *realInstall, seal, sink *member, file string) error {
	at := load()
	before, err := r.spent(in, seal, sink)
	if err != nil {
		return err
	}
	began := time.Now()
	n, ingest, err := r.ingestTo(ctx, file, in.Args...)
	if err != nil {
		return err
	}
	ingested := time.Since(began)
	want, err := in.expected(ctx)
	if err != nil {
		return err
	}
	end, err := in.stored(ctx, want)
	if err != nil {
		return err
	}
	after, err := r.spent(in, seal, sink)
	if err != nil {
		return err
	}
	shares := []share{{"ingest", ingest}}
	for i, s := range after {
		shares = append(shares, share{s.name, s.cpu - before[i].cpu})
	}
	const command = "`run seal`, `run sink-postgres`, then `ingest --format ndjson FILE`"
	rate := float64(n) / end.Sub(began).Seconds()
	r.add(Row{What: "whole path on real Kafka, 1 node: file, sealed, stored", Rate: perSecond(n, end.Sub(began), "events"), CPU: costs(n, shares...),
		Required: judged("12,000/s", rate >= 12_000), Goal: judged("25,000/s", rate >= 25_000), Load: at, Command: command})
	r.add(Row{What: "of it: file to acknowledged", Rate: perSecond(n, ingested, "events"), CPU: costs(n, shares[0]), Load: at, Command: command})
	for _, m := range []*member{seal, sink} {
		mem, err := readMemory(m.PID())
		if err != nil {
			return err
		}
		r.add(Row{What: "of it: memory of " + m.Name[len(in.prefix):len(m.Name)-2] + ", most", Rate: megabytes(mem.peak), Load: at, Command: command})
	}
	return in.count(ctx, want)
}

// spent is the CPU time of all that works on the path, but for ingest.
func (r *realRunner) spent(in *realInstall, seal, sink *member) ([]share, error) {
	s, e1 := ownCPU(seal.PID())
	k, e2 := ownCPU(sink.PID())
	p, e3 := treeCPU(in.postgres)
	b, e4 := r.brokerCPU()
	return []share{{"seal", s}, {"sink", k}, {"PostgreSQL", p}, {"broker", b}}, errors.Join(e1, e2, e3, e4)
}

// onDisk tells what the broker keeps of a source topic and its sealed one.
func (r *realRunner) onDisk(ctx context.Context, in *realInstall) error {
	topic := in.prefix + schemas.TopicAudit
	ends, err := in.adm.ListEndOffsets(ctx, topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return err
	}
	n := int64(0)
	for _, p := range ends[topic] {
		n += p.Offset
	}
	source, err := logBytes(r.k.DataDir(1), topic)
	if err != nil {
		return err
	}
	sealed, err := logBytes(r.k.DataDir(1), schemas.SealedName(topic))
	if err != nil {
		return err
	}
	r.add(Row{What: fmt.Sprintf("bytes on the broker's disk per event, source and sealed topic, one replica, of %s events", thousands(n)),
		Rate: fmt.Sprintf("%d + %d = %d bytes", source/n, sealed/n, (source+sealed)/n), Load: load(), Command: "size of the `.log` files"})
	return nil
}

// logBytes sums up the segments of a topic on a node.
func logBytes(dir, topic string) (sum int64, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, topic+"-[0-9]*", "*.log"))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s holds no segment of %s", dir, topic)
	}
	for _, path := range paths {
		st, serr := os.Stat(path)
		if serr != nil {
			return 0, serr
		}
		sum += st.Size()
	}
	return sum, err
}
