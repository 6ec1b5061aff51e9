package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func recordOf(topic, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Value: []byte(value)}
}

// produceOnce sends one record without any retry.
func produceOnce(t *testing.T, addrs []string, topic string) error {
	t.Helper()
	cl := newClient(t, addrs, kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.RequestRetries(1), quickRetries(),
		kgo.RecordDeliveryTimeout(2*time.Second))
	defer cl.Close()
	return cl.ProduceSync(t.Context(), recordOf(topic, "once")).FirstErr()
}

// A full disk stops records and nothing else, and only while it is full.
func TestFullDiskRefusesRecordsUntilThereIsRoom(t *testing.T) {
	b := startBroker(t, BrokerOptions{Dir: t.TempDir()})
	cl := newClient(t, b.Addrs(), quickRetries(), kgo.MetadataMinAge(20*time.Millisecond))
	createTopic(t, cl, "audit.events", 1)
	produce(t, cl, "audit.events", "before")
	var free atomic.Uint64
	b.stop() // the test looks at the space in its place
	b.wg.Wait()
	b.guard.free = func(string) (uint64, error) { return free.Load(), nil }
	b.guard.lookAtSpace(t.Context())
	if err := b.Err(); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("Err answered %v, want %v", err, ErrDiskFull)
	}
	res := make(chan error, 1)
	cl.Produce(t.Context(), recordOf("audit.events", "later"), func(_ *kgo.Record, err error) { res <- err })
	var offs kadm.Offsets
	offs.AddOffset("audit.events", 0, 1, -1)
	if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), "g", offs); err != nil {
		t.Fatalf("an offset was refused: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	select {
	case err := <-res:
		t.Fatalf("a record was answered on a full disk: %v", err)
	case <-ctx.Done():
	}
	free.Store(reserveBytes + resumeBytes - 1) // not yet: it would be full again at once
	b.guard.lookAtSpace(t.Context())
	if err := b.Err(); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("Err answered %v too early", err)
	}
	free.Store(reserveBytes + resumeBytes)
	b.guard.lookAtSpace(t.Context())
	if err := <-res; err != nil {
		t.Fatalf("the record was not taken when there was room: %v", err)
	}
	if err := b.Err(); err != nil {
		t.Fatalf("Err answered %v", err)
	}
	if got := readAll(t, b.Addrs(), "audit.events"); len(got) != 2 {
		t.Fatalf("read %v", got)
	}
}

// kfake logs a failed write and goes on; for us it is the end.
func TestFailedWriteEndsTheBroker(t *testing.T) {
	b := startBroker(t, BrokerOptions{Dir: t.TempDir()})
	cl := newClient(t, b.Addrs())
	createTopic(t, cl, "audit.events", 1)
	produce(t, cl, "audit.events", "kept")
	// A directory where the next segment is to be makes the write fail.
	createTopic(t, cl, "other", 1)
	if err := os.MkdirAll(filepath.Join(b.logDir(), "partitions", "other-0", "0.dat"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := produceOnce(t, b.Addrs(), "other"); err == nil {
		t.Fatal("a record that could not be written was acknowledged")
	}
	<-b.Failed()
	if err := produceOnce(t, b.Addrs(), "audit.events"); err == nil {
		t.Fatal("a record was acknowledged after a failed write")
	}
}

// kfakeSource is the directory of the pinned version.
func kfakeSource(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/twmb/franz-go/pkg/kfake").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// Every message by which kfake tells that it lost something is known, and none
// that is harmless is taken for one. A new version of kfake fails here first.
func TestEveryLossMessageOfKfakeIsKnown(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(kfakeSource(t), "*.go"))
	if err != nil || len(files) < 20 {
		t.Fatalf("source of kfake: %d files, %v", len(files), err)
	}
	call := regexp.MustCompile(`Logf\(\s*LogLevel(Warn|Error),\s*"([^"]*)"`)
	harmless := regexp.MustCompile(`^(consumerHeartbeatLate|consumerRebalanceTimeout|consumerSessionTimeout|OffsetCommit STALE|group %s: addPartitionEpochs|` +
		`load session state|partition %s-%d: (malformed|empty) control batch|partition %s-%d: stat active|session_state.json: corrupt|txn timeout abort|txn: EndTxn slow)`)
	known, found := 0, 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(src), -1) {
			found++
			format := m[2]
			switch loss, ok := tellsOfLoss(format), harmless.MatchString(format); {
			case loss && ok:
				t.Errorf("%q is both harmless and a loss", format)
			case loss:
				known++
			case !ok:
				t.Errorf("%s: %q is neither known as a loss nor as harmless", filepath.Base(f), format)
			}
		}
	}
	if found < 40 || known < 20 {
		t.Errorf("found %d messages and %d losses: the search does not work any more", found, known)
	}
}

func TestKfakeLogLevels(t *testing.T) {
	var buf bytes.Buffer
	var broken error
	l := &kfakeLog{log: slog.New(slog.NewTextHandler(&buf, nil)), broken: func(err error) { broken = err }}
	l.Logf(kfake.LogLevelInfo, "persist group entry open: %v", "x")
	l.Logf(kfake.LogLevelWarn, "txn timeout abort: txn_id=%s", "x")
	if broken != nil || buf.Len() > 0 {
		t.Fatalf("harmless messages did something: %v, %q", broken, buf.String())
	}
	l.Logf(kfake.LogLevelError, "something new")
	if !strings.Contains(buf.String(), "something new") {
		t.Fatalf("an error is not passed on: %q", buf.String())
	}
	l.Logf(kfake.LogLevelWarn, "persist batch %s-%d: %v", "t", 0, errors.New("no space left"))
	if broken == nil || !strings.Contains(broken.Error(), "no space left") {
		t.Fatalf("a lost write gave %v", broken)
	}
}

