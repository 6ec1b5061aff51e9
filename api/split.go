package api

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// piece is one event of a body: its bytes as they were sent, without the white
// space around them, or why it is none.
type piece struct {
	value []byte
	err   *ItemError
}

// splitter cuts a body into events without decoding or copying it.
type splitter struct {
	items, itemBytes, depth int
}

// bodyError says that no event can be told apart in the body, and where.
type bodyError struct {
	at   int // byte, from 0
	item int // from 0; -1 when outside of any
	what string
	cut  bool // the body ended too early
	many bool // more events than allowed
}

func (e *bodyError) Error() string { return e.what }

// Codes of item errors made here.
const (
	codeSyntax   = "syntax"
	codeObject   = "not_an_object"
	codeTooLarge = "too_large"
	codeInvalid  = "invalid"
	codeRefused  = "refused"
	codeLater    = "unavailable"
)

// document takes one object or an array of them. A mistake in the syntax refuses
// the whole body, because what follows it cannot be told apart with certainty; an
// element that is no object, or too large, is refused alone.
func (s splitter) document(b []byte) ([]piece, *bodyError) {
	sc := scanner{b: b, maxDepth: s.depth}
	sc.space()
	switch sc.peek() {
	case '{':
		start := sc.i
		if err := sc.value(0); err != nil {
			return nil, located(err, 0)
		}
		return []piece{s.check(b[start:sc.i])}, trailing(&sc)
	case '[':
		return s.array(&sc)
	case 0:
		if sc.i == len(b) {
			return nil, &bodyError{at: sc.i, item: -1, what: "the body is empty"}
		}
	}
	if bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) {
		return nil, &bodyError{item: -1, what: "the body starts with a byte order mark"}
	}
	return nil, &bodyError{at: sc.i, item: -1, what: "the body is neither a JSON object nor an array"}
}

func (s splitter) array(sc *scanner) ([]piece, *bodyError) {
	sc.i++ // [
	var out []piece
	for first := true; ; first = false {
		sc.space()
		if first && sc.peek() == ']' {
			return nil, &bodyError{at: sc.i, item: -1, what: "the array is empty"}
		}
		if len(out) == s.items {
			return nil, &bodyError{at: sc.i, item: len(out), many: true, what: fmt.Sprintf("the body has more than %d events", s.items)}
		}
		start := sc.i
		if err := sc.value(0); err != nil {
			return nil, located(err, len(out))
		}
		out = append(out, s.check(sc.b[start:sc.i]))
		sc.space()
		switch sc.peek() {
		case ',':
			sc.i++
		case ']':
			sc.i++
			return out, trailing(sc)
		default:
			return nil, located(sc.unexpected("a comma or the end of the array"), len(out))
		}
	}
}

// lines takes one object per line. A line that cannot be read is refused alone;
// lines of white space are none.
func (s splitter) lines(b []byte) ([]piece, *bodyError) {
	var out []piece
	for at := 0; at < len(b); {
		end := len(b)
		if n := bytes.IndexByte(b[at:], '\n'); n >= 0 {
			end = at + n
		}
		line := bytes.Trim(b[at:end], " \t\r")
		if len(line) > 0 {
			if len(out) == s.items {
				return nil, &bodyError{at: at, item: len(out), many: true, what: fmt.Sprintf("the body has more than %d events", s.items)}
			}
			out = append(out, s.line(line))
		}
		at = end + 1
	}
	if len(out) == 0 {
		return nil, &bodyError{item: -1, what: "the body is empty"}
	}
	return out, nil
}

func (s splitter) line(line []byte) piece {
	sc := scanner{b: line, maxDepth: s.depth}
	err := sc.value(0)
	if err == nil {
		err = trailing(&sc)
	}
	if err != nil {
		return piece{value: line, err: &ItemError{codeSyntax, fmt.Sprintf("%s, at byte %d of the line", err.what, err.at)}}
	}
	return s.check(line)
}

