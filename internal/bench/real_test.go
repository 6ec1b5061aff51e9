package bench

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealstream/sealstream/producers"
)

func TestMadeUpEvents(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 1000 {
		b := madeUp(r, i, sealedBytes-13)
		if len(b) != sealedBytes-13 || !json.Valid(b) {
			t.Fatalf("event %d of %d bytes: %s", i, len(b), b)
		}
	}
}

// TestAcked: the time since the last acknowledgement counts as long as none comes, and an
// error is kept.
func TestAcked(t *testing.T) {
	var a acked
	a.last = time.Now().Add(-time.Hour)
	if gap, n, err := a.gap(); gap < time.Hour || n != 0 || err != nil {
		t.Errorf("while none comes: %v, %d, %v", gap, n, err)
	}
	a.note(producers.Result{})
	a.note(producers.Result{})
	if gap, n, err := a.gap(); gap < time.Hour || gap > time.Hour+time.Minute || n != 2 || err != nil {
		t.Errorf("after it: %v, %d, %v", gap, n, err)
	}
	a.restart()
	a.note(producers.Result{Err: errors.New("refused")})
	if gap, n, err := a.gap(); gap > time.Minute || n != 2 || err == nil {
		t.Errorf("after a new start: %v, %d, %v", gap, n, err)
	}
}

func TestLogBytes(t *testing.T) {
	dir := t.TempDir()
	for path, size := range map[string]int{"a.b-0/1.log": 10, "a.b-11/2.log": 5, "a.b-11/2.index": 100, "a.b.sealed-0/1.log": 1000, "a.b-x/1.log": 1000} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := logBytes(dir, "a.b"); n != 15 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := logBytes(dir, "c"); err == nil {
		t.Error("a topic that is not there has a size")
	}
}

// TestFlat: growth of a tenth is flat, more is not.
func TestFlat(t *testing.T) {
	w := watched{what: "seal", start: 50 << 20, marks: []int64{51 << 20, 52 << 20}, early: 100 << 20, late: 110 << 20, after: 120 << 20}
	row := w.row(2*time.Minute, 1_000_000)
	if !strings.HasSuffix(row.Required, "flat: reached") || row.Rate != "50 MB; 51 52; 100 MB, 110 MB; 120 MB" {
		t.Errorf("%+v", row)
	}
	w.late = 119 << 20
	if row := w.row(2*time.Minute, 1_000_000); !strings.Contains(row.Required, "missed") {
		t.Errorf("%+v", row)
	}
}
