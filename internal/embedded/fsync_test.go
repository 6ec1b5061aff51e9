package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// tree is a broker's directory under a syncer that only notes what it syncs.
type tree struct {
	t      testing.TB
	root   string
	s      *syncer
	mu     sync.Mutex
	synced []string
}

func newTree(t testing.TB, root string) *tree {
	tr := &tree{t: t, root: root}
	tr.s = newSyncer(root, time.Hour, newBrokerMetrics(nil))
	tr.s.syncFile = func(path string) error {
		if _, err := os.Stat(path); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.synced = append(tr.synced, rel)
		return nil
	}
	return tr
}

func (tr *tree) append(rel, data string) {
	tr.t.Helper()
	path := filepath.Join(tr.root, rel)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tr.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		tr.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(data); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) pass() []string {
	tr.t.Helper()
	tr.synced = nil
	if err := tr.s.pass(); err != nil {
		tr.t.Fatal(err)
	}
	return tr.synced
}

func TestSyncOrder(t *testing.T) {
	tr := newTree(t, t.TempDir())
	tr.append("groups.log", "g")
	tr.append("pids.log", "p")
	tr.append("topics.json", "t")
	tr.append("partitions/audit.events.sealed-0/0.dat", "s")
	tr.append("partitions/audit.events.sealed-10/0.dat", "s")
	tr.append("partitions/audit.events-0/0.dat", "e")
	tr.append("partitions/domain.events-11/0.dat", "e")
	got := tr.pass()
	rank := func(rel string) int {
		switch {
		case strings.HasSuffix(rel, ".log"):
			return 3
		case strings.Contains(rel, ".sealed-"):
			return 2
		case strings.Contains(rel, "-"):
			return 1
		}
		return 0 // topics.json and the directory entries around everything
	}
	got = slices.DeleteFunc(got, func(rel string) bool { return rel == "." }) // goes with both
	for i := 1; i < len(got); i++ {
		if rank(got[i]) < rank(got[i-1]) {
			t.Errorf("%s was synced after %s", got[i], got[i-1])
		}
	}
	for _, want := range []string{"groups.log", "pids.log", "topics.json", "partitions",
		"partitions/audit.events.sealed-10/0.dat", "partitions/audit.events-0/0.dat", "partitions/audit.events-0"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s was not synced; got %v", want, got)
		}
	}
}

// Whatever is written between two passes, the second one syncs it: every
// changed file and every directory in which a name changed.
func TestSyncFindsEveryChange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tr := newTree(t, t.TempDir())
		tr.append("partitions/a-0/0.dat", "x")
		tr.pass()
		newest := map[string]int{}
		for range rapid.IntRange(1, 6).Draw(rt, "passes") {
			want := map[string]bool{}
			for range rapid.IntRange(0, 5).Draw(rt, "changes") {
				part := fmt.Sprintf("partitions/%s-%d", rapid.SampledFrom([]string{"a", "b", "b.sealed"}).Draw(rt, "topic"), rapid.IntRange(0, 1).Draw(rt, "partition"))
				kind := rapid.IntRange(0, 3).Draw(rt, "kind")
				if kind == 3 {
					newest[part] += 7 // a new segment begins
				}
				rel := fmt.Sprintf("%s/%d.dat", part, newest[part])
				switch kind {
				case 0, 1, 3:
					_, err := os.Stat(filepath.Join(tr.root, rel))
					if errors.Is(err, fs.ErrNotExist) {
						want[filepath.Dir(rel)] = true
					}
					tr.append(rel, "more")
					want[rel] = true
				case 2: // replaced, as state files are
					rel = part + "/snapshot.json"
					tr.append(rel+".tmp", "new content")
					if err := os.Rename(filepath.Join(tr.root, rel+".tmp"), filepath.Join(tr.root, rel)); err != nil {
						rt.Fatal(err)
					}
					want[rel], want[filepath.Dir(rel)] = true, true
				}
			}
			got := tr.pass()
			for rel := range want {
				if !slices.Contains(got, rel) {
					rt.Fatalf("%s changed and was not synced; got %v", rel, got)
				}
			}
		}
	})
}

func TestSyncSkipsWhatIsGone(t *testing.T) {
	tr := newTree(t, t.TempDir())
	tr.append("partitions/a-0/0.dat", "x")
	tr.append("partitions/b-0/0.dat", "x")
	tr.pass()
	tr.append("partitions/a-0/0.dat", "x")
	if err := os.RemoveAll(filepath.Join(tr.root, "partitions/a-0")); err != nil {
		t.Fatal(err)
	}
	if got := tr.pass(); slices.Contains(got, "partitions/a-0/0.dat") {
		t.Errorf("synced what is gone: %v", got)
	}
	if len(tr.s.dirs) != 4 { // the root twice, partitions, b-0
		t.Errorf("%d directories are remembered, want 4", len(tr.s.dirs))
	}
}

