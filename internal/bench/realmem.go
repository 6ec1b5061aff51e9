package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// lowLimit is the memory limit that the second process of a role gets, by GOMEMLIMIT.
const lowLimit = "200MiB"

// watched is a process whose memory is looked at.
type watched struct {
	what  string
	m     *member
	start int64
	marks []int64 // one a minute
	early int64   // most in the first half
	late  int64   // most in the second
	after int64   // most while the database catches up
}

// memory stops the database under load and watches what each role holds.
func (r *realRunner) memory(ctx context.Context) (err error) {
	in, err := r.install(ctx, "m.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.end(ctx)) }()
	var all []*watched
	for _, role := range []string{"seal", "sink-postgres"} {
		for slot, env := range map[string][]string{"a": nil, "b": {"GOMEMLIMIT=" + lowLimit}} {
			m, err := in.start(ctx, role, slot, env...)
			if err != nil {
				return err
			}
			all = append(all, &watched{what: strings.Join(append([]string{role}, env...), ", "), m: m})
		}
	}
	api, err := in.start(ctx, "api", "a")
	if err != nil {
		return err
	}
	all = append(all, &watched{what: "api", m: api})
	lctx, stop := context.WithCancel(ctx)
	defer stop()
	calls, err := in.callers(lctx, api)
	if err != nil {
		return err
	}
	gen, err := r.bed.Start("load", r.runner.o.Binary, append([]string{"generate", "--count", "0", "--quiet", "--rate", fmt.Sprint(r.o.StuckQPS)}, in.Args...)...)
	if err != nil {
		return err
	}
	r.say("%d events/s by generate, some by the API; 30 s until all works", r.o.StuckQPS)
	if err := wait(ctx, 30*time.Second); err != nil {
		return err
	}
	at := load()
	before, _, err := in.ends(ctx)
	if err != nil {
		return err
	}
	if err := r.stuck(ctx, in, all); err != nil {
		return err
	}
	after, _, err := in.ends(ctx)
	if err != nil {
		return err
	}
	if _, err := gen.Terminate(ctx); err != nil {
		return err
	}
	stop()
	if err := r.catchUp(ctx, in, all); err != nil {
		return err
	}
	r.say("the API answered %d POSTs, %d GETs with rows and %d with an error while the database slept",
		calls.sent.Load(), calls.read.Load(), calls.refused.Load())
	for _, w := range all {
		row := w.row(r.o.Stuck, after-before)
		row.Load = at
		r.add(row)
	}
	for _, w := range all {
		err = errors.Join(err, w.m.finish(ctx))
	}
	return err
}

// stuck freezes the database for the time asked for.
func (r *realRunner) stuck(ctx context.Context, in *realInstall, all []*watched) error {
	for _, w := range all {
		m, err := readMemory(w.m.PID())
		if err != nil {
			return err
		}
		w.start = m.now
	}
	if err := in.freeze(syscall.SIGSTOP); err != nil {
		return err
	}
	defer func() { _ = in.freeze(syscall.SIGCONT) }()
	r.say("PostgreSQL is stopped for %s", r.o.Stuck)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for began, minute := time.Now(), time.Duration(1); time.Since(began) < r.o.Stuck; {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		passed := time.Since(began)
		mark := passed >= minute*time.Minute
		if mark {
			minute++
		}
		for _, w := range all {
			m, err := readMemory(w.m.PID())
			if err != nil {
				return fmt.Errorf("%s: %w; its log ends with:\n%s", w.what, err, w.m.Tail())
			}
			half := &w.early
			if passed > r.o.Stuck/2 {
				half = &w.late
			}
			*half = max(*half, m.now)
			if mark {
				w.marks = append(w.marks, m.now)
			}
		}
	}
	return nil
}

// catchUp wakes the database and waits until all is stored.
func (r *realRunner) catchUp(ctx context.Context, in *realInstall, all []*watched) error {
	watch, stop := context.WithCancel(ctx)
	defer stop()
	most := make([]chan int64, len(all))
	for i, w := range all {
		most[i] = make(chan int64, 1)
		go func() { most[i] <- mostMemory(watch, w.m.PID()) }()
	}
	began := time.Now()
	if err := in.sealed(ctx); err != nil {
		return err
	}
	if err := in.allStored(ctx); err != nil {
		return err
	}
	r.say("all is stored %.0f s after PostgreSQL woke up", time.Since(began).Seconds())
	stop()
	for i, w := range all {
		w.after = <-most[i]
	}
	return nil
}

// row tells what a process held. Flat is: the second half holds no more than a tenth and
// 8 MB above the first.
func (w *watched) row(long time.Duration, events int64) Row {
	marks := make([]string, 0, len(w.marks))
	for _, m := range w.marks {
		marks = append(marks, fmt.Sprint(m>>20))
	}
	return Row{What: fmt.Sprintf("memory of `run %s` with PostgreSQL stopped for %s and %s events: at the start; minute by minute; most, first and second half; most while catching up", w.what, long, thousands(events)),
		Rate:     fmt.Sprintf("%s; %s; %s, %s; %s", megabytes(w.start), strings.Join(marks, " "), megabytes(w.early), megabytes(w.late), megabytes(w.after)),
		Required: judged("flat", w.late <= w.early+w.early/10+8<<20), Command: "`generate --rate`, PostgreSQL under SIGSTOP"}
}

// calls counts what the API answered.
type calls struct{ sent, read, refused atomic.Int64 }

// callers load the API until ctx ends: one sends events, four read them.
func (in *realInstall) callers(ctx context.Context, api *member) (*calls, error) {
	writer, err := in.token(ctx, "ingest")
	if err != nil {
		return nil, err
	}
	reader, err := in.token(ctx, "auditor")
	if err != nil {
		return nil, err
	}
	file, err := in.r.events(ctx)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	body := bytes.Join(bytes.SplitAfterN(text, []byte("\n"), 101)[:100], nil)
	c := &calls{}
	base := "http://" + api.addr
	go every(ctx, 200*time.Millisecond, func() {
		if call(ctx, http.MethodPost, base+"/v1/events?stream=audit", writer, body) == http.StatusAccepted {
			c.sent.Add(1)
		}
	})
	for range 4 {
		go every(ctx, 500*time.Millisecond, func() {
			if call(ctx, http.MethodGet, base+"/v1/events?limit=100", reader, nil) == http.StatusOK {
				c.read.Add(1)
			} else {
				c.refused.Add(1)
			}
		})
	}
	return c, nil
}

func (in *realInstall) token(ctx context.Context, role string) (string, error) {
	conf, err := in.config("token", "api:\n  local_key_file: "+in.r.bed.Path(in.prefix+"token.pem")+"\n")
	if err != nil {
		return "", err
	}
	res, err := in.r.bed.Run(ctx, in.r.runner.o.Binary, "token", "--role", role, "--config", conf)
	if err == nil && res.Exit != 0 {
		err = fmt.Errorf("sealstream token: exit code %d: %s", res.Exit, res.Stderr)
	}
	return strings.TrimSpace(res.Stdout), err
}

// every calls fn at most once per period until ctx ends.
func every(ctx context.Context, period time.Duration, fn func()) {
	for wait(ctx, period) == nil {
		fn()
	}
}

// call returns the status of an answer, 0 without one.
func call(ctx context.Context, method, url, token string, body []byte) int {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
