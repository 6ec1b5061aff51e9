package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// A cursor is base64url over 49 bytes: version 1 · time in microseconds (8) ·
// ledger (16) · seq (8) · filters (8) · checksum (8). "filters" is a truncated
// SHA-256 of what the listing is restricted to, the tenant included, so a cursor
// goes on in its own listing only. The checksum covers all before it and catches
// damage. It is no signature and need not be one: a made-up cursor moves the
// position within what its sender may read anyway, and nothing else, and without a
// key cursors outlive restarts and work on every replica.
const (
	cursorVersion = 1
	cursorBody    = 1 + 8 + 16 + 8 + 8
	cursorSize    = cursorBody + 8
)

func sealCursor(k sinks.Key, q sinks.Query) string {
	b := make([]byte, 0, cursorSize)
	b = append(b, cursorVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(k.Time.UnixMicro()))
	b = append(b, k.Ledger[:]...)
	b = binary.BigEndian.AppendUint64(b, k.Seq)
	b = append(b, filtersOf(q)...)
	b = append(b, checksum(b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// openCursor returns the position, given the query that the other parameters make.
func openCursor(s string, q sinks.Query) (sinks.Key, *problem) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != cursorSize || string(checksum(b[:cursorBody])) != string(b[cursorBody:]) {
		return sinks.Key{}, badCursor("it is damaged or was not made here")
	}
	if b[0] != cursorVersion {
		return sinks.Key{}, badCursor("it is of another version of this server")
	}
	if string(b[33:cursorBody]) != string(filtersOf(q)) {
		return sinks.Key{}, badCursor("it was made for other filters, another order or another tenant")
	}
	return sinks.Key{
		Time:   time.UnixMicro(int64(binary.BigEndian.Uint64(b[1:9]))).UTC(),
		Ledger: ledger.ID(b[9:25]),
		Seq:    binary.BigEndian.Uint64(b[25:33]),
	}, nil
}

func badCursor(detail string) *problem {
	return &problem{kind: kindCursor, detail: detail, where: "query parameter cursor",
		fix: "take cursors from next or resume of the same query, unchanged, or start without one"}
}

// filtersOf covers every field of the query but Limit and After, which may change
// from page to page. %q keeps neighbouring values apart.
func filtersOf(q sinks.Query) []byte {
	var id string
	if q.Ledger != nil {
		id = q.Ledger.String()
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "sealstream filters v1 %s %s %q %q %q %q %q %q %q %q %q",
		q.From.Format(time.RFC3339Nano), q.To.Format(time.RFC3339Nano), q.Action, q.Category, q.Outcome, q.Actor, q.Object, q.Source, q.Tenant, id, q.Order))
	return sum[:8]
}

func checksum(b []byte) []byte {
	h := sha256.New()
	h.Write([]byte("sealstream cursor"))
	h.Write(b)
	return h.Sum(nil)[:8]
}
