package faults

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// cutter is a TCP proxy before a Kafka broker that can cut off one answer: it lets a
// request of the chosen kind through, waits until the broker has answered it, and then
// ends the connection without handing the answer on. So the broker has done what was
// asked, and the client cannot know.
type cutter struct {
	ln       net.Listener
	upstream string
	key      uint16 // the request's api key
	armed    atomic.Int64
	cut      atomic.Int64 // answers cut off so far

	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// endTxn is the api key of EndTxn, which commits or aborts a transaction.
const endTxn = 26

// maxFrame bounds a frame of Kafka's protocol: more than any of ours.
const maxFrame = 256 << 20

func newCutter(listen, upstream string, key uint16) (*cutter, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listen before %s: %w", upstream, err)
	}
	c := &cutter{ln: ln, upstream: upstream, key: key, conns: map[net.Conn]bool{}}
	c.wg.Go(c.serve)
	return c, nil
}

// arm has the next n answers cut off.
func (c *cutter) arm(n int) { c.armed.Store(int64(n)) }

func (c *cutter) close() error {
	err := c.ln.Close()
	c.mu.Lock()
	for conn := range c.conns {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
	return err
}

func (c *cutter) serve() {
	for {
		client, err := c.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.upstream)
		if err != nil {
			_ = client.Close()
			continue
		}
		c.mu.Lock()
		c.conns[client], c.conns[server] = true, true
		c.mu.Unlock()
		l := &cutLink{cutter: c, client: client, server: server, awaited: map[uint32]bool{}}
		c.wg.Go(func() { l.end(l.requests()) })
		c.wg.Go(func() { l.end(l.answers()) })
	}
}

// cutLink is one connection through the cutter.
type cutLink struct {
	*cutter
	client, server net.Conn
	lock           sync.Mutex
	awaited        map[uint32]bool // correlation ids of requests whose answers are cut off
}

func (l *cutLink) end(error) {
	_ = l.client.Close()
	_ = l.server.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, l.client)
	delete(l.conns, l.server)
}

// requests hands requests on: size, api key, api version, correlation id, and the rest.
func (l *cutLink) requests() error {
	for {
		frame, err := readFrame(l.client)
		if err != nil {
			return err
		}
		if len(frame) >= 12 && binary.BigEndian.Uint16(frame[4:]) == l.key && l.take() {
			l.lock.Lock()
			l.awaited[binary.BigEndian.Uint32(frame[8:])] = true
			l.lock.Unlock()
		}
		if _, err := l.server.Write(frame); err != nil {
			return err
		}
	}
}

// take uses one of the cuts up.
func (l *cutLink) take() bool {
	for {
		n := l.armed.Load()
		if n <= 0 {
			return false
		}
		if l.armed.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

var errCut = errors.New("the answer was cut off")

// answers hands answers on: size, correlation id, and the rest.
func (l *cutLink) answers() error {
	for {
		frame, err := readFrame(l.server)
		if err != nil {
			return err
		}
		if len(frame) >= 8 {
			l.lock.Lock()
			is := l.awaited[binary.BigEndian.Uint32(frame[4:])]
			l.lock.Unlock()
			if is {
				l.cut.Add(1)
				return errCut
			}
		}
		if _, err := l.client.Write(frame); err != nil {
			return err
		}
	}
}

// readFrame reads a size and so many bytes, and returns both.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	frame := make([]byte, 4+n)
	copy(frame, size[:])
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}
