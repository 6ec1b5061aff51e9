package generate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
)

// A template is one event in both forms, taken apart where it differs from time to
// time. The event is made once by package schemas, from its own types, with marks in
// these places; whatever the schemas say, the pieces follow.

// hole is a place that is filled in anew each time.
type hole uint8

const (
	holeNone hole = iota
	holeID
	holeTime
	holeSession
	holeTrace
	holeNumber
	holeCents
	holeVersion
)

// The marks. Texts have the length of what replaces them, because Avro writes lengths.
const (
	markID      = "mark-mar-7mar-8mar-mark-id-mark-id-!"
	markSession = "mark-session-mk!"
	markTrace   = "mark-trace-mark-trace-mark-trace"
	markNumber  = "mark-num"
	markCents   = "918273"
	markVersion = 0x1234567
	markMillis  = 1_111_111_111_111
)

func markTime() time.Time { return time.UnixMilli(markMillis).UTC() }

// piece is bytes as they are, and the hole behind them.
type piece struct {
	text []byte
	hole hole
}

type template struct {
	stream  string
	tenant  string
	key     []byte // nil: the order's id
	json    []piece
	avro    []piece
	headers []ledger.Header
}

// prepared is what a template has beside its event.
type prepared struct {
	stream   string
	actor    *actor
	action   string
	schemaID uint32
	key      []byte
}

// event is what both event types can do.
type event interface {
	MarshalJSON() ([]byte, error)
	AppendAvro(dst []byte) ([]byte, error)
}

// Positions in a template's headers.
const (
	headerID = iota
	headerTime
	headerContentType
)

// prepare takes an event apart. A mark that is not found is this package's own fault,
// which the first event of its kind shows.
func (g *Generator) prepare(e event, p prepared) *template {
	t := &template{stream: p.stream, tenant: p.actor.tenant, key: p.key}
	t.headers = []ledger.Header{
		{Name: "ce_id"}, {Name: "ce_time"}, {Name: "content-type"},
		{Name: "ce_specversion", Value: []byte("1.0")},
		{Name: "ce_source", Value: []byte("sealstream/generate")},
		{Name: "ce_type", Value: []byte(p.action)},
		{Name: "ce_tenant", Value: []byte(p.actor.tenant)},
	}
	text, err := e.MarshalJSON()
	if err != nil {
		panic(fmt.Sprintf("generate: %s as JSON: %v", p.action, err))
	}
	t.json = takeApart(text, markTime().AppendFormat(nil, "2006-01-02T15:04:05.000Z"), fmt.Append(nil, markVersion))
	if g.o.Format != JSON {
		body, err := e.AppendAvro(nil)
		if err != nil {
			panic(fmt.Sprintf("generate: %s as Avro: %v", p.action, err))
		}
		t.avro = takeApart(schemas.AppendFrame(nil, p.schemaID, body), binary.AppendVarint(nil, markMillis), binary.AppendVarint(nil, markVersion))
	}
	return t
}

// takeApart cuts b at its marks. Times and versions look different in the two forms.
func takeApart(b, atTime, version []byte) []piece {
	type found struct {
		at, length int
		hole       hole
	}
	var all []found
	for _, m := range []struct {
		mark []byte
		hole hole
	}{
		{[]byte(markID), holeID}, {atTime, holeTime}, {[]byte(markSession), holeSession}, {[]byte(markTrace), holeTrace},
		{[]byte(markNumber), holeNumber}, {[]byte(markCents), holeCents}, {version, holeVersion},
	} {
		for at := 0; ; {
			i := bytes.Index(b[at:], m.mark)
			if i < 0 {
				break
			}
			all = append(all, found{at + i, len(m.mark), m.hole})
			at += i + len(m.mark)
		}
	}
	slices.SortFunc(all, func(x, y found) int { return x.at - y.at })
	var out []piece
	from := 0
	for _, f := range all {
		out = append(out, piece{text: b[from:f.at], hole: f.hole})
		from = f.at + f.length
	}
	return append(out, piece{text: b[from:]})
}

// holes is what goes into the holes of one message.
type holes struct {
	who     int
	number  int
	version int
}

// renderOrder renders an event of an order, whose id is the key.
func (t *template) renderOrder(g *Generator, m *Message, number int) {
	g.holes.number = number
	t.fill(g, m)
	m.Key = append(append(m.Key[:0], "order-"...), "00000000"...)
	putDigits(m.Key[len(m.Key)-8:], number)
}

// render renders an event of an actor.
func (t *template) render(g *Generator, m *Message) {
	g.holes.number = g.rand.below(100_000_000)
	t.fill(g, m)
	m.Key = append(m.Key[:0], t.key...)
}

func (t *template) fill(g *Generator, m *Message) {
	g.putID(&m.id)
	copy(m.time[:], g.clock.at(g.now))
	pieces, content := t.json, g.contents[0]
	isAvro := g.wantAvro()
	if isAvro {
		pieces, content = t.avro, g.contents[1]
	}
	b := m.Value[:0]
	for i := range pieces {
		b = append(b, pieces[i].text...)
		switch pieces[i].hole {
		case holeNone:
		case holeID:
			b = append(b, m.id[:]...)
		case holeTime:
			if isAvro {
				b = binary.AppendVarint(b, g.now)
			} else {
				b = append(b, m.time[:]...)
			}
		case holeSession: // one for each actor and day
			b = appendHex(b, mix(uint64(g.holes.who)<<32^uint64(g.now/86_400_000)))
		case holeTrace:
			b = appendHex(appendHex(b, g.rand.next()), g.rand.next())
		case holeNumber:
			b = append(b, "00000000"...)
			putDigits(b[len(b)-8:], g.holes.number)
		case holeCents:
			b = append(b, "000000"...)
			putDigits(b[len(b)-6:], 100_000+g.rand.below(900_000))
		case holeVersion:
			if isAvro {
				b = binary.AppendVarint(b, int64(g.holes.version))
			} else {
				b = strconv.AppendInt(b, int64(g.holes.version), 10)
			}
		}
	}
	m.Value, m.Stream, m.Tenant, m.TimeMs = b, t.stream, t.tenant, g.now
	m.Headers = append(m.Headers[:0], t.headers...)
	m.Headers[headerID].Value = m.id[:]
	m.Headers[headerTime].Value = m.time[:]
	m.Headers[headerContentType].Value = content
}

// putID writes a UUID of version 7 for the event's time.
func (g *Generator) putID(dst *[36]byte) {
	a := uint64(g.now)<<16 | 0x7000 | g.rand.next()&0xfff
	b := g.rand.next()&^(3<<62) | 2<<62
	var hex [32]byte
	putHex(hex[:16], a)
	putHex(hex[16:], b)
	copy(dst[0:8], hex[0:8])
	dst[8] = '-'
	copy(dst[9:13], hex[8:12])
	dst[13] = '-'
	copy(dst[14:18], hex[12:16])
	dst[18] = '-'
	copy(dst[19:23], hex[16:20])
	dst[23] = '-'
	copy(dst[24:36], hex[20:32])
}

func mix(v uint64) uint64 { return (&chance{state: v}).next() }

func appendHex(b []byte, v uint64) []byte {
	var h [16]byte
	putHex(h[:], v)
	return append(b, h[:]...)
}

func putHex(dst []byte, v uint64) {
	const digits = "0123456789abcdef"
	for i := 15; i >= 0; i-- {
		dst[i] = digits[v&15]
		v >>= 4
	}
}

func putDigits(dst []byte, v int) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
}
