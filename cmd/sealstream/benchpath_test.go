package main

import (
	"encoding/json"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/schemas"
)

// TestBenchPathRefuses: nothing is written without a word, and nothing to a topic of
// others' unless it is named.
func TestBenchPathRefuses(t *testing.T) {
	p := newPlace(t)
	p.do(t, "topics", "create").want(t, exitDone)
	p.do(t, "bench-path", "--yes").want(t, exitNotDone, "bench.events is not among the sources", "--source")
	p.do(t, "bench-path", "--source", "audit.events", "--events", "20").want(t, exitNotDone, "20 events", "x-audit.events.sealed for ever", "nothing was written", "--yes")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--source", "no.such", "--yes"}, "no.such"}, {[]string{"--source", schemas.TopicControl, "--yes"}, schemas.TopicControl}, {[]string{"--events", "0"}, "--events"},
		{[]string{"--events", "1000001"}, "--events"}, {[]string{"--rate", "0"}, "--rate"}, {[]string{"--rate", "NaN"}, "--rate"}, {[]string{"--timeout", "0s"}, "--timeout"}, {[]string{"x"}, "no argument"},
	} {
		p.do(t, append([]string{"bench-path"}, c.args...)...).want(t, exitNotDone, c.want)
	}
	cl, err := kgo.NewClient(p.seeds, kgo.ConsumeTopics("x-audit.events"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	// Nobody seals here: it says what came and what did not. The refused runs wrote nothing.
	p.do(t, "bench-path", "--source", "audit.events", "--events", "20", "--timeout", "1s", "--yes").want(t, exitNotDone,
		"acknowledged", "20 of 20 acknowledgements, 0 sealed records", "does a seal run?")
	if n := len(p.records(t, "x-audit.events", 20)); n != 20 {
		t.Errorf("%d records, want 20", n)
	}
}

func TestBenchPath(t *testing.T) {
	dir := dataDir(t)
	file := write(t, t.TempDir(), "sealstream.yaml", "version: 1\nsources: [{topic: audit.events, partitions: 2, max_message_bytes: 1048576, retention: 720h}, {topic: bench.events, partitions: 3, max_message_bytes: 1048576, retention: 24h}, {topic: domain.events, partitions: 2, max_message_bytes: 1048576, retention: 720h}]\n")
	startUp(t, dir, "--config", file)
	r := sealstream(t, "bench-path", "--events", "600", "--rate", "600", "--yes", "--json", "--data", dir, "--config", file)
	r.want(t, exitDone)
	var rep benchReport
	if err := json.Unmarshal([]byte(r.stdout), &rep); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	if !rep.Complete || rep.Topic != "bench.events" || rep.Events != 600 || rep.Bytes < 600*100 || len(rep.Stages) != 3 {
		t.Errorf("report %+v", rep)
	}
	for i, s := range rep.Stages {
		// An event is stored after it is sealed, and that after it was due; at 600 a second the
		// last one is due after a second, less a burst.
		if s.Events != 600 || s.P50 <= 0 || s.P50 > s.P99 || s.P99 > s.Max || s.PerSec < 1 || s.PerSec > 640 || i > 1 && s.P50 < rep.Stages[i-1].P50 {
			t.Errorf("stage %+v", s)
		}
	}
	sealstream(t, "bench-path", "--events", "50", "--sealed-only", "--yes", "--data", dir, "--config", file).want(t, exitDone, "acknowledged", "sealed", "events/s")
	sealstream(t, "verify", "--data", dir, "--config", file).want(t, exitDone, "everything is as it was sealed")
}
