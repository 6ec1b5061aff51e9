package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/producers"
)

// feed is one input on its way.
type feed struct {
	o       *Options
	in      Input
	sum     *Summary
	certain int // events done for certain, for the error

	digest string
	path   string // of the state file; empty without one
	state  state
	armed  bool       // the state on disk (if any is kept) allows events to be sent
	base   checkpoint // where this run goes on
	cut    bool       // the topic ends below the base's ends
	there  map[int][]found

	hash    hash.Hash
	next    int // number of the next event
	refused int // events before next that are refused

	batch flight
	under []flight
	acked []event   // acknowledged since the last checkpoint
	lost  int64     // the sender's count of lost connections at the last checkpoint
	saved time.Time // of the last checkpoint
}

// found is a record of this input in the topic.
type found struct {
	id    string
	place Place
}

// run finds the input's state and ingests it. An input that took the place of another
// of the same name and the same head is a new one.
func (f *feed) run(ctx context.Context, identity string) error {
	f.state = state{Version: stateVersion, Input: f.in.Path, Identity: identity}
	if f.in.Path == "" || f.o.StateDir == "" {
		f.digest = randomDigest()
		return f.read(ctx)
	}
	if err := os.MkdirAll(f.o.StateDir, 0o700); err != nil {
		return fmt.Errorf("make directory for ingest state: %w", err)
	}
	unlock, err := f.lock(ctx, digest(identity, &f.in, 0))
	if err != nil {
		return err
	}
	defer unlock()
	for generation := 0; ; generation++ {
		f.digest = digest(identity, &f.in, generation)
		f.path = filepath.Join(f.o.StateDir, f.digest+".json")
		old, err := loadState(f.path)
		if err != nil {
			return err
		}
		f.state.Checkpoints, f.state.Doubled, f.state.Complete = nil, nil, false
		if old != nil {
			f.state = *old
		}
		if err := f.read(ctx); !errors.Is(err, errChanged) {
			return err
		}
	}
}

// read goes through the input once.
func (f *feed) read(ctx context.Context) error {
	f.hash, f.acked, f.lost, f.saved = sha256.New(), nil, f.o.Sender.Disconnects(), f.o.Now()
	src, closer, err := f.in.Open()
	if err != nil {
		f.spoiled(err)
		return nil
	}
	defer closer.Close()
	switch err := f.skip(src); {
	case errors.Is(err, errChanged):
		return err
	case err != nil:
		f.spoiled(err)
		return nil
	}
	// From here on an end of ctx stops the reading only: what is under way is waited
	// for, within the sender's own patience.
	work := context.WithoutCancel(ctx)
	if err := f.begin(work); err != nil {
		return err
	}
	for {
		if ctx.Err() != nil {
			return errors.Join(ErrInterrupted, f.checkpoint(work, false))
		}
		it, err := src.Next()
		if errors.Is(err, io.EOF) {
			return f.checkpoint(work, true)
		}
		if err != nil {
			f.spoiled(err)
			return f.checkpoint(work, false)
		}
		if err := f.take(work, &it); err != nil {
			return err
		}
		if f.o.Now().Sub(f.saved) >= f.o.Checkpoint {
			if err := f.checkpoint(work, false); err != nil {
				return err
			}
		}
	}
}

// spoiled refuses the rest of an input. That is not part of any checkpoint: a run with
// the mended input goes on where this one stopped.
func (f *feed) spoiled(err error) {
	f.sum.Refused++
	f.o.Refused(f.in.Name, Item{Where: fmt.Sprintf("behind event %d", f.next)}, err)
}

// skip passes the events that an earlier run has brought in, after making sure that
// they are the same ones.
func (f *feed) skip(src Source) error {
	f.base, f.armed = checkpoint{}, false
	if len(f.state.Checkpoints) > 0 {
		f.base = f.state.resume()
		if err := f.compare(); err != nil {
			return err
		}
	}
	if err := f.pass(src, f.base.Events); err != nil {
		return err
	}
	if len(f.state.Checkpoints) > 0 && f.sha() != f.base.SHA256 {
		return errChanged
	}
	f.base.SHA256 = f.sha()
	f.refused, f.certain = f.base.Refused, f.base.Events
	f.sum.Already += f.base.Events - f.base.Refused
	f.sum.Refused += f.base.Refused
	f.o.Done(f.base.Events)
	return nil
}

// compare reads the input once before it is worked on, to see whether it begins with
// what the newest checkpoint is about. The base alone would not do: it may be at the
// very start, where all inputs are alike.
func (f *feed) compare() error {
	last := f.state.last()
	if last.Events == f.base.Events {
		return nil
	}
	src, closer, err := f.in.Open()
	if err != nil {
		return err
	}
	defer closer.Close()
	if err := f.pass(src, last.Events); err != nil {
		return err
	}
	if f.sha() != last.SHA256 {
		return errChanged
	}
	return nil
}

