package schemas

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNullEntriesCountInBothReadings: a map may give a name twice, and one of the two
// may be null. JSON shows both, so both readings see a field given more than once.
func TestNullEntriesCountInBothReadings(t *testing.T) {
	c := NewCodec(registry{1: `{"type":"record","name":"R","fields":[{"name":"event","type":{"type":"map","values":["null","string"]}}]}`})
	for _, body := range []string{
		"\x04\x0caction\x00\x0caction\x02\x02a\x00", // null, then "a"
		"\x04\x0caction\x02\x02a\x0caction\x00\x00", // "a", then null
		"\x04\x0caction\x00\x0caction\x00\x00",      // null twice
		"\x04\x0caction\x00\x08code\x02\x02c\x00",   // null once
	} {
		value := AppendFrame(nil, 1, []byte(body))
		text, err := c.JSON(t.Context(), value)
		if err != nil {
			t.Fatal(err)
		}
		var direct, byJSON Fields
		errA, errJ := c.Project(t.Context(), value, &direct), c.Project(t.Context(), text, &byJSON)
		if d := cmp.Diff(direct, byJSON); d != "" || (errA == nil) != (errJ == nil) || errA != nil && errA.Error() != errJ.Error() {
			t.Errorf("%s: directly %v, by JSON %v\n%s", text, errA, errJ, d)
		}
	}
}
