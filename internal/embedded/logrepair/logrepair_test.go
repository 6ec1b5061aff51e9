package logrepair

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const cluster = "test-cluster"

func options(clean bool) Options {
	return Options{Clean: clean, Cluster: cluster, Listeners: 3, Now: time.UnixMilli(1_800_000_000_000)}
}

func openCluster(t testing.TB, dir string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.DataDir(dir), kfake.ClusterID(cluster),
		kfake.BrokerConfigs(map[string]string{"log.segment.bytes": "600"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func client(t testing.TB, c *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func put(t testing.TB, cl *kgo.Client, p int32, values ...string) {
	t.Helper()
	for _, v := range values {
		if err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: "t", Partition: p, Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func txn(t testing.TB, cl *kgo.Client, end kgo.TransactionEndTry, values ...string) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		put(t, cl, int32(i%2), v)
	}
	if err := cl.EndTransaction(context.Background(), end); err != nil {
		t.Fatal(err)
	}
}

// fill makes a log with all there is: plain and idempotent records, committed
// and aborted transactions, several segments, and one transaction that stays
// open. It returns the directory as a crash leaves it: without a clean stop.
func fill(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	c := openCluster(t, dir)
	plain := client(t, c)
	if _, err := kadm.NewClient(plain).CreateTopic(context.Background(), 2, -1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	tx := client(t, c, kgo.TransactionalID("seal"))
	put(t, plain, 0, "a0", "a1")
	txn(t, tx, kgo.TryCommit, "b0", "b1", "b2")
	put(t, plain, 1, "a2")
	txn(t, tx, kgo.TryAbort, "x0", "x1")
	txn(t, tx, kgo.TryCommit, "c0", "c1", strings.Repeat("c", 700))
	put(t, plain, 0, "a3")
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	put(t, tx, 0, "y0")
	put(t, plain, 0, "a4")
	put(t, tx, 1, "y1")
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	// Not before the copy: closing ends the transaction.
	plain.Close()
	tx.Close()
	return crashed
}

func read(t *testing.T, c *kfake.Cluster) []string {
	t.Helper()
	cl := client(t, c, kgo.ConsumeTopics("t"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	defer cl.Close()
	left := map[int32]int64{}
	for _, p := range c.PartitionInfos("t") {
		if p.HighWatermark != p.LastStableOffset {
			t.Fatalf("partition %d: stable offset %d, end %d", p.Partition, p.LastStableOffset, p.HighWatermark)
		}
		if p.HighWatermark > p.LogStartOffset {
			left[p.Partition] = p.HighWatermark
		}
	}
	var got []string
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%v, left %v", err, left)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				got = append(got, string(r.Value[:min(2, len(r.Value))]))
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	sort.Strings(got)
	return got
}

func mustRepair(t testing.TB, dir string, o Options) Report {
	t.Helper()
	rep, err := Repair(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func encode(id [16]byte) string { return base64.StdEncoding.EncodeToString(id[:]) }

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

func TestRepairAfterACrash(t *testing.T) {
	dir := fill(t)
	rep := mustRepair(t, dir, options(false))
	if rep.Aborted != 2 || rep.Fenced != 1 || rep.TornBytes != 0 || rep.Partitions != 2 {
		t.Errorf("report %+v, want 2 open transactions aborted, 1 producer fenced", rep)
	}
	want := []string{"a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2", "c0", "c1", "cc"}
	c := openCluster(t, dir)
	if diff := cmp.Diff(want, read(t, c)); diff != "" {
		t.Errorf("committed records (-want +got):\n%s", diff)
	}
	// A later commit of the same transactional id brings nothing back.
	tx := client(t, c, kgo.TransactionalID("seal"))
	txn(t, tx, kgo.TryCommit, "d0", "d1")
	tx.Close()
	want = append(want, "d0", "d1")
	if diff := cmp.Diff(want, read(t, c)); diff != "" {
		t.Errorf("after one more transaction (-want +got):\n%s", diff)
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	mustRepair(t, crashed, options(false))
	if diff := cmp.Diff(want, read(t, openCluster(t, crashed))); diff != "" {
		t.Errorf("after one more crash (-want +got):\n%s", diff)
	}
}

// A second repair, as after a crash in the first, changes no log.
func TestRepairIsDoneOnce(t *testing.T) {
	dir := fill(t)
	mustRepair(t, dir, options(false))
	before := contents(t, dir)
	o := options(false)
	o.Now = o.Now.Add(time.Hour)
	rep := mustRepair(t, dir, o)
	if rep.Aborted != 0 {
		t.Errorf("%d transactions aborted again", rep.Aborted)
	}
	after := contents(t, dir)
	delete(before, "pids.log") // a producer may be fenced twice
	delete(after, "pids.log")
	delete(before, "seq_windows.json") // order of a map
	delete(after, "seq_windows.json")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(-first +second):\n%s", diff)
	}
	// Cut short before the snapshots were written, it ends the same way.
	for name := range before {
		if strings.HasSuffix(name, "snapshot.json") {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustRepair(t, dir, options(false))
	for name, b := range contents(t, dir) {
		if strings.HasSuffix(name, ".dat") && b != before[name] {
			t.Errorf("%s changed", name)
		}
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What Repair writes is what kfake writes itself: the format is that of the
// version this module pins, and this test fails when another one differs.
func TestRepairWritesWhatKfakeWrites(t *testing.T) {
	dir := t.TempDir()
	c := openCluster(t, dir)
	plain := client(t, c)
	if _, err := kadm.NewClient(plain).CreateTopic(t.Context(), 2, -1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	tx := client(t, c, kgo.TransactionalID("seal"))
	for i := range 20 {
		put(t, plain, 0, fmt.Sprint("a", i))
		txn(t, tx, kgo.TransactionEndTry(i%3 > 0), "b0", "b1")
	}
	plain.Close()
	tx.Close()
	c.Close() // clean
	theirs := contents(t, dir)
	for name := range theirs {
		if strings.HasSuffix(name, "snapshot.json") || strings.HasSuffix(name, ".idx") || name == "seq_windows.json" {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustRepair(t, dir, options(false))
	ours := contents(t, dir)
	for _, name := range []string{"partitions/t-0/snapshot.json", "partitions/t-1/snapshot.json", "seq_windows.json"} {
		if diff := cmp.Diff(normal(t, theirs[name]), normal(t, ours[name])); diff != "" {
			t.Errorf("%s (-kfake +repair):\n%s", name, diff)
		}
	}
	n := 0
	for name, b := range theirs {
		switch {
		case strings.HasSuffix(name, ".dat"):
			if b != ours[name] {
				t.Errorf("%s was changed", name)
			}
		case strings.HasSuffix(name, ".idx"):
			n++
			if len(b) != len(ours[name]) {
				t.Errorf("%s has %d bytes, want %d", name, len(ours[name]), len(b))
				continue
			}
			for at := 0; at < len(b); at += indexEntry {
				if !sameEntry([]byte(ours[name][at:at+indexEntry]), []byte(b[at:at+indexEntry])) {
					t.Errorf("%s entry %d: %x, want %x", name, at/indexEntry, ours[name][at:at+indexEntry], b[at:at+indexEntry])
				}
			}
		}
	}
	if n < 3 {
		t.Errorf("%d indexes compared, want several", n)
	}
	// The versions that the program knows are the ones kfake writes.
	for _, name := range []string{"meta.json", "topics.json", "seq_windows.json", "partitions/t-0/snapshot.json"} {
		if v := normal(t, theirs[name]).(map[string]any)["version"]; v != float64(FormatVersion) {
			t.Errorf("kfake writes %s in version %v, this package knows %d", name, v, FormatVersion)
		}
	}
}

// normal decodes a JSON file and takes out what may differ: where leaders are,
// when things were made, and the order of lists that come out of maps.
func normal(t *testing.T, s string) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%v in %.100q", err, s)
	}
	delete(v, "created_at")
	delete(v, "leader_node")
	if ws, ok := v["windows"].([]any); ok {
		for _, w := range ws {
			delete(w.(map[string]any), "seq") // of an older form, always empty
			delete(w.(map[string]any), "offsets")
		}
		sort.Slice(ws, func(i, j int) bool { return fmt.Sprint(ws[i]) < fmt.Sprint(ws[j]) })
	}
	return v
}

func TestRepairLeavesACleanDirectoryAlone(t *testing.T) {
	dir := t.TempDir()
	c := openCluster(t, dir)
	tx := client(t, c, kgo.TransactionalID("seal"))
	if _, err := kadm.NewClient(tx).CreateTopic(t.Context(), 2, -1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	txn(t, tx, kgo.TryCommit, "b0", "b1")
	// A transaction that is open over a clean stop lives on: kfake keeps it.
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	put(t, tx, 0, "y0")
	c.Close()
	before := contents(t, dir)
	if rep := mustRepair(t, dir, options(true)); rep.Repaired {
		t.Errorf("report %+v, want nothing repaired", rep)
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	tx.Close()
}

// Whatever length a crash leaves of the last segment, what is whole stays and
// the rest goes.
func TestRepairCutsATornTail(t *testing.T) {
	dir := fill(t)
	mustRepair(t, dir, options(false))
	seg := lastSegment(t, dir, "t-0")
	whole, err := os.ReadFile(seg)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[int]bool{}
	for at := 0; at < len(whole); {
		at += int(binary.BigEndian.Uint32(whole[at+8:])) + 12
		ends[at] = true
	}
	part := filepath.Dir(seg)
	scan := func(clean bool) (*partition, error) {
		return newScanner(func(int64) bool { return true }, clean).partition(part, topicFile{Name: "t", Partitions: 2}, 0)
	}
	for cut := range whole {
		for _, tail := range [][]byte{nil, make([]byte, 40)} { // blanks: the length arrived, the data did not
			if tail != nil && !ends[cut] && cut != 0 {
				continue // bytes of a batch and then blanks: the checksum's affair
			}
			if err := os.WriteFile(seg, append(bytes.Clone(whole[:cut]), tail...), 0o644); err != nil {
				t.Fatal(err)
			}
			p, err := scan(false)
			if err != nil {
				t.Fatalf("cut at %d with %d blanks: %v", cut, len(tail), err)
			}
			if wantTorn := tail != nil || (!ends[cut] && cut > 0); (p.torn > 0) != wantTorn {
				t.Fatalf("cut at %d: %d bytes torn, want some: %v", cut, p.torn, wantTorn)
			}
			if err := p.trim(); err != nil {
				t.Fatal(err)
			}
			again, err := scan(true)
			if err != nil || again.torn != 0 || again.batches != p.batches || again.last.end != p.last.end {
				t.Fatalf("cut at %d: not in order after the repair: %v, %d torn", cut, err, again.torn)
			}
		}
	}
}

func lastSegment(t *testing.T, dir, part string) string {
	t.Helper()
	bases, err := segmentBases(filepath.Join(dir, "partitions", part))
	if err != nil || len(bases) < 2 {
		t.Fatalf("segments %v, %v: want several", bases, err)
	}
	return filepath.Join(dir, "partitions", part, fmt.Sprintf("%d.dat", bases[len(bases)-1]))
}

// Every byte of a log is covered: a changed one is damage, except that after a
// crash the last batch may just not have arrived.
func TestRepairRefusesDamage(t *testing.T) {
	dir := fill(t)
	mustRepair(t, dir, options(false))
	bases, err := segmentBases(filepath.Join(dir, "partitions", "t-0"))
	if err != nil {
		t.Fatal(err)
	}
	for i, base := range bases {
		path := filepath.Join(dir, "partitions", "t-0", fmt.Sprintf("%d.dat", base))
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lastBatch := 0
		epochs := map[int]bool{}
		for at := 0; at < len(whole); {
			lastBatch = at
			// Four bytes are outside a batch's checksum: the epoch
			// of the partition's leader, on which nothing rests.
			for k := at + 12; k < at+16; k++ {
				epochs[k] = true
			}
			at += int(binary.BigEndian.Uint32(whole[at+8:])) + 12
		}
		for at := range whole {
			if epochs[at] {
				continue
			}
			bad := bytes.Clone(whole)
			bad[at] ^= 0x41
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			for _, clean := range []bool{true, false} {
				if !clean && i == len(bases)-1 && at >= lastBatch {
					continue // the batch of the crash
				}
				if _, err := Repair(t.Context(), dir, options(clean)); !errors.Is(err, ErrDamaged) {
					t.Fatalf("segment %d, byte %d of %d changed, clean stop %v: %v, want %v", base, at, len(whole), clean, err, ErrDamaged)
				}
			}
		}
		if now, err := os.ReadFile(path); err != nil || len(now) != len(whole) {
			t.Fatalf("segment %d was refused and changed", base)
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRepairOfStateLogs(t *testing.T) {
	dir := fill(t)
	for _, name := range []string{"pids.log", "groups.log"} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || len(whole) == 0 {
			whole = appendEntry(appendEntry(nil, []byte(`{"type":"meta","g":"a"}`)), []byte(`{"type":"commit","g":"a","t":"t","o":3}`))
		}
		var starts []int
		for at := 0; at < len(whole); at += int(binary.LittleEndian.Uint32(whole[at:])) + 8 {
			starts = append(starts, at)
		}
		last := starts[len(starts)-1]
		for cut := last + 1; cut < len(whole); cut++ {
			if err := os.WriteFile(path, whole[:cut], 0o644); err != nil {
				t.Fatal(err)
			}
			entries, l, err := readEntries(path)
			if err != nil || l.size != int64(last) || l.torn != int64(cut-last) || len(entries) != len(starts)-1 {
				t.Fatalf("%s cut at %d: %d entries, %+v, %v", name, cut, len(entries), l, err)
			}
			if err := l.cut(); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, whole[:last]) {
				t.Fatalf("%s cut at %d: repaired to %d bytes, want %d", name, cut, len(b), last)
			}
		}
		for at := range last {
			bad := bytes.Clone(whole)
			bad[at] ^= 0x41
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, _, err := readEntries(path); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s byte %d of %d changed: %v, want %v", name, at, len(whole), err, ErrDamaged)
			}
		}
	}
}

func TestRepairRefusesWhatItDoesNotKnow(t *testing.T) {
	base := fill(t)
	for _, tc := range []struct {
		name string
		do   func(dir string) error
		opt  func(*Options)
		want error
	}{
		{"another cluster", nil, func(o *Options) { o.Cluster = "other" }, ErrDamaged},
		{"meta.json is gone", func(d string) error { return os.Remove(filepath.Join(d, "meta.json")) }, nil, ErrDamaged},
		{"meta.json of another version", write("meta.json", `{"version":2,"cluster_id":"test-cluster"}`), nil, ErrFormat},
		{"topics.json is gone", func(d string) error { return os.Remove(filepath.Join(d, "topics.json")) }, nil, ErrDamaged},
		{"topics.json of another version", write("topics.json", `{"version":2}`), nil, ErrFormat},
		{"topics.json is garbage", write("topics.json", `{`), nil, ErrDamaged},
		{"a snapshot of another version", write("partitions/t-0/snapshot.json", `{"version":2}`), nil, ErrFormat},
		{"a snapshot that is garbage", write("partitions/t-0/snapshot.json", `x`), nil, ErrDamaged},
		{"a state log of another version", func(d string) error {
			e := appendEntry(nil, []byte(`{}`))
			e[8] = 2
			binary.LittleEndian.PutUint32(e[4:], checksum(e[8:]))
			return os.WriteFile(filepath.Join(d, "groups.log"), e, 0o644)
		}, nil, ErrFormat},
		{"a strange segment", write("partitions/t-0/copy.dat", "x"), nil, ErrDamaged},
		{"a segment under another name", func(d string) error {
			return os.Rename(filepath.Join(d, "partitions", "t-0", "0.dat"), filepath.Join(d, "partitions", "t-0", "1.dat"))
		}, nil, ErrDamaged},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			if tc.do != nil {
				if err := tc.do(dir); err != nil {
					t.Fatal(err)
				}
			}
			o := options(false)
			if tc.opt != nil {
				tc.opt(&o)
			}
			before := contents(t, dir)
			_, err := Repair(t.Context(), dir, o)
			if !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
			if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
				t.Fatalf("refused and changed:\n%s", diff)
			}
		})
	}
}

func write(name, content string) func(string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644) }
}

func TestRepairSetsPartitionsWithoutATopicAside(t *testing.T) {
	dir := fill(t)
	if err := os.CopyFS(filepath.Join(dir, "partitions", "gone-0"), os.DirFS(filepath.Join(dir, "partitions", "t-0"))); err != nil {
		t.Fatal(err)
	}
	rep := mustRepair(t, dir, options(false))
	if fmt.Sprint(rep.Orphans) != "[gone-0]" {
		t.Fatalf("orphans %v, want gone-0", rep.Orphans)
	}
	aside, err := os.ReadDir(filepath.Join(dir, "orphans"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("set aside: %v, %v", aside, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "partitions", "gone-0")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("still there: %v", err)
	}
}

// A partition whose records were all deleted goes on at the offset it had
// reached, after a clean stop and after a crash.
func TestRepairKeepsTheOffsetsOfAnEmptiedPartition(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean %v", clean), func(t *testing.T) {
			dir := t.TempDir()
			c := openCluster(t, dir)
			cl := client(t, c)
			if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 2, -1, nil, "t"); err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				put(t, cl, 0, fmt.Sprint("a", i))
			}
			id := c.TopicInfo("t").TopicID
			if err := c.DeleteRecords("t", 0, -1); err != nil {
				t.Fatal(err)
			}
			o := options(clean)
			if clean {
				c.Close()
			} else {
				crashed := t.TempDir()
				if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				dir = crashed
				o.Floors = []Floor{{TopicID: encode(id), Partition: 0, Start: 10, End: 10}}
			}
			cl.Close()
			for round := range 3 {
				mustRepair(t, dir, o)
				c = openCluster(t, dir)
				info := c.PartitionInfo("t", 0)
				if want := int64(10 + round); info.HighWatermark != want || info.LogStartOffset != 10 {
					t.Fatalf("round %d: log from %d to %d, want 10 to %d", round, info.LogStartOffset, info.HighWatermark, want)
				}
				cl = client(t, c)
				put(t, cl, 0, fmt.Sprint("b", round))
				if got := read(t, c); len(got) != round+1 || got[round] != fmt.Sprint("b", round) {
					t.Fatalf("round %d: read %v", round, got)
				}
				cl.Close()
				c.Close()
				o.Clean = round == 0
			}
		})
	}
}

// Records that a client was told are deleted stay deleted over a crash, also
// when the crash came before the broker had removed their files.
func TestRepairKeepsPromisedLogStarts(t *testing.T) {
	for _, start := range []int64{3, 6} {
		dir := t.TempDir()
		c := openCluster(t, dir)
		cl := client(t, c)
		if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 2, -1, nil, "t"); err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			put(t, cl, 0, fmt.Sprint("a", i))
		}
		o := options(false)
		id := c.TopicInfo("t").TopicID
		o.Floors = []Floor{{TopicID: encode(id), Partition: 0, Start: start, End: 6}}
		crashed := t.TempDir()
		if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		cl.Close()
		mustRepair(t, crashed, o)
		info := openCluster(t, crashed).PartitionInfo("t", 0)
		if info.LogStartOffset != start || info.HighWatermark != 6 {
			t.Errorf("log from %d to %d, want %d to 6", info.LogStartOffset, info.HighWatermark, start)
		}
	}
}

func FuzzSegment(f *testing.F) {
	dir := fill(f)
	mustRepair(f, dir, options(false))
	bases, err := segmentBases(filepath.Join(dir, "partitions", "t-0"))
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range bases {
		raw, err := os.ReadFile(filepath.Join(dir, "partitions", "t-0", fmt.Sprintf("%d.dat", b)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, b)
	}
	f.Fuzz(func(t *testing.T, raw []byte, base int64) {
		if base < 0 {
			return
		}
		part := t.TempDir()
		path := filepath.Join(part, fmt.Sprintf("%d.dat", base))
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		s := newScanner(func(int64) bool { return true }, false)
		p, err := s.partition(part, topicFile{Name: "t", Partitions: 1}, 0)
		if err != nil {
			return
		}
		if err := p.trim(); err != nil {
			t.Fatal(err)
		}
		again, err := newScanner(func(int64) bool { return true }, true).partition(part, topicFile{Name: "t", Partitions: 1}, 0)
		if err != nil {
			t.Fatalf("what was cut does not read: %v", err)
		}
		if again.torn != 0 || again.end() != p.end() || again.batches != p.batches {
			t.Fatalf("read %d batches to %d, then %d to %d", p.batches, p.end(), again.batches, again.end())
		}
	})
}

func FuzzStateLog(f *testing.F) {
	f.Add(appendEntry(appendEntry(nil, []byte(`{"type":"init","pid":3,"epoch":1,"txid":"a"}`)), []byte(`{"type":"endtx","pid":3,"epoch":1,"commit":true}`)))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "pids.log")
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := readPIDLog(path)
		if err != nil {
			return
		}
		if err := l.cut(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.fence(map[int64]bool{3: true}); err != nil {
			t.Fatal(err)
		}
		again, err := readPIDLog(path)
		if err != nil || again.torn != 0 {
			t.Fatalf("after the repair: %+v, %v", again, err)
		}
		for pid, st := range again.pids {
			if st.txid != "" && st.committed {
				t.Fatalf("producer %d could still be told that it committed", pid)
			}
		}
	})
}
