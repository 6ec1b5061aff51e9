// Package seal turns source records into sealed records: the source record byte for
// byte, plus a header with the 200-byte statement that chains it to the one before.
//
// It is a pure fold; internal/stream runs it. Its state, the head of each ledger,
// comes back from the sealed topic itself: the last committed record says the seq,
// the leaf and the source offset of everything before it. Evidence is never refused:
// seal looks at no schema, and a value of any bytes, size or timestamp is sealed.
//
// What it will not do is guess. When the output cannot be explained by the input (a
// trimmed head, an output shorter than what the group had committed, two records of
// one seq, another topic under the same name) it answers with a [processors.Doubt],
// and the partition goes on only under an operator's order: the old ledger, if its
// head can be read, gets a close record, and a new one begins with a genesis that
// names the old one.
package seal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/processors"
)

// Options configure a [Processor].
type Options struct {
	// Name is this installation's log name; see docs/ledger-format.md section 5.
	Name string
	// Keys are the salt masters this member holds.
	Keys *ledger.Keyring
	// EventIDs writes UUID event ids into the statements of new ledgers.
	EventIDs bool
}

// Processor makes the folds of the seal stage.
type Processor struct{ o Options }

// New returns a processor.
func New(o Options) *Processor { return &Processor{o: o} }

var _ processors.Processor = (*Processor)(nil)

// Restore decides how in goes on from what out holds; see the package comment.
func (p *Processor) Restore(in processors.Input, out processors.Output) (processors.Fold, error) {
	if in.TopicID == (ledger.TopicID{}) {
		return nil, doubt(processors.DoubtTopicID, "the brokers name no topic id for %s: topics must be made by Kafka 2.8 or newer", in.Topic)
	}
	if out.Trimmed {
		return nil, doubt(processors.DoubtTrimmed, "%s/%d has a history but no readable record: the head was trimmed", out.Topic, in.Partition)
	}
	if len(out.Tail) == 0 {
		if in.Committed > 0 {
			return nil, doubt(processors.DoubtShort, "%s/%d is empty, yet the group has committed offset %d", out.Topic, in.Partition, in.Committed)
		}
		return p.begin(in, nil)
	}
	head, salted, err := p.readTail(in, out)
	if err != nil {
		return nil, err
	}
	if err := p.checkMaster(in, out, salted); err != nil {
		return nil, err
	}
	genesis, err := p.genesisOf(in, out, head)
	if err != nil {
		return nil, err
	}
	if head.Statement.Topic != in.TopicID {
		return nil, doubt(processors.DoubtTopicID, "%s has id %s, the head of %s/%d was sealed from topic id %s: the source was made anew",
			in.Topic, in.TopicID, out.Topic, in.Partition, head.Statement.Topic)
	}
	var chain *ledger.Chain
	if genesis != nil {
		chain, err = ledger.Resume(head, *genesis, p.o.Keys)
	} else {
		chain, err = ledger.Continue(head, p.o.Keys)
	}
	if err != nil {
		return nil, resumeDoubt(out, in, err)
	}
	if in.Committed > chain.Next() {
		return nil, doubt(processors.DoubtShort, "%s/%d ends at source offset %d, yet the group has committed %d: the output lost records",
			out.Topic, in.Partition, chain.Next(), in.Committed)
	}
	if err := p.explain(in, out); err != nil {
		return nil, err
	}
	if from := max(chain.Next(), p.keeper(in).read(head.Leaf(), in.Kept)); from < in.Start {
		return p.gap(in, out, head, from)
	}
	return newFold(chain, nil, p.keeper(in)), nil
}

// gap goes on where the source begins now, behind offsets that were gone before they
// were sealed. Nothing in an event's statement could say so, since offsets have gaps
// anyway. So the ledger is closed, which says where it would have gone on, and the
// next one begins with a genesis that says where it does. It waits for no order: nothing
// is in doubt, and the source would lose more meanwhile.
func (p *Processor) gap(in processors.Input, out processors.Output, head *ledger.Sealed, from int64) (processors.Fold, error) {
	f, err := p.succeed(in, out, head)
	if err != nil {
		return nil, err
	}
	f.(*fold).lost = &processors.Loss{From: from, To: in.Start}
	return f, nil
}

// explain compares what the output holds beyond the group offset with the source. A
// transaction commits both at once, so more output than offset means a commit that
// was cut in half, or lost group offsets; or that somebody else wrote statements. What
// the ledgers before said is settled, and may be about a topic that is gone.
func (p *Processor) explain(in processors.Input, out processors.Output) error {
	if in.Committed < 0 || in.At == nil {
		return nil
	}
	for i := lastGenesis(out.Tail); i < len(out.Tail); i++ {
		s, err := ledger.Open(&out.Tail[i])
		if err != nil || s.Statement.Kind != ledger.KindEvent || s.Statement.Topic != in.TopicID {
			continue
		}
		off := int64(s.Statement.Offset)
		if off < in.Committed || off < in.Start {
			continue
		}
		src, err := in.At(off)
		if err != nil {
			return fmt.Errorf("read %s/%d@%d: %w", in.Topic, in.Partition, off, err)
		}
		if src == nil || !bytes.Equal(ledger.AppendFrame(nil, src), ledger.AppendFrame(nil, &s.Source)) {
			return doubt(processors.DoubtFork, "%s/%d holds a statement about source offset %d that the source does not explain: someone else wrote it",
				out.Topic, in.Partition, off)
		}
	}
	return nil
}

