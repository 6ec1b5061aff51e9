//go:build measure && linux

package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Memory and time of a restart of the broker alone, with 1M events of 400 bytes
// in 12 partitions and as many sealed records:
//
//	go test -tags measure -run TestRestartMemory -v -timeout 20m ./internal/embedded
func TestRestartMemory(t *testing.T) {
	const events = 1_000_000
	dir := t.TempDir()
	c := startChild(t, dir)
	cl := newClient(t, c.Addrs, kgo.ProducerLinger(10*time.Millisecond), kgo.MaxBufferedRecords(100_000), kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	for _, topic := range []string{"audit.events", "audit.events.sealed"} {
		createTopic(t, cl, topic, 12)
		start := time.Now()
		seal := make([]byte, 216)
		id := make([]byte, 16)
		for i := range events {
			if _, err := rand.Read(id); err != nil {
				t.Fatal(err)
			}
			v := fmt.Sprintf(`{"@timestamp":%d,"event":{"id":"%s","kind":"event","category":["iam"],"type":["change"],"action":"user.role.grant","outcome":"success"},"user":{"id":"u%06d","name":"user-%06d"},"source":{"ip":"10.%d.%d.%d"},"organization":{"id":"tenant-7"},"user_agent":{"original":"Mozilla/5.0 (X11; Linux x86_64)"},"labels":{"k":"`,
				1_800_000_000_000+i, hex.EncodeToString(id), i%9973, i%9973, i%250, i%251, i%249)
			v += strings.Repeat("v", max(0, 400-len(v)-3)) + `"}}`
			r := &kgo.Record{Topic: topic, Key: id[:8], Value: []byte(v)}
			if strings.HasSuffix(topic, sealedSuffix) {
				if _, err := rand.Read(seal); err != nil {
					t.Fatal(err)
				}
				r.Headers = []kgo.RecordHeader{{Key: "seal", Value: append([]byte(nil), seal...)}}
			}
			cl.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d records in %v", topic, events, time.Since(start).Round(time.Millisecond))
	}
	t.Logf("log on disk: %d MiB", size(t, dir)>>20)
	t.Logf("while it was filled: %s", memory(t, c.cmd.Process.Pid))
	cl.Close()
	for _, how := range []string{"clean stop", "kill -9", "kill -9", "clean stop"} {
		if how == "kill -9" {
			c.kill(t)
		} else if err := c.stop(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		c = startChild(t, dir)
		t.Logf("restart after %s: answers after %v, %s", how, time.Since(start).Round(time.Millisecond), memory(t, c.cmd.Process.Pid))
	}
}

func memory(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "VmRSS") {
			var kb int
			name, rest, _ := strings.Cut(line, ":")
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s %d MiB", map[string]string{"VmHWM": "peak", "VmRSS": "now"}[name], kb>>10))
		}
	}
	return strings.Join(out, ", ")
}

func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		n += st.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
