package schemas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCodecReadsFrames(t *testing.T) {
	e := &AuditEvent{Timestamp: time.UnixMilli(1795425342123).UTC(), Event: AuditInfo{ID: "e-1", Action: new("user.login")}, User: &AuditUser{ID: new("u-1")}}
	body, err := e.AppendAvro(nil)
	if err != nil {
		t.Fatal(err)
	}
	value := AppendFrame(nil, 0x01020304, body)
	if !bytes.Equal(value[:FrameSize], []byte{0, 1, 2, 3, 4}) || !bytes.Equal(value[FrameSize:], body) {
		t.Fatalf("frame % x", value[:FrameSize])
	}
	if id, rest, ok := SplitFrame(value); !ok || id != 0x01020304 || !bytes.Equal(rest, body) {
		t.Fatalf("split: %x %v", id, ok)
	}
	for _, v := range [][]byte{nil, {0}, {0, 1, 2, 3}, {1, 0, 0, 0, 0}, []byte("{\"a\":1}")} {
		if _, _, ok := SplitFrame(v); ok {
			t.Errorf("% x is a frame", v)
		}
	}
	c := NewCodec(registry{0x01020304: AuditSchema()})
	got, reason := projected(t, c, value)
	want := shown{"time": int64(1795425342123), "event_id": "e-1", "event_action": "user.login", "user_id": "u-1"}
	if d := cmp.Diff(want, got); d != "" || reason != "" {
		t.Errorf("%s %s", d, reason)
	}
	text, err := c.JSON(t.Context(), value)
	if err != nil || string(text) != `{"@timestamp":"2026-11-23T09:15:42.123Z","event":{"id":"e-1","action":"user.login"},"user":{"id":"u-1"}}` {
		t.Errorf("%s, %v", text, err)
	}
	for _, v := range [][]byte{value, text} {
		back, err := c.Audit(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, back); d != "" {
			t.Error(d)
		}
	}
	if _, err := c.Domain(t.Context(), value); err == nil {
		t.Error("an audit event passes for a domain event")
	}
}

// registry is a resolver over a table.
type registry map[uint32]string

func (r registry) Schema(_ context.Context, id uint32) (string, error) {
	if s, ok := r[id]; ok {
		return s, nil
	}
	return "", fmt.Errorf("id %d: %w", id, ErrUnknownSchema)
}

// moody is a registry that counts and fails as told.
type moody struct {
	asked map[uint32]int
	err   error
	text  string
}

func (m *moody) Schema(_ context.Context, id uint32) (string, error) {
	m.asked[id]++
	return m.text, m.err
}

func TestSchemaCache(t *testing.T) {
	m := &moody{asked: map[uint32]int{}}
	c := NewCodec(m)
	now := time.Unix(0, 0)
	c.schemas.now = func() time.Time { return now }
	project := func(id uint32) error {
		var f Fields
		err := c.Project(t.Context(), AppendFrame(nil, id, []byte("\x02m")), &f)
		show(t, &f)
		return err
	}
	var bad *DecodeError

	// A registry that cannot be asked is asked again, and the error is no verdict.
	down := errors.New("connection refused")
	m.err = down
	for range 2 {
		if err := project(1); !errors.Is(err, down) || errors.As(err, &bad) {
			t.Fatalf("unreachable: %v", err)
		}
	}
	if m.asked[1] != 2 {
		t.Errorf("asked %d times", m.asked[1])
	}
	// An unknown id is believed for a while.
	m.err = fmt.Errorf("404: %w", ErrUnknownSchema)
	for range 3 {
		if err := project(1); !errors.As(err, &bad) || bad.Partial {
			t.Fatalf("unknown: %v", err)
		}
	}
	if m.asked[1] != 3 {
		t.Errorf("asked %d times", m.asked[1])
	}
	now = now.Add(unknownFor + 1)
	m.err, m.text = nil, `{"type":"record","name":"R","fields":[{"name":"message","type":"string"}]}`
	for range 3 {
		if err := project(1); err != nil {
			t.Fatal(err)
		}
	}
	if m.asked[1] != 4 {
		t.Errorf("asked %d times", m.asked[1])
	}
	// A schema that cannot be read stays so.
	m.text = "{"
	for range 2 {
		if err := project(2); !errors.As(err, &bad) || bad.Reason != "avro: schema id 2 cannot be read" {
			t.Fatalf("bad schema: %v", err)
		}
	}
	if m.asked[2] != 1 {
		t.Errorf("asked %d times", m.asked[2])
	}
	// Memory is bounded, whatever ids come.
	for id := range uint32(3 * maxKnownSchemas) {
		_ = project(id)
	}
	if n := len(c.schemas.known); n > maxKnownSchemas {
		t.Errorf("%d schemas kept", n)
	}
}
