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
	Start     int64 // log start offset of the input partition
	Committed int64 // group offset, -1 when none
	End       int64 // end offset of the output partition (LSO = HWM)
	OutputID  ledger.TopicID
}

// A Processor makes the fold of a partition from what the output partition holds.
type Processor interface {
	// Restore gets the last committed data records of the output partition, oldest
	// first, as many as the runner read in its first look (at least the last one if
	// there is one). trimmed says that the output has a history but no readable data
	// record. A *[Doubt] stops the partition; any other error is retried.
	Restore(in Input, tail []ledger.Record, trimmed bool) (Fold, error)

	// Resume is Restore for a stopped partition under an operator's order. It
	// returns the fold that starts the successor, or an error that says why the
	// order does not fit, which leaves the partition stopped.
	Resume(in Input, tail []ledger.Record, trimmed bool, o Order) (Fold, error)
}

// A Fold is the state of one partition. Methods are called from one goroutine at a time.
type Fold interface {
	// Next is the absolute input offset the fold continues at.
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
)

func (d *Doubt) Error() string { return fmt.Sprintf("%s: %s", d.Kind, d.Detail) }

// Order is an operator's command, an event of ledger.control, that lets a stopped
// partition go on. It fits one state of the output partition only (OutputID, End,
// Leaf), so it can be applied once and never again.
type Order struct {
	ID        string         `json:"id"`
	Source    string         `json:"source"`
	Partition int32          `json:"partition"`
	OutputID  ledger.TopicID `json:"-"`
	End       int64          `json:"end"`      // end offset of the stopped output partition
	Leaf      string         `json:"leaf"`     // hex leaf hash of the last readable record, or "none readable"
	Previous  string         `json:"previous"` // "none" or "<ledger id> <size> <base64 leaf>"; used when none is readable
	Reason    string         `json:"reason"`
	By        string         `json:"by"`
}
