package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// account is whom the server runs as. cred is nil when that is ourselves.
type account struct {
	name string
	cred *syscall.Credential
}

// serverAccount is ourselves, or for root a user that exists on the machine.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: strconv.Itoa(os.Geteuid())}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 != nil || err2 != nil || uid == 0 {
			continue
		}
		return account{name: name, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return account{}, errors.New("postgres refuses to run as root, and this machine has neither a user postgres nor a user nobody: add one, run as another user, or give the URL of a running server")
}

// own makes dir for the account alone.
func (a account) own(dir string) error {
	if a.cred != nil {
		// Others must be able to pass what lies directly above, which
		// we own; its content is for the owner alone all the same.
		up := filepath.Dir(dir)
		if st, err := os.Stat(up); err == nil && st.Mode().Perm()&0o011 != 0o011 {
			if err := os.Chmod(up, st.Mode().Perm()|0o011); err != nil {
				return fmt.Errorf("make %s passable: %w", up, explain(err))
			}
		}
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	if a.cred == nil {
		return nil
	}
	if err := os.Chown(dir, int(a.cred.Uid), int(a.cred.Gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", dir, a.name, explain(err))
	}
	return nil
}

// write makes a file that only the account can read.
func (a account) write(path, content string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), explain(err))
	}
	_, err = f.WriteString(content + "\n")
	if a.cred != nil {
		err = errors.Join(err, f.Chown(int(a.cred.Uid), int(a.cred.Gid)))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), explain(err))
	}
	return nil
}

// reaches tries, as the account, to run a server binary and to enter dir.
func (a account) reaches(ctx context.Context, bin, dir string) error {
	postgres := filepath.Join(bin, "postgres")
	if out, err := a.output(ctx, postgres, "--version"); err != nil {
		return fmt.Errorf("run %s as %s: %w: %s", postgres, a.name, err, lastLines(out))
	}
	if dir == "" {
		return nil
	}
	cmd := a.command(ctx, postgres, "--version")
	cmd.Dir = dir
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("enter %s as %s: %w", dir, a.name, err)
	}
	return nil
}

// environment is all that a server process gets: nothing of ours, which may
// hold secrets and PG* variables that would change what it does.
func environment() []string {
	return []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}

func (a account) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment()
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.cred}
	return cmd
}

func (a account) output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := a.command(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.Bytes(), err
}

// stopSignal is a way to end a server.
type stopSignal = syscall.Signal

// PostgreSQL's own meanings.
const (
	signalFast      stopSignal = syscall.SIGINT  // end the sessions, write everything
	signalImmediate stopSignal = syscall.SIGQUIT // end at once, recover at the next start
	signalKill      stopSignal = syscall.SIGKILL
)

// process is a server that runs as our child.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error
}

// start runs a server in a process group of its own, so that Ctrl-C on the
// terminal reaches us alone and the server goes last.
//
// On Linux the server gets a fast-shutdown signal when we die, even by
// kill -9: nobody is left on the port and the data directory. That signal is
// bound to the thread that made the child, so that thread lives as long as the
// child does.
func (a account) start(name string, args []string, log *os.File) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = environment()
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.cred, Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	cmd.Stdout, cmd.Stderr = log, log
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// state says how the process ended.
func (p *process) state() string {
	select {
	case <-p.done:
		if p.err != nil {
			return p.err.Error()
		}
		return "ended"
	default:
		return "running"
	}
}

// stop sends a signal and waits. A server that does not end in time is told to
// end at once; one that does not heed that either is killed.
func (p *process) stop(ctx context.Context, s stopSignal, within time.Duration) error {
	for {
		if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("signal process %d: %w", p.pid(), err)
		}
		t := time.NewTimer(within)
		select {
		case <-p.done:
			t.Stop()
			return nil
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		switch s {
		case signalFast:
			s = signalImmediate
		case signalImmediate:
			s = signalKill
		default:
			return fmt.Errorf("process %d does not end", p.pid())
		}
	}
}

// end stops a server whose start went wrong.
func (p *process) end(ctx context.Context, within time.Duration) {
	_ = p.stop(ctx, signalFast, within)
}
