package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hexBytes is a byte string in a vector file: null stays null.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		*h = nil
		return err
	}
	x, err := hex.DecodeString(*s)
	*h = append(hexBytes{}, x...)
	return err
}

type vectorFile struct {
	Body       string   `json:"body"`
	Ledger     string   `json:"ledger"`
	SaltMaster hexBytes `json:"saltmaster"`
	Topic      string   `json:"topic"`
	Records    []struct {
		Name, Kind          string
		Key, Value          hexBytes
		Headers             [][2]hexBytes
		TimeMs, Offset      int64
		Epoch               int32
		Flags               uint16
		SaltKey             uint32
		Salt                hexBytes
		Frame, Commit, Stmt hexBytes
		Leaf                hexBytes
	}
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// vectorsRoot is the RFC 6962 root that a second implementation computed over the 17
// leaves (testdata/check.py prints it).
const vectorsRoot = "02899f2476dae15dbc12b2423c0c2d54eb760645453b9da3081f453388eb0f37"

// root is the Merkle tree hash of RFC 6962 section 2.1, written from the text.
func root(leaves []Hash) Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	l, r := root(leaves[:k]), root(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

// TestVectors reproduces every byte of the 17 published vectors: with the primitives,
// and, record by record, with a chain that is resumed behind the record before.
func TestVectors(t *testing.T) {
	var f vectorFile
	readJSON(t, "testdata/vectors.json", &f)
	if len(f.Records) != 17 {
		t.Fatalf("%d records, want 17", len(f.Records))
	}
	g, err := ParseGenesis([]byte(f.Body))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := g.Body(); err != nil || string(body) != f.Body {
		t.Fatalf("Body() = %q, %v", body, err)
	}
	if id := IDOf([]byte(f.Body)); id.String() != f.Ledger {
		t.Fatalf("ledger id %s, want %s", id, f.Ledger)
	}
	keys, err := NewKeyring(map[uint32][]byte{1: f.SaltMaster}, 0)
	if err != nil {
		t.Fatal(err)
	}
	salter, err := keys.Salter(IDOf([]byte(f.Body)), 1)
	if err != nil {
		t.Fatal(err)
	}
	var leaves []Hash
	var head Sealed
	for seq, v := range f.Records {
		t.Run(strconv.Itoa(seq)+" "+v.Name, func(t *testing.T) {
			src := Record{Key: v.Key, Value: v.Value, TimeMs: v.TimeMs, Offset: v.Offset, LeaderEpoch: v.Epoch, LogAppendTime: v.Flags&1 != 0}
			for _, h := range v.Headers {
				src.Headers = append(src.Headers, Header{Name: string(h[0]), Value: h[1]})
			}
			frame := AppendFrame(nil, &src)
			if !bytes.Equal(frame, v.Frame) {
				t.Fatalf("frame\n%x, want\n%x", frame, v.Frame)
			}
			if back, err := ParseFrame(frame); err != nil || !cmp.Equal(back, Record{Key: src.Key, Value: src.Value, Headers: src.Headers}) {
				t.Errorf("ParseFrame = %+v, %v", back, err)
			}
			salt := Salt{}
			if v.SaltKey != 0 {
				salt = salter.Salt(uint64(seq))
			}
			if !bytes.Equal(salt[:], v.Salt) {
				t.Errorf("salt %x, want %x", salt, v.Salt)
			}
			if c := Commit(&salt, frame); !bytes.Equal(c[:], v.Commit) {
				t.Errorf("commitment %s, want %x", c, v.Commit)
			}
			st, err := ParseStatement(v.Stmt)
			if err != nil {
				t.Fatal(err)
			}
			var again [StatementSize]byte
			st.Put(&again)
			if !bytes.Equal(again[:], v.Stmt) {
				t.Errorf("Put(ParseStatement) = %x, want %x", again, v.Stmt)
			}
			if l := LeafHash(&again); !bytes.Equal(l[:], v.Leaf) {
				t.Errorf("leaf %s, want %x", l, v.Leaf)
			}
			sealed := chainRecord(t, g, &head, &src, keysFor(keys, v.SaltKey))
			if head, err = Open(&sealed); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(head.Raw[:], v.Stmt) || head.Salt != salt {
				t.Errorf("chain made statement\n%x, want\n%x", head.Raw, v.Stmt)
			}
			if !head.CheckCommitment() {
				t.Error("commitment does not hold")
			}
			leaves = append(leaves, head.Leaf())
		})
	}
	if got := root(leaves); got.String() != vectorsRoot {
		t.Errorf("root %s, want %s", got, vectorsRoot)
	}
}

func keysFor(k *Keyring, id uint32) *Keyring {
	if id == 0 {
		return nil
	}
	return k
}

// chainRecord seals src with a chain made anew behind head, or starts the ledger.
func chainRecord(t *testing.T, g Genesis, head *Sealed, src *Record, k *Keyring) Record {
	t.Helper()
	if head.Statement.Kind == 0 {
		_, r, err := Start(g, k)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	c, err := Resume(head, g, k)
	if err != nil {
		t.Fatal(err)
	}
	seal, _, err := c.Append(src, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sealedRecord(src, seal)
}

// sealedRecord is what the seal stage writes for src.
func sealedRecord(src *Record, seal []byte) Record {
	r := *src
	r.Headers = append(append([]Header(nil), src.Headers...), Header{Name: SealHeader, Value: seal})
	if ClampTime(r.TimeMs) == TimeOutOfRange {
		r.TimeMs = -1
	}
	return r
}
