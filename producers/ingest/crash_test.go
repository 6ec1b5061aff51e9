package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/producers/ingest"
)

// killed is what a spiteful topic panics with: the process is gone, with all that
// was only in memory.
type killed struct{}

// topic is a spiteful topic in memory. It lives on when the process that writes to it
// is killed.
type topic struct {
	now        time.Time
	partitions [3][]stored
	misses     map[ingest.Place]bool // second copies that a retry made
	lost       int64                 // connections

	budget int // messages until the process is killed; -1 = never
	// What happens to messages that are under way when it is killed, and to others.
	storedAtKill func() bool
	doubled      func() bool
	tooLarge     int // values longer than that are refused
}

type stored struct {
	ledger.Record
	at time.Time
}

func (t *topic) Disconnects() int64 { return t.lost }

func (t *topic) Identity(context.Context) (string, error) { return "cluster/topic/id", nil }

func (t *topic) Ends(context.Context) (map[int32]int64, error) {
	m := map[int32]int64{}
	for p := range t.partitions {
		m[int32(p)] = int64(len(t.partitions[p]))
	}
	return m, nil
}

func (t *topic) Scan(_ context.Context, from, to map[int32]int64, fn func(ingest.Place, *ledger.Record)) (int64, error) {
	for p, end := range to {
		if int(end) > len(t.partitions[p]) {
			return 0, fmt.Errorf("scan to %d of partition %d, which ends at %d", end, p, len(t.partitions[p]))
		}
		for off := from[p]; off < end; off++ {
			fn(ingest.Place{Topic: "t", Partition: p, Offset: off}, &t.partitions[p][off].Record)
		}
	}
	return 0, nil
}

func (t *topic) append(m producers.Message) ingest.Place {
	p := int32(crc32.ChecksumIEEE(m.Key) % uint32(len(t.partitions)))
	place := ingest.Place{Topic: "t", Partition: p, Offset: int64(len(t.partitions[p]))}
	t.partitions[p] = append(t.partitions[p], stored{ledger.Record{Key: m.Key, Value: bytes.Clone(m.Value), Headers: m.Headers}, t.now})
	return place
}

func (t *topic) Enqueue(_ context.Context, msgs []producers.Message) func(context.Context) []producers.Result {
	res := make([]producers.Result, len(msgs))
	for i, m := range msgs {
		if t.budget == 0 {
			for _, rest := range msgs[i:] {
				if t.storedAtKill() {
					t.append(rest)
				}
			}
			panic(killed{})
		}
		t.budget--
		t.now = t.now.Add(150 * time.Millisecond)
		if t.tooLarge > 0 && len(m.Value) > t.tooLarge {
			res[i].Err = &producers.TooLargeError{Topic: "t", Size: len(m.Value), Limit: t.tooLarge}
			continue
		}
		place := t.append(m)
		res[i].Partition, res[i].Offset = place.Partition, place.Offset
		if t.doubled != nil && t.doubled() {
			t.lost++
			t.misses[t.append(m)] = true
		}
	}
	return func(context.Context) []producers.Result { return res }
}

// powerCut takes what was written in the last second.
func (t *topic) powerCut() {
	for p := range t.partitions {
		for n := len(t.partitions[p]); n > 0 && t.now.Sub(t.partitions[p][n-1].at) < time.Second; n-- {
			t.partitions[p] = t.partitions[p][:n-1]
		}
	}
	for place := range t.misses {
		if int(place.Offset) >= len(t.partitions[place.Partition]) {
			delete(t.misses, place)
		}
	}
}

// counts returns how often each value is in the topic.
func (t *topic) counts() map[string]int {
	m := map[string]int{}
	for p := range t.partitions {
		for _, r := range t.partitions[p] {
			m[string(r.Value)]++
		}
	}
	return m
}

// describe takes every line that does not begin with "bad"; "id=" brings an id, the
// last byte is the key.
func describe(line []byte, it *ingest.Item) error {
	if bytes.HasPrefix(line, []byte("bad")) {
		return errors.New("bad line")
	}
	it.Attributes = producers.Attributes{Source: "test", Type: "line"}
	if bytes.HasPrefix(line, []byte("id=")) {
		it.Attributes.ID = string(line)
	}
	it.Key = line[len(line)-1:]
	return nil
}

func lines(name, content string) ingest.Input {
	head, _, _ := strings.Cut(content, "\n")
	return ingest.Input{Name: name, Path: "/" + name, Head: []byte(head), Open: func() (ingest.Source, io.Closer, error) {
		return ingest.NewLines(strings.NewReader(content), 1000, describe), io.NopCloser(nil), nil
	}}
}

