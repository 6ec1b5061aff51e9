package generate

import "bytes"

// spoil makes of a good value one that some sender got wrong.
func (g *Generator) spoil(b []byte) []byte {
	switch g.rand.below(6) {
	case 1: // a frame whose schema no registry has
		head := append([]byte(nil), b...)
		return append(append(b[:0], 0, 0xfe, 0xed, 0xbe, 0xef), head...)
	case 2: // Latin-1
		if i := bytes.LastIndexAny(b, "aeiou"); i >= 0 && b[0] == '{' {
			b[i] = 0xe9
			return b
		}
	case 3: // binary
		for i := range b {
			b[i] = byte(g.rand.next()) | 1
		}
		return b
	case 4: // a list of events where one event belongs
		return append(append(append(b[:0:0], '['), b...), ']')
	case 5: // nothing at all
		return b[:0]
	}
	return b[:g.rand.below(len(b))] // cut short
}
