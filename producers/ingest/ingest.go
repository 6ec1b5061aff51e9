// Package ingest feeds files of events to a topic, each event once, also when it is
// stopped in the middle and run again.
//
// Kafka's own idempotence ends with the process that produces. Beyond that an event
// is known by where it stands: every record carries the header [HeaderPlace] with the
// digest of its input and its number in it. A state file per input says how many
// events from the start are acknowledged, and how far the topic reached before any
// later one was sent. A second run skips the first, looks the rest up in that part of
// the topic, and sends only what is not there. So each event is in the topic exactly
// once, with one exception that can only be found, not prevented: an idempotent
// retry across a crash of a broker that forgets its producers (the embedded one does)
// may write a record twice. Such records are named in the [Summary].
//
// The package knows neither formats nor schemas: a [Source] yields events, the caller
// says what is good. cmd/sealstream is its user.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/producers"
)

// HeaderPlace is the record header that says where an event came from, as
// "<digest of the input>:<number>", counted from 0.
const HeaderPlace = "sealstream_ingest"

// Sender writes records in order; [To] makes one.
type Sender interface {
	// Enqueue sends msgs behind those of the call before; wait returns the results.
	Enqueue(ctx context.Context, msgs []producers.Message) (wait func(context.Context) []producers.Result)
	// Disconnects counts lost connections; see [producers.Producer.Disconnects].
	Disconnects() int64
}

// To makes a Sender of a Producer.
func To(p *producers.Producer) Sender { return sender{p} }

type sender struct{ *producers.Producer }

func (s sender) Enqueue(ctx context.Context, msgs []producers.Message) func(context.Context) []producers.Result {
	return s.Producer.Enqueue(ctx, msgs).Wait
}

// Log reads the topic that is written to; *[TopicLog] is one.
type Log interface {
	// Identity tells this topic of this cluster from every other one, also from a
	// topic of the same name made later.
	Identity(ctx context.Context) (string, error)
	// Ends returns the offset behind the last record of each partition.
	Ends(ctx context.Context) (map[int32]int64, error)
	// Scan calls fn for each record from offset from to offset to of each partition;
	// a partition not in from starts at 0. It says how many offsets at the start were
	// not there any more.
	Scan(ctx context.Context, from, to map[int32]int64, fn func(Place, *ledger.Record)) (gone int64, err error)
}

// Place is where a record is.
type Place struct {
	Topic     string
	Partition int32
	Offset    int64
}

func (p Place) String() string { return fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Offset) }

// Item is one event as a [Source] yields it.
type Item struct {
	Where string // for people: "line 12"
	Bytes []byte // what identifies the content; valid until the next call
	// Value is what goes into the record, owned by the receiver. Nil with Err.
	Value []byte
	// Attributes has the CloudEvents attributes the source knows. An empty ID is
	// filled in from the event's place and content.
	Attributes producers.Attributes
	Key        []byte
	// Err refuses this event and no other; it names what is wrong and shows no content.
	Err error
	// Open says that the input ended within this event. If it is refused it is not
	// taken for read: the writer may not be done with it.
	Open bool
}

// Source yields the events of one input in order, then io.EOF. Any other error means
// that the rest of the input cannot be read; it counts as one refused event.
type Source interface{ Next() (Item, error) }

// passer is a Source that can pass an event over for less than yielding it costs. Of
// its items only Bytes is looked at, which must be as Next would have it.
type passer interface{ Pass() (Item, error) }

// Input is one thing to read.
type Input struct {
	Name string // for people
	// Path identifies the input together with its content; empty for one that cannot
	// be read again, such as standard input.
	Path string
	// Head is the beginning of the content, in a length that does not change when the
	// input grows at its end.
	Head []byte
	Open func() (Source, io.Closer, error)
}

// Options says how to ingest.
type Options struct {
	Sender Sender
	Log    Log
	Topic  string // with prefix
	// StateDir keeps the state files; it is made with mode 0700. Empty: no resuming.
	StateDir string
	// Refused hears of each event that is refused.
	Refused func(input string, it Item, err error)
	// Notice hears what the user should know, in a sentence.
	Notice func(text string)
	// Done hears how many events more are through.
	Done func(events int)
	Now  func() time.Time

	// Checkpoint is the time between two checkpoints, 1 s when zero; BatchEvents the
	// size of one batch, 500 when zero; InFlight the number of batches under way, 8
	// when zero.
	Checkpoint  time.Duration
	BatchEvents int
	InFlight    int
}

// Summary says what came of it.
type Summary struct {
	Ingested int // acknowledged in this run
	Already  int // acknowledged in an earlier run
	Refused  int // of these inputs, in this run and earlier ones
	// Doubled are the second copies of records, found in the topic.
	Doubled []Place
	Inputs  int // inputs read to their end
}

// Error says at which input ingesting stopped. Everything before stays done.
type Error struct {
	Input  string
	Events int // of that input that are certainly in
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("ingest %s, after %d events: %v", e.Input, e.Events, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// ErrInterrupted is what Run returns when ctx ended: everything sent is acknowledged,
// and the state says so.
var ErrInterrupted = errors.New("interrupted")

// Run ingests the inputs one after the other. When ctx ends it takes no more events,
// waits for those under way and returns ErrInterrupted. The Summary counts what was
// done also when there is an error.
func Run(ctx context.Context, o Options, inputs []Input) (Summary, error) {
	o.defaults()
	var sum Summary
	identity, err := o.Log.Identity(ctx)
	if err != nil {
		return sum, fmt.Errorf("look at topic %s: %w", o.Topic, err)
	}
	var done []finished
	for _, in := range inputs {
		f := &feed{o: &o, in: in, sum: &sum}
		err := f.run(ctx, identity)
		done = o.confirmOld(append(done, f.finished()...))
		sum.Doubled = append(sum.Doubled, f.state.Doubled...)
		if err != nil {
			return sum, &Error{Input: in.Name, Events: f.certain, Err: err}
		}
		sum.Inputs++
	}
	return sum, nil
}

func (o *Options) defaults() {
	if o.Checkpoint == 0 {
		o.Checkpoint = time.Second
	}
	if o.BatchEvents == 0 {
		o.BatchEvents = 500
	}
	if o.InFlight == 0 {
		o.InFlight = 8
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Refused == nil {
		o.Refused = func(string, Item, error) {}
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	if o.Done == nil {
		o.Done = func(int) {}
	}
}

// errChanged means that the beginning of an input is not what the state file is
// about: another input under the same name.
var errChanged = errors.New("the input's beginning has changed")
