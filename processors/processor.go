// Package processors says what a stage between two topics is: a pure fold over one
// input partition into the output partition of the same number.
//
// A [Fold] has no clock, no network, no logger and no goroutine: the same input
// gives the same output, always (invariant I9). internal/stream runs it inside
// Kafka transactions and rebuilds its state from the output topic on assignment;
// nothing is kept on local disk.
package processors

import (
	"fmt"

	"github.com/sealstream/sealstream/ledger"
)

// Input is one assigned input partition as the brokers describe it.
type Input struct {
	Cluster   string // Kafka cluster id
	Topic     string
	TopicID   ledger.TopicID
	Partition int32
	Start     int64  // log start offset of the input partition
	Committed int64  // group offset, -1 when none
	Kept      string // what stands beside the group offset: [Fold.Keep] may have made it, or whoever may commit offsets

	// At returns the committed record at an offset, nil when none is to be read there.
	At func(offset int64) (*ledger.Record, error)
}

// Output is what the output partition holds at the moment of recovery, when no
// transaction on it is undecided.
type Output struct {
	Topic string
	ID    ledger.TopicID
	End   int64 // its end offset (LSO = HWM)

	// Tail holds its last committed data records, oldest first: at least the last
	// one if there is any that can be read.
	Tail []ledger.Record

	// Trimmed says that there is a history but no readable data record.
	Trimmed bool

	// First returns the first record for which match is true, nil if none is. The
	// caller promises that match is false for a first part of the partition and
	// true for the rest, so that a binary search finds it.
	First func(match func(*ledger.Record) bool) (*ledger.Record, error)
}

// LastReadable returns the last record of the tail that is a sealed record, nil when
// none is: what somebody else wrote behind it does not hide it.
func (o Output) LastReadable() *ledger.Sealed {
	for i := len(o.Tail) - 1; i >= 0; i-- {
		if s, err := ledger.Open(&o.Tail[i]); err == nil {
			return &s
		}
	}
	return nil
}

// LastLeaf is what an [Order] for this output must say in Leaf.
func (o Output) LastLeaf() string {
	if s := o.LastReadable(); s != nil {
		return s.Leaf().String()
	}
	return NoneReadable
}

// A Processor makes the fold of a partition from what the output partition holds.
type Processor interface {
	// Restore decides from where the fold of in goes on. A *[Doubt] stops the
	// partition; any other error is retried.
	Restore(in Input, out Output) (Fold, error)

	// Resume is Restore for a stopped partition under an operator's order. An error
	// says why the order does not fit, and leaves the partition stopped.
	Resume(in Input, out Output, o Order) (Fold, error)
}

// A Fold is the state of one partition. Methods are called from one goroutine at a time.
type Fold interface {
	// Next is the absolute input offset the fold continues at, or at the log start of the
	// input if that lies behind it.
	Next() int64
	// Pending returns records that must be written before any event, in the same
	// transaction (genesis; close and genesis), or nil. Asking again before Commit
	// returns the same.
	Pending() []ledger.Record
	// Append folds in, in offset order, and appends what must be written to out.
	// Records below Next are skipped. Output records share memory with in.
	Append(out []ledger.Record, in []ledger.Record) ([]ledger.Record, error)
	// Commit makes everything since the last Commit permanent; Abort forgets it.
	Commit()
	Abort()
	// Keep returns the text to keep beside the group offset, that Restore may know later:
	// from Next to seen, which lies behind it, the input held no record. Empty keeps nothing.
	Keep(seen int64) string
	// Lost is what the input had lost when the fold was made, nil when nothing: an alarm
	// says so.
	Lost() *Loss
}

// A Loss is a range [From, To) of input offsets that was gone before it was folded.
type Loss struct{ From, To int64 }

func (l *Loss) String() string {
	return fmt.Sprintf("offsets %d to %d were gone from the source before they were sealed (retention, or records deleted): at most %d records; the ledger shows the gap for ever, and sealing goes on behind it: give the source a longer retention",
		l.From, l.To-1, l.To-l.From)
}

// Doubt says that a partition's truth is unclear and that only a person may decide.
// Kind is a bounded label.
type Doubt struct {
	Kind   DoubtKind
	Detail string
}

// DoubtKind labels an alarm.
type DoubtKind string

// The doubts that stop a partition.
const (
	DoubtTrimmed    DoubtKind = "head_trimmed"
	DoubtShort      DoubtKind = "output_shorter_than_group_offset"
	DoubtFork       DoubtKind = "two_records_of_one_seq"
	DoubtTopicID    DoubtKind = "source_topic_id_changed"
	DoubtMalformed  DoubtKind = "head_unreadable"
	DoubtIdentity   DoubtKind = "name_or_cluster_changed"
	DoubtSaltKey    DoubtKind = "salt_key_missing"
	DoubtUnsealable DoubtKind = "record_too_large_for_output"
	DoubtUnread     DoubtKind = "recovery_failed"          // the brokers do not say what there is; tried again by itself
	DoubtNarrow     DoubtKind = "sealed_partition_missing" // ends by itself when the output has got the partition
)

func (d *Doubt) Error() string { return fmt.Sprintf("%s: %s", d.Kind, d.Detail) }
