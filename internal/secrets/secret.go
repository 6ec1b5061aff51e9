// Package secrets reads and makes the files that hold secrets: passwords, database
// URLs, token keys, salt masters.
//
// A secret enters the process from a file that only its owner may read, and from
// nowhere else: not from a flag (other users see those), not from a plain
// environment variable (child processes and crash dumps see those). A variable may
// name the file, by a name that ends in _FILE. Inside the process it travels as a
// [Secret], which prints as [redacted] however it is printed (invariant I12).
//
// The package knows no configuration and no service. cmd/sealstream is its only
// user; stages get the bytes they need, revealed at the last moment.
package secrets

import (
	"fmt"
	"log/slog"
)

// Redacted is what a [Secret] looks like in logs, errors, JSON and YAML.
const Redacted = "[redacted]"

// Secret holds bytes that must not be printed. The zero Secret is empty.
type Secret struct{ b []byte }

// NewSecret keeps a copy of b.
func NewSecret(b []byte) Secret { return Secret{b: append([]byte(nil), b...)} }

// Bytes reveals the secret. The caller must not change the result.
func (s Secret) Bytes() []byte { return s.b }

// Reveal reveals the secret as text.
func (s Secret) Reveal() string { return string(s.b) }

// Empty says that there is nothing to hide.
func (s Secret) Empty() bool { return len(s.b) == 0 }

// String returns [Redacted].
func (s Secret) String() string { return Redacted }

// GoString returns [Redacted], for %#v.
func (s Secret) GoString() string { return Redacted }

// Format prints [Redacted] for every verb: without it %x or %d would walk the
// field by reflection.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// MarshalText returns [Redacted]; it serves JSON object keys, XML and flags too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON returns [Redacted] as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalYAML returns [Redacted].
func (s Secret) MarshalYAML() (any, error) { return Redacted, nil }

// LogValue returns [Redacted].
func (s Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }
