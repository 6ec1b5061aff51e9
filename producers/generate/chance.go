package generate

import "math"

// chance is SplitMix64: small, quick, and the same on every machine and in every
// version of Go.
type chance struct{ state uint64 }

func (c *chance) next() uint64 {
	c.state += 0x9e3779b97f4a7c15
	z := c.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n).
func (c *chance) below(n int) int { return int(c.next() >> 33 * uint64(n) >> 31) }

// under is true in share of 2^32 cases.
func (c *chance) under(share uint64) bool { return c.next()>>32 < share }

func fraction(f float64) uint64 { return uint64(max(f, 0) * (1 << 32)) }

// table draws from a fixed distribution with one look-up.
type table [4096]uint32

// newTable gives each of n things a share of the slots by its weight, at least one.
func newTable(n int, weight func(int) float64) table {
	var t table
	var total float64
	for k := range n {
		total += weight(k)
	}
	var sum float64
	slot := 0
	for k := range n {
		sum += weight(k)
		end := int(math.Round(sum / total * float64(len(t))))
		if k == n-1 {
			end = len(t)
		}
		for ; slot < end; slot++ {
			t[slot] = uint32(k)
		}
	}
	return t
}

func (t *table) at(c *chance) int { return int(t[c.next()>>52]) }

// gapTable holds quantiles of the time between two events, in microseconds, for a mean
// rate of events a second.
func gapTable(rate float64) (t [1024]uint32) {
	for i := range t {
		gap := -math.Log((float64(i)+0.5)/float64(len(t))) / rate * 1e6
		t[i] = uint32(min(gap, math.MaxUint32))
	}
	return t
}
