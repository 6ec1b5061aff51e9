package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// ingestEnds is how long ingest may take to give up on a server that is gone.
const ingestEnds = 30 * time.Second

// ingestRound is one file that is ingested, interrupted, and ingested again.
type ingestRound struct {
	file        string
	from, to    int64 // numbers of its events
	kill        ingestKill
	saidDoubled int
}

// ingestKill says what is killed.
type ingestKill string

const (
	killServer  ingestKill = "the server, for long"         // ingest gives up
	killClient  ingestKill = "ingest"                       // nothing may be doubled then
	killBriefly ingestKill = "the server, which comes back" // ingest goes on
)

func killIngest(ctx context.Context, s *scene) error {
	s.want.MayDouble = true
	if err := s.open(ctx); err != nil {
		return err
	}
	var rounds []ingestRound
	for i := range s.n(3, 12) {
		r, err := s.ingestFile(i)
		if err != nil {
			return err
		}
		r.kill = [...]ingestKill{killServer, killClient, killBriefly}[i%3]
		if err := s.ingestRound(ctx, &r); err != nil {
			return fmt.Errorf("file %d, %s is killed: %w", i, r.kill, err)
		}
		rounds = append(rounds, r)
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	return s.doublesAsSaid(rounds)
}

// ingestFile writes the events of one round. All of them must be in the log in the end.
func (s *scene) ingestFile(i int) (ingestRound, error) {
	r := ingestRound{file: s.bed.Path(fmt.Sprintf("events-%d.ndjson", i)), from: s.load.sent.Load() + 1}
	f, err := os.Create(r.file)
	if err != nil {
		return r, err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for range s.n(20_000, 60_000) {
		n, id := s.load.nextID()
		if _, err := w.Write(append(auditJSON(id, actionLoad, n), '\n')); err != nil {
			return r, err
		}
		s.load.acknowledged(Ack{ID: id, Offset: -1})
	}
	r.to = s.load.sent.Load()
	return r, w.Flush()
}

func (s *scene) ingestArgs(r *ingestRound) []string {
	return []string{"ingest", "--data", s.data, "--format", "ndjson", "--quiet", r.file}
}

// ingestRound interrupts one ingest and runs it again.
func (s *scene) ingestRound(ctx context.Context, r *ingestRound) error {
	before, err := s.sourceEnd(ctx)
	if err != nil {
		return err
	}
	p, err := s.bed.Start("ingest", s.o.Binary, s.ingestArgs(r)...)
	if err != nil {
		return err
	}
	// Somewhere in the middle.
	size := r.to - r.from + 1
	at := before + size/20 + s.rnd.Int64N(size*6/10)
	err = until(ctx, func() (bool, error) {
		end, err := s.sourceEnd(ctx)
		if err == nil && end < at && p.Ended() {
			err = fmt.Errorf("ingest ended with exit code %d at %d of %d events:\n%s", p.Exit(), end-before, size, p.Tail())
		}
		return end >= at, err
	})
	if err != nil {
		return err
	}
	switch r.kill {
	case killServer:
		err = s.killServerUnder(ctx, p)
	case killBriefly:
		err = s.restartServerUnder(ctx, p, r)
	default:
		err = s.strike(p)
	}
	if err != nil {
		return err
	}
	return s.ingestAgain(ctx, r)
}

// restartServerUnder kills everything but ingest and starts it again at once: ingest
// must go on to its end by itself.
func (s *scene) restartServerUnder(ctx context.Context, p *testbed.Proc, r *ingestRound) error {
	if p.Ended() {
		return errors.New("ingest had ended already: the kill would not strike it")
	}
	if err := errors.Join(s.strike(s.up.Proc), s.startUp(ctx)); err != nil {
		return err
	}
	wctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	code, err := p.Wait(wctx)
	if err != nil {
		return fmt.Errorf("its server is back, ingest must go on: %w", err)
	}
	sum, err := parseSummary(p.Log())
	if err != nil || code != 0 {
		return fmt.Errorf("its server is back, ingest ends with exit code %d, %w:\n%s", code, err, p.Tail())
	}
	r.saidDoubled = sum.doubled
	s.note("went on when its server came back, %d doubled", sum.doubled)
	return nil
}

// killServerUnder kills everything but ingest, which must give up in time and say how
// to go on; then the server comes back.
func (s *scene) killServerUnder(ctx context.Context, p *testbed.Proc) error {
	if p.Ended() {
		return errors.New("ingest had ended already: the kill would not strike it")
	}
	if err := s.strike(s.up.Proc); err != nil {
		return err
	}
	began := time.Now()
	wctx, cancel := context.WithTimeout(ctx, ingestEnds)
	defer cancel()
	code, err := p.Wait(wctx)
	if err != nil {
		return fmt.Errorf("its server is gone, ingest must end within %v: %w", ingestEnds, err)
	}
	s.timed("gave up", began)
	if code == 0 || !strings.Contains(p.Log(), "run the same command again") {
		return fmt.Errorf("its server is gone, ingest ends with exit code %d and says:\n%s", code, p.Tail())
	}
	return s.startUp(ctx)
}

// ingestAgain finishes what was interrupted; a third run must find nothing to do.
func (s *scene) ingestAgain(ctx context.Context, r *ingestRound) error {
	out, err := s.bed.Run(ctx, s.o.Binary, s.ingestArgs(r)...)
	if err != nil {
		return err
	}
	size := int(r.to - r.from + 1)
	sum, err := parseSummary(out.Stdout)
	if err != nil || out.Exit != 0 {
		return fmt.Errorf("ingest again: exit code %d, %w:\n%s%s", out.Exit, err, out.Stdout, out.Stderr)
	}
	if sum.refused != 0 || sum.ingested+sum.already != size || (sum.ingested == 0) != (r.kill == killBriefly) {
		return fmt.Errorf("ingest again says %q for a file of %d events", sum.line, size)
	}
	r.saidDoubled = max(r.saidDoubled, sum.doubled)
	end, err := s.sourceEnd(ctx)
	if err != nil {
		return err
	}
	if out, err = s.bed.Run(ctx, s.o.Binary, s.ingestArgs(r)...); err != nil {
		return err
	}
	again, err := s.sourceEnd(ctx)
	if err != nil {
		return err
	}
	if again != end || out.Exit != 0 {
		return fmt.Errorf("a third ingest of the same file ended with exit code %d and wrote %d events:\n%s", out.Exit, again-end, out.Stdout)
	}
	return nil
}

// sourceEnd is the number of records in audit.events.
func (s *scene) sourceEnd(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	os, err := s.watch.adm.ListEndOffsets(ctx, schemas.TopicAudit)
	if err = errors.Join(err, os.Error()); err != nil {
		return 0, fmt.Errorf("list offsets of %s: %w", schemas.TopicAudit, err)
	}
	var n int64
	for _, o := range os.Offsets()[schemas.TopicAudit] {
		n += o.At
	}
	return n, nil
}

// ingestSummary is the last line that ingest prints.
type ingestSummary struct {
	line                                string
	ingested, refused, already, doubled int
}

var summaryPattern = regexp.MustCompile(`^ingested (\d+) events, (\d+) refused(?:, (\d+) already there)?(?:, (\d+) doubled by a retry:.*)?$`)

func parseSummary(out string) (ingestSummary, error) {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	s := ingestSummary{line: lines[len(lines)-1]}
	m := summaryPattern.FindStringSubmatch(s.line)
	if m == nil {
		return s, fmt.Errorf("its last line is %q", s.line)
	}
	for i, to := range []*int{&s.ingested, &s.refused, &s.already, &s.doubled} {
		if m[i+1] != "" {
			n, err := strconv.Atoi(m[i+1])
			if err != nil {
				return s, fmt.Errorf("its last line is %q", s.line)
			}
			*to = n
		}
	}
	return s, nil
}

// doublesAsSaid checks that ingest has named every double, and made none but across
// the death of the broker.
func (s *scene) doublesAsSaid(rounds []ingestRound) error {
	var errs []error
	for i, r := range rounds {
		doubled := 0
		for _, id := range s.res.Verdict.DoubledIDs {
			if n := s.load.number(id); n >= r.from && n <= r.to {
				doubled++
			}
		}
		if doubled > 0 && r.kill == killClient {
			errs = append(errs, fmt.Errorf("file %d: only ingest was killed, and %d events stand twice", i, doubled))
		}
		if doubled != r.saidDoubled {
			errs = append(errs, fmt.Errorf("file %d: %d events stand twice, ingest named %d", i, doubled, r.saidDoubled))
		}
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(s.res.Verdict.DoubledIDs)))); n != len(s.res.Verdict.DoubledIDs) {
		errs = append(errs, fmt.Errorf("%d events stand more than twice", len(s.res.Verdict.DoubledIDs)-n))
	}
	return errors.Join(errs...)
}
