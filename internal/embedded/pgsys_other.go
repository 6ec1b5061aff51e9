//go:build !linux

package embedded

import (
	"context"
	"log/slog"
	"syscall"
)

func dieWithParent(*syscall.SysProcAttr) {}

// stopLeftover cannot tell here whose a process is. PostgreSQL itself refuses
// to start beside another server on the same data, and says so in its log.
func stopLeftover(context.Context, string, *slog.Logger) error { return nil }
