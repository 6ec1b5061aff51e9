package schemas

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// avroError says where Avro bytes stop being what their schema says.
type avroError struct {
	at   int
	what string
}

func (e *avroError) Error() string { return fmt.Sprintf("avro: byte %d: %s", e.at, e.what) }

// emptyItems is how many list elements a value may have beyond its length in bytes:
// elements without any bytes (nulls, empty records) would otherwise let a few bytes
// claim billions.
const emptyItems = 4096

// wireReader reads one Avro body. It allocates nothing and its work is bounded by the
// body's length. After the first error it stands still.
type wireReader struct {
	b     []byte
	i     int
	items int // list elements met
	work  int // record fields met
	err   *avroError
}

func (r *wireReader) fail(what string) {
	if r.err == nil {
		r.err = &avroError{at: r.i, what: what}
	}
}

// long reads a zig-zag number.
func (r *wireReader) long() int64 {
	if r.i < len(r.b) && r.b[r.i] < 0x80 && r.err == nil {
		u := uint64(r.b[r.i])
		r.i++
		return int64(u>>1) ^ -int64(u&1)
	}
	return r.longSlow()
}

func (r *wireReader) longSlow() int64 {
	if r.err != nil {
		return 0
	}
	u, n := binary.Uvarint(r.b[r.i:])
	if n <= 0 {
		r.fail("not a number")
		return 0
	}
	r.i += n
	return int64(u>>1) ^ -int64(u&1)
}

// int reads a number of 32 bits.
func (r *wireReader) int() int64 {
	at := r.i
	v := r.long()
	if r.err == nil && (v < math.MinInt32 || v > math.MaxInt32 || r.i-at > 5) {
		r.i = at
		r.fail("not a number of 32 bits")
		return 0
	}
	return v
}

// take returns the next n bytes, which share the body's memory.
func (r *wireReader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b)-r.i {
		r.fail("the bytes end inside a value")
		return nil
	}
	r.i += n
	return r.b[r.i-n : r.i]
}

// bytes reads a length and so many bytes.
func (r *wireReader) bytes() []byte {
	n := r.long()
	if n < 0 || n > math.MaxInt32 {
		r.fail("a length out of range")
		return nil
	}
	return r.take(int(n))
}

// bool reads a byte; only 1 is true, as other readers have it.
func (r *wireReader) bool() bool {
	b := r.take(1)
	return r.err == nil && b[0] == 1
}

func (r *wireReader) float() float64 {
	if b := r.take(4); r.err == nil {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return 0
}

func (r *wireReader) double() float64 {
	if b := r.take(8); r.err == nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// index reads the branch of a union or the symbol of an enum, -1 on error.
func (r *wireReader) index(n int) int {
	v := r.long()
	if r.err == nil && (v < 0 || v >= int64(n)) {
		r.fail("a branch or symbol that the schema has not")
	}
	if r.err != nil {
		return -1
	}
	return int(v)
}

// block reads the head of the next block of an array or map: how many elements follow,
// 0 at the end.
func (r *wireReader) block() int {
	n := r.long()
	if n < 0 {
		if n == math.MinInt64 {
			r.fail("a block count out of range")
			return 0
		}
		n = -n
		r.long() // the block's size, for readers that pass over it whole
	}
	if r.err != nil {
		return 0
	}
	if n > int64(len(r.b)+emptyItems-r.items) {
		r.fail("more elements than the bytes can hold")
		return 0
	}
	r.items += int(n)
	return int(n)
}

// spend counts the fields of a record about to be read. Fields without any bytes cost
// work all the same, and a schema can double them at every level.
func (r *wireReader) spend(fields int) bool {
	r.work += 1 + fields
	if r.work > freeWork+8*len(r.b) {
		r.fail("more fields than the bytes can hold")
	}
	return r.err == nil
}

// freeWork is how many record fields a value may have beyond eight for each byte.
const freeWork = 1 << 20

// skip passes over one value.
func (r *wireReader) skip(o *op, depth int) {
	if depth > MaxDepth {
		r.fail(tooDeep)
		return
	}
	switch o.wire {
	case wireNull:
	case wireBool:
		r.take(1)
	case wireInt:
		r.int()
	case wireLong:
		r.long()
	case wireFloat:
		r.take(4)
	case wireDouble:
		r.take(8)
	case wireBytes, wireString:
		r.bytes()
	case wireFixed:
		r.take(o.size)
	case wireEnum:
		r.index(len(o.symbols))
	case wireRecord:
		if !r.spend(len(o.fields)) {
			return
		}
		for i := range o.fields {
			if r.err != nil {
				return
			}
			if o.fields[i].some != nil && r.i < len(r.b) && r.b[r.i] == 0 {
				r.i++
				continue
			}
			r.skip(o.fields[i].op, depth+1)
		}
	case wireUnion:
		if k := r.index(len(o.kinds)); k >= 0 {
			r.skip(o.kinds[k], depth)
		}
	case wireArray, wireMap:
		for n := r.block(); n > 0; n = r.block() {
			for ; n > 0 && r.err == nil; n-- {
				if o.wire == wireMap {
					r.bytes()
				}
				r.skip(o.item, depth+1)
			}
		}
	}
}

// timeMs turns the number of a time into milliseconds since 1970, rounding down.
func timeMs(l logical, v int64) int64 {
	switch l {
	case logicalMicros:
		return floorDiv(v, 1e3)
	case logicalNanos:
		return floorDiv(v, 1e6)
	}
	return v
}

func floorDiv(v, by int64) int64 {
	q := v / by
	if v%by < 0 {
		q--
	}
	return q
}

// isTime says that a number stands for a point in time.
func (l logical) isTime() bool { return l == logicalMillis || l == logicalMicros || l == logicalNanos }

// dateText writes days since 1970 as a date; ok is false outside the years 0001 to 9999.
func dateText(days int64) (string, bool) {
	ms := days * 86_400_000
	if ms < minTimeMs || ms > maxTimeMs {
		return "", false
	}
	return time.UnixMilli(ms).UTC().Format(time.DateOnly), true
}

// maxDecimal is how many bytes of a decimal are shown as a number.
const maxDecimal = 64

// bytesText shows bytes as text: as what they stand for, else as UTF-8, else as base64.
func bytesText(o *op, b []byte) string {
	switch {
	case o.logical == logicalDecimal && len(b) > 0 && len(b) <= maxDecimal && o.scale >= 0 && o.scale <= 4*maxDecimal:
		return decimalText(b, o.scale)
	case o.logical == logicalUUID && len(b) == 16:
		x := hex.EncodeToString(b)
		return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
	case utf8.Valid(b):
		return string(b)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// decimalText writes a big-endian two's complement number with scale decimals.
func decimalText(b []byte, scale int) string {
	v := new(big.Int).SetBytes(b)
	if b[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	sign := ""
	if v.Sign() < 0 {
		sign = "-"
		v.Neg(v)
	}
	d := v.String()
	if scale == 0 {
		return sign + d
	}
	if len(d) <= scale {
		d = strings.Repeat("0", scale-len(d)+1) + d
	}
	return sign + d[:len(d)-scale] + "." + d[len(d)-scale:]
}

// floatText writes a number as JSON does, and what JSON has no number for as a word.
func floatText(f float64) (text string, isNumber bool) {
	switch {
	case math.IsNaN(f):
		return "NaN", false
	case math.IsInf(f, 1):
		return "Infinity", false
	case math.IsInf(f, -1):
		return "-Infinity", false
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.FormatFloat(f, format, -1, 64), true
}
