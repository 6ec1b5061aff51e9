package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"math"
)

const (
	payloadTag = "SEALST01/payload"
	saltSize   = 16
	// commitPrefix is what stands before the frame: tag and salt.
	commitPrefix = len(payloadTag) + saltSize
	nullLength   = math.MaxUint32
)

// AppendFrame appends the canonical frame of a record to dst: key, headers and
// value, each with its length, null and empty told apart. Timestamp, offset and
// epoch are not in it. Two records have the same frame only if key, headers (with
// order and duplicates) and value are the same. Lengths must be below 2^32-1; Kafka
// ends at 2^31-1.
func AppendFrame(dst []byte, r *Record) []byte {
	return appendNullable(appendFrameHead(dst, r), r.Value)
}

// appendFrameHead is the frame up to the value.
func appendFrameHead(dst []byte, r *Record) []byte {
	dst = appendNullable(dst, r.Key)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(h.Name)))
		dst = append(dst, h.Name...)
		dst = appendNullable(dst, h.Value)
	}
	return dst
}

func appendNullable(dst, x []byte) []byte {
	if x == nil {
		return binary.BigEndian.AppendUint32(dst, nullLength)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(x)))
	return append(dst, x...)
}

// ParseFrame reads a whole frame: exactly what [AppendFrame] writes, with nothing
// left over. Key, Value and header values share memory with b; the fields that a
// frame does not hold are zero.
func ParseFrame(b []byte) (Record, error) {
	var r Record
	rest := frameReader{b: b}
	r.Key = rest.bytes()
	n := rest.uint32()
	// A header takes 8 bytes at least: a count that cannot be true reserves nothing.
	if uint64(n) > uint64(len(rest.b)/8) {
		return Record{}, errors.New("frame: header count is larger than what follows")
	}
	if n > 0 {
		r.Headers = make([]Header, n)
	}
	for i := range r.Headers {
		name := rest.bytes()
		if name == nil {
			return Record{}, errors.New("frame: a header name is null or cut short")
		}
		r.Headers[i] = Header{Name: string(name), Value: rest.bytes()}
	}
	r.Value = rest.bytes()
	if rest.short {
		return Record{}, errors.New("frame: cut short")
	}
	if len(rest.b) != 0 {
		return Record{}, errors.New("frame: bytes behind its end")
	}
	return r, nil
}

// frameReader takes a frame apart; after short everything it returns is empty.
type frameReader struct {
	b     []byte
	short bool
}

func (f *frameReader) uint32() uint32 {
	if len(f.b) < 4 {
		f.b, f.short = nil, true
		return 0
	}
	n := binary.BigEndian.Uint32(f.b)
	f.b = f.b[4:]
	return n
}

// bytes returns nil for null, and for what is not there.
func (f *frameReader) bytes() []byte {
	n := f.uint32()
	if f.short || n == nullLength {
		return nil
	}
	if uint64(n) > uint64(len(f.b)) {
		f.b, f.short = nil, true
		return nil
	}
	x := f.b[:n:n]
	f.b = f.b[n:]
	return x
}

// Commit is SHA-256("SEALST01/payload" || salt || frame). The salt is 16 zero bytes
// in an unsalted statement.
func Commit(salt *Salt, frame []byte) Hash {
	h := sha256.New()
	h.Write([]byte(payloadTag))
	h.Write(salt[:])
	h.Write(frame)
	var out Hash
	h.Sum(out[:0])
	return out
}

// committer computes commitments without allocating: its buffer holds the tag, room
// for the salt, and then one frame after the other.
type committer struct {
	buf    []byte
	stream hash.Hash
	sum    Hash
}

func newCommitter() committer {
	buf := make([]byte, commitPrefix, 1<<10)
	copy(buf, payloadTag)
	return committer{buf: buf, stream: sha256.New()}
}

// salt is the place of the salt in the buffer; commit hashes what is there.
func (c *committer) salt() []byte { return c.buf[len(payloadTag):commitPrefix:commitPrefix] }

// commit hashes tag, the salt in place, and the frame of r. The value is hashed where
// it lies: that is not slower than copying it, at any size (BenchmarkCommit).
func (c *committer) commit(r *Record) Hash {
	c.buf = appendFrameHead(c.buf[:commitPrefix], r)
	if r.Value == nil {
		c.buf = binary.BigEndian.AppendUint32(c.buf, nullLength)
	} else {
		c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(len(r.Value)))
	}
	c.stream.Reset()
	c.stream.Write(c.buf)
	c.stream.Write(r.Value)
	c.stream.Sum(c.sum[:0])
	return c.sum
}
