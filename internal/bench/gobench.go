package bench

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// goBench runs one Go benchmark of the repository and returns its figures by unit, and
// under cpuPerOp its CPU time per operation in nanoseconds: that says the same on a busy
// machine, where ns/op says how busy it is.
func (r *runner) goBench(ctx context.Context, pkg, pattern, benchtime string) (figures map[string]float64, command string, err error) {
	command = fmt.Sprintf("go test %s -run '^$' -bench '%s' -benchtime %s -benchmem", pkg, pattern, benchtime)
	bin := r.bed.Path("bench.test")
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", bin, pkg).CombinedOutput(); err != nil {
		return nil, command, fmt.Errorf("build the benchmark of %s: %w\n%s", pkg, err, out)
	}
	cmd := exec.CommandContext(ctx, bin, "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", benchtime, "-test.benchmem")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, command, fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	figures, err = parseBench(string(out))
	if err != nil {
		return nil, command, fmt.Errorf("%s: %w in:\n%s", command, err, out)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	figures[cpuPerOp] = float64(cpu.Nanoseconds()) / figures[operations]
	return figures, command, nil
}

// Figures that go test prints without a unit, or not at all.
const (
	operations = "operations"
	cpuPerOp   = "cpu-ns/op"
)

// parseBench reads the last line of output that holds a benchmark's figures: a name, a
// count, then pairs of value and unit.
func parseBench(out string) (map[string]float64, error) {
	figures := map[string]float64{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		n, err := strconv.ParseFloat(f[1], 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("count %q", f[1])
		}
		figures[operations] = n
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
	f, command, err := r.goBench(ctx, "./ledger", "ChainAppend/salted=true/headers=4", "2s")
	if err != nil {
		return err
	}
	r.add(Row{What: "ledger step, salted, 400-byte value and 4 headers", Rate: fmt.Sprintf("%.0f ns, %.0f allocations", f["ns/op"], f["allocs/op"]),
		CPU: fmt.Sprintf("%.2f", f[cpuPerOp]/1e3), Required: "1,000 ns, 0 allocations", Goal: "750 ns", Load: at, Command: "`" + command + "`"})
	return nil
}

// sealing measures the seal with the embedded broker in the same process.
func (r *runner) sealing(ctx context.Context) error {
	at := load()
	f, command, err := r.goBench(ctx, "./internal/stream", "^BenchmarkSeal$", fmt.Sprintf("%dx", 2*r.o.Events))
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
	f, command, err := r.goBench(ctx, "./schemas", "^BenchmarkCheckAudit$", "2s")
	if err != nil {
		return err
	}
	r.add(Row{What: "check of a 420-byte JSON event before it is sent", Rate: fmt.Sprintf("%.0f ns, %.0f allocations", f["ns/op"], f["allocs/op"]),
		CPU: fmt.Sprintf("%.2f", f[cpuPerOp]/1e3), Load: at, Command: "`" + command + "`"})
	return nil
}
