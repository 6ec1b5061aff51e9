package bench

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseBench(t *testing.T) {
	got, err := parseBench("goos: linux\nBenchmarkX/a-2  	 100	  812 ns/op	 3.5 cpu-us/rec	 0 B/op	 0 allocs/op\nPASS\nok  	x	1.2s\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]float64{operations: 100, "ns/op": 812, "cpu-us/rec": 3.5, "B/op": 0, "allocs/op": 0}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, bad := range []string{"PASS\nok x 1s\n", "BenchmarkX 1 two ns/op\n", "BenchmarkX 0 2 ns/op\n"} {
		if _, err := parseBench(bad); err == nil {
			t.Errorf("%q: want an error", bad)
		}
	}
}

func TestFigures(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %s", n, got)
		}
	}
	if got := perSecond(30_000, 1500*time.Millisecond, "rows"); got != "20,000 rows/s" {
		t.Errorf("rate %q", got)
	}
	if got := costs(500_000, share{"a", 2 * time.Second}, share{"b", 500 * time.Millisecond}); got != "4.0 a + 1.0 b = 5.0" {
		t.Errorf("costs %q", got)
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	err := WriteReport(&out, []Row{{What: "w", Rate: "5 rows/s", CPU: "1.0", Required: "r", Goal: "g", Load: 1.25, Command: "c"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"machine: ", "commit: ", "date: ", "| w | 5 rows/s | 1.0 | r | g | 1.2 | c |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// TestProcesses looks at this process, which burns some CPU first, and at children: one
// that has ended and one that runs.
func TestProcesses(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // what it reads is there on Linux alone
	}
	before, err := treeCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	burn := exec.Command("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
	if err := burn.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := treeCPU(os.Getpid())
	if took := burn.ProcessState.UserTime(); err != nil || after-before < took/2 {
		t.Errorf("a child took %v, the tree %v: %v", took, after-before, err)
	}
	own, err := ownCPU(os.Getpid())
	if err != nil || own > after {
		t.Errorf("own CPU %v, with children %v: %v", own, after, err)
	}
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = sleeper.Process.Kill(), sleeper.Wait() }()
	kids, err := children(os.Getpid())
	if err != nil || len(kids) != 1 || kids[0] != sleeper.Process.Pid {
		t.Errorf("children %v, want %d: %v", kids, sleeper.Process.Pid, err)
	}
	m, err := readMemory(os.Getpid())
	if err != nil || m.now < 1<<20 || m.peak < m.now/2 {
		t.Errorf("memory %+v: %v", m, err)
	}
	if _, err := readStat(1 << 30); err == nil {
		t.Error("a process that is not there has figures")
	}
	if machine() == "unknown processor" {
		t.Log("the machine does not name its processor")
	}
}
