package faults

import (
	"encoding/binary"
	"net"
	"testing"
	"time"
)

// echoBroker answers each request with its correlation id and tells which came.
func echoBroker(t *testing.T) (addr string, got chan uint16) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	got = make(chan uint16, 16)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					frame, err := readFrame(conn)
					if err != nil {
						return
					}
					got <- binary.BigEndian.Uint16(frame[4:])
					if _, err := conn.Write(append([]byte{0, 0, 0, 4}, frame[8:12]...)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String(), got
}

// ask sends a request of a kind and returns the correlation id of its answer.
func ask(conn net.Conn, key uint16, id uint32) (uint32, error) {
	frame := binary.BigEndian.AppendUint32(nil, 8)
	frame = binary.BigEndian.AppendUint16(frame, key)
	frame = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(frame, 1), id)
	if _, err := conn.Write(frame); err != nil {
		return 0, err
	}
	answer, err := readFrame(conn)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(answer[4:]), nil
}

func TestCutterCutsOneAnswerOfItsKind(t *testing.T) {
	broker, got := echoBroker(t)
	c, err := newCutter("127.0.0.1:0", broker, endTxn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", c.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		return conn
	}
	conn := dial()
	for id, key := range []uint16{3, endTxn, 0} { // not armed: all pass
		if answered, err := ask(conn, key, uint32(id)); err != nil || answered != uint32(id) {
			t.Fatalf("request %d, before the cut: answer %d, %v", id, answered, err)
		}
		<-got
	}
	c.arm(1)
	if answered, err := ask(conn, 3, 77); err != nil || answered != 77 {
		t.Errorf("a request of another kind was cut off: %d, %v", answered, err)
	}
	<-got
	if answered, err := ask(conn, endTxn, 78); err == nil {
		t.Errorf("the answer %d came through", answered)
	}
	if key := <-got; key != endTxn {
		t.Errorf("the broker got request %d, want the one whose answer was cut off", key)
	}
	if n := c.cut.Load(); n != 1 {
		t.Errorf("%d answers were cut off, want 1", n)
	}
	if answered, err := ask(dial(), endTxn, 79); err != nil || answered != 79 {
		t.Errorf("the next answer was cut off, too: %d, %v", answered, err)
	}
}
