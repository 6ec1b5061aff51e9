package faults

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
)

// recoveries makes results in which a stage came back in these times.
func recoveries(kind takeover, role string, times ...time.Duration) []Result {
	r := Result{Name: "case", Verdict: &Verdict{Counts: map[Charge]int{}}}
	for _, d := range times {
		r.Recoveries = append(r.Recoveries, Recovery{Kind: kind, Role: role, SealedAll: d, StoredAll: 2 * d})
	}
	return []Result{r}
}

func TestTakeOversAreHeldAgainstThePromise(t *testing.T) {
	second := time.Second
	for name, c := range map[string]struct {
		results []Result
		want    string // part of the error; empty = none
	}{
		"fast":                      {recoveries(restarted, roleSeal, second/2, second/3, 2*second), ""},
		"slow median":               {recoveries(restarted, roleSeal, 2*second, 2*second, second), "median"},
		"slow p99":                  {recoveries(restarted, roleSeal, second/2, second/2, 6*second), "p99"},
		"the sink must have stored": {recoveries(restarted, roleSink, second*3/4, second*3/4), "median"},
		"gone within the session":   {recoveries(goneForGood, roleSeal, 11*second), ""},
		"gone for too long":         {recoveries(goneForGood, roleSeal, 12*second), "gone for good"},
		"left for too long":         {recoveries(left, roleSeal, 12*second), "has left in order"},
		"a broker may take longer":  {recoveries(brokerGone, roleSeal, 20*second), ""},
		"nothing may take so long":  {recoveries(brokerBack, roleSeal, 31*second), "slowest"},
		"a mended way, too":         {recoveries(wayMended, "", 16*second), "the way is mended"},
		"a broker left in order":    {recoveries(brokerLeft, roleSeal, 31*second), "has left in order"},
		"nothing was measured":      {nil, ""},
	} {
		err := tooSlow(c.results)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

// enough makes results of the long form that have measured just what is needed.
func enough() []Result {
	var out []Result
	for _, m := range measures() {
		out = append(out, recoveries(m.kind, roleSeal, make([]time.Duration, m.needed)...)...)
	}
	for range enoughKills {
		out[0].Faults = append(out[0].Faults, killed+"seal")
	}
	return out
}

func TestLongRunMustMeasureEnough(t *testing.T) {
	long := Options{Long: true, Real: true}
	if err := tooFew(&long, enough()); err != nil {
		t.Errorf("enough is too few: %v", err)
	}
	for i, m := range measures() {
		if m.needed == 0 {
			continue
		}
		few := enough()
		few[i].Recoveries = few[i].Recoveries[1:]
		if err := tooFew(&long, few); err == nil || !strings.Contains(err.Error(), string(m.kind)+":") {
			t.Errorf("one too few %q: %v", m.kind, err)
		}
	}
	few := enough()
	few[0].Faults[0] = "SIGTERM of seal"
	if err := tooFew(&long, few); err == nil || !strings.Contains(err.Error(), "299") {
		t.Errorf("299 kills: %v", err)
	}
	for name, o := range map[string]Options{"short": {Real: true}, "embedded": {Long: true}, "chosen": {Long: true, Real: true, Run: regexp.MustCompile("seal")}} {
		if err := tooFew(&o, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A kind that is in no table would be held against nothing.
func TestWaitingNeedsAKind(t *testing.T) {
	s := &scene{}
	if err := s.back(t.Context(), time.Second); err == nil {
		t.Error("a recovery without a kind is no error")
	}
}

func TestCommitIsTakenWhenTheBinaryIsBuilt(t *testing.T) {
	t.Chdir(t.TempDir())
	git := func(args ...string) {
		t.Helper()
		args = append([]string{"-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	write := func(text string) {
		if err := os.WriteFile("file", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := func(context.Context) (string, error) { return "binary", nil }
	if _, commit, _ := BuildCommit(t.Context(), build); commit != "commit unknown" {
		t.Errorf("without a repository: %q", commit)
	}
	write("one")
	git("init", "-q")
	git("add", "file")
	git("commit", "-q", "-m", "one")
	binary, clean, err := BuildCommit(t.Context(), build)
	if err != nil || binary != "binary" || strings.Contains(clean, "changes") {
		t.Errorf("clean: %q, %q, %v", binary, clean, err)
	}
	write("two")
	if _, commit, _ := BuildCommit(t.Context(), build); commit != clean+" with changes that are not committed" {
		t.Errorf("dirty: %q", commit)
	}
	_, commit, _ := BuildCommit(t.Context(), func(context.Context) (string, error) {
		git("commit", "-q", "-a", "-m", "two")
		return "binary", nil
	})
	if !strings.HasPrefix(commit, clean+" with changes that are not committed or ") {
		t.Errorf("changed meanwhile: %q", commit)
	}
	if _, _, err := BuildCommit(t.Context(), func(context.Context) (string, error) { return "", errors.New("broken") }); err == nil {
		t.Error("a build that fails is no error")
	}
}

func TestGivenBinaryNamesItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"tool $1 7\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := GivenCommit(t.Context(), path); err != nil || got != "binary given: tool version 7" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := GivenCommit(t.Context(), path+"-none"); err == nil {
		t.Error("a binary that is not there is no error")
	}
}

// What was sent before a process is frozen may be sealed; after it, nothing.
func TestFrozenMeansEveryThread(t *testing.T) {
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer bed.Close(false)
	p, err := bed.Start("sleeper", "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	if is, err := frozen(p.PID()); runtime.GOOS == "linux" && (is || err != nil) {
		t.Errorf("it runs, and frozen says %v, %v", is, err)
	}
	if err := freeze(t.Context(), p); err != nil {
		t.Error(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := frozen(p.PID()); runtime.GOOS == "linux" && err == nil {
		t.Error("a process that is gone is no error")
	}
}

func TestReportSaysWhatWasFound(t *testing.T) {
	results := recoveries(restarted, roleSeal, time.Second/2, time.Second)
	r := &results[0]
	r.Fired, r.Faults = 3, []string{killed + "seal", killed + "seal", "SIGTERM of seal"}
	r.Verdict.Acked, r.Verdict.Counts = 70, map[Charge]int{Lost: 4, BadLink: 5}
	r.Err = errors.New("4 lost")
	results = append(results, recoveries(registryBack, "", time.Second)...)
	path := filepath.Join(t.TempDir(), "report.md")
	o := Options{Real: true, Long: true, Seed: 99, Run: regexp.MustCompile("^c"),
		Setting: Setting{Commit: "commit 1234567", Began: time.Now().Add(-90 * time.Second), Load: "3.25"}}
	if err := WriteReport(path, o, results, errors.New("1 of 1 cases failed")); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"**This run failed.** 1 of 1 cases failed", "seed 99", "took 1m30s", "* commit 1234567, run by go", "load average 3.25 at the start and ", "only the cases that `^c` names",
		"| the registry is back, from its start | 1 | 2.00 s |", "2 cases, 1 failed. 3 faults struck, 2 of them kill -9. 70 events",
		"| 4 | 0 | 0 | 0 | 0 | 0 | 5 |", "| restarted under its identity, from the start of the process | 2 | 1.00 s | 1.00 s | 1.00 s | 1.00 s |",
		"| kill -9 of seal | 2 |", "| SIGTERM of seal | 1 |", "| case | 0 | 3 | 70 |", "FAILED",
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the report does not say %q:\n%s", want, raw)
		}
	}
}
