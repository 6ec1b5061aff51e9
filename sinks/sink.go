// Package sinks says what a destination of sealed records is, and delivers to one.
//
// A [Sink] stores batches and remembers, durably and together with them, how far
// it got in each partition. [Deliverer] adds what every sink needs and none should
// write again: retry with full jitter, a circuit breaker, isolation of poison
// records by bisecting, and their hand-over to the rejects topic. It knows no
// Kafka and no database; internal/stream drives it, one consumer group per sink,
// so that a dead sink delays nobody else.
//
// Sinks live in folders of their own (sinks/postgres) and all pass the suite in
// sinks/sinktest.
package sinks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealstream/sealstream/ledger"
)

// Partition names one partition of a sealed topic.
type Partition struct {
	Topic string
	ID    int32
}

func (p Partition) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.ID) }

// Record is one sealed record at its place in a sealed topic.
type Record struct {
	Offset int64 // in the sealed partition
	ledger.Sealed
}

// Batch is a run of records of one partition, in order. From is the offset the
// sink must have stored for the partition (the compare of compare-and-set), Next
// the one it stores with the rows. A Batch without records only moves the offset:
// that is how a rejected record, or a run of transaction markers, is passed.
type Batch struct {
	Partition  Partition
	From, Next int64
	Records    []Record
}

// Check says what is wrong with the batches of one call: it guards against mistakes
// of a caller, not against data.
func Check(batches []Batch) error {
	if len(batches) == 0 {
		return errors.New("no batch")
	}
	for i, b := range batches {
		for _, other := range batches[:i] {
			if other.Partition == b.Partition {
				return fmt.Errorf("two batches of partition %s in one call", b.Partition)
			}
		}
		at := b.From
		if b.From < 0 || b.Next <= b.From {
			return fmt.Errorf("batch of %s moves the offset from %d to %d", b.Partition, b.From, b.Next)
		}
		for _, r := range b.Records {
			if r.Offset < at || r.Offset >= b.Next {
				return fmt.Errorf("batch of %s [%d, %d) holds offset %d where at least %d is due", b.Partition, b.From, b.Next, r.Offset, at)
			}
			at = r.Offset + 1
		}
	}
	return nil
}

// Sink is a destination.
//
// Outcomes of Write, and there are only these: nil, everything in all batches is
// durable and the offsets are stored, atomically with the rows where the
// destination can; *[Rejected], the destination will never take some of the data,
// nothing of this call is stored; [ErrMoved], the stored offset is not From; a
// *[ConfigError], the destination is set up wrongly; any other error, nothing is
// known and the same call will be made again. Write never retries by itself.
//
// Bind comes before Positions, in each session of a consumer.
//
// All methods may be called from several goroutines; two calls of Write at one
// time name different partitions, unless one comes from a zombie, which the
// compare of the stored offset stops.
type Sink interface {
	// Bind ties the stored offsets of each topic, when there are none yet, to the topic
	// of that id at that origin. For a topic whose offsets are tied to another one it
	// says why they are no good: nothing of it may be stored.
	Bind(ctx context.Context, from Origin, topics map[string]ledger.TopicID) (refused map[string]string, err error)
	// Positions returns the stored offset of each partition asked for, 0 for one
	// never seen.
	Positions(ctx context.Context, ps []Partition) (map[Partition]int64, error)
	// Write stores batches, at most one per partition, in one step: all or none.
	// It does not keep or change what it is given.
	Write(ctx context.Context, batches []Batch) error
	// Probe is a cheap question whether the destination answers; the breaker asks
	// it before it lets a batch through again.
	Probe(ctx context.Context) error
}

// Origin is whose topics these are. Another cluster has topics of the same names.
type Origin struct {
	Cluster string // Kafka cluster id
	Prefix  string // of the installation's topics
}

// OtherInstallation means that a destination holds what belongs to another installation.
// Nothing in it says anything about this one.
type OtherInstallation struct{ Theirs, Ours Origin }

func (e *OtherInstallation) Error() string {
	return fmt.Sprintf("the database belongs to the installation with kafka.prefix %q on Kafka cluster %s, and this one has kafka.prefix %q on Kafka cluster %s",
		e.Theirs.Prefix, e.Theirs.Cluster, e.Ours.Prefix, e.Ours.Cluster)
}

// ErrMoved means that another owner has moved a partition's stored offset, or that
// an earlier Write whose answer was lost did commit. Read Positions again.
var ErrMoved = errors.New("stored offset has moved: another owner wrote, or an unanswered write was committed")

// Rejected means the destination refuses data for what it is, not for how the
// destination is. The Deliverer bisects until one record is left and sends that
// one to the rejects topic.
type Rejected struct {
	Code   string // the destination's own code, such as SQLSTATE 22021
	Reason string // label of a small fixed set, for metrics and headers, such as "invalid_text"
	Detail string // what was refused, free of record contents: a constraint's name, a column's
	Err    error  // for errors.As only: its text may hold record contents and is never printed
}

func (e *Rejected) Error() string {
	return fmt.Sprintf("rejected (%s, %s): %s", e.Reason, e.Code, e.Detail)
}
func (e *Rejected) Unwrap() error { return e.Err }

// ConfigError means that no retry can help until a person changes something: bad
// credentials, a missing table. It opens the breaker at once and never rejects data.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return "configuration: " + e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// Unavailable is a failure that passes: the same call will be made again. A sink
// uses it to give the failure a name; any other error counts as class "other".
type Unavailable struct {
	Class string // label of a small fixed set, for metrics, such as "connection"
	Err   error
}

func (e *Unavailable) Error() string { return e.Err.Error() }
func (e *Unavailable) Unwrap() error { return e.Err }

// Rejection is one record set aside, with why. The record that carries it into the
// rejects topic has the key, value and timestamp of the sealed record, and
// [Rejection.Headers].
type Rejection struct {
	Sink        string
	Partition   Partition
	Record      Record
	Code        string
	Reason      string
	Detail      string // bounded, free of record contents
	Attempts    int    // how many writes that held the record were refused
	First, Last time.Time
}

// A Rejecter keeps rejections. When Reject returns nil they are durable; only
// then may the stored offset pass them.
type Rejecter interface {
	Reject(ctx context.Context, rs []Rejection) error
}
