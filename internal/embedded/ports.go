package embedded

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// ErrPortInUse says that a port that has to be used belongs to another program.
var ErrPortInUse = errors.New("port is in use")

// Ports that we pick lie in [pickFrom, the start of the ephemeral range): a
// port from the ephemeral range can be taken by any outgoing connection while
// we are down, and then clients would not find us where we were.
const (
	pickFrom     = 15000
	pickTo       = 32768 // Linux's default start of the ephemeral range
	pickAttempts = 200
)

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// listenOn takes one port: the wanted one, else the remembered one, else a
// free one.
func listenOn(want, remembered int) (net.Listener, error) {
	port := want
	if port == 0 {
		port = remembered
	}
	if port == 0 {
		return listenFree()
	}
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("port %d: want 1 to 65535, or 0 for any free one", port)
	}
	l, err := net.Listen("tcp", loopback(port))
	if err == nil {
		return l, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on port %d: %w", port, err)
	}
	if want == 0 {
		return nil, fmt.Errorf("%w: %d, where clients of this data directory expect us; stop the program that holds it, or give other ports", ErrPortInUse, port)
	}
	return nil, fmt.Errorf("%w: %d; stop the program that holds it, or give another port", ErrPortInUse, port)
}

func listenFree() (net.Listener, error) {
	to := min(ephemeralStart(), pickTo)
	from := min(pickFrom, to/2)
	for range pickAttempts {
		l, err := net.Listen("tcp", loopback(from+rand.IntN(to-from)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("listen on a free port: %w", err)
		}
	}
	return nil, fmt.Errorf("%w: no free one found between %d and %d in %d tries", ErrPortInUse, from, to, pickAttempts)
}

// ephemeralStart is where the kernel's range for outgoing connections begins.
func ephemeralStart() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return pickTo
	}
	f := strings.Fields(string(b))
	if len(f) != 2 {
		return pickTo
	}
	n, err := strconv.Atoi(f[0])
	if err != nil || n < 2048 {
		return pickTo
	}
	return n
}

// listeners are bound before the log is read and begin to accept when open is
// called, so that a port conflict is known early and no client is answered
// before the broker's hooks are in place.
type listeners struct {
	all    []net.Listener
	gate   chan struct{}
	failed <-chan struct{} // closed when no answer may leave any more
	mu     sync.Mutex
	taken  map[string]bool
}

func listen(want, remembered []int, failed <-chan struct{}) (*listeners, error) {
	ls := &listeners{gate: make(chan struct{}), failed: failed, taken: map[string]bool{}}
	for i, w := range want {
		r := 0
		if i < len(remembered) {
			r = remembered[i]
		}
		l, err := listenOn(w, r)
		if err != nil {
			ls.closeUnused()
			return nil, err
		}
		ls.all = append(ls.all, l)
	}
	return ls, nil
}

func (ls *listeners) ports() []int {
	var ports []int
	for _, l := range ls.all {
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// take is kfake's listen function: it hands out what is already bound.
func (ls *listeners) take(_, address string) (net.Listener, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.all {
		if l.Addr().String() == address && !ls.taken[address] {
			ls.taken[address] = true
			return newGatedListener(l, ls.gate, ls.failed), nil
		}
	}
	return nil, fmt.Errorf("no listener was bound for %s", address)
}

func (ls *listeners) open() { close(ls.gate) }

func (ls *listeners) closeUnused() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.all {
		if !ls.taken[l.Addr().String()] {
			l.Close()
		}
	}
}
