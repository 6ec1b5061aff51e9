package ledger

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestParseStatementIsExact: what is taken is written again byte for byte, and each
// field has its own bytes.
func TestParseStatementIsExact(t *testing.T) {
	f := fixtures(t)["salted=true,eventids=true"]
	for i := range f.records {
		s := f.open(t, i)
		for at := range s.Raw {
			for bit := range 8 {
				b := s.Raw
				b[at] ^= 1 << bit
				st, err := ParseStatement(b[:])
				if err != nil {
					continue
				}
				var again [StatementSize]byte
				st.Put(&again)
				if again != b {
					t.Fatalf("record %d byte %d bit %d: written again as %x", i, at, bit, again)
				}
				if cmp.Equal(st, s.Statement) {
					t.Fatalf("record %d byte %d bit %d: changes no field", i, at, bit)
				}
			}
		}
	}
	s := f.open(t, 3)
	s.Statement.Partition, s.Statement.Seq, s.Statement.Offset = math.MaxInt32, math.MaxInt64, math.MaxInt64
	dirty := [StatementSize]byte(bytes.Repeat([]byte{0xff}, StatementSize))
	s.Statement.Put(&dirty)
	if st, err := ParseStatement(dirty[:]); err != nil || st != s.Statement {
		t.Errorf("the largest partition, seq and offset: %v", err)
	}
	for _, n := range []int{0, 199, 201} {
		if _, err := ParseStatement(make([]byte, n)); err == nil || !strings.Contains(err.Error(), "200") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestEventIDSlot draws ce_id values near the canonical form.
func TestEventIDSlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")
		if rapid.Bool().Draw(t, "version") {
			raw[6] = raw[6]&0x0f | rapid.SampledFrom([]byte{0x40, 0x70}).Draw(t, "4 or 7")
			raw[8] = raw[8]&0x3f | 0x80
		}
		text := TopicID(raw).String()
		want := [16]byte{}
		if v := text[14]; (v == '4' || v == '7') && strings.IndexByte("89ab", text[19]) >= 0 {
			want = [16]byte(raw)
		}
		if got := eventIDOf([]Header{{Name: "ce_id", Value: []byte(text)}}); got != want {
			t.Fatalf("%s: slot %x, want %x", text, got, want)
		}
		broken := []byte(text)
		at := rapid.IntRange(0, 35).Draw(t, "at")
		broken[at] = rapid.Byte().Draw(t, "byte")
		got := eventIDOf([]Header{{Name: "ce_id", Value: broken}})
		if got != ([16]byte{}) && TopicID(got).String() != string(broken) {
			t.Fatalf("%q: slot %x", broken, got)
		}
	})
}

func TestParseIDs(t *testing.T) {
	const digits, uuid = "1b67fab38210be898f2a52ec4b4903d4", "1b67fab3-8210-be89-8f2a-52ec4b4903d4"
	for _, s := range []string{digits, uuid} {
		id, err := ParseID(s)
		if err != nil || id.String() != digits || id.UUID() != uuid {
			t.Errorf("ParseID(%q) = %s, %v", s, id, err)
		}
	}
	for _, s := range []string{"", digits[1:], digits + "0", strings.ToUpper(digits), strings.ToUpper(uuid), strings.ReplaceAll(uuid, "-", "_"), "g" + digits[1:],
		"1b67fab38-210-be89-8f2a-52ec4b4903d4", "{" + digits + "}", strings.Repeat("-", 36), strings.Repeat("-", 32)} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %s", s, id)
		}
		if _, err := ParseTopicID(s); err == nil {
			t.Errorf("ParseTopicID(%q) was taken", s)
		}
	}
	if _, err := ParseTopicID(digits); err == nil {
		t.Error("a topic id without hyphens was taken")
	}
	if text, err := (ID{0x1b}).MarshalText(); err != nil || string(text) != "1b"+strings.Repeat("0", 30) {
		t.Errorf("MarshalText = %s, %v", text, err)
	}
	if text, err := (Hash{0x1b}).MarshalText(); err != nil || string(text) != "1b"+strings.Repeat("0", 62) {
		t.Errorf("MarshalText = %s, %v", text, err)
	}
	var id ID
	hash, back := Hash{1, 31: 0xab}, Hash{}
	if err := back.UnmarshalText([]byte(hash.String())); err != nil || back != hash {
		t.Errorf("hash %s came back as %s, %v", hash, back, err)
	}
	for _, bad := range []string{"", "00", strings.Repeat("x", 64), strings.Repeat("AB", 32), strings.Repeat("00", 33), strings.Repeat("0", 63)} {
		if err := back.UnmarshalText([]byte(bad)); err == nil || back != hash {
			t.Errorf("hash of %q: %s, %v", bad, back, err)
		}
	}
	if err := id.UnmarshalText([]byte(strings.Repeat("x", 500))); err == nil || len(err.Error()) > 200 || id != (ID{}) {
		t.Errorf("UnmarshalText of 500 bytes: %v", err)
	}
	if err := id.UnmarshalText([]byte(uuid)); err != nil || hex.EncodeToString(id[:]) != digits {
		t.Errorf("UnmarshalText = %s, %v", id, err)
	}
}