// pass reads n events from the start of src without doing anything about them.
func (f *feed) pass(src Source, n int) error {
	next := src.Next
	if p, ok := src.(passer); ok {
		next = p.Pass
	}
	f.hash.Reset()
	for f.next = 0; f.next < n; {
		it, err := next()
		if errors.Is(err, io.EOF) { // it once had more
			return errChanged
		}
		if err != nil {
			return err
		}
		f.count(&it)
	}
	return nil
}

// begin looks up what the topic holds of the events behind the base.
func (f *feed) begin(ctx context.Context) error {
	f.there = nil
	if f.state.Complete && len(f.state.Checkpoints) == 1 {
		return nil // believed as a whole, and nothing was sent after it
	}
	ends, err := f.o.Log.Ends(ctx)
	if err != nil {
		return err
	}
	if len(f.state.Checkpoints) == 0 {
		f.base.Ends, f.base.UnixMs = ends, f.o.Now().UnixMilli()
		return nil
	}
	// A power cut may have taken the end of the topic. What is sent now then lies below
	// the ends of the base, so these come down first.
	f.cut = false
	for p, end := range f.base.Ends {
		if ends[p] < end {
			f.base.Ends[p], f.cut = ends[p], true
		}
	}
	if f.state.Complete { // nothing was sent after it
		for p, end := range f.state.last().Ends {
			ends[p] = min(ends[p], end)
		}
	}
	// Doubles above the base are found again, unless a power cut took them.
	f.state.Doubled = slices.DeleteFunc(f.state.Doubled, func(p Place) bool { return p.Offset >= f.base.Ends[p.Partition] })
	f.there, err = f.lookUp(ctx, f.base.Ends, ends)
	return err
}

// arm makes the state on disk one that holds whatever is sent from now on. A crash
// after this line, at any point, leaves events that the next run finds in the topic
// above the base's ends.
func (f *feed) arm() error {
	if f.armed {
		return nil
	}
	f.armed = true
	ready := len(f.state.Checkpoints) > 0 && !f.state.Complete && !f.cut
	// Later checkpoints may be about records that a power cut took; what is sent in
	// their place may lie below their ends.
	f.state.Checkpoints, f.state.Complete = []checkpoint{f.base}, false
	if ready {
		return nil
	}
	return f.keep()
}

// take deals with one event: refused, there already, or to be sent.
func (f *feed) take(ctx context.Context, it *Item) error {
	if it.Err != nil {
		if it.Open {
			f.sum.Refused++
			f.o.Refused(f.in.Name, *it, it.Err)
			return nil
		}
		f.count(it)
		f.refuse(it, it.Err)
		return nil
	}
	n := f.next
	f.count(it)
	if it.Attributes.ID == "" {
		it.Attributes.ID = f.makeID(n, it.Bytes)
	}
	if f.isThere(n, it.Attributes.ID) {
		f.sum.Already++
		f.o.Done(1)
		return nil
	}
	headers, err := it.Attributes.Headers(make([]ledger.Header, 0, 8))
	if err != nil {
		f.refuse(it, err)
		return nil
	}
	place := append(append(make([]byte, 0, len(f.digest)+12), f.digest...), ':')
	headers = append(headers, ledger.Header{Name: HeaderPlace, Value: strconv.AppendInt(place, int64(n), 10)})
	f.batch.add(n, it, producers.Message{Topic: f.o.Topic, Key: it.Key, Value: it.Value, Headers: headers})
	if len(f.batch.msgs) >= f.o.BatchEvents {
		return f.send(ctx)
	}
	return nil
}

// isThere says whether the topic holds event n; further copies are doubles.
func (f *feed) isThere(n int, id string) bool {
	copies := 0
	for _, r := range f.there[n] {
		if r.id != id {
			continue // of an input that has changed behind the checkpoint
		}
		if copies++; copies > 1 {
			f.double(r.place)
		}
	}
	return copies > 0
}

func (f *feed) double(p Place) {
	if !slices.Contains(f.state.Doubled, p) {
		f.state.Doubled = append(f.state.Doubled, p)
	}
}

func (f *feed) refuse(it *Item, err error) {
	f.refused++
	f.sum.Refused++
	f.o.Refused(f.in.Name, *it, err)
	f.o.Done(1)
}

// count makes an event part of what the next checkpoint is about.
func (f *feed) count(it *Item) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(it.Bytes)))
	f.hash.Write(length[:])
	f.hash.Write(it.Bytes)
	f.next++
}

func (f *feed) sha() string { return hex.EncodeToString(f.hash.Sum(nil)) }

// makeID makes the id of an event that brought none: the same for the same event at
// the same place, so that a second run knows it again.
func (f *feed) makeID(n int, content []byte) string {
	h := sha256.New()
	h.Write([]byte(f.digest))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	h.Write(content)
	id := uuid.UUID(h.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8: made by a rule of our own
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
