package ledger

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzParseStatement(f *testing.F) {
	fx := fixtures(f)["salted=true,eventids=true"]
	for i := range fx.records {
		s := fx.open(f, i)
		f.Add(s.Raw[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := ParseStatement(b)
		if err != nil {
			return
		}
		var again [StatementSize]byte
		st.Put(&again)
		if !bytes.Equal(again[:], b) {
			t.Fatalf("%x is written again as %x", b, again)
		}
	})
}

func FuzzParseFrame(f *testing.F) {
	for i := range 7 {
		f.Add(AppendFrame(nil, new(sourceEvent(i))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseFrame(b)
		if err != nil {
			return
		}
		if again := AppendFrame(nil, &r); !bytes.Equal(again, b) {
			t.Fatalf("%x is written again as %x", b, again)
		}
	})
}

func FuzzParseGenesis(f *testing.F) {
	fx := fixtures(f)["salted=true,eventids=true"]
	for _, g := range []Genesis{fx.a, fx.b} {
		body, err := g.Body()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := ParseGenesis(b)
		if err != nil {
			return
		}
		if again, err := g.Body(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is written again as %q, %v", b, again, err)
		}
	})
}

func FuzzParsePrevious(f *testing.F) {
	f.Add("none")
	f.Add((&Previous{Size: 9}).String())
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePrevious(s); err == nil && p.String() != s {
			t.Fatalf("%q is written again as %q", s, p)
		}
	})
}

// encodeRecords is the fuzz form of a record stream: frame length, frame, timestamp.
func encodeRecords(records []Record) []byte {
	var out []byte
	for i := range records {
		frame := AppendFrame(nil, &records[i])
		out = binary.BigEndian.AppendUint16(out, uint16(len(frame)))
		out = append(out, frame...)
		out = binary.BigEndian.AppendUint64(out, uint64(records[i].TimeMs))
	}
	return out
}

// decodeRecords never fails: what is no frame becomes a value.
func decodeRecords(b []byte) []Record {
	var out []Record
	for len(b) >= 2 {
		n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
		frame := b[2 : 2+n]
		b = b[2+n:]
		r, err := ParseFrame(frame)
		if err != nil {
			r = Record{Value: frame}
		}
		if len(b) >= 8 {
			r.TimeMs = int64(binary.BigEndian.Uint64(b))
			b = b[8:]
		}
		r.Offset = int64(len(out))
		out = append(out, r)
	}
	return out
}

func FuzzOpen(f *testing.F) {
	for _, fx := range fixtures(f) {
		for i := range fx.records {
			f.Add(encodeRecords(fx.records[i : i+1]))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range decodeRecords(b) {
			before := cloneRecord(r)
			s, err := Open(&r)
			if err != nil {
				continue
			}
			again := s.Raw[:]
			if s.Statement.SaltKey != 0 {
				again = append(again, s.Salt[:]...)
			}
			if last := r.Headers[len(r.Headers)-1]; last.Name != SealHeader || !bytes.Equal(last.Value, again) {
				t.Fatal("opened to another seal")
			}
			s.CheckCommitment()
			s.Leaf()
			if !cmp.Equal(before, r) {
				t.Fatal("the record was changed")
			}
			if kind := s.Statement.Kind; (kind == KindGenesis) != (s.GenesisBody() != nil) || (kind == KindClose) != (s.CloseBody() != nil) {
				t.Fatal("body of another kind")
			}
		}
	})
}

// FuzzVerifier feeds any stream of records, and a program of moves over a good one.
func FuzzVerifier(f *testing.F) {
	all := fixtures(f)
	fx := all["salted=true,eventids=true"]
	for _, x := range all {
		f.Add(encodeRecords(x.records), []byte{})
	}
	f.Add([]byte{}, []byte{0, 1, 2, 2, 3, 30, 4, 200, 7, 9, 9, 14, 15, 16, 17})
	f.Add([]byte{}, []byte{0, 0, 13, 14, 14, 15, 1, 130, 131, 17, 255, 16})
	f.Fuzz(func(t *testing.T, stream, moves []byte) {
		records := decodeRecords(stream)
		for i, m := range moves {
			r := cloneRecord(fx.records[int(m)%len(fx.records)])
			if m >= 128 && i+1 < len(moves) { // with one bit flipped
				seal := r.Headers[len(r.Headers)-1].Value
				seal[int(moves[i+1])%len(seal)] ^= 1 << (m % 8)
			}
			r.Offset = int64(len(records))
			records = append(records, r)
		}
		o := VerifierOptions{Topic: "t", Partition: 3, Keys: fx.keys, Source: &fx.a, Partial: len(moves)%2 == 1}
		findings, v := verify(o, records)
		var read uint64
		for _, s := range v.Ledgers() {
			read += s.Records
		}
		if read > uint64(len(records)) {
			t.Fatalf("%d records in the ledgers of %d", read, len(records))
		}
		for _, x := range findings {
			if x.Where == "" || x.Detail == "" {
				t.Fatalf("finding without a place or a reason: %+v", x)
			}
		}
		if again, _ := verify(o, records); !cmp.Equal(again, findings) {
			t.Fatal("judged twice, two ways")
		}
	})
}
