package producers

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TooLargeError means that a message does not fit its topic, alone in a batch and
// before compression. Nothing was sent.
type TooLargeError struct {
	Topic       string
	Size, Limit int // bytes, batch overhead included
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("message of %d bytes is larger than the %d bytes topic %s takes: split it, or raise max_message_bytes", e.Size, e.Limit, e.Topic)
}

// UnknownTopicError means that the cluster has no such topic. Nothing was stored.
type UnknownTopicError struct{ Topic string }

func (e *UnknownTopicError) Error() string {
	return fmt.Sprintf("topic %s does not exist: run: sealstream topics create", e.Topic)
}

// UnreachableError means that no acknowledgement came in time.
type UnreachableError struct {
	Topic  string
	Waited time.Duration
	// MaybeStored says that the message may be in the log although nobody said so.
	// Sending it again may double it.
	MaybeStored bool
	Err         error
}

func (e *UnreachableError) Error() string {
	may := ""
	if e.MaybeStored {
		may = " (it may have been stored all the same)"
	}
	return fmt.Sprintf("kafka did not acknowledge a message for topic %s within %s%s: %v",
		e.Topic, e.Waited.Round(time.Millisecond), may, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// MaybeStored says whether a message that ended with err may be in the log.
func MaybeStored(err error) bool {
	var u *UnreachableError
	return errors.As(err, &u) && u.MaybeStored
}

// explain turns the client's error for one record into ours. A refusal that the
// broker spelled out (not authorised, a timestamp it does not take) keeps its code;
// anything else leaves open what happened.
func (p *Producer) explain(topic string, size int, waited time.Duration, err error) error {
	var code *kerr.Error
	switch {
	case errors.Is(err, kerr.MessageTooLarge):
		return &TooLargeError{Topic: topic, Size: size, Limit: p.limit(topic)}
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return &UnknownTopicError{Topic: topic}
	case errors.As(err, &code) && !code.Retriable && !sequence(code):
		return fmt.Errorf("produce to %s: %w", topic, err)
	}
	return &UnreachableError{Topic: topic, Waited: waited, MaybeStored: true, Err: p.dial.why(err)}
}

// sequence says that the broker and the client lost track of each other: an earlier
// attempt at the same record may have been written.
func sequence(code *kerr.Error) bool {
	return code == kerr.OutOfOrderSequenceNumber || code == kerr.UnknownProducerID ||
		code == kerr.InvalidProducerEpoch || code == kerr.ProducerFenced
}

// dialHook remembers why the last connection was not made: "deadline exceeded"
// alone does not tell an operator which address to look at. It also counts lost
// connections: only across one of them can a retry double a record.
type dialHook struct {
	last atomic.Pointer[error]
	lost atomic.Int64
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (h *dialHook) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { h.lost.Add(1) }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (h *dialHook) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		h.last.Store(nil)
		return
	}
	h.last.Store(&err)
}

func (h *dialHook) why(err error) error {
	if last := h.last.Load(); last != nil && !errors.Is(err, *last) {
		return fmt.Errorf("%w: %w", err, *last)
	}
	return err
}
