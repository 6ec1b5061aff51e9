package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sealstream/sealstream/internal/testbed"
)

// startTwice starts `up` where it must not run: on a data directory that is in use,
// and on ports that are. It must say so and leave what runs alone.
func startTwice(ctx context.Context, s *scene) error {
	if err := s.openFlowing(ctx); err != nil {
		return err
	}
	if _, err := s.refusedStart(ctx, s.upOptions(), "in use"); err != nil {
		return fmt.Errorf("a second up on one data directory: %w", err)
	}
	if err := errors.Join(s.flowing(ctx), alive(s.up.Proc)); err != nil {
		return fmt.Errorf("the first up must not notice: %w", err)
	}
	other, err := s.bed.MakeDir("other")
	if err != nil {
		return err
	}
	ln, port, err := holdPort()
	if err != nil {
		return err
	}
	defer ln.Close()
	for _, lines := range [][]string{
		{"embedded:", fmt.Sprintf("  kafka_ports: [%d, 0, 0]", port)},
		{"embedded:", fmt.Sprintf("  registry_port: %d", port)},
		{"embedded:", fmt.Sprintf("  postgres_port: %d", port)},
		{"api:", fmt.Sprintf("  listen: 127.0.0.1:%d", port)},
	} {
		if err := s.configure(lines...); err != nil {
			return err
		}
		p, err := s.refusedStart(ctx, testbed.UpOptions{Data: other, Args: s.upArgs}, strconv.Itoa(port))
		if err != nil {
			return fmt.Errorf("%s in use: %w", strings.TrimSpace(lines[1]), err)
		}
		if !strings.Contains(p.Log(), "in use") {
			return fmt.Errorf("%s in use, and that is not what it says:\n%s", strings.TrimSpace(lines[1]), p.Tail())
		}
	}
	// With the ports free, the directory on which all these starts failed must serve.
	up, err := s.bed.Up(ctx, s.o.Binary, testbed.UpOptions{Data: other})
	if err != nil {
		return fmt.Errorf("start after starts that failed: %w", err)
	}
	if err := up.Kill(); err != nil {
		return err
	}
	return s.settle(ctx)
}

// refusedStart starts `up`, which must give up with exit code 2 and print text.
func (s *scene) refusedStart(ctx context.Context, o testbed.UpOptions, text string) (*testbed.Proc, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	args := []string{"up", "--data", o.Data, "--ready-file", s.bed.Path("refused.ready")}
	p, err := s.bed.Start("refused", s.o.Binary, append(args, o.Args...)...)
	if err != nil {
		return nil, err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("it must be refused: %w", err)
	}
	if code != 2 {
		return nil, fmt.Errorf("it ended with exit code %d, want 2:\n%s", code, p.Tail())
	}
	if !strings.Contains(p.Log(), text) {
		return nil, fmt.Errorf("it does not say %q:\n%s", text, p.Tail())
	}
	s.struck("start refused")
	return p, nil
}

// holdPort takes a free port for as long as the listener lives.
func holdPort() (net.Listener, int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, fmt.Errorf("take a port: %w", err)
	}
	return ln, ln.Addr().(*net.TCPAddr).Port, nil
}

// door is a port on which nothing answers until it is opened; then it leads to an
// address. So servers can be missing at the start without anybody guessing a free port.
type door struct {
	port int

	mu sync.Mutex
	ln net.Listener
	wg sync.WaitGroup
}

func newDoor() (*door, error) {
	ln, port, err := holdPort()
	if err != nil {
		return nil, err
	}
	return &door{port: port}, ln.Close()
}

func (d *door) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)) }

// open leads from now on to an address.
func (d *door) open(to string) error {
	ln, err := net.Listen("tcp", d.addr())
	if err != nil {
		return fmt.Errorf("open the door to %s: %w", to, err)
	}
	d.mu.Lock()
	d.ln = ln
	d.mu.Unlock()
	d.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { join(c, to) })
		}
	})
	return nil
}

func join(c net.Conn, to string) {
	defer c.Close()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(far, c); done <- struct{}{} }()
	go func() { _, _ = io.Copy(c, far); done <- struct{}{} }()
	<-done // one side has ended; closing both ends the other copy
}

func (d *door) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ln == nil {
		return nil
	}
	return d.ln.Close()
}
