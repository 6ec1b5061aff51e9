// Package cloudtrail reads AWS CloudTrail log files and says each record in ECS.
//
// It takes what AWS delivers, {"Records": [...]}, gzipped or not, and what people make
// of it: a bare array, one record a line, several of these behind each other. It reads
// a stream: memory is bounded by the largest record, whatever the file claims.
//
// [Map] keeps the vendor's own bytes of each record, bit for bit, in event.original;
// everything else in the event is derived from them and can be derived again. A record
// that cannot be mapped is refused by itself: see [RecordError].
//
// It sends nothing and knows no tenant; `sealstream ingest` is its user.
package cloudtrail

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/sealstream/sealstream/schemas"
)

// Defaults of [Options].
const (
	// DefaultMaxRecord is four times what CloudTrail writes at most.
	DefaultMaxRecord = 1 << 20
	// DefaultMaxInput is how many bytes an input may have, unpacked.
	DefaultMaxInput = 16 << 30
)

// A gzip stream that unpacks to more than so many times its size, beyond the first
// freeUnpacked bytes, is a bomb. Real logs pack 10 to 60 to 1.
const (
	maxRatio     = 200
	freeUnpacked = 8 << 20
)

// Options bound what is read. Zero fields take the defaults.
type Options struct {
	MaxRecord int              // bytes of one record
	MaxInput  int64            // bytes of the input, unpacked
	Now       func() time.Time // to measure the future by; time.Now
}

// Record is one record of the input.
type Record struct {
	Number int    // from 0, refused ones counted too
	Raw    []byte // the vendor's bytes; valid until the next call
	Event  *schemas.AuditEvent
}

// RecordError refuses one record; reading goes on behind it. It shows no content.
type RecordError struct {
	Number int
	// Open says that the input ended within this record: its writer may not be done.
	Open bool
	Err  error
}

func (e *RecordError) Error() string { return fmt.Sprintf("record %d: %v", e.Number, e.Err) }
func (e *RecordError) Unwrap() error { return e.Err }

// Errors that end an input.
var (
	// ErrTooBig says that the input is larger, or packed more tightly, than allowed.
	ErrTooBig = errors.New("input too big")
	// ErrFormat says that the input is not CloudTrail's JSON.
	ErrFormat = errors.New("not a CloudTrail log")
)

// Reader yields the records of one input.
type Reader struct {
	o       Options
	in      *bufio.Reader
	packed  *counter
	started bool

	raw     []byte // the record being read
	capture bool   // what is read belongs to a record
	tooLong bool   // more than fits has been read of it
	number  int    // of the record being read, or the next one
	list    listKind
	first   bool // no element of the list has been read
	ended   bool // the end within a record has been told
}

// listKind is the list whose elements are being read.
type listKind uint8

const (
	listNone    listKind = iota // between values at the top
	listBare                    // an array at the top
	listRecords                 // the array under "Records"
)

// NewReader reads r, unpacking it when it begins as gzip does. It reads ahead only to
// see that; an error of r shows in [Reader.Next].
func NewReader(r io.Reader, o Options) *Reader {
	if o.MaxRecord == 0 {
		o.MaxRecord = DefaultMaxRecord
	}
	if o.MaxInput == 0 {
		o.MaxInput = DefaultMaxInput
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	packed := &counter{r: r}
	return &Reader{o: o, packed: packed, in: bufio.NewReaderSize(packed, 64<<10)}
}

// Next returns the next record. io.EOF ends the input well. A *[RecordError] refuses
// one record and no other. Any other error ends the input where it is.
func (r *Reader) Next() (*Record, error) {
	if !r.started {
		if err := r.start(); err != nil {
			return nil, err
		}
	}
	if err := r.advance(); err != nil {
		return nil, err
	}
	rec := &Record{Number: r.number, Raw: r.raw}
	r.number++
	if r.tooLong {
		return nil, &RecordError{Number: rec.Number, Err: fmt.Errorf("longer than %d bytes", r.o.MaxRecord)}
	}
	var err error
	rec.Event, err = Map(rec.Raw)
	if err == nil {
		err = schemas.ValidateAudit(rec.Event, r.o.Now())
	}
	if err != nil {
		return nil, &RecordError{Number: rec.Number, Err: err}
	}
	return rec, nil
}

// start looks for gzip and a byte order mark.
func (r *Reader) start() error {
	r.started = true
	head, err := r.in.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read input: %w", err)
	}
	if bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r.in)
		if err != nil {
			return fmt.Errorf("unpack input: %w", err)
		}
		r.in = bufio.NewReaderSize(&guard{r: z, packed: r.packed, limit: r.o.MaxInput}, 64<<10)
	} else {
		r.in = bufio.NewReaderSize(&guard{r: r.in, limit: r.o.MaxInput}, 64<<10)
	}
	if bom, err := r.in.Peek(3); err == nil && string(bom) == "\xef\xbb\xbf" {
		_, _ = r.in.Discard(3)
	}
	return nil
}

// counter counts the bytes read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// guard stops an input that grows beyond what is allowed.
type guard struct {
	r      io.Reader
	packed *counter // nil: not packed
	limit  int64
	n      int64
}

func (g *guard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	g.n += int64(n)
	if g.n > g.limit {
		return 0, fmt.Errorf("%w: more than %d bytes unpacked", ErrTooBig, g.limit)
	}
	if g.packed != nil && g.n > freeUnpacked && g.n/maxRatio > g.packed.n {
		return 0, fmt.Errorf("%w: unpacks to more than %d times its size", ErrTooBig, maxRatio)
	}
	return n, err
}
