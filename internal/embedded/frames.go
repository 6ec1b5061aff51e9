package embedded

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxFrame is the largest request the broker reads, as Kafka's
// socket.request.max.bytes.
const maxFrame = 100 << 20

// errBadFrame ends a connection whose bytes are not Kafka requests.
var errBadFrame = errors.New("not a Kafka request")

// errFailed ends the connections of a broker that failed.
var errFailed = errors.New("the broker's storage failed")

// gatedListener accepts nothing until its gate opens, and hands out guarded
// connections.
type gatedListener struct {
	net.Listener
	gate   <-chan struct{}
	failed <-chan struct{}
	done   chan struct{}
	once   sync.Once
}

func newGatedListener(l net.Listener, gate, failed <-chan struct{}) *gatedListener {
	return &gatedListener{Listener: l, gate: gate, failed: failed, done: make(chan struct{})}
}

func (l *gatedListener) Accept() (net.Conn, error) {
	select {
	case <-l.gate:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &guardedConn{Conn: c, failed: l.failed}, nil
}

func (l *gatedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// guardedConn follows the framing of the requests that are read through it and
// ends the connection at a frame that kfake would not survive: it allocates
// whatever length it is told before it reads, and panics on a request key it
// does not know. One stray HTTP request on the port would end the process.
//
// It also lets no answer out once the broker failed: whatever kfake believes
// to have done, nobody is told.
type guardedConn struct {
	net.Conn
	failed <-chan struct{}
	head   [6]byte // length and key of the current frame
	have   int     // how much of head was read
	left   int     // bytes of the frame behind the key
}

func (c *guardedConn) hasFailed() bool {
	select {
	case <-c.failed:
		return true
	default:
		return false
	}
}

func (c *guardedConn) Write(p []byte) (int, error) {
	if c.hasFailed() {
		return 0, errors.Join(errFailed, c.Conn.Close())
	}
	return c.Conn.Write(p)
}

func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.follow(p[:n]) {
		return 0, errBadFrame
	}
	if c.hasFailed() {
		return 0, errFailed
	}
	return n, err
}

func (c *guardedConn) follow(p []byte) bool {
	for len(p) > 0 {
		if c.have < len(c.head) {
			k := copy(c.head[c.have:], p)
			c.have += k
			p = p[k:]
			if c.have >= 4 && !c.lengthFits() {
				return false
			}
			if c.have < len(c.head) {
				continue
			}
			if !knownKey(int16(binary.BigEndian.Uint16(c.head[4:]))) {
				return false
			}
			c.left = int(binary.BigEndian.Uint32(c.head[:])) - 2
		}
		k := min(c.left, len(p))
		c.left -= k
		p = p[k:]
		if c.left == 0 {
			c.have = 0
		}
	}
	return true
}

// lengthFits holds for a frame that can carry a request header (key, version,
// correlation id) and is not larger than any honest one.
func (c *guardedConn) lengthFits() bool {
	n := binary.BigEndian.Uint32(c.head[:])
	return n >= 8 && n <= maxFrame
}

func knownKey(key int16) bool { return kmsg.RequestForKey(key) != nil }
