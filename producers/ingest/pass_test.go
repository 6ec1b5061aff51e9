package ingest

import (
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestPassSeesWhatNextSees: a run that goes on must know the events again that an
// earlier one has read.
func TestPassSeesWhatNextSees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a", "bb", "\n", "\r\n", "\r", " ", "refuse", strings.Repeat("x", 30)})).Draw(t, "text"), "")
		describe := func(line []byte, _ *Item) error {
			if strings.Contains(string(line), "refuse") {
				return errors.New("refused")
			}
			return nil
		}
		next, pass := NewLines(strings.NewReader(text), 40, describe), NewLines(strings.NewReader(text), 40, describe)
		for {
			a, errA := next.Next()
			b, errB := pass.Pass()
			if !errors.Is(errA, errB) || string(a.Bytes) != string(b.Bytes) || a.Open != b.Open {
				t.Fatalf("%q: next %q open %v, %v; pass %q open %v, %v", text, a.Bytes, a.Open, errA, b.Bytes, b.Open, errB)
			}
			if errors.Is(errA, io.EOF) {
				return
			}
		}
	})
}
