package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
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

// vector is one source record and all that is made of it.
type vector struct {
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

func (v *vector) source() Record {
	return Record{
		Key: v.Key, Value: v.Value, Headers: vectorHeaders(v.Headers),
		TimeMs: v.TimeMs, Offset: v.Offset, LeaderEpoch: v.Epoch, LogAppendTime: v.Flags&1 != 0,
	}
}

func vectorHeaders(pairs [][2]hexBytes) []Header {
	var out []Header
	for _, h := range pairs {
		out = append(out, Header{Name: string(h[0]), Value: h[1]})
	}
	return out
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

// TestVectors reproduces every byte of the 17 published vectors.
func TestVectors(t *testing.T) {
	var f struct {
		Body, Ledger, Topic string
		SaltMaster          hexBytes
		Records             []vector
	}
	readJSON(t, "testdata/vectors.json", &f)
	if len(f.Records) != 17 {
		t.Fatalf("%d records, want 17", len(f.Records))
	}
	keys, err := NewKeyring(map[uint32][]byte{1: f.SaltMaster}, 0)
	if err != nil {
		t.Fatal(err)
	}
	records, top := checkVectors(t, f.Body, f.Ledger, keys, f.Records)
	if top.String() != vectorsRoot {
		t.Errorf("root %s, want %s", top, vectorsRoot)
	}
	if findings, _ := verify(VerifierOptions{Partition: 3, Keys: keys}, records); findings != nil {
		t.Errorf("findings %v", findings)
	}
}

// TestLedgerVectors reproduces what the second implementation computed: closes and
// successors, two salt keys, event ids on.
func TestLedgerVectors(t *testing.T) {
	var partitions []struct {
		Name        string
		SaltMasters map[uint32]hexBytes
		Ledgers     []struct {
			Body, Ledger, Root string
			Records            []vector
		}
	}
	readJSON(t, "testdata/ledgers.json", &partitions)
	if len(partitions) != 3 {
		t.Fatalf("%d partitions, want 3", len(partitions))
	}
	for _, p := range partitions {
		t.Run(p.Name, func(t *testing.T) {
			masters := map[uint32][]byte{}
			for id, m := range p.SaltMasters {
				masters[id] = m
			}
			keys, err := NewKeyring(masters, 0)
			if err != nil {
				t.Fatal(err)
			}
			var all []Record
			for _, l := range p.Ledgers {
				records, top := checkVectors(t, l.Body, l.Ledger, keys, l.Records)
				if top.String() != l.Root {
					t.Errorf("root %s, want %s", top, l.Root)
				}
				all = append(all, records...)
			}
			findings, v := verify(VerifierOptions{Partition: 3, Keys: keys}, all)
			if findings != nil || len(v.Ledgers()) != len(p.Ledgers) {
				t.Errorf("findings %v, ledgers %+v", findings, v.Ledgers())
			}
		})
	}
}

// checkVectors reproduces a ledger with the primitives and, record by record, with a
// chain resumed behind the record before. It returns the sealed records and the root.
func checkVectors(t *testing.T, body, id string, keys *Keyring, vectors []vector) ([]Record, Hash) {
	t.Helper()
	g, err := ParseGenesis([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := g.Body(); err != nil || string(again) != body {
		t.Fatalf("Body() = %q, %v", again, err)
	}
	if got := IDOf([]byte(body)); got.String() != id {
		t.Fatalf("ledger id %s, want %s", got, id)
	}
	var leaves []Hash
	var records []Record
	var head Sealed
	for seq, v := range vectors {
		src := v.source()
		salt := checkPrimitives(t, &v, &src, keys, IDOf([]byte(body)), uint64(seq))
		r := chainRecord(t, g, &head, &v, keys)
		if head, err = Open(&r); err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if !bytes.Equal(head.Raw[:], v.Stmt) || head.Salt != salt {
			t.Fatalf("%s: chain made statement\n%x, want\n%x", v.Name, head.Raw, v.Stmt)
		}
		if !head.CheckCommitment() {
			t.Errorf("%s: commitment does not hold", v.Name)
		}
		leaves = append(leaves, head.Leaf())
		records = append(records, r)
	}
	return records, root(leaves)
}

func checkPrimitives(t *testing.T, v *vector, src *Record, keys *Keyring, id ID, seq uint64) Salt {
	t.Helper()
	frame := AppendFrame(nil, src)
	if !bytes.Equal(frame, v.Frame) {
		t.Errorf("%s: frame\n%x, want\n%x", v.Name, frame, v.Frame)
	}
	if back, err := ParseFrame(frame); err != nil || !cmp.Equal(back, Record{Key: src.Key, Value: src.Value, Headers: src.Headers}) {
		t.Errorf("%s: ParseFrame = %+v, %v", v.Name, back, err)
	}
	salt := Salt{}
	if v.SaltKey != 0 {
		salter, err := keys.Salter(id, v.SaltKey)
		if err != nil {
			t.Fatal(err)
		}
		salt = salter.Salt(seq)
	}
	if !bytes.Equal(salt[:], v.Salt) {
		t.Errorf("%s: salt %x, want %x", v.Name, salt, v.Salt)
	}
	if c := Commit(&salt, frame); !bytes.Equal(c[:], v.Commit) {
		t.Errorf("%s: commitment %s, want %x", v.Name, c, v.Commit)
	}
	st, err := ParseStatement(v.Stmt)
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	var again [StatementSize]byte
	st.Put(&again)
	if !bytes.Equal(again[:], v.Stmt) {
		t.Errorf("%s: Put(ParseStatement) = %x, want %x", v.Name, again, v.Stmt)
	}
	if l := LeafHash(&again); !bytes.Equal(l[:], v.Leaf) {
		t.Errorf("%s: leaf %s, want %x", v.Name, l, v.Leaf)
	}
	return salt
}

// TestRejectVectors: each record that the format forbids is found, for its reason, and
// by Open where no neighbour is needed.
func TestRejectVectors(t *testing.T) {
	type sealed struct {
		Key, Value hexBytes
		Headers    [][2]hexBytes
		TimeMs     int64
	}
	var f struct {
		Bases map[string][]sealed
		Cases []struct {
			Name, Base, Field string
			Records           []sealed
			Seq               uint64
			Alone             bool
			Verdict           Verdict
		}
	}
	readJSON(t, "testdata/rejects.json", &f)
	if len(f.Cases) != 138 {
		t.Errorf("%d cases, want 138", len(f.Cases))
	}
	for _, c := range f.Cases {
		t.Run(c.Name, func(t *testing.T) {
			var records []Record
			for _, s := range append(f.Bases[c.Base][:len(f.Bases[c.Base]):len(f.Bases[c.Base])], c.Records...) {
				records = append(records, Record{Key: s.Key, Value: s.Value, Headers: vectorHeaders(s.Headers), TimeMs: s.TimeMs, Offset: int64(len(records))})
			}
			bad := &records[len(records)-1]
			if findings, _ := verify(VerifierOptions{Topic: "t", Partition: 3}, records[:len(records)-1]); len(findings) > 0 && c.Base != "closed" {
				t.Fatalf("the base has findings: %v", findings)
			}
			v := NewVerifier(VerifierOptions{Topic: "t", Partition: 3})
			var findings []Finding
			for i := range records {
				findings = append(findings, v.Next(&records[i])...)
			}
			for _, late := range v.Finish() {
				if late.Verdict != Missing { // the successor of a close never comes here
					findings = append(findings, late)
				}
			}
			if len(findings) != 1 || findings[0].Verdict != c.Verdict || findings[0].Seq != c.Seq || !strings.Contains(findings[0].Detail, c.Field) ||
				findings[0].Where != "t/3@"+strconv.Itoa(len(records)-1) {
				t.Errorf("findings %+v, want %s %d %q", findings, c.Verdict, c.Seq, c.Field)
			}
			if _, err := Open(bad); (err != nil) != c.Alone || (c.Alone && !strings.Contains(err.Error(), c.Field)) {
				t.Errorf("Open: %v, want refused=%t for %q", err, c.Alone, c.Field)
			}
		})
	}
}

// chainRecord makes the record of a vector with a chain made anew behind head.
func chainRecord(t *testing.T, g Genesis, head *Sealed, v *vector, k *Keyring) Record {
	t.Helper()
	if v.Kind == "1" {
		_, r, err := Start(g, k)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if v.Kind == "3" {
		k = nil
		if head.Statement.SaltKey != 0 {
			k = testKeys(t, head.Statement.SaltKey)
		}
	} else {
		k = only1(t, k, v.SaltKey)
	}
	c, err := Resume(head, g, k)
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	src := v.source()
	if v.Kind == "3" {
		successor, err := ParseGenesis(src.Headers[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Close(successor)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return mustAppend(t, c, src)
}

// only1 is the keyring of a member that holds no other key than id.
func only1(t *testing.T, k *Keyring, id uint32) *Keyring {
	t.Helper()
	if id == 0 {
		return nil
	}
	master := k.masters[id]
	one, err := NewKeyring(map[uint32][]byte{id: master[:]}, id)
	if err != nil {
		t.Fatal(err)
	}
	return one
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
