package embedded

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hamba/avro/v2"
)

// Bounds of one schema's shape. The parser is recursive, and comparing two
// unions costs the product of their lengths.
const (
	maxSchemaDepth  = 100
	maxSchemaTokens = 50_000
	maxUnion        = 128
	maxMessages     = 5
)

// identityKey identifies a schema: two texts that differ only in white space or
// in the order of attributes are one schema.
type identityKey [sha256.Size]byte

type parsedSchema struct {
	avro avro.Schema
	key  identityKey
}

// parseSchema takes a text for a schema or refuses it with the registry's
// codes. hamba/avro parses it; it never decodes a value here.
func parseSchema(text string) (*parsedSchema, error) {
	if len(text) > maxSchemaBytes {
		return nil, refusal(errCodeTooLarge, "The schema has %d bytes: want at most %d", len(text), maxSchemaBytes)
	}
	if err := boundShape(text); err != nil {
		return nil, refusal(errCodeBadSchema, "Invalid schema: %v", err)
	}
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber() // a default of 1e400 or of 20 digits keeps its text
	if err := d.Decode(&v); err != nil {
		return nil, refusal(errCodeBadSchema, "Invalid schema: %v", err)
	}
	canonical, err := json.Marshal(v) // keys sorted, no white space
	if err != nil {
		return nil, refusal(errCodeBadSchema, "Invalid schema: %v", err)
	}
	s, err := parseAvro(canonical)
	if err != nil {
		return nil, refusal(errCodeBadSchema, "Invalid schema: %v", err)
	}
	return &parsedSchema{avro: s, key: sha256.Sum256(canonical)}, nil
}

// parseAvro uses a name cache of its own: with the parser's default one, a
// schema could use names that an earlier, unrelated one defined.
func parseAvro(text []byte) (s avro.Schema, err error) {
	defer func() {
		// The parser is no longer maintained; what it trips over is a
		// bad schema and not the end of the process.
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	s, err = avro.ParseBytesWithCache(text, "", &avro.SchemaCache{})
	if err == nil && s == nil {
		err = errors.New("it defines nothing")
	}
	return s, err
}

// boundShape checks that a text is one JSON value of bounded depth and size,
// without building it.
func boundShape(text string) error {
	d := json.NewDecoder(strings.NewReader(text))
	var open []shape
	for tokens := 0; ; tokens++ {
		tok, err := d.Token()
		switch {
		case err == io.EOF && tokens > 0 && len(open) == 0:
			return nil
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case tokens > 0 && len(open) == 0:
			return errors.New("there is something behind the schema")
		case tokens >= maxSchemaTokens:
			return fmt.Errorf("it has more than %d parts", maxSchemaTokens)
		}
		if open, err = step(open, tok); err != nil {
			return err
		}
	}
}

// shape is an open array or object. items counts what an array holds; only
// "symbols" and "fields", whose cost is linear, may hold many.
type shape struct {
	array bool
	items int
	limit int
	key   string // the last key of an object
	isKey bool   // the next string is a key
}

func step(open []shape, tok json.Token) ([]shape, error) {
	delim, isDelim := tok.(json.Delim)
	if isDelim && (delim == '}' || delim == ']') {
		return open[:len(open)-1], nil
	}
	limit := maxUnion
	if n := len(open); n > 0 {
		top := &open[n-1]
		if top.array {
			if top.items++; top.items > top.limit {
				return nil, fmt.Errorf("a list has more than %d items", top.limit)
			}
		} else if top.isKey {
			top.key, _ = tok.(string)
			top.isKey = false
			return open, nil
		} else {
			if top.key == "symbols" || top.key == "fields" || top.key == "default" || top.key == "aliases" {
				limit = maxSchemaTokens
			}
			top.isKey = true
		}
	}
	if !isDelim {
		return open, nil
	}
	if len(open) == maxSchemaDepth {
		return nil, fmt.Errorf("it is nested deeper than %d levels", maxSchemaDepth)
	}
	return append(open, shape{array: delim == '[', limit: limit, isKey: delim == '{'}), nil
}

// level is a compatibility level.
type level string

func levels() []level {
	return []level{"NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"}
}

func (l level) valid() bool { return slices.Contains(levels(), l) }

func (l level) transitive() bool { return strings.HasSuffix(string(l), "_TRANSITIVE") }

// check lists what speaks against next following old: backward means that
// readers of next can read what old wrote, forward the other way round.
func (l level) check(next, old *parsedSchema) []string {
	var msgs []string
	if strings.HasPrefix(string(l), "BACKWARD") || strings.HasPrefix(string(l), "FULL") {
		if why := cannotRead(next, old); why != "" {
			msgs = append(msgs, "the new schema cannot read data of the old one: "+why)
		}
	}
	if strings.HasPrefix(string(l), "FORWARD") || strings.HasPrefix(string(l), "FULL") {
		if why := cannotRead(old, next); why != "" {
			msgs = append(msgs, "the old schema cannot read data of the new one: "+why)
		}
	}
	return msgs
}

// cannotRead says why, or nothing. Each question gets a fresh checker: its
// cache goes by a fingerprint that leaves defaults out, and a default is what
// decides whether a field may be missing.
func cannotRead(reader, writer *parsedSchema) (why string) {
	defer func() {
		if p := recover(); p != nil {
			why = fmt.Sprintf("the comparison gave up: %v", p)
		}
	}()
	if err := avro.NewSchemaCompatibility().Compatible(reader.avro, writer.avro); err != nil {
		return err.Error()
	}
	return ""
}

func join(msgs []string) string {
	if len(msgs) > maxMessages {
		msgs = append(msgs[:maxMessages:maxMessages], "...")
	}
	return "[" + strings.Join(msgs, "; ") + "]"
}
