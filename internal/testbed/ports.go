package testbed

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports that are tried: below those that systems give to outgoing connections, so
// that nobody takes the port of a server that is down for a while.
const (
	firstPort = 14000
	lastPort  = 31000
)

// portBook remembers the ports that a bed has given away.
type portBook struct {
	mu    sync.Mutex
	given map[int]bool
}

// FreePorts returns n ports of 127.0.0.1 on which nothing listens, each given once by
// this bed. A server that dies may have its port again.
func (b *Bed) FreePorts(n int) ([]int, error) {
	b.ports.mu.Lock()
	defer b.ports.mu.Unlock()
	if b.ports.given == nil {
		b.ports.given = map[int]bool{}
	}
	var out []int
	for range 1000 {
		if len(out) == n {
			return out, nil
		}
		port := firstPort + rand.IntN(lastPort-firstPort)
		if b.ports.given[port] {
			continue
		}
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = ln.Close()
		b.ports.given[port] = true
		out = append(out, port)
	}
	return nil, fmt.Errorf("find %d free ports between %d and %d: too many are taken", n, firstPort, lastPort)
}
