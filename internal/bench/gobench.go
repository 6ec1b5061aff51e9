package bench

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// goBench runs one Go benchmark of the repository and returns its figures by unit.
func goBench(ctx context.Context, pkg, pattern, benchtime string) (figures map[string]float64, command string, err error) {
	args := []string{"test", pkg, "-run", "^$", "-bench", pattern, "-benchtime", benchtime, "-benchmem", "-count", "1"}
	command = "go " + strings.Join(args, " ")
	cmd := exec.CommandContext(ctx, "go", args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return nil, command, fmt.Errorf("%s: %w\n%s%s", command, err, out.String(), errOut.String())
	}
	figures, err = parseBench(out.String())
	if err != nil {
		return nil, command, fmt.Errorf("%s: %w in:\n%s", command, err, out.String())
	}
	return figures, command, nil
}

// parseBench reads the last line of output that holds a benchmark's figures: a name, a
// count, then pairs of value and unit.
func parseBench(out string) (map[string]float64, error) {
	figures := map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("figure %q: %w", f[i], err)
			}
			figures[f[i+1]] = v
		}
	}
	if len(figures) == 0 {
		return nil, fmt.Errorf("no benchmark ran")
	}
	return figures, nil
}

// ledgerStep measures the chain alone: frame, salt, commitment, statement, leaf.
func (r *runner) ledgerStep(ctx context.Context) error {
	at := load()
	f, command, err := goBench(ctx, "./ledger", "ChainAppend/salted=true/headers=4", "2s")
	if err != nil {
		return err
	}
	r.add(Row{What: "ledger step, salted, 400-byte value and 4 headers", Rate: fmt.Sprintf("%.0f ns, %.0f allocations", f["ns/op"], f["allocs/op"]),
		CPU: fmt.Sprintf("%.2f", f["ns/op"]/1e3), Required: "1,000 ns, 0 allocations", Goal: "750 ns", Load: at, Command: "`" + command + "`"})
	return nil
}

// sealing measures the seal with the embedded broker in the same process.
func (r *runner) sealing(ctx context.Context) error {
	at := load()
	f, command, err := goBench(ctx, "./internal/stream", "^BenchmarkSeal$", fmt.Sprintf("%dx", 2*r.o.Events))
	if err != nil {
		return err
	}
	r.add(Row{What: "seal, embedded broker in the same process", Rate: thousands(int64(f["rec/s"])) + " records/s", CPU: fmt.Sprintf("%.2f in all", f["cpu-us/rec"]),
		Required: "350,000/s, 5.0", Goal: "550,000/s, 3.4", Load: at, Command: "`" + command + "`"})
	return nil
}

// checking measures what a producer does to see that an event is good.
func (r *runner) checking(ctx context.Context) error {
	at := load()
	f, command, err := goBench(ctx, "./schemas", "^BenchmarkCheckAudit$", "2s")
	if err != nil {
		return err
	}
	r.add(Row{What: "check of a 420-byte JSON event before it is sent", Rate: fmt.Sprintf("%.0f ns, %.0f allocations", f["ns/op"], f["allocs/op"]),
		CPU: fmt.Sprintf("%.2f", f["ns/op"]/1e3), Load: at, Command: "`" + command + "`"})
	return nil
}