// readTail opens the records at the end of the output, from the last genesis among
// them on, and checks that they are one chain. What lies before that genesis was
// settled when its ledger began: by a close, or by an operator's order. It returns the
// head, and the last salted event if there is one.
func (p *Processor) readTail(in processors.Input, out processors.Output) (head, salted *ledger.Sealed, err error) {
	for i := lastGenesis(out.Tail); i < len(out.Tail); i++ {
		r := &out.Tail[i]
		s, err := ledger.Open(r)
		if err != nil {
			return nil, nil, doubt(processors.DoubtMalformed, "%s/%d@%d is not a sealed record: %v", out.Topic, in.Partition, r.Offset, err)
		}
		if head != nil {
			if err := follows(head, &s); err != nil {
				return nil, nil, doubt(kindOf(head, &s), "%s/%d@%d: %v", out.Topic, in.Partition, r.Offset, err)
			}
		}
		head = &s
		if s.Statement.SaltKey != 0 {
			salted = &s
		}
	}
	if head.Statement.Kind == ledger.KindClose {
		return nil, nil, doubt(processors.DoubtMalformed, "%s/%d ends with a close record without the genesis of its successor", out.Topic, in.Partition)
	}
	if head.Statement.Partition != uint32(in.Partition) {
		return nil, nil, doubt(processors.DoubtMalformed, "%s/%d ends with a statement about partition %d", out.Topic, in.Partition, head.Statement.Partition)
	}
	return head, salted, nil
}

// lastGenesis is where the last ledger of the tail begins, 0 if it began before.
func lastGenesis(tail []ledger.Record) int {
	for i := len(tail) - 1; i > 0; i-- {
		if s, err := ledger.Open(&tail[i]); err == nil && s.Statement.Kind == ledger.KindGenesis {
			return i
		}
	}
	return 0
}

// checkMaster derives the salt of a sealed event again. Another master under the same
// number would go on under salts that nobody can derive later.
func (p *Processor) checkMaster(in processors.Input, out processors.Output, s *ledger.Sealed) error {
	if s == nil {
		return nil
	}
	salter, err := p.o.Keys.Salter(s.Statement.Ledger, s.Statement.SaltKey)
	if err != nil {
		return nil // not held: whether that matters is for the chain to say
	}
	if salter.Salt(s.Statement.Seq) != s.Salt {
		return doubt(processors.DoubtSaltKey, "salt master %d is not the one that %s/%d was sealed with: restore the right file",
			s.Statement.SaltKey, out.Topic, in.Partition)
	}
	return nil
}

func kindOf(a, b *ledger.Sealed) processors.DoubtKind {
	if a.Statement.Ledger == b.Statement.Ledger && b.Statement.Seq <= a.Statement.Seq {
		return processors.DoubtFork
	}
	return processors.DoubtMalformed
}

// follows says whether b may stand directly behind a.
func follows(a, b *ledger.Sealed) error {
	if a.Statement.Kind == ledger.KindClose {
		if b.Statement.Kind != ledger.KindGenesis || !bytes.Equal(a.CloseBody(), b.GenesisBody()) {
			return errors.New("a close record must be followed by the genesis it names")
		}
		return nil
	}
	switch {
	case b.Statement.Ledger != a.Statement.Ledger:
		return fmt.Errorf("ledger %s follows ledger %s, which has no close record", b.Statement.Ledger, a.Statement.Ledger)
	case b.Statement.Seq <= a.Statement.Seq:
		return fmt.Errorf("seq %d stands a second time, behind seq %d", b.Statement.Seq, a.Statement.Seq)
	case b.Statement.Seq != a.Statement.Seq+1:
		return fmt.Errorf("seq %d follows seq %d", b.Statement.Seq, a.Statement.Seq)
	case b.Statement.Prev != a.Leaf():
		return fmt.Errorf("seq %d does not name the leaf of seq %d", b.Statement.Seq, a.Statement.Seq)
	}
	return nil
}

