package producers

import "math/bits"

// batchOverhead is the length of a record batch (magic 2) without records.
const batchOverhead = 61

// batchBytes is the length of the record batch that holds only m, uncompressed:
// what max.message.bytes is compared with at worst.
func batchBytes(m *Message) int {
	n := 1 + 1 + 1 // attributes; the deltas of timestamp and offset are 0
	n += blob(len(m.Key)) + blob(len(m.Value)) + varint(len(m.Headers))
	for _, h := range m.Headers {
		n += blob(len(h.Name)) + blob(len(h.Value))
	}
	return batchOverhead + varint(n) + n
}

func blob(n int) int { return varint(n) + n }

// varint is the length of a non-negative number in zigzag encoding.
func varint(n int) int { return max(1, (bits.Len(uint(n)<<1)+6)/7) }
