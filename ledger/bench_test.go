package ledger

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"
)

var testTopic = TopicID{0x3e, 0x12, 0x6b, 0x72, 0xad, 0xe3, 0x45, 0x02, 0xbf, 0xd2, 0x1a, 0x6f, 0xfd, 0x35, 0xf6, 0x28}

func testGenesis() Genesis {
	return Genesis{Name: "audit.example.com/log", Cluster: "c-1", Source: "audit.events", SourceID: testTopic, Partition: 3}
}

func testKeys(t testing.TB, ids ...uint32) *Keyring {
	t.Helper()
	masters := map[uint32][]byte{}
	for _, id := range ids {
		masters[id] = bytes.Repeat([]byte{byte(id)}, 32)
	}
	k, err := NewKeyring(masters, 0)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func benchRecord(headers int) Record {
	r := Record{Key: []byte("tenant-1/user-12345"), Value: bytes.Repeat([]byte{'x'}, 400), TimeMs: 1_795_430_954_228}
	for i := range headers {
		r.Headers = append(r.Headers, Header{Name: fmt.Sprintf("ce_header%d", i), Value: []byte("0190c8f2-7a3b-7c11-9a55-0123456789ab")})
	}
	return r
}

// BenchmarkChainAppend is one ledger step: frame, commitment, salt, statement, leaf
// hash, for a 400-byte value and a 19-byte key.
func BenchmarkChainAppend(b *testing.B) {
	for _, salted := range []bool{true, false} {
		for _, headers := range []int{0, 4} {
			b.Run(fmt.Sprintf("salted=%t/headers=%d", salted, headers), func(b *testing.B) {
				k := testKeys(b, 1)
				if !salted {
					k = nil
				}
				c, _, err := Start(testGenesis(), k)
				if err != nil {
					b.Fatal(err)
				}
				src := benchRecord(headers)
				slab := make([]byte, 0, slabSize)
				b.SetBytes(int64(len(src.Value)))
				b.ReportAllocs()
				for b.Loop() {
					if cap(slab)-len(slab) < StatementSize+saltSize {
						slab = slab[:0] // the records it served are written
					}
					if _, slab, err = c.Append(&src, slab); err != nil {
						b.Fatal(err)
					}
					src.Offset++
				}
			})
		}
	}
}

// BenchmarkCommit compares copying the value into one buffer with writing the parts
// to a hash.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{100, 400, 1 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 1 << 20} {
		src := benchRecord(0)
		src.Value = bytes.Repeat([]byte{'x'}, size)
		c := newCommitter()
		b.Run(fmt.Sprintf("copy/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				c.buf = AppendFrame(c.buf[:commitPrefix], &src)
				c.sum = sha256.Sum256(c.buf)
			}
		})
		b.Run(fmt.Sprintf("stream/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				c.sum = c.commit(&src)
			}
		})
	}
}

// BenchmarkVerifierNext judges 400-byte events, commitment included; the records are
// made before the clock runs.
func BenchmarkVerifierNext(b *testing.B) {
	for _, c := range []struct {
		name    string
		keys    bool
		headers int
	}{{"keyless/headers=0", false, 0}, {"keyless/headers=4", false, 4}, {"keys/headers=0", true, 0}} {
		b.Run(c.name, func(b *testing.B) {
			k := testKeys(b, 1)
			chain, genesis, err := Start(testGenesis(), k)
			if err != nil {
				b.Fatal(err)
			}
			records := []Record{genesis}
			for i := range 20_000 {
				src := benchRecord(c.headers)
				src.Offset = int64(i)
				seal, _, err := chain.Append(&src, nil)
				if err != nil {
					b.Fatal(err)
				}
				records = append(records, sealedRecord(&src, seal))
			}
			o := VerifierOptions{Topic: "t", Partition: 3}
			if c.keys {
				o.Keys = k
			}
			b.ReportAllocs()
			n, v := 0, NewVerifier(o)
			for b.Loop() {
				if n == len(records) {
					n, v = 0, NewVerifier(o)
				}
				if f := v.Next(&records[n]); f != nil {
					b.Fatal(f)
				}
				n++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkOpen takes a sealed record apart, and checks its commitment.
func BenchmarkOpen(b *testing.B) {
	c, _, err := Start(testGenesis(), testKeys(b, 1))
	if err != nil {
		b.Fatal(err)
	}
	src := benchRecord(4)
	seal, _, err := c.Append(&src, nil)
	if err != nil {
		b.Fatal(err)
	}
	r := sealedRecord(&src, seal)
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Open(&r); err != nil {
				b.Fatal(err)
			}
		}
	})
	s, err := Open(&r)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("commitment", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !s.CheckCommitment() {
				b.Fatal("does not hold")
			}
		}
	})
}
