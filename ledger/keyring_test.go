package ledger

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"
)

// The vectors were made by a program of its own, from the derivation alone.
func TestMAC(t *testing.T) {
	master := make([]byte, 32)
	for i := range master {
		master[i] = byte(i)
	}
	k, err := NewKeyring(map[uint32][]byte{7: master, 8: master}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  uint32
		msg  string
		want string
	}{
		{7, "", "f9b03da8c9f2533a4e4d88197ff8bf86eb94a57466acfd1260fe73397e915376"},
		{7, "message", "cee6d372ae865c16b3673adf4bafa782079dddf4c595e447b31f9b4dad0396e5"},
		{8, "message", "c756625db89e61f6ff4040e830d7b060cf5fa78cd5f5578eb71d3c0fc84f0a1f"},
	} {
		if got, err := k.MAC(c.key, []byte(c.msg)); err != nil || hex.EncodeToString(got[:]) != c.want {
			t.Errorf("MAC of %q under %d: %x, %v, want %s", c.msg, c.key, got, err, c.want)
		}
	}
	var missing *KeyError
	if _, err := k.MAC(9, nil); !errors.As(err, &missing) || missing.ID != 9 {
		t.Errorf("MAC under a key that is not held: %v", err)
	}
	if _, err := (*Keyring)(nil).MAC(0, nil); !errors.As(err, &missing) {
		t.Errorf("MAC without a keyring: %v", err)
	}

	// The message that would give the key of a ledger's salts, were the derivations one.
	id := ID{1}
	m := hmac.New(sha256.New, master)
	attack := binary.BigEndian.AppendUint32(append([]byte(saltKeyTag), id[:]...), 7)
	m.Write(attack)
	saltKey := m.Sum(nil)
	s, err := k.Salter(id, 7)
	if err != nil {
		t.Fatal(err)
	}
	salt := s.Salt(0)
	for _, msg := range [][]byte{attack, attack[len(saltKeyTag):], make([]byte, 16)} {
		if got, err := k.MAC(7, msg); err != nil || bytes.Equal(got[:], saltKey) || bytes.Contains(got[:], salt[:]) {
			t.Errorf("a MAC gives away a salt or its key: %v", err)
		}
	}
}
