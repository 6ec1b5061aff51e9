package faults

import (
	"crypto/sha256"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks"
)

// Event is one record of a source log.
type Event struct {
	Offset int64
	ID     string // header ce_id; empty when there is none
	Read   bool   // it says that event content was read
	TimeMs int64
	Frame  [sha256.Size]byte // of key, headers and value
}

// Statement is what one sealed record says.
type Statement struct {
	Offset int64 // in the sealed partition
	Ledger ledger.ID
	Seq    uint64
	Kind   ledger.Kind
	Leaf   ledger.Hash
	Topic  ledger.TopicID // of the source topic
	Source int64          // offset in the source partition
	TimeMs int64
	Frame  [sha256.Size]byte // of the sealed record without its seal
}

// Row is one row of the table.
type Row struct {
	Ledger ledger.ID
	Seq    uint64
	Offset int64 // in the sealed partition, as the row says
	Leaf   ledger.Hash
}

// Ack is an event that was acknowledged to its producer, and where it was said to be;
// offset -1 when its producer does not tell where.
type Ack struct {
	ID        string
	Partition sinks.Partition
	Offset    int64
}

// Sighting is what one look into the database, in one snapshot, showed of one sealed
// partition while everything was running.
type Sighting struct {
	At        time.Time
	Partition sinks.Partition
	Next      int64 // the stored offset
	Rows      int
	Last      int64 // the greatest sealed offset among the rows, -1 without rows
}

// Reject is one record of the rejects topic.
type Reject struct {
	Offset         int64 // in the sealed partition
	Reason, Detail string
	Frame          [sha256.Size]byte
}

// Evidence is everything the oracle looks at, read back when the load has ended and
// every stage has caught up.
type Evidence struct {
	SourceIDs map[string]ledger.TopicID
	Sources   map[sinks.Partition][]Event     // by source partition, in log order
	Sealed    map[sinks.Partition][]Statement // by sealed partition, in log order
	Links     []ledger.Finding                // of the verifier, over the same sealed records
	Rows      map[sinks.Partition][]Row       // by sealed partition, in any order
	Stored    map[sinks.Partition]int64       // sink_offsets
	Rejects   map[sinks.Partition][]Reject    // by sealed partition
	Acked     []Ack
	Answered  int // reads of event content that the API has answered
	Sightings []Sighting
}

// hashFrame stands for all bytes of a record but its place and time.
func hashFrame(r *ledger.Record) [sha256.Size]byte {
	return sha256.Sum256(ledger.AppendFrame(nil, r))
}

// eventOf takes a source record down.
func eventOf(r *ledger.Record) Event {
	e := Event{Offset: r.Offset, TimeMs: r.TimeMs, Frame: hashFrame(r)}
	for _, h := range r.Headers {
		if h.Name == idHeader {
			e.ID = string(h.Value)
		}
		if h.Name == typeHeader && string(h.Value) == schemas.ActionAccessRead {
			e.Read = true
		}
	}
	return e
}

// idHeader is where every producer of ours puts the event's id, typeHeader where its
// action is.
const (
	idHeader   = "ce_id"
	typeHeader = "ce_type"
)

// sealedReader takes the records of one sealed partition down, in log order, and has
// the verifier look at each.
type sealedReader struct {
	verifier   *ledger.Verifier
	statements []Statement
	findings   []ledger.Finding
}

func newSealedReader(p sinks.Partition) *sealedReader {
	return &sealedReader{verifier: ledger.NewVerifier(ledger.VerifierOptions{Topic: p.Topic, Partition: p.ID})}
}

// add takes the next record. One that is no sealed record is left to the verifier,
// which has a finding about it.
func (s *sealedReader) add(r *ledger.Record) {
	s.findings = append(s.findings, s.verifier.Next(r)...)
	sealed, err := ledger.Open(r)
	if err != nil {
		return
	}
	st := &sealed.Statement
	s.statements = append(s.statements, Statement{
		Offset: r.Offset, Ledger: st.Ledger, Seq: st.Seq, Kind: st.Kind, Leaf: sealed.Leaf(),
		Topic: st.Topic, Source: int64(st.Offset), TimeMs: st.TimeMs, Frame: hashFrame(&sealed.Source),
	})
}

func (s *sealedReader) finish() {
	s.findings = append(s.findings, s.verifier.Finish()...)
}