func TestSyncedWaitsForAPassThatBeganLater(t *testing.T) {
	tr := newTree(t, t.TempDir())
	tr.append("groups.log", "x")
	hold := make(chan struct{})
	entered := make(chan struct{}, 8)
	plain := tr.s.syncFile
	tr.s.syncFile = func(p string) error {
		entered <- struct{}{}
		<-hold
		return plain(p)
	}
	first := make(chan error, 1)
	go func() { first <- tr.s.pass() }()
	<-entered // a pass runs, which has looked at the files already
	waited := make(chan error, 1)
	go func() { waited <- tr.s.wait(t.Context()) }()
	eventually(t, "somebody to wait", func() bool { return len(tr.s.waiting) == 1 })
	close(hold)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	select {
	case err := <-waited:
		t.Fatalf("answered by a pass that began before the call: %v", err)
	case <-ctx.Done():
	}
	if err := tr.s.pass(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
}

func TestSyncedDoesNotWaitForTheTick(t *testing.T) {
	b := startBroker(t, BrokerOptions{Dir: t.TempDir(), FsyncEvery: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 3 {
		if err := b.Synced(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSyncedEndsWithItsContext(t *testing.T) {
	tr := newTree(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tr.s.wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
}

// One failed fsync ends acknowledging for good, also when later ones succeed.
func TestFailedFsyncIsForEver(t *testing.T) {
	b := startBroker(t, BrokerOptions{Dir: t.TempDir(), FsyncEvery: time.Millisecond})
	cl := newClient(t, b.Addrs())
	createTopic(t, cl, "audit.events", 1)
	produce(t, cl, "audit.events", "kept")
	if err := b.Synced(t.Context()); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("input/output error")
	b.sync.passMu.Lock()
	b.sync.syncFile = func(string) error { return broken }
	b.sync.passMu.Unlock()
	// A background pass may have failed already, and the broker refuses then.
	_ = produceOnce(t, b.Addrs(), "audit.events")
	if err := b.Synced(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("Synced answered %v, want %v", err, broken)
	}
	<-b.Failed()
	b.sync.passMu.Lock()
	b.sync.syncFile = syncPath
	b.sync.passMu.Unlock()
	if err := b.Synced(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("Synced answered %v later, want %v for ever", err, broken)
	}
	if err := b.Err(); !errors.Is(err, broken) {
		t.Fatalf("Err answered %v", err)
	}
	if err := produceOnce(t, b.Addrs(), "audit.events"); err == nil {
		t.Fatal("a record was acknowledged after a failed fsync")
	}
	if err := b.Close(); !errors.Is(err, broken) {
		t.Fatalf("Close answered %v", err)
	}
	if _, err := os.Stat(b.cleanMark()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the stop counts as clean: %v", err)
	}
}

// A segment is looked at until its last bytes are synced, which may be after
// the next one was begun, and then no more.
func TestSyncLeavesSealedSegments(t *testing.T) {
	tr := newTree(t, t.TempDir())
	tr.append("partitions/a-0/0.dat", "x")
	tr.pass()
	tr.append("partitions/a-0/0.dat", "the last bytes")
	tr.append("partitions/a-0/5.dat", "x")
	if got := tr.pass(); !slices.Contains(got, "partitions/a-0/0.dat") {
		t.Fatalf("the end of the old segment was not synced: %v", got)
	}
	tr.pass()
	d := tr.s.dirs[dirKey{filepath.Join(tr.root, "partitions/a-0"), classSource}]
	if _, ok := d.files["0.dat"]; ok || len(d.files) != 1 {
		t.Fatalf("still watched: %v", d.files)
	}
	tr.append("partitions/a-0/5.dat", "y")
	if got := tr.pass(); len(got) != 1 {
		t.Fatalf("synced %v, want the new segment alone", got)
	}
}

// What the syncer costs when nothing happens: it looks ten times a second.
func BenchmarkIdlePass(b *testing.B) {
	tr := newTree(b, b.TempDir())
	for i := range 60 {
		for _, ext := range []string{"dat", "idx"} {
			tr.append(fmt.Sprintf("partitions/t-%d/0.%s", i, ext), "x")
			tr.append(fmt.Sprintf("partitions/t-%d/100.%s", i, ext), "x")
		}
	}
	tr.pass()
	for b.Loop() {
		if err := tr.s.pass(); err != nil {
			b.Fatal(err)
		}
	}
}