// check judges one value whose syntax is good.
func (s splitter) check(value []byte) piece {
	switch {
	case value[0] != '{':
		return piece{value, &ItemError{codeObject, "an event is a JSON object; this is another kind of value"}}
	case len(value) > s.itemBytes:
		return piece{value, &ItemError{codeTooLarge, fmt.Sprintf("the event has %d bytes; at most %d are taken: move large content elsewhere and keep its hash", len(value), s.itemBytes)}}
	}
	return piece{value: value}
}

func located(err *bodyError, item int) *bodyError {
	err.item = item
	return err
}

// trailing refuses what follows the end of the one JSON value of a body or line.
func trailing(sc *scanner) *bodyError {
	sc.space()
	if sc.i == len(sc.b) {
		return nil
	}
	return &bodyError{at: sc.i, item: -1, what: "something follows the end of the JSON value"}
}

// scanner checks JSON by RFC 8259, stricter than encoding/json in one thing: text
// must be valid UTF-8. It recurses no deeper than maxDepth.
type scanner struct {
	b        []byte
	i        int
	maxDepth int
}

// peek returns the next byte, 0 at the end; a zero byte is no JSON token either.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\r' || s.b[s.i] == '\t') {
		s.i++
	}
}

func (s *scanner) unexpected(want string) *bodyError {
	if s.i >= len(s.b) {
		return &bodyError{at: s.i, item: -1, cut: true, what: "the text ends where " + want + " should be"}
	}
	return &bodyError{at: s.i, item: -1, what: "the syntax is wrong: " + want + " should be here"}
}

func (s *scanner) value(depth int) *bodyError {
	switch c := s.peek(); {
	case c == '{' || c == '[':
		if depth == s.maxDepth {
			return &bodyError{at: s.i, item: -1, what: fmt.Sprintf("the event is nested deeper than %d levels", s.maxDepth)}
		}
		return s.container(c, depth+1)
	case c == '"':
		return s.text()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	}
	return s.unexpected("a JSON value")
}

func (s *scanner) container(open byte, depth int) *bodyError {
	end := open + 2 // { } and [ ] are two apart
	s.i++
	s.space()
	if s.peek() == end {
		s.i++
		return nil
	}
	for {
		s.space()
		if open == '{' {
			if s.peek() != '"' {
				return s.unexpected("a member name in quotes")
			}
			if err := s.text(); err != nil {
				return err
			}
			s.space()
			if s.peek() != ':' {
				return s.unexpected("a colon")
			}
			s.i++
			s.space()
		}
		if err := s.value(depth); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
		case end:
			s.i++
			return nil
		default:
			return s.unexpected("a comma or " + string(end))
		}
	}
}

func (s *scanner) text() *bodyError {
	s.i++ // "
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return err
			}
		case c < 0x20:
			return &bodyError{at: s.i, item: -1, what: "a control character in a string must be escaped"}
		case c < utf8.RuneSelf:
			s.i++
		default:
			r, n := utf8.DecodeRune(s.b[s.i:])
			if r == utf8.RuneError && n == 1 {
				return &bodyError{at: s.i, item: -1, what: "a string is not valid UTF-8"}
			}
			s.i += n
		}
	}
	return s.unexpected("the end of a string")
}

func (s *scanner) escape() *bodyError {
	s.i++ // backslash
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return nil
	case 'u':
		s.i++
		for range 4 {
			c := s.peek() | 0x20
			if !(s.peek() >= '0' && s.peek() <= '9' || c >= 'a' && c <= 'f') {
				return s.unexpected("a hexadecimal digit")
			}
			s.i++
		}
		return nil
	}
	return s.unexpected("an escape that JSON knows")
}

func (s *scanner) number() *bodyError {
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return s.unexpected("a digit")
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return s.unexpected("a digit")
		}
	}
	if s.peek()|0x20 == 'e' {
		s.i++
		if s.peek() == '+' || s.peek() == '-' {
			s.i++
		}
		if !s.digits() {
			return s.unexpected("a digit")
		}
	}
	return nil
}

func (s *scanner) digits() bool {
	start := s.i
	for s.peek() >= '0' && s.peek() <= '9' {
		s.i++
	}
	return s.i > start
}

func (s *scanner) word(w string) *bodyError {
	for k := range len(w) {
		if s.peek() != w[k] {
			return s.unexpected(w)
		}
		s.i++
	}
	return nil
}
