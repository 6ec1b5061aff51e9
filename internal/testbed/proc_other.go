//go:build !linux

package testbed

import "syscall"

// dieWithUs has no equal here: a test program that is killed leaves its children.
func dieWithUs(*syscall.SysProcAttr) {}
