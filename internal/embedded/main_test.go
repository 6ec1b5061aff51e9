package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"
)

// childEnv makes the test binary run a broker on a directory and nothing else,
// so that a test can kill it.
const (
	childEnv   = "SEALSTREAM_TEST_BROKER_DIR"
	childPGEnv = "SEALSTREAM_TEST_POSTGRES_DIR"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(runChild(dir))
	}
	if dir := os.Getenv(childPGEnv); dir != "" {
		os.Exit(runPGChild(dir))
	}
	os.Exit(m.Run())
}

// hello is what a child prints once it answers.
type hello struct {
	Addrs   []string
	Boot    string
	Cluster string
	PID     int
}

func runChild(dir string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := StartBroker(context.Background(), BrokerOptions{Dir: dir, Log: log})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(hello{Addrs: b.Addrs(), Boot: b.Boot(), Cluster: b.ClusterID()}); err != nil {
		return 1
	}
	// A child whose test died must not stay: the pipe ends with the test.
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	if err := b.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runPGChild(dir string) int {
	p, err := StartPostgres(context.Background(), PostgresOptions{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(hello{Addrs: []string{p.URL("")}, PID: p.PID()}); err != nil {
		return 1
	}
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	if err := p.Close(); err != nil {
		return 1
	}
	return 0
}

// child is a server in a process of its own.
type child struct {
	hello
	cmd  *exec.Cmd
	stop func() error // ends it cleanly
}

func startChild(t testing.TB, dir string) *child {
	t.Helper()
	return startChildWith(t, childEnv+"="+dir)
}

func startChildWith(t testing.TB, env string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(exe)}
	c.cmd.Env = append(os.Environ(), env)
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.stop = func() error { in.Close(); return c.cmd.Wait() }
	t.Cleanup(func() { c.cmd.Process.Kill(); c.cmd.Wait() })
	if err := json.NewDecoder(out).Decode(&c.hello); err != nil {
		t.Fatalf("the child did not come up: %v", err)
	}
	return c
}

func (c *child) kill(t testing.TB) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait() // "signal: killed"
}

// eventually polls until ok, with a bound.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain for: %s", what)
		case <-tick.C:
		}
	}
}
