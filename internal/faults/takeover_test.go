package faults

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
		"a broker may take longer":  {recoveries(brokerGone, roleSeal, 20*second), ""},
		"nothing may take so long":  {recoveries(brokerBack, roleSeal, 31*second), "slowest"},
		"what is not promised":      {recoveries("", roleSeal, 40*second), ""},
		"nothing was measured":      {nil, ""},
	} {
		err := tooSlow(c.results)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

func TestReportSaysWhatWasFound(t *testing.T) {
	results := recoveries(restarted, roleSeal, time.Second/2, time.Second)
	r := &results[0]
	r.Fired, r.Faults = 3, []string{killed + "seal", killed + "seal", "SIGTERM of seal"}
	r.Verdict.Acked, r.Verdict.Counts = 70, map[Charge]int{Lost: 4, BadLink: 5}
	r.Err = errors.New("4 lost")
	path := filepath.Join(t.TempDir(), "report.md")
	if err := WriteReport(t.Context(), path, Options{Real: true, Long: true, Seed: 99}, results, errors.New("1 of 1 cases failed")); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"**This run failed.** 1 of 1 cases failed", "seed 99", "1 cases, 1 failed. 3 faults struck, 2 of them kill -9. 70 events",
		"| 4 | 0 | 0 | 0 | 0 | 0 | 5 |", "| restarted under its identity, from the start of the process | 2 | 1.00 s | 1.00 s | 1.00 s | 1.00 s |",
		"| kill -9 of seal | 2 |", "| SIGTERM of seal | 1 |", "| case | 0 | 3 | 70 |", "FAILED",
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("the report does not say %q:\n%s", want, raw)
		}
	}
}
