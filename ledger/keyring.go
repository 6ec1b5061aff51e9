package ledger

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

const (
	saltKeyTag = "SEALST01/saltkey"
	macKeyTag  = "SEALST01/mac-key"
	masterSize = 32
)

// Keyring holds the salt masters a process was given. A nil Keyring and one without
// keys are the same: they seal unsalted and check no salts. It is not changed after
// it was made and may be shared.
type Keyring struct {
	masters map[uint32][masterSize]byte
	active  uint32
}

// KeyError says that a salt key is needed and not held.
type KeyError struct{ ID uint32 }

func (e *KeyError) Error() string {
	return fmt.Sprintf("salt key %d is not in the keyring: give this process the master key of that id", e.ID)
}

// NewKeyring copies the masters, 32 bytes each under ids from 1 on. active is the id
// that seals; 0 takes the highest. Errors name key ids, never key bytes.
func NewKeyring(masters map[uint32][]byte, active uint32) (*Keyring, error) {
	k := &Keyring{masters: make(map[uint32][masterSize]byte, len(masters)), active: active}
	for id, m := range masters {
		if id == 0 {
			return nil, fmt.Errorf("salt key id 0 means unsalted and cannot have a master: use ids from 1 on")
		}
		if len(m) != masterSize {
			return nil, fmt.Errorf("salt key %d has %d bytes: a master must have exactly %d", id, len(m), masterSize)
		}
		k.masters[id] = [masterSize]byte(m)
		if active == 0 {
			k.active = max(k.active, id)
		}
	}
	if k.active != 0 && !k.Has(k.active) {
		return nil, fmt.Errorf("active salt key: %w", &KeyError{ID: k.active})
	}
	return k, nil
}

// Active returns the id of the key that seals, 0 for none.
func (k *Keyring) Active() uint32 {
	if k == nil {
		return 0
	}
	return k.active
}

// Has says whether the master of id is held.
func (k *Keyring) Has(id uint32) bool {
	if k == nil {
		return false
	}
	_, ok := k.masters[id]
	return ok
}

// Format keeps masters out of every kind of print.
func (k *Keyring) Format(f fmt.State, _ rune) {
	if k == nil {
		fmt.Fprint(f, "salt keyring of 0 keys")
		return
	}
	fmt.Fprintf(f, "salt keyring of %d keys, active %d", len(k.masters), k.active)
}

// Salter returns what derives the salts of one ledger under one key id; a *[KeyError]
// when the master is not held.
func (k *Keyring) Salter(id ID, key uint32) (*Salter, error) {
	if !k.Has(key) {
		return nil, &KeyError{ID: key}
	}
	master := k.masters[key]
	m := hmac.New(sha256.New, master[:])
	m.Write([]byte(saltKeyTag))
	m.Write(id[:])
	m.Write(binary.BigEndian.AppendUint32(nil, key))
	block, err := aes.NewCipher(m.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("salt key %d: %w", key, err) // unreachable: an HMAC-SHA256 is an AES-256 key
	}
	return &Salter{block: block}, nil
}

// MAC authenticates a message that the holders of a master leave for each other where
// others can write; a *[KeyError] when the master is not held. Its key is derived under a
// tag of its own, so that no message whatever gives a salt or the key of one.
func (k *Keyring) MAC(key uint32, message []byte) ([sha256.Size]byte, error) {
	if !k.Has(key) {
		return [sha256.Size]byte{}, &KeyError{ID: key}
	}
	master := k.masters[key]
	sub := hmac.New(sha256.New, master[:])
	sub.Write([]byte(macKeyTag))
	sub.Write(binary.BigEndian.AppendUint32(nil, key))
	m := hmac.New(sha256.New, sub.Sum(nil))
	m.Write(message)
	return [sha256.Size]byte(m.Sum(nil)), nil
}

// Salter derives the salts of one ledger under one key id. It may be shared.
type Salter struct{ block cipher.Block }

// Salt returns the salt of one seq: AES-256(sub, u64 0 || u64 seq).
func (s *Salter) Salt(seq uint64) Salt {
	var salt Salt
	s.put(salt[:], seq)
	return salt
}

// put writes the 16-byte salt of seq to dst.
func (s *Salter) put(dst []byte, seq uint64) {
	clear(dst[:8])
	binary.BigEndian.PutUint64(dst[8:16], seq)
	s.block.Encrypt(dst[:16], dst[:16])
}

// Format keeps the derived key out of every kind of print.
func (s *Salter) Format(f fmt.State, _ rune) { fmt.Fprint(f, "salter") }
