package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/producers/ingest"
)

func newTopic() *topic {
	return &topic{now: time.Unix(1_700_000_000, 0), misses: map[ingest.Place]bool{}, budget: -1}
}

type refusal struct{ Input, Where, Why string }

// ingestAll runs to the end and returns what was refused and noticed.
func ingestAll(t *testing.T, o ingest.Options, inputs ...ingest.Input) (sum ingest.Summary, refused []refusal, notices []string) {
	t.Helper()
	o.Refused = func(input string, it ingest.Item, err error) {
		refused = append(refused, refusal{input, it.Where, err.Error()})
	}
	o.Notice = func(s string) { notices = append(notices, s) }
	sum, err := ingest.Run(t.Context(), o, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return sum, refused, notices
}

func TestBadLinesAreNamedAndTheRestGoesOn(t *testing.T) {
	top := newTopic()
	top.tooLarge = 900
	content := "a1\nbad2\n\n  \na5\n" + strings.Repeat("x", 1001) + "\n" + strings.Repeat("y", 950) + "\nid=\x00\nlast"
	sum, refused, _ := ingestAll(t, top.options(t.TempDir()), lines("f", content))
	want := []refusal{
		{"f", "line 2", "bad line"},
		{"f", "line 6", "1001 bytes long, more than the 1000 that fit into a record"},
		{"f", "line 7", "message of 950 bytes is larger than the 900 bytes topic t takes: split it, or raise max_message_bytes"},
		{"f", "line 8", "ce_id: must be UTF-8 without control characters"},
	}
	if d := cmp.Diff(want, refused); d != "" {
		t.Errorf("refused (-want +got):\n%s", d)
	}
	if d := cmp.Diff(ingest.Summary{Ingested: 3, Refused: 4, Inputs: 1}, sum); d != "" {
		t.Errorf("summary (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]int{"a1": 1, "a5": 1, "last": 1}, top.counts()); d != "" {
		t.Errorf("topic (-want +got):\n%s", d)
	}
}

// TestUnfinishedLastLine: a writer is in the middle of a line. It counts as refused
// now, and is ingested whole when it is there.
func TestUnfinishedLastLine(t *testing.T) {
	top, dir := newTopic(), t.TempDir()
	sum, _, _ := ingestAll(t, top.options(dir), lines("f", "a1\nbad"))
	if sum.Ingested != 1 || sum.Refused != 1 {
		t.Errorf("half a line: %+v", sum)
	}
	grown := ingest.Input{Name: "f", Path: "/f", Head: []byte("a1"), Open: func() (ingest.Source, io.Closer, error) {
		all := func(line []byte, it *ingest.Item) error {
			it.Attributes = producers.Attributes{Source: "test", Type: "line"}
			return nil
		}
		return ingest.NewLines(strings.NewReader("a1\nbad3\nc4\n"), 1000, all), io.NopCloser(nil), nil
	}}
	sum, refused, _ := ingestAll(t, top.options(dir), grown)
	if d := cmp.Diff(ingest.Summary{Ingested: 2, Already: 1, Inputs: 1}, sum); d != "" || refused != nil {
		t.Errorf("grown (-want +got):\n%s%v", d, refused)
	}
}

// TestAnotherFileUnderTheSameName: log rotation; both begin with the same line.
func TestAnotherFileUnderTheSameName(t *testing.T) {
	top, dir := newTopic(), t.TempDir()
	for i, c := range []string{"opened\na\nb\n", "opened\nc\n", "opened\nc\nd\ne\n", "opened\n"} {
		top.now = top.now.Add(time.Hour)
		sum, _, _ := ingestAll(t, top.options(dir), lines("f", c))
		if want := []int{3, 2, 2, 1}[i]; sum.Ingested != want {
			t.Errorf("content %d: %+v, want %d ingested", i, sum, want)
		}
	}
	want := map[string]int{"opened": 3, "a": 1, "b": 1, "c": 1, "d": 1, "e": 1}
	if d := cmp.Diff(want, top.counts()); d != "" {
		t.Errorf("topic (-want +got):\n%s", d)
	}
}

func TestTopicMadeAnew(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		top := newTopic()
		o := top.options(dir)
		if sum, _, _ := ingestAll(t, o, lines("f", "a\nb\n")); sum.Ingested != 2 {
			t.Errorf("%+v, want both events in the topic that is there now", sum)
		}
		o.Log = renamed{top}
		if sum, _, _ := ingestAll(t, o, lines("f", "a\nb\n")); sum.Ingested != 2 {
			t.Errorf("%+v, want both events in the other topic", sum)
		}
		dir = t.TempDir()
	}
}

// renamed is a topic that says it is another one.
type renamed struct{ *topic }

func (renamed) Identity(context.Context) (string, error) { return "cluster/topic/other", nil }

func TestStandardInputHasNoState(t *testing.T) {
	top, dir := newTopic(), t.TempDir()
	in := lines("-", "a\nb\n")
	in.Path = ""
	for range 2 {
		if sum, _, _ := ingestAll(t, top.options(dir), in); sum.Ingested != 2 {
			t.Errorf("%+v, want 2 ingested each time", sum)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("state kept: %v", files)
	}
}

// TestDamagedInputDoesNotStopTheOthers, and goes on where it was when it is mended.
func TestDamagedInputDoesNotStopTheOthers(t *testing.T) {
	top, dir := newTopic(), t.TempDir()
	broken := errors.New("unexpected end of gzip data")
	in := ingest.Input{Name: "f", Path: "/f", Open: func() (ingest.Source, io.Closer, error) {
		r := io.MultiReader(strings.NewReader("a\nb\n"), errReader{broken})
		return ingest.NewLines(r, 1000, describe), io.NopCloser(nil), nil
	}}
	missing := ingest.Input{Name: "m", Path: "/m", Open: func() (ingest.Source, io.Closer, error) { return nil, nil, os.ErrNotExist }}
	sum, refused, _ := ingestAll(t, top.options(dir), in, missing, lines("g", "c\n"))
	if d := cmp.Diff(ingest.Summary{Ingested: 3, Refused: 2, Inputs: 3}, sum); d != "" {
		t.Errorf("summary (-want +got):\n%s", d)
	}
	want := []refusal{{"f", "behind event 2", broken.Error()}, {"m", "behind event 0", "file does not exist"}}
	if d := cmp.Diff(want, refused); d != "" {
		t.Errorf("refused (-want +got):\n%s", d)
	}
	top.now = top.now.Add(time.Hour)
	in.Open = func() (ingest.Source, io.Closer, error) {
		return ingest.NewLines(strings.NewReader("a\nb\nd\n"), 1000, describe), io.NopCloser(nil), nil
	}
	if sum, _, _ := ingestAll(t, top.options(dir), in); sum.Ingested != 1 || sum.Already != 2 || sum.Refused != 0 {
		t.Errorf("mended: %+v", sum)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

// TestInterrupted: an end of the context stops the reading, not what is under way.
func TestInterrupted(t *testing.T) {
	top, dir := newTopic(), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	in := lines("f", strings.Repeat("a\n", 100))
	inner := in.Open
	in.Open = func() (ingest.Source, io.Closer, error) {
		src, c, err := inner()
		return sourceFunc(func() (ingest.Item, error) {
			if n++; n == 50 {
				cancel()
			}
			return src.Next()
		}), c, err
	}
	sum, err := ingest.Run(ctx, top.options(dir), []ingest.Input{in})
	var where *ingest.Error
	if !errors.Is(err, ingest.ErrInterrupted) || !errors.As(err, &where) || where.Input != "f" || where.Events != 50 || sum.Ingested != 50 {
		t.Errorf("%+v, %v", sum, err)
	}
	sum, err = ingest.Run(t.Context(), top.options(dir), []ingest.Input{in})
	if err != nil || sum.Ingested != 50 || sum.Already != 50 {
		t.Errorf("second run: %+v, %v", sum, err)
	}
}

type sourceFunc func() (ingest.Item, error)

func (f sourceFunc) Next() (ingest.Item, error) { return f() }

// TestLostAcknowledgedEventsAreNotHidden: the broker was killed and does not hold what
// it acknowledged; the run says so, and the next one sends it again.
func TestLostAcknowledgedEventsAreNotHidden(t *testing.T) {
	top, dir := newTopic(), t.TempDir()
	o := top.options(dir)
	o.BatchEvents, o.Checkpoint = 1, time.Hour
	o.Sender = forgetful{top}
	_, err := ingest.Run(t.Context(), o, []ingest.Input{lines("f", "a\nb\n")})
	if err == nil || !strings.Contains(err.Error(), "2 events that are not in the topic") {
		t.Errorf("error %v", err)
	}
	if sum, _, _ := ingestAll(t, top.options(dir), lines("f", "a\nb\n")); sum.Ingested != 2 {
		t.Errorf("second run: %+v", sum)
	}
}

type forgetful struct{ *topic }

func (f forgetful) Enqueue(_ context.Context, msgs []producers.Message) func(context.Context) []producers.Result {
	f.lost++
	return func(context.Context) []producers.Result { return make([]producers.Result, len(msgs)) }
}

func TestDamagedState(t *testing.T) {
	top, dir := newTopic(), t.TempDir()
	ingestAll(t, top.options(dir), lines("f", "a\n"))
	files, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	if len(files) != 1 {
		t.Fatalf("state files: %v", files)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, c := range []string{"", "{", `{"version":2,"checkpoints":[{}]}`, `{"version":1}`} {
		if err := os.WriteFile(files[0], []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ingest.Run(t.Context(), top.options(dir), []ingest.Input{lines("f", "a\n")})
		if err == nil || !strings.Contains(err.Error(), files[0]) {
			t.Errorf("state %q: %v", c, err)
		}
	}
}

// TestTwoAtOnce: the second process waits for the first, then finds all done.
func TestTwoAtOnce(t *testing.T) {
	top, dir := newTopic(), t.TempDir()
	entered, waiting := make(chan struct{}), make(chan struct{})
	in := lines("f", "a\nb\n")
	slow := in
	slow.Open = func() (ingest.Source, io.Closer, error) {
		close(entered)
		<-waiting
		return in.Open()
	}
	first := make(chan error)
	go func() {
		_, err := ingest.Run(t.Context(), top.options(dir), []ingest.Input{slow})
		first <- err
	}()
	<-entered
	o := top.options(dir)
	o.Notice = func(s string) {
		if strings.Contains(s, "waiting for another ingest") {
			close(waiting)
		}
	}
	result := make(chan ingest.Summary)
	go func() {
		sum, err := ingest.Run(t.Context(), o, []ingest.Input{in})
		if err != nil {
			t.Error(err)
		}
		result <- sum
	}()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if sum := <-result; sum.Ingested != 0 || sum.Already != 2 {
		t.Errorf("second: %+v", sum)
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "\n", "a", "a\nb\n", "\r\n", "a\r\nb", strings.Repeat("x", 40) + "\ny\n", "\xff\x00\n"} {
		f.Add([]byte(s), 16)
	}
	f.Fuzz(func(t *testing.T, content []byte, limit int) {
		if limit < 1 || limit > 1<<20 {
			return
		}
		var want []string
		for line := range bytes.Lines(content) {
			line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
			if len(bytes.TrimSpace(line)) > 0 || len(line) > limit {
				want = append(want, string(line))
			}
		}
		src := ingest.NewLines(bytes.NewReader(content), limit, func([]byte, *ingest.Item) error { return nil })
		for i := 0; ; i++ {
			it, err := src.Next()
			if errors.Is(err, io.EOF) {
				if i != len(want) {
					t.Fatalf("%d lines, want %d", i, len(want))
				}
				return
			}
			if err != nil || i >= len(want) {
				t.Fatalf("line %d of %d: %v", i, len(want), err)
			}
			if long := len(want[i]) > limit; long != (it.Err != nil) {
				t.Fatalf("line of %d bytes with limit %d: %v", len(want[i]), limit, it.Err)
			} else if !long && string(it.Value) != want[i] {
				t.Fatalf("line %q, want %q", it.Value, want[i])
			}
		}
	})
}

// TestTopicLog scans a part of a real log, records of an open transaction included.
func TestTopicLog(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	seeds := kgo.SeedBrokers(c.ListenAddrs()...)
	log, err := ingest.NewTopicLog("t", seeds)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if id, err := log.Identity(t.Context()); err != nil || strings.Count(id, "/") != 2 {
		t.Errorf("identity %q, %v", id, err)
	}
	none, err := log.Ends(t.Context())
	if err != nil || len(none) != 3 {
		t.Fatalf("ends of an empty topic: %v, %v", none, err)
	}
	p, err := producers.New(producers.Options{}, seeds)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	put := func(from, to int) {
		var msgs []producers.Message
		for i := from; i < to; i++ {
			msgs = append(msgs, producers.Message{Topic: "t", Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "v%d", i),
				Headers: []ledger.Header{{Name: "h", Value: fmt.Appendf(nil, "%d", i)}}})
		}
		for _, r := range p.Send(t.Context(), msgs) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	put(0, 50)
	from, err := log.Ends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	txn, err := kgo.NewClient(seeds, kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Close()
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := txn.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("txn")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := txn.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	if err := txn.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := txn.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	put(50, 120)
	to, err := log.Ends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(120, 150)
	var values []string
	gone, err := log.Scan(t.Context(), from, to, func(pl ingest.Place, r *ledger.Record) {
		if pl.Topic != "t" || pl.Offset < from[pl.Partition] || pl.Offset >= to[pl.Partition] || r.Offset != pl.Offset {
			t.Errorf("record %d of %v is outside", r.Offset, pl)
		}
		values = append(values, string(r.Value))
		if len(r.Headers) == 1 && "v"+string(r.Headers[0].Value) != string(r.Value) {
			t.Errorf("header %s of %s", r.Headers[0].Value, r.Value)
		}
	})
	if err != nil || gone != 0 {
		t.Fatalf("scan: %d gone, %v", gone, err)
	}
	want := []string{"open", "txn", "txn"}
	for i := 50; i < 120; i++ {
		want = append(want, fmt.Sprintf("v%d", i))
	}
	slices.Sort(want)
	slices.Sort(values)
	if d := cmp.Diff(want, values); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if _, err := log.Scan(t.Context(), to, to, func(ingest.Place, *ledger.Record) { t.Error("a record between equal offsets") }); err != nil {
		t.Error(err)
	}
}

func TestTopicLogNamesWhatIsMissing(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	log, err := ingest.NewTopicLog("nosuch", kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.Identity(t.Context()); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("unknown topic: %v", err)
	}
}
