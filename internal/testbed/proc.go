package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Proc is a process that the bed started.
type Proc struct {
	Name    string
	LogPath string // its standard output and standard error

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Start runs a program with its output in a log of its own. It ends when the test
// program dies, on Linux; it is not reached by Ctrl-C on the terminal, so that the
// test program decides.
func (b *Bed) Start(name, program string, args ...string) (*Proc, error) {
	p := &Proc{Name: name, LogPath: b.logPath(name), done: make(chan struct{})}
	log, err := os.OpenFile(p.LogPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir = b.dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(p.cmd.SysProcAttr)
	started := make(chan error, 1)
	go func() {
		// "Dies with us" is bound to the thread that made the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // what it ended with is in ProcessState
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	b.mu.Lock()
	b.procs = append(b.procs, p)
	b.mu.Unlock()
	return p, nil
}

// PID is the process id.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Ended says whether the process has ended.
func (p *Proc) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Exit is the exit code of a process that has ended, -1 when a signal ended it.
func (p *Proc) Exit() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// CPU is the CPU time that a process which has ended took, without its children.
func (p *Proc) CPU() time.Duration {
	<-p.done
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// Kill ends the process with SIGKILL and waits until it is gone. A process that has
// ended already is fine.
func (p *Proc) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Terminate asks the process to stop with SIGTERM and returns its exit code.
func (p *Proc) Terminate(ctx context.Context) (int, error) {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	return p.Wait(ctx)
}

// Wait returns the exit code once the process has ended.
func (p *Proc) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.Exit(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for %s (pid %d) to end: %w; its log ends with:\n%s", p.Name, p.PID(), ctx.Err(), p.Tail())
	}
}

// Stop freezes the process with SIGSTOP, Continue wakes it up.
func (p *Proc) Stop() error { return p.signal(syscall.SIGSTOP) }

// Continue wakes a stopped process up.
func (p *Proc) Continue() error { return p.signal(syscall.SIGCONT) }

func (p *Proc) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s (pid %d): %w", p.Name, p.PID(), err)
	}
	return nil
}

// Log is all the process has printed.
func (p *Proc) Log() string {
	b, err := os.ReadFile(p.LogPath)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail is the end of the log.
func (p *Proc) Tail() string {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// WaitLog waits until the log holds text; it fails when the process ends without.
func (p *Proc) WaitLog(ctx context.Context, text string) error {
	err := Until(ctx, func() (bool, error) {
		ended := p.Ended() // before the look: what it printed last counts
		if strings.Contains(p.Log(), text) {
			return true, nil
		}
		if ended {
			return false, fmt.Errorf("it ended with exit code %d", p.Exit())
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s to print %q: %w; its log ends with:\n%s", p.Name, text, err, p.Tail())
	}
	return nil
}

// pollEvery is the time between two looks at something that cannot be waited for.
const pollEvery = 20 * time.Millisecond

// Until calls ok every 20 ms until it says true, returns an error, or ctx ends.
func Until(ctx context.Context, ok func() (bool, error)) error {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		done, err := ok()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// Result is what a command left behind.
type Result struct {
	Stdout, Stderr string
	Exit           int
}

// Run runs a program to its end. An exit code other than 0 is no error here.
func (b *Bed) Run(ctx context.Context, program string, args ...string) (Result, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = b.dir
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	r := Result{Stdout: out.String(), Stderr: errOut.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		r.Exit, err = exit.ExitCode(), nil
	}
	if err != nil {
		return r, fmt.Errorf("run %s: %w\n%s", strings.Join(args, " "), errors.Join(err, ctx.Err()), r.Stderr)
	}
	return r, nil
}
