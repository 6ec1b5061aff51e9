package sinktest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealstream/sealstream/sinks"
)

func testPoison(t *testing.T, f Fixture) {
	for _, c := range []struct {
		name string
		bad  []int
	}{
		{"one", []int{13}}, {"two adjacent", []int{6, 7}}, {"first", []int{0}}, {"last", []int{19}},
		{"first and last", []int{0, 19}}, {"far apart", []int{3, 16}}, {"none", nil},
		{"all", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}},
	} {
		s := f.Open()
		// A topic for each case: rows of the earlier ones stay.
		src := NewSource(t, fmt.Sprintf("%s.%d.%d", Topic, len(c.name), len(c.bad)), 0)
		write(t, s, src.Batch([]sinks.Record{src.First()}))
		b := src.Batch(src.Events(20))
		var want []Ref
		for _, i := range c.bad {
			want = append(want, RefOf(&b.Records[i]))
		}
		f.Refuse(want...)
		rejects := &Rejects{}
		if err := deliverer(s, rejects).Deliver(t.Context(), []sinks.Batch{b}); err != nil {
			t.Fatalf("%s: deliver: %v", c.name, err)
		}
		wantAt(t, s, src.Partition, b.Next)
		var got []Ref
		for _, r := range rejects.Kept() {
			got = append(got, RefOf(&r.Record))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: set aside (-want +got):\n%s", c.name, diff)
		}
		var stored []int
		for _, r := range f.Rows() {
			if r.Partition == src.Partition && r.Seq > 0 {
				stored = append(stored, int(r.Seq)-1)
			}
		}
		slices.Sort(stored)
		var good []int
		for i := range 20 {
			if !slices.Contains(c.bad, i) {
				good = append(good, i)
			}
		}
		if diff := cmp.Diff(good, stored); diff != "" {
			t.Errorf("%s: stored (-want +got):\n%s", c.name, diff)
		}
	}
}

func testPoisonElsewhere(t *testing.T, f Fixture) {
	s := f.Open()
	var batches []sinks.Batch
	for p := range int32(4) {
		src := NewSource(t, Topic, p)
		batches = append(batches, src.Batch(append([]sinks.Record{src.First()}, src.Events(8)...)))
	}
	bad := batches[2].Records[5]
	f.Refuse(RefOf(&bad))
	rejects := &Rejects{}
	if err := deliverer(s, rejects).Deliver(t.Context(), batches); err != nil {
		t.Fatalf("deliver: %v", err)
	}
	if kept := rejects.Kept(); len(kept) != 1 || RefOf(&kept[0].Record) != RefOf(&bad) || kept[0].Partition != batches[2].Partition {
		t.Errorf("set aside: %d records, want the one refused", len(kept))
	}
	for _, b := range batches {
		wantAt(t, s, b.Partition, b.Next)
	}
	batches[2].Records = slices.Delete(slices.Clone(batches[2].Records), 5, 6)
	wantRows(t, f, batches...)
}
