package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTopicBytes(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	for name, size := range map[string]int{
		"audit.events-0/0.log": 100_000, "audit.events-11/a/0.log": 200_000, "audit.events.sealed-0/0.log": 300_000,
		"no-partition/x": 1 << 20, "__consumer_offsets-3/0.log": 50_000, "meta.properties": 10_000,
	} {
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, bytes.Repeat([]byte("x"), size), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	// An index made larger than what is in it.
	f, err := os.Create(filepath.Join(dirs[0], "audit.events-0", "0.index"))
	if err == nil {
		err = f.Truncate(10 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := topicBytes(dirs...)
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	for topic, want := range map[string]int64{"audit.events": 600_000, "audit.events.sealed": 600_000, "__consumer_offsets": 100_000} {
		if n := got[topic]; n < want || n > want+64<<10 {
			t.Errorf("%s takes %d bytes, about %d were written", topic, n, want)
		}
	}
	if _, err := topicBytes(filepath.Join(dirs[0], "gone")); err == nil {
		t.Error("a directory that is not there has a size")
	}
}

func TestGrowthRows(t *testing.T) {
	before := disk{topics: map[string]int64{"audit.events": 10 << 20}, heap: 1 << 20, wal: 5 << 20}
	after := disk{topics: map[string]int64{"audit.events": 30 << 20, "audit.events.sealed": 40 << 20, "other": 5 << 20},
		heap: 101 << 20, toast: 2 << 20, indexes: 50 << 20, byKey: 10 << 20, wal: 205 << 20, walKept: 64 << 20}
	var all strings.Builder
	for _, r := range growthRows(500_000, 230<<20, before, after) {
		all.WriteString(r.What + " = " + r.Rate + "\n")
	}
	for _, want := range []string{"JSON lines = 460 MB, 482 bytes", "topic audit.events, one replica = 40 MB, 41 bytes", "audit.events.sealed, one replica = 80 MB",
		"all topics, one replica = 130 MB", "PostgreSQL, table = 200 MB", "(TOAST) = 4 MB", "primary key = 20 MB", "other indexes = 80 MB",
		"table and indexes = 304 MB", "WAL written (removed after the next checkpoints) = 400 MB", "WAL kept when all was stored = 64 MB"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no %q in\n%s", want, all.String())
		}
	}
}
