package stream

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/ledger"
)

// logOf makes a partition with 3 records, a commit marker, 2 aborted records and their
// marker: it ends at 7. fetches counts.
func logOf(t *testing.T) (l *partitionLog, fetches *int) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("x"), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	writeTxn(t, cl, 3, kgo.TryCommit)
	writeTxn(t, cl, 2, kgo.TryAbort)
	log := newTopicLog(cl, "t")
	td, _, err := log.describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l, err = log.partition(td, 0); err != nil {
		t.Fatal(err)
	}
	fetches = new(int)
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		*fetches++
		return nil, nil, false
	})
	return l, fetches
}

func writeTxn(t *testing.T, cl *kgo.Client, n int, end kgo.TransactionEndTry) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(t.Context(), end); err != nil {
		t.Fatal(err)
	}
}

// A leader that does not know yet how far its log is stable must not make a log shorter.
// Here it is asked for more than it has, which looks the same.
func TestALaggingLeaderIsNoEndOfTheLog(t *testing.T) {
	l, fetches := logOf(t)
	const end = 7
	for _, c := range []struct {
		from, to int64
		want     int64 // offset, -1 for nothing, -2 for an error
		fetches  int
	}{
		{0, end, 0, 1}, {2, end, 2, 1}, {0, 1, 0, 1},
		{3, end, -1, 1}, {4, 6, -1, 1}, {end, end, -1, 0},
		{0, end + 1, 0, 1},
		{3, end + 1, -2, 2}, {end, end + 1, -2, 1},
	} {
		*fetches = 0
		r, err := l.first(t.Context(), c.from, c.to)
		got := int64(-1)
		switch {
		case err != nil:
			got = -2
			if !strings.Contains(err.Error(), "t/0") || !strings.Contains(err.Error(), "8 is stable") {
				t.Errorf("the error does not say where: %v", err)
			}
		case r != nil:
			got = r.Offset
		}
		if got != c.want || *fetches != c.fetches {
			t.Errorf("first of [%d, %d) is %d after %d fetches, want %d after %d", c.from, c.to, got, *fetches, c.want, c.fetches)
		}
	}
	*fetches = 0
	recs, err := l.tail(t.Context(), span{start: 0, stable: end, end: end})
	var offs []int64
	for _, r := range recs {
		offs = append(offs, r.Offset)
	}
	if err != nil || !slices.Equal(offs, []int64{0, 1, 2}) || *fetches != 1 {
		t.Errorf("tail %v after %d fetches, %v", offs, *fetches, err)
	}
	if recs, err := l.tail(t.Context(), span{start: 0, stable: end + 1, end: end + 1}); err == nil {
		t.Errorf("a tail of %d records was taken for all there is", len(recs))
	}
	if recs, err := l.tail(t.Context(), span{start: 3, stable: end, end: end}); err != nil || len(recs) != 0 {
		t.Errorf("tail of markers: %d records, %v", len(recs), err)
	}
	if found, err := l.search(t.Context(), 0, end+1, func(*ledger.Record) bool { return false }); err == nil {
		t.Errorf("searched to the end of what is not there: %v", found)
	}
}
