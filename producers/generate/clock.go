package generate

import "time"

// Office hours, UTC. At night and at weekends a tenth of the work is left, most of it
// done by services.
const (
	dayBegins, dayEnds = 7, 18
	nightSlowdown      = 10
)

// advance moves the clock to the next event.
func (g *Generator) advance() {
	gap := uint64(g.gaps[g.rand.next()>>54])
	if g.night() {
		gap *= nightSlowdown
	}
	g.micros += gap
	g.now += int64(g.micros / 1000)
	g.micros %= 1000
}

// night says whether the offices are closed.
func (g *Generator) night() bool {
	if g.o.NoNights {
		return false
	}
	hours := g.now / 3_600_000
	if hour := hours % 24; hour < dayBegins || hour >= dayEnds {
		return true
	}
	weekday := (hours/24 + 4) % 7 // 1970-01-01 was a Thursday
	return weekday == 0 || weekday == 6
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// clockText writes times in RFC 3339; within one second only the end changes.
type clockText struct {
	second int64
	text   [24]byte
}

func (c *clockText) at(ms int64) []byte {
	if s := ms / 1000; s != c.second || c.text[0] == 0 {
		c.second = s
		copy(c.text[:], time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	f := ms % 1000
	c.text[20], c.text[21], c.text[22] = byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10)
	return c.text[:]
}
