package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/internal/embedded"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/producers/ingest"
)

// asProcess makes the test binary be another program: what it names.
const asProcess = "SEALSTREAM_TEST_PROCESS"

func TestMain(m *testing.M) {
	switch os.Getenv(asProcess) {
	case "sealstream":
		main()
	case "broker":
		serveBroker()
	}
	os.Exit(m.Run())
}

// serveBroker is an embedded broker in a process of its own, to be killed.
func serveBroker() {
	b, err := embedded.StartBroker(context.Background(), embedded.BrokerOptions{Dir: os.Args[1], Log: quiet()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitNotDone)
	}
	fmt.Println(b.Addrs()[0])
	select {}
}

// spawn starts the test binary as another program. It is killed with the test.
func spawn(t *testing.T, as string, args ...string) (*exec.Cmd, *lockedBuffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProcess+"="+as)
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	return cmd, out
}

// kill ends a process without asking it, and waits until it is gone.
func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// spawnBroker starts a broker and returns its address.
func spawnBroker(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd, out := spawn(t, "broker", dir)
	until(t, "broker", 30*time.Second, func() bool { return strings.HasSuffix(out.String(), "\n") })
	addr := strings.TrimSpace(out.String())
	if !strings.HasPrefix(addr, "127.0.0.1:") {
		t.Fatalf("broker: %s", addr)
	}
	return cmd, addr
}

// killPlace is a directory with a broker process, topics, a configuration and a file
// of events.
type killPlace struct {
	dir, config, file string
	broker            *exec.Cmd
	addr              string
	events            int
}

func newKillPlace(t *testing.T, events int) *killPlace {
	t.Helper()
	p := &killPlace{dir: t.TempDir(), events: events}
	p.broker, p.addr = spawnBroker(t, filepath.Join(p.dir, "broker"))
	write(t, p.dir, "pseudonym", strings.Repeat("ab", 32))
	p.config = write(t, p.dir, "c.yaml", fmt.Sprintf("version: 1\nkafka: {brokers: [\"%s\"]}\nproducer: {pseudonym_key_file: pseudonym}\n", p.addr))
	sealstream(t, "topics", "create", "--config", p.config).want(t, exitDone)
	var b bytes.Buffer
	for i := range events {
		fmt.Fprintf(&b, strings.Replace(goodLine, "alice", "user-%[2]d", 1)+"\n", i, i%97)
	}
	p.file = write(t, p.dir, "events.ndjson", b.String())
	return p
}

func (p *killPlace) args() []string {
	return []string{"ingest", "--format", "ndjson", "--config", p.config, "--state", filepath.Join(p.dir, "state"), p.file}
}

// inTopic returns how many records the topic has.
func (p *killPlace) inTopic(t *testing.T) int {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), "audit.events")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ends.Each(func(o kadm.ListedOffset) { n += int(o.Offset) })
	return n
}

// copies returns where the records of each event are.
func (p *killPlace) copies(t *testing.T) map[string][]ingest.Place {
	t.Helper()
	log, err := ingest.NewTopicLog("audit.events", kgo.SeedBrokers(p.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ends, err := log.Ends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]ingest.Place{}
	_, err = log.Scan(t.Context(), nil, ends, func(at ingest.Place, r *ledger.Record) {
		for _, h := range r.Headers {
			if h.Name == "ce_id" {
				found[string(h.Value)] = append(found[string(h.Value)], at)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestI8IngestIsKilled kills the ingest process at random points and runs it again: in
// the end each event is in the topic once.
func TestI8IngestIsKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	p := newKillPlace(t, 20_000)
	kills := 0
	for range 6 {
		from := p.inTopic(t)
		at := from + rnd.IntN(2500)
		cmd, out := spawn(t, "sealstream", p.args()...)
		until(t, fmt.Sprintf("%d records", at), 60*time.Second, func() bool {
			return p.inTopic(t) > at || strings.Contains(out.String(), "ingested ")
		})
		kill(cmd)
		if !strings.Contains(out.String(), "ingested ") {
			kills++
		}
	}
	if kills < 3 {
		t.Fatalf("only %d of 6 kills hit a running ingest", kills)
	}
	r := sealstream(t, p.args()...)
	r.want(t, exitDone, ", 0 refused, ", " already there")
	found := p.copies(t)
	for id, at := range found {
		if len(at) != 1 {
			t.Errorf("event %s is in the topic at %v", id, at)
		}
	}
	if len(found) != p.events {
		t.Errorf("%d of %d events are in the topic", len(found), p.events)
	}
	sealstream(t, p.args()...).want(t, exitDone, fmt.Sprintf("ingested 0 events, 0 refused, %d already there", p.events))
}

// TestI8BrokerIsKilledUnderIngest kills the broker and starts it again while ingest
// goes on: no event is lost, and every copy that a retry made is named.
func TestI8BrokerIsKilledUnderIngest(t *testing.T) {
	p := newKillPlace(t, 20_000)
	cmd, out := spawn(t, "sealstream", p.args()...)
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	kills := 0
	for range 4 {
		from := p.inTopic(t)
		until(t, "progress", 60*time.Second, func() bool { return p.inTopic(t) > from+500 || strings.Contains(out.String(), "ingested ") })
		if strings.Contains(out.String(), "ingested ") {
			break
		}
		kill(p.broker)
		kills++
		p.broker, _ = spawnBroker(t, filepath.Join(p.dir, "broker"))
	}
	<-ended
	if kills == 0 {
		t.Fatal("no kill hit a running ingest")
	}
	t.Logf("%d kills; %s", kills, out.String())
	var last result
	for range 5 { // an ingest that gave up goes on
		if last = sealstream(t, p.args()...); last.code == exitDone {
			break
		}
	}
	last.want(t, exitDone, "ingested ", "already there")
	named := map[string]bool{}
	for _, m := range regexp.MustCompile(`audit\.events/\d+@\d+`).FindAllString(lastLine(last.stdout), -1) {
		named[m] = true
	}
	found := p.copies(t)
	if len(found) != p.events {
		t.Errorf("%d of %d events are in the topic", len(found), p.events)
	}
	doubles := 0
	for id, at := range found {
		for _, extra := range at[1:] {
			doubles++
			if !named[extra.String()] {
				t.Errorf("the copy of event %s at %v is not named in %q", id, extra, lastLine(last.stdout))
			}
		}
	}
	if doubles != len(named) {
		t.Errorf("%d copies are there, %d are named", doubles, len(named))
	}
	if doubles > 0 && !strings.Contains(lastLine(last.stdout), strconv.Itoa(doubles)+" doubled by a retry") {
		t.Errorf("last line %q", lastLine(last.stdout))
	}
}
