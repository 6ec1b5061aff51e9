package producers

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"sync"
)

// PseudonymKeyBytes is the least length of the key of a [Keyer].
const PseudonymKeyBytes = 32

// Keyer makes record keys. A key decides the partition, and so what stays in order
// with what; it also stays in Kafka for as long as the record does, so it must not
// hold personal data: an actor appears as a pseudonym under a local secret key.
//
// All writers of one topic should share the key file. If they do not, nothing is
// wrong but the order of one actor's events between the writers.
type Keyer struct {
	key  []byte
	macs sync.Pool // of *pseudonymizer: the key's own hash blocks are worked out once
}

// pseudonymizer is a keyed hash with the memory it works in.
type pseudonymizer struct {
	mac hash.Hash
	buf []byte
}

// NewKeyer takes the pseudonym key, at least PseudonymKeyBytes long.
func NewKeyer(key []byte) (*Keyer, error) {
	if len(key) < PseudonymKeyBytes {
		return nil, fmt.Errorf("pseudonym key has %d bytes, want at least %d", len(key), PseudonymKeyBytes)
	}
	k := &Keyer{key: append([]byte(nil), key...)}
	k.macs.New = func() any { return &pseudonymizer{mac: hmac.New(sha256.New, k.key)} }
	return k, nil
}

// Pseudonym stands for an actor of a tenant: 128 bits of HMAC-SHA256, in hex. The
// same actor in two tenants has two.
func (k *Keyer) Pseudonym(tenant, actor string) string {
	return string(k.appendPseudonym(nil, tenant, actor))
}

func (k *Keyer) appendPseudonym(dst []byte, tenant, actor string) []byte {
	p := k.macs.Get().(*pseudonymizer)
	defer k.macs.Put(p)
	// The length keeps ("a", "bc") and ("ab", "c") apart.
	p.buf = append(strconv.AppendInt(p.buf[:0], int64(len(tenant)), 10), ':')
	p.buf = append(append(p.buf, tenant...), actor...)
	p.mac.Reset()
	p.mac.Write(p.buf)
	p.buf = p.mac.Sum(p.buf[:0])
	return hex.AppendEncode(dst, p.buf[:16])
}

// Audit is the key of an audit event: tenant and pseudonym of the actor. An event
// without an actor has a null key: there is no order to keep, and one key for all of
// them would crowd one partition.
func (k *Keyer) Audit(tenant, actor string) []byte {
	if actor == "" {
		return nil
	}
	key := make([]byte, 0, len(tenant)+1+32)
	return k.appendPseudonym(append(append(key, tenant...), '/'), tenant, actor)
}

// Domain is the key of a domain event: the aggregate's id, or null without one.
func (k *Keyer) Domain(aggregate string) []byte {
	if aggregate == "" {
		return nil
	}
	return []byte(aggregate)
}

// Control is the key of an event of ledger.control.
func (k *Keyer) Control(kind, id string) []byte { return []byte(kind + "/" + id) }