func (t *topic) options(dir string) ingest.Options {
	return ingest.Options{Sender: t, Log: t, Topic: "t", StateDir: dir, Now: func() time.Time { return t.now },
		Checkpoint: 400 * time.Millisecond, BatchEvents: 3, InFlight: 2}
}

// run is one process: it may be killed.
func run(o ingest.Options, inputs []ingest.Input) (sum ingest.Summary, err error, dead bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
			dead = true
		}
	}()
	sum, err = ingest.Run(context.Background(), o, inputs)
	return sum, err, false
}

// TestI8EachEventOnceHoweverItIsKilled kills the process at random points, with any
// part of what was under way stored or not, sometimes with a power cut that takes the
// last second of the topic, and lets files grow in between. In the end each event is
// there once; copies that a retry made are named, and nothing else is.
func TestI8EachEventOnceHoweverItIsKilled(t *testing.T) {
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint(n))
		top := &topic{now: time.Unix(1_700_000_000, 0), misses: map[ingest.Place]bool{}, budget: -1}
		top.storedAtKill = func() bool { return rapid.Bool().Draw(rt, "stored at kill") }
		if rapid.Bool().Draw(rt, "retries double") {
			top.doubled = func() bool { return rapid.IntRange(0, 9).Draw(rt, "double") == 0 }
		}
		content := map[string]string{"a": "", "b": ""}
		grow := func(file string) {
			for range rapid.IntRange(0, 12).Draw(rt, "lines") {
				kind := rapid.SampledFrom([]string{"", "", "id=", "bad"}).Draw(rt, "kind")
				content[file] += fmt.Sprintf("%s%s-%d\n", kind, file, strings.Count(content[file], "\n"))
			}
		}
		inputs := func() []ingest.Input { return []ingest.Input{lines("a", content["a"]), lines("b", content["b"])} }
		content["a"], content["b"] = "a-first\n", "b-first\n"
		kills := rapid.IntRange(0, 6).Draw(rt, "kills")
		for range kills {
			grow("a")
			grow("b")
			top.budget = rapid.IntRange(0, 20).Draw(rt, "budget")
			if _, err, _ := run(top.options(dir), inputs()); err != nil {
				rt.Fatal(err)
			}
			if rapid.IntRange(0, 2).Draw(rt, "power") == 0 {
				top.powerCut()
			}
			top.now = top.now.Add(time.Minute)
		}
		top.budget = -1
		sum, err, _ := run(top.options(dir), inputs())
		if err != nil {
			rt.Fatal(err)
		}
		check(rt, top, content, sum)
		top.now = top.now.Add(time.Minute)
		for range 3 { // and once more, with nothing left to do
			again, err, _ := run(top.options(dir), inputs())
			if err != nil || again.Ingested != 0 || again.Already != sum.Already+sum.Ingested || again.Refused != sum.Refused {
				rt.Fatalf("second run: %+v, %v; the first one: %+v", again, err, sum)
			}
			check(rt, top, content, again)
		}
	})
}

func check(t *rapid.T, top *topic, content map[string]string, sum ingest.Summary) {
	counts, want, bad := top.counts(), 0, 0
	for _, c := range content {
		for line := range strings.Lines(c) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "bad") {
				bad++
				continue
			}
			want++
			if counts[line] == 0 {
				t.Fatalf("%q is lost", line)
			}
		}
	}
	total := 0
	for _, c := range counts {
		total += c
	}
	if total-want != len(top.misses) {
		t.Fatalf("%d records for %d events, but retries doubled %d", total, want, len(top.misses))
	}
	if sum.Ingested+sum.Already != want || sum.Refused != bad {
		t.Fatalf("summary %+v, want %d events and %d refused", sum, want, bad)
	}
	named := map[ingest.Place]bool{}
	for _, p := range sum.Doubled {
		if named[p] {
			t.Fatalf("%v is named twice", p)
		}
		named[p] = true
		if !top.misses[p] {
			t.Fatalf("%v is named as a double and is none; doubles are %v", p, top.misses)
		}
	}
	if len(named) != len(top.misses) {
		t.Fatalf("named %v, doubles are %v", slices.Collect(maps(named)), top.misses)
	}
}

func maps(m map[ingest.Place]bool) func(func(ingest.Place) bool) {
	return func(yield func(ingest.Place) bool) {
		for p := range m {
			if !yield(p) {
				return
			}
		}
	}
}
