package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
)

// RealOptions say what is measured on real Kafka.
type RealOptions struct {
	Options                // Events: of the whole path
	Backlog  int64         // records that the seal finds when it starts
	Rate     int           // records per second of the steady load
	Steady   time.Duration // how long the steady load lasts
	Kills    int           // of a partition's leader
	Stuck    time.Duration // how long PostgreSQL answers nothing
	StuckQPS int           // events per second meanwhile
}

// RealParts are the measurements on real Kafka that can be asked for by name.
func RealParts() []string { return []string{"seal", "path", "seal3", "gap", "memory"} }

// realRunner measures on real Kafka.
type realRunner struct {
	*runner
	o RealOptions
	k *testbed.Kafka // the cluster at hand, nil between two
}

// RunReal measures on real Kafka and returns the rows, those before an error too.
func RunReal(ctx context.Context, o RealOptions) (rows []Row, err error) {
	bed, err := testbed.New("")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bed.Close(false)) }()
	if len(o.Parts) == 0 {
		o.Parts = RealParts()
	}
	r := &realRunner{runner: &runner{o: o.Options, bed: bed}, o: o}
	if o.Binary == "" {
		r.say("building the binary")
		if r.runner.o.Binary, err = bed.Build(ctx); err != nil {
			return nil, err
		}
	}
	quick, cancel := context.WithTimeout(ctx, quickMost)
	defer cancel()
	// What fails does not keep the rest from being measured.
	err = errors.Join(
		r.group(quick, 1, "seal", "path"),
		r.group(quick, 3, "seal3", "gap"),
		r.group(ctx, 1, "memory"))
	return r.rows, err
}

// quickMost is how long all may take but the memory, which takes as long as it is asked to.
const quickMost = 8 * time.Minute

// group runs the wanted ones of parts on one cluster.
func (r *realRunner) group(ctx context.Context, nodes int, parts ...string) (err error) {
	parts = slices.DeleteFunc(parts, func(p string) bool { return !slices.Contains(r.o.Parts, p) })
	if len(parts) == 0 {
		return nil
	}
	r.say("starting Kafka with %d node(s)", nodes)
	if r.k, err = r.bed.Kafka(ctx, testbed.KafkaOptions{Nodes: nodes, FullJIT: true}); err != nil {
		return err
	}
	defer func() { // the next cluster must have the machine for itself
		for id := range nodes {
			err = errors.Join(err, r.k.Kill(id+1))
		}
	}()
	steps := map[string]func(context.Context) error{
		"seal": r.sealing, "path": r.path, "seal3": r.sealing, "gap": r.gaps, "memory": r.memory,
	}
	for _, name := range parts {
		if err := steps[name](ctx); err != nil {
			return fmt.Errorf("measure %s on %d node(s): %w%s", name, nodes, err, r.fallen())
		}
	}
	return nil
}

// fallen tells which nodes have ended, and how.
func (r *realRunner) fallen() string {
	var b strings.Builder
	for i := range r.k.Brokers {
		if p := r.k.Proc(i + 1); p.Ended() {
			fmt.Fprintf(&b, "\nKafka node %d has ended with exit code %d: %s\n%s", i+1, p.Exit(), p.Tail(), r.k.Log(i+1))
		}
	}
	return b.String()
}

// brokerCPU is the CPU time of all nodes.
func (r *realRunner) brokerCPU() (sum time.Duration, err error) {
	for id := range r.k.Brokers {
		cpu, err := ownCPU(r.k.Proc(id + 1).PID())
		if err != nil {
			return 0, err
		}
		sum += cpu
	}
	return sum, nil
}

func (r *realRunner) nodes() string {
	if len(r.k.Brokers) == 1 {
		return "1 node"
	}
	return fmt.Sprint(len(r.k.Brokers), " nodes")
}

// realInstall is an installation on the cluster, its roles in processes of their own.
type realInstall struct {
	servers
	*testbed.Given
	r *realRunner
}

// member is a running role.
type member struct {
	*testbed.Proc
	addr string // of its metrics, and of its API if it is one
}

func (r *realRunner) install(ctx context.Context, prefix string) (*realInstall, error) {
	g, err := r.bed.Given(ctx, testbed.GivenOptions{Binary: r.runner.o.Binary, Kafka: r.k.Brokers, Prefix: prefix})
	if err != nil {
		return nil, err
	}
	in := &realInstall{servers: servers{prefix: prefix, postgres: g.Server.PID()}, Given: g, r: r}
	return in, in.dial(ctx, r.k.Brokers, g.Postgres)
}

// end closes our connections and ends the database; the roles must have ended.
func (in *realInstall) end(ctx context.Context) error {
	in.leave(ctx)
	return in.Server.Quit()
}

// start starts a role with a configuration of its own: each has its own listener. env
// holds more environment, as NAME=value.
func (in *realInstall) start(ctx context.Context, role, slot string, env ...string) (*member, error) {
	ports, err := in.r.bed.FreePorts(1)
	if err != nil {
		return nil, err
	}
	m := &member{addr: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	section := "monitor:\n  listen: " + m.addr + "\n"
	if role == "api" {
		section = fmt.Sprintf("api:\n  listen: %s\n  local_key_file: %s\n", m.addr, in.r.bed.Path(in.prefix+"token.pem"))
	}
	conf, err := in.config(role+"-"+slot, section)
	if err != nil {
		return nil, err
	}
	args := append(slices.Clone(env), in.r.runner.o.Binary, "run", role, "--slot", slot, "--config", conf)
	if m.Proc, err = in.r.bed.Start(in.prefix+role+"-"+slot, "env", args...); err != nil {
		return nil, err
	}
	err = testbed.Until(ctx, func() (bool, error) {
		if m.Ended() {
			return false, fmt.Errorf("%s ended with exit code %d; its log ends with:\n%s", m.Name, m.Exit(), m.Tail())
		}
		_, err := scrape(ctx, m.addr)
		return err == nil, nil
	})
	return m, err
}

// config writes the installation's configuration with more in it.
func (in *realInstall) config(name, section string) (path string, err error) {
	text, err := os.ReadFile(in.Args[1])
	if err != nil {
		return "", err
	}
	path = strings.TrimSuffix(in.Args[1], ".yaml") + "-" + name + ".yaml"
	return path, os.WriteFile(path, append(text, section...), 0o600)
}

// finish stops a role in order.
func (m *member) finish(ctx context.Context) error {
	code, err := m.Terminate(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s ended with exit code %d; its log ends with:\n%s", m.Name, code, m.Tail())
	}
	return err
}

// judged writes a floor and whether it was reached.
func judged(floor string, reached bool) string {
	if reached {
		return floor + ": reached"
	}
	return floor + ": **missed**"
}
