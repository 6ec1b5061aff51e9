// Command peers starts the real servers that integration tests run against, once, and
// hands them to a command by its environment: Apache Kafka, a foreign schema registry,
// a Python with foreign clients, and a sealstream binary. Without a command it says
// where they are and waits for Ctrl-C. Everything ends with it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

type options struct {
	nodes     int
	jit       bool
	kafkaOnly bool
	keep      bool
	command   []string
}

func run(ctx context.Context, args []string) error {
	var o options
	fs := flag.NewFlagSet("peers", flag.ContinueOnError)
	fs.IntVar(&o.nodes, "nodes", 1, "Kafka nodes, 1 or 3")
	fs.BoolVar(&o.jit, "jit", false, "let the brokers' compiler do its best, for measurements")
	fs.BoolVar(&o.kafkaOnly, "kafka-only", false, "start no registry, make no Python environment, build no binary")
	fs.BoolVar(&o.keep, "keep", false, "keep the logs")
	if err := fs.Parse(args); err != nil {
		return err
	}
	o.command = fs.Args()
	bed, err := testbed.New("")
	if err != nil {
		return err
	}
	err = o.serve(ctx, bed)
	if o.keep {
		fmt.Fprintln(os.Stderr, "peers: logs are in", bed.Path())
	}
	return errors.Join(err, bed.Close(o.keep))
}

func (o *options) serve(ctx context.Context, bed *testbed.Bed) error {
	began := time.Now()
	p, err := o.start(ctx, bed)
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	path := bed.Path("peers.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return err
	}
	env := []string{testbed.PeersEnv + "=" + path, testbed.KafkaEnv + "=" + strings.Join(p.Kafka, ",")}
	fmt.Fprintf(os.Stderr, "peers: ready after %.1f s: Kafka %s\n", time.Since(began).Seconds(), strings.Join(p.Kafka, ","))
	if len(o.command) == 0 {
		fmt.Fprintf(os.Stderr, "%s\nexport %s\nCtrl-C ends it.\n", raw, strings.Join(env, " "))
		<-ctx.Done()
		return nil
	}
	cmd := exec.CommandContext(ctx, o.command[0], o.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd.Run()
}

// start starts everything, the slow things side by side.
func (o *options) start(ctx context.Context, bed *testbed.Bed) (p testbed.Peers, err error) {
	k, err := bed.Kafka(ctx, testbed.KafkaOptions{Nodes: o.nodes, FullJIT: o.jit})
	if err != nil {
		return p, err
	}
	p = testbed.Peers{Kafka: k.Brokers, KafkaSASL: k.SASLBrokers, KafkaCA: k.CAFile, KafkaUser: k.User, KafkaPassword: k.Password, KafkaJars: k.Jars}
	if o.kafkaOnly {
		return p, nil
	}
	reg, err := bed.Apicurio(ctx)
	if err != nil {
		return p, err
	}
	p.Registry = reg.URL
	if p.Python, err = testbed.PythonEnv(ctx, ""); err != nil {
		return p, err
	}
	p.Binary, err = bed.Build(ctx)
	return p, err
}