// genesisOf finds the genesis of the head's ledger and checks that this installation
// may go on with it. It returns nil when the genesis can no longer be read.
func (p *Processor) genesisOf(in processors.Input, out processors.Output, head *ledger.Sealed) (*ledger.Genesis, error) {
	id := head.Statement.Ledger
	// All records of one ledger stand together, so "is of this ledger" is false for
	// what came before and true from its genesis on.
	first, err := out.First(func(r *ledger.Record) bool {
		s, err := ledger.Open(r)
		return err == nil && s.Statement.Ledger == id
	})
	if err != nil {
		return nil, fmt.Errorf("find the genesis of ledger %s: %w", id, err)
	}
	if first == nil {
		return nil, nil
	}
	s, err := ledger.Open(first)
	if err != nil || s.Statement.Kind != ledger.KindGenesis {
		return nil, nil // trimmed by our own scheduler
	}
	g, err := ledger.ParseGenesis(s.GenesisBody())
	if err != nil {
		return nil, doubt(processors.DoubtMalformed, "genesis of ledger %s: %v", id, err)
	}
	if g.Name != p.o.Name || g.Cluster != in.Cluster || g.Source != in.Topic {
		return nil, doubt(processors.DoubtIdentity, "ledger %s began as (name %s, cluster %s, source %s), this is (name %s, cluster %s, source %s)",
			id, g.Name, g.Cluster, g.Source, p.o.Name, in.Cluster, in.Topic)
	}
	return &g, nil
}

// Resume starts the successor that an operator's order allows; see [processors.Order].
func (p *Processor) Resume(in processors.Input, out processors.Output, o processors.Order) (processors.Fold, error) {
	if in.TopicID == (ledger.TopicID{}) {
		return nil, fmt.Errorf("the brokers name no topic id for %s", in.Topic)
	}
	head := out.LastReadable()
	if head == nil {
		if o.Leaf != processors.NoneReadable {
			return nil, fmt.Errorf("the order expects leaf %s, but no record is readable", o.Leaf)
		}
		previous, err := ledger.ParsePrevious(o.Previous)
		if err != nil {
			return nil, fmt.Errorf("previous: %w", err)
		}
		if previous == nil {
			// The same genesis body would give the lost ledger's own id a second time.
			return nil, errors.New("previous: nothing is readable, so the order must name the ledger that was here, as PostgreSQL or a report has it")
		}
		return p.begin(in, previous)
	}
	if leaf := head.Leaf().String(); o.Leaf != leaf {
		return nil, fmt.Errorf("the order expects leaf %q, the last readable record has %s", o.Leaf, leaf)
	}
	return p.succeed(in, out, head)
}

// succeed closes the ledger of head and begins the next one.
func (p *Processor) succeed(in processors.Input, out processors.Output, head *ledger.Sealed) (processors.Fold, error) {
	if head.Statement.Kind == ledger.KindClose {
		// The close stands already; its successor is fixed by its body.
		g, err := ledger.ParseGenesis(head.CloseBody())
		if err != nil {
			return nil, fmt.Errorf("close body: %w", err)
		}
		return p.start(in, g, nil)
	}
	old, err := ledger.Closing(head)
	if err != nil {
		return nil, fmt.Errorf("close ledger %s: %w", head.Statement.Ledger, err)
	}
	g := p.genesis(in, new(old.Previous()))
	if head.Statement.Topic == in.TopicID {
		// The same source. What the group never committed was not sealed by us, even
		// if a foreign statement claims its offset: start there, so that nothing is
		// skipped unless the source has lost it. A record sealed twice shows; one
		// sealed never would not.
		start := old.Next()
		if in.Committed >= 0 {
			start = min(start, in.Committed)
		}
		g.Start = max(start, in.Start)
	}
	closing, err := old.Close(g)
	if err != nil {
		return nil, fmt.Errorf("close ledger %s: %w", head.Statement.Ledger, err)
	}
	return p.start(in, g, &closing)
}

// begin starts a ledger with nothing before it that can be read.
func (p *Processor) begin(in processors.Input, previous *ledger.Previous) (processors.Fold, error) {
	return p.start(in, p.genesis(in, previous), nil)
}

func (p *Processor) genesis(in processors.Input, previous *ledger.Previous) ledger.Genesis {
	return ledger.Genesis{
		Name: p.o.Name, Cluster: in.Cluster, Source: in.Topic, SourceID: in.TopicID,
		Partition: in.Partition, Start: in.Start, EventIDs: p.o.EventIDs, Previous: previous,
	}
}

func (p *Processor) start(in processors.Input, g ledger.Genesis, closing *ledger.Record) (processors.Fold, error) {
	chain, first, err := ledger.Start(g, p.o.Keys)
	if err != nil {
		return nil, fmt.Errorf("start a ledger for %s/%d: %w", in.Topic, in.Partition, err)
	}
	pending := []ledger.Record{first}
	if closing != nil {
		pending = []ledger.Record{*closing, first}
	}
	return newFold(chain, pending, p.keeper(in)), nil
}

func resumeDoubt(out processors.Output, in processors.Input, err error) error {
	if key := new(ledger.KeyError); errors.As(err, &key) {
		return doubt(processors.DoubtSaltKey, "the head of %s/%d was salted with key %d, which this member does not hold or is above its active one: give it to all members first",
			out.Topic, in.Partition, key.ID)
	}
	return doubt(processors.DoubtMalformed, "head of %s/%d: %v", out.Topic, in.Partition, err)
}

func doubt(kind processors.DoubtKind, format string, args ...any) error {
	return &processors.Doubt{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
