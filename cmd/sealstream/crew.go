package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// crew runs the roles of a process and stops them in the order in which they were
// started. The zero crew is ready.
type crew struct {
	once    sync.Once
	failure chan failure
	members []*member
}

type member struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid when done is closed
}

// failure says which member ended without being asked.
type failure struct {
	name string
	err  error
}

var errEnded = errors.New("it ended without being asked")

func (c *crew) failed() chan failure {
	c.once.Do(func() { c.failure = make(chan failure, 1) })
	return c.failure
}

// start runs fn until its context ends. The context is not the process's: each member
// is stopped when its turn has come.
func (c *crew) start(name string, fn func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{name: name, cancel: cancel, done: make(chan struct{})}
	c.members = append(c.members, m)
	failed := c.failed()
	go func() {
		defer close(m.done)
		m.err = fn(ctx)
		if ctx.Err() == nil {
			if m.err == nil {
				m.err = errEnded
			}
			select {
			case failed <- failure{name, m.err}:
			default: // one reason is enough to stop
			}
		}
	}()
}

// stop ends the members one after the other. A member that does not end in time is
// left behind, and named.
func (c *crew) stop(ctx context.Context, log *slog.Logger) error {
	var errs []error
	for _, m := range c.members {
		m.cancel()
		select {
		case <-m.done:
			log.DebugContext(ctx, "stopped", "part", m.name)
			if m.err != nil && !errors.Is(m.err, context.Canceled) && !errors.Is(m.err, errEnded) {
				errs = append(errs, fmt.Errorf("%s: %w", m.name, m.err))
			}
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("%s did not stop in time and is cut off; nothing acknowledged is lost", m.name))
		}
	}
	c.members = nil
	return errors.Join(errs...)
}
