package sinks

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// BreakerState is a breaker's state as metrics show it.
type BreakerState int32

// The states of a breaker.
const (
	BreakerClosed   BreakerState = 0 // calls pass
	BreakerHalfOpen BreakerState = 1 // one call passes, behind a probe
	BreakerOpen     BreakerState = 2 // no call passes
)

func (s BreakerState) String() string {
	switch s {
	case BreakerClosed:
		return "closed"
	case BreakerHalfOpen:
		return "half-open"
	default:
		return "open"
	}
}

// errOpen means that the breaker let nothing through.
var errOpen = errors.New("breaker is open")

type breakerName string

const (
	breakerFault  breakerName = "fault"
	breakerConfig breakerName = "config"
)

// breaker is two gobreakers in a row, because one has one time-out and one rule: the
// fault breaker opens after some failures in a row, for seconds; the config breaker
// opens on the first ConfigError, for as long as it takes a person to look. Calls,
// not records, are counted. Poison and a moved offset are answers: they count as
// success. A call that the caller itself ended counts for nothing.
type breaker struct {
	fault, config part
}

type part struct {
	cb    *gobreaker.TwoStepCircuitBreaker[struct{}]
	now   atomic.Int32 // the state, readable where gobreaker's own lock is held
	until atomic.Int64 // when an open part becomes half-open, Unix nanoseconds
}

func newBreaker(o DeliverOptions, moved func(name breakerName, from, to BreakerState)) *breaker {
	b := &breaker{}
	b.fault.open(gobreaker.Settings{
		Timeout:      o.BreakerOpen,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= uint32(o.BreakerFailures) },
		IsSuccessful: answered,
		IsExcluded:   func(err error) bool { return isConfig(err) || errors.Is(err, context.Canceled) },
	}, func(from, to BreakerState) { moved(breakerFault, from, to) })
	b.config.open(gobreaker.Settings{
		Timeout:      o.ConfigOpen,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 1 },
		IsSuccessful: answered,
		// A destination that is down says nothing about how it is set up.
		IsExcluded: func(err error) bool { return !answered(err) && !isConfig(err) },
	}, func(from, to BreakerState) { moved(breakerConfig, from, to) })
	return b
}

func (p *part) open(st gobreaker.Settings, moved func(from, to BreakerState)) {
	st.OnStateChange = func(_ string, from, to gobreaker.State) {
		if to == gobreaker.StateOpen {
			p.until.Store(time.Now().Add(st.Timeout).UnixNano())
		}
		p.now.Store(int32(stateOf(to)))
		moved(stateOf(from), stateOf(to))
	}
	p.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](st)
}

func stateOf(s gobreaker.State) BreakerState {
	switch s {
	case gobreaker.StateClosed:
		return BreakerClosed
	case gobreaker.StateHalfOpen:
		return BreakerHalfOpen
	default:
		return BreakerOpen
	}
}

func isConfig(err error) bool {
	var cfg *ConfigError
	return errors.As(err, &cfg)
}

// answered tells whether the destination has given an answer to what was asked.
func answered(err error) bool {
	var rej *Rejected
	return err == nil || errors.Is(err, ErrMoved) || errors.As(err, &rej)
}

// allow asks both parts. done must be called with the outcome of the call; probe
// says that the destination was not well when last heard of.
func (b *breaker) allow() (done func(error), probe bool, err error) {
	config, err := b.config.cb.Allow()
	if err != nil {
		return nil, false, errOpen
	}
	fault, err := b.fault.cb.Allow()
	if err != nil {
		config(context.Canceled) // give the permission back, uncounted
		return nil, false, errOpen
	}
	return func(err error) { fault(err); config(err) }, b.worst() != BreakerClosed, nil
}

// wait says how long no call will pass; 0 when another goroutine's probe is out.
func (b *breaker) wait() time.Duration {
	var d time.Duration
	for _, p := range []*part{&b.fault, &b.config} {
		if BreakerState(p.now.Load()) == BreakerOpen {
			d = max(d, time.Until(time.Unix(0, p.until.Load())))
		}
	}
	return d
}

// state returns the worse of both states, bringing them up to date first.
func (b *breaker) state() BreakerState {
	b.fault.cb.State()
	b.config.cb.State()
	return b.worst()
}

// worst is state as last seen; unlike state it takes no lock.
func (b *breaker) worst() BreakerState {
	return BreakerState(max(b.fault.now.Load(), b.config.now.Load()))
}
