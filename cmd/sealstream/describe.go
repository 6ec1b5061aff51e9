package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/schemas"
)

// The streams that events are sent to from outside.
const (
	streamAudit  = "audit"
	streamDomain = "domain"
)

// streamTopic is the topic of a stream, without prefix.
func streamTopic(name string) (string, error) {
	switch name {
	case streamAudit:
		return schemas.TopicAudit, nil
	case streamDomain:
		return schemas.TopicDomain, nil
	}
	return "", fmt.Errorf("stream %q: want %s or %s", clip(name), streamAudit, streamDomain)
}

// facts is what a producer must know of an event to write it.
type facts struct {
	id, action string
	key        []byte
	time       time.Time
}

// describer looks into events that are still with their sender: whether they are good,
// and under which key they go.
type describer struct {
	codec *schemas.Codec
	keyer *producers.Keyer
	now   func() time.Time
}

// describe checks one JSON event of a stream. The error is for the sender.
func (d *describer) describe(stream, tenant string, value []byte) (facts, error) {
	var o schemas.Outline
	check := d.codec.CheckAudit
	if stream == streamDomain {
		check = d.codec.CheckDomain
	}
	if err := check(context.Background(), value, d.now(), &o); err != nil {
		return facts{}, forSender(err)
	}
	key := d.keyer.Audit(tenant, o.Actor)
	if stream == streamDomain {
		key = d.keyer.Domain(o.Aggregate)
	}
	return facts{o.ID, o.Action, key, o.Time}, nil
}

// actor is who acted, by the best name there is.
func actor(e *schemas.AuditEvent) string {
	if e.User == nil {
		return ""
	}
	for _, name := range []*string{e.User.ID, e.User.Name, e.User.Email} {
		if deref(name) != "" {
			return *name
		}
	}
	return ""
}

// forSender puts several errors on one line.
func forSender(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	text := ""
	for i, one := range joined.Unwrap() {
		if i > 0 {
			text += "; "
		}
		text += one.Error()
	}
	return errors.New(text)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
