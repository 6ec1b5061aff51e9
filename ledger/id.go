package ledger

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// ID names one ledger: the first 16 bytes of a hash over its genesis body, so
// that an id cannot be claimed without the body that made it.
type ID [16]byte

// TopicID is the UUID a Kafka cluster gives a topic when it is created. A topic
// deleted and made again under the same name has another one.
type TopicID [16]byte

// Hash is a SHA-256 output: a leaf hash or a commitment.
type Hash [32]byte

// Salt blinds one commitment; see [Salter].
type Salt [16]byte

// String returns 32 lower-case hexadecimal digits, the form used in URLs, JSON and logs.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// UUID returns the hyphenated form, as PostgreSQL prints the uuid type.
func (id ID) UUID() string { return uuidText(id) }

// MarshalText renders the 32-digit form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText takes both forms that [ParseID] takes.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// ParseID takes 32 lower-case hexadecimal digits or the same as a hyphenated UUID.
func ParseID(s string) (ID, error) {
	var id ID
	if err := parse16(id[:], s); err != nil {
		return ID{}, fmt.Errorf("ledger id %q: %w", clip(s), err)
	}
	return id, nil
}

// String returns the hyphenated lower-case form that Kafka tools and the genesis body use.
func (t TopicID) String() string { return uuidText(t) }

// ParseTopicID takes a hyphenated lower-case UUID.
func ParseTopicID(s string) (TopicID, error) {
	var t TopicID
	if len(s) != 36 {
		return t, fmt.Errorf("topic id %q: want a hyphenated lower-case UUID", clip(s))
	}
	if err := parse16(t[:], s); err != nil {
		return TopicID{}, fmt.Errorf("topic id %q: %w", clip(s), err)
	}
	return t, nil
}

// String returns 64 lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText renders the hexadecimal form.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText takes what MarshalText gives.
func (h *Hash) UnmarshalText(b []byte) error {
	var v Hash
	if n, err := hex.Decode(v[:], b[:min(len(b), 2*len(v))]); err != nil || n != len(v) || v.String() != string(b) {
		return fmt.Errorf("hash %q: want 64 lower-case hexadecimal digits", clip(string(b)))
	}
	*h = v
	return nil
}

func uuidText(b [16]byte) string {
	x := hex.EncodeToString(b[:])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}

func parse16(dst []byte, s string) error {
	h := s
	if len(s) == 36 {
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return fmt.Errorf("hyphens are not where a UUID has them")
		}
		h = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	if len(h) != 32 || strings.ToLower(h) != h {
		return fmt.Errorf("want 32 lower-case hexadecimal digits or a lower-case UUID")
	}
	if _, err := hex.Decode(dst, []byte(h)); err != nil {
		return fmt.Errorf("want 32 lower-case hexadecimal digits or a lower-case UUID")
	}
	return nil
}

// clip bounds untrusted text that goes into an error.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