// One stray client must not end the process.
func TestGarbageOnThePortEndsOnlyItsConnection(t *testing.T) {
	b := startBroker(t, BrokerOptions{Dir: t.TempDir()})
	frame := func(length uint32, key int16, rest ...byte) []byte {
		out := binary.BigEndian.AppendUint32(nil, length)
		out = binary.BigEndian.AppendUint16(out, uint16(key))
		return append(out, rest...)
	}
	for name, raw := range map[string][]byte{
		"HTTP":             []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"unknown key":      frame(20, 9999, make([]byte, 18)...),
		"negative key":     frame(20, -1, make([]byte, 18)...),
		"too short":        frame(4, 3, 0, 0),
		"empty":            frame(0, 0),
		"too long":         frame(maxFrame+1, 3),
		"2 GiB":            frame(1<<31, 3),
		"garbled metadata": frame(20, int16(kmsg.Metadata), 0xff, 0xff, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9),
	} {
		c, err := net.Dial("tcp", b.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(raw); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: read %d bytes, %v; want the connection closed", name, n, err)
		}
		c.Close()
	}
	createTopic(t, newClient(t, b.Addrs()), "still.here", 1)
}

// The guard reads frames the same whatever pieces they come in.
func FuzzFrames(f *testing.F) {
	good := binary.BigEndian.AppendUint32(nil, 10)
	good = append(good, 0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff)
	f.Add(append(bytes.Clone(good), good...), uint8(3))
	f.Add([]byte("GET / HTTP/1.1"), uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, step uint8) {
		whole, pieces := &guardedConn{}, &guardedConn{}
		want := whole.follow(raw)
		got := true
		for at := 0; at < len(raw) && got; at += int(step%7) + 1 {
			got = pieces.follow(raw[at:min(len(raw), at+int(step%7)+1)])
		}
		if got != want {
			t.Fatalf("in pieces of %d: %v, at once: %v", step%7+1, got, want)
		}
		if !want {
			return
		}
		// What passes is a row of frames that kfake can take.
		r := bytes.NewReader(raw)
		for {
			var head [6]byte
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return
			}
			n := binary.BigEndian.Uint32(head[:])
			if n > maxFrame || n < 8 || kmsg.RequestForKey(int16(binary.BigEndian.Uint16(head[4:]))) == nil {
				t.Fatalf("a frame of %d bytes with key %d passed", n, int16(binary.BigEndian.Uint16(head[4:])))
			}
			if _, err := r.Seek(int64(n)-2, io.SeekCurrent); err != nil {
				return
			}
		}
	})
}

// Aborted records stay out of sight when an answer would be cut by the
// client's own limit (kfake's B1): the fetch hook.
func TestReadCommittedHoldsForCutAnswers(t *testing.T) {
	b := startBroker(t, BrokerOptions{Dir: t.TempDir()})
	admin := newClient(t, b.Addrs())
	createTopic(t, admin, "out", 1)
	tx := newClient(t, b.Addrs(), kgo.TransactionalID("a"), kgo.DefaultProduceTopic("out"), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	for i := range 40 {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		v := strings.Repeat("x", 3000)
		if i%2 == 0 {
			v = "committed"
		}
		if err := tx.ProduceSync(t.Context(), &kgo.Record{Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := tx.EndTransaction(t.Context(), kgo.TransactionEndTry(i%2 == 0)); err != nil {
			t.Fatal(err)
		}
	}
	cl := newClient(t, b.Addrs(), kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxBytes(4000),
		kgo.FetchMaxPartitionBytes(8000), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for n := 0; n < 20; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			n++
			if string(r.Value) != "committed" {
				t.Fatalf("offset %d was aborted and is read as committed", r.Offset)
			}
		})
	}
}

// Deleted records stay deleted over a kill, and an emptied partition goes on.
func TestKilledBrokerKeepsDeletionsDeleted(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, dir)
	cl := newClient(t, c.Addrs, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	createTopic(t, cl, "audit.events", 2)
	for p := range int32(2) {
		for range 5 {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "audit.events", Partition: p, Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var offs kadm.Offsets
	offs.AddOffset("audit.events", 0, 2, -1)
	offs.AddOffset("audit.events", 1, 5, -1)
	if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), offs); err != nil {
		t.Fatal(err)
	}
	cl.Close()
	for range 2 {
		c.kill(t)
		c = startChild(t, dir)
		adm := kadm.NewClient(newClient(t, c.Addrs))
		starts, err := adm.ListStartOffsets(t.Context(), "audit.events")
		if err != nil {
			t.Fatal(err)
		}
		ends, err := adm.ListEndOffsets(t.Context(), "audit.events")
		if err != nil {
			t.Fatal(err)
		}
		for p, want := range []int64{2, 5} {
			s, _ := starts.Lookup("audit.events", int32(p))
			e, _ := ends.Lookup("audit.events", int32(p))
			if s.Offset != want || e.Offset != 5 {
				t.Errorf("partition %d: from %d to %d, want %d to 5", p, s.Offset, e.Offset, want)
			}
		}
	}
}
