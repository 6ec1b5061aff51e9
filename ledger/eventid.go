package ledger

// eventIDHeader is the CloudEvents header whose value an event-id slot repeats.
const eventIDHeader = "ce_id"

// eventIDOf returns what the event-id slot of a salted event must hold when the
// genesis says "fields event-id": the UUID of the one ce_id header, or zeros when
// there is none, more than one, or one that is not a canonical version 4 or 7 UUID.
func eventIDOf(headers []Header) [16]byte {
	var id [16]byte
	found := false
	for i := range headers {
		if headers[i].Name != eventIDHeader {
			continue
		}
		if found {
			return [16]byte{}
		}
		found = true
		if !parseUUID(&id, headers[i].Value) || !isEventID(id) {
			id = [16]byte{}
		}
	}
	return id
}

// isEventID says whether id has version 4 or 7 and the variant of RFC 9562.
func isEventID(id [16]byte) bool {
	v := id[6] >> 4
	return (v == 4 || v == 7) && id[8]>>6 == 0b10
}

// parseUUID takes the canonical form only: 36 bytes, lower case, hyphens in place.
func parseUUID(dst *[16]byte, s []byte) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	for i, at := range [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34} {
		hi, ok1 := lowerHex(s[at])
		lo, ok2 := lowerHex(s[at+1])
		if !ok1 || !ok2 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func lowerHex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
