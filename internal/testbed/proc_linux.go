package testbed

import "syscall"

// dieWithUs has the kernel kill the child when the test program dies.
func dieWithUs(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
