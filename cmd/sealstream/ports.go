package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"

	"github.com/sealstream/sealstream/internal/embedded"
)

// defaultListen is where the API listens unless it is told otherwise.
const defaultListen = "127.0.0.1:8080"

// listenRegistry takes the configured port, else the one of the last start, else a new
// one, which is to be kept: clients have it in their configuration.
func listenRegistry(ctx context.Context, configured, last int, log *slog.Logger) (net.Listener, error) {
	if configured != 0 {
		return listenOn(ctx, configured)
	}
	if last != 0 {
		ln, err := listenOn(ctx, last)
		if !errors.Is(err, embedded.ErrPortInUse) {
			return ln, err
		}
		log.WarnContext(ctx, "another process has the schema registry's port, so it gets a new one", "port", last)
	}
	// Below the range from which the kernel picks ports of outgoing connections, or one
	// of those could have it at the next start.
	for range 50 {
		ln, err := listenOn(ctx, 20000+rand.N(10000))
		if !errors.Is(err, embedded.ErrPortInUse) {
			return ln, err
		}
	}
	return nil, errors.New("schema registry: no free port found from 20000 to 29999: set embedded.registry_port")
}

func listenOn(ctx context.Context, port int) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("schema registry: %w: another process has %d: stop it, or set embedded.registry_port", embedded.ErrPortInUse, port)
	}
	if err != nil {
		return nil, fmt.Errorf("schema registry: %w", err)
	}
	return ln, nil
}

// usualOrFree is the usual address of the API, or a free one when another program has
// it: with nothing configured that is no reason not to start.
func usualOrFree(ctx context.Context, log *slog.Logger) (string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", defaultListen)
	if err == nil {
		return defaultListen, ln.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return "", fmt.Errorf("listen for the API: %w", err)
	}
	log.WarnContext(ctx, "another program has the usual port of the API, so it gets a free one", "address", defaultListen)
	return "127.0.0.1:0", nil
}
