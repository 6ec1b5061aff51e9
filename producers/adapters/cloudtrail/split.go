package cloudtrail

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Splitting finds where records begin and end, by counting brackets outside strings.
// Whether a record is JSON is found out when it is mapped, so that one bad record does
// not take the rest with it.

// advance reads the next record into r.raw.
func (r *Reader) advance() error {
	for {
		r.capture = false
		c, err := r.token()
		switch {
		case errors.Is(err, io.EOF) && r.list == listNone:
			return io.EOF
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the input ends before its list does", io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
		if r.list == listNone {
			switch c {
			case '[':
				r.list, r.first = listBare, true
				continue
			case '{':
				done, err := r.object()
				if err != nil || done {
					return err
				}
				continue
			}
			return fmt.Errorf("%w: record %d begins with %s, want { or [", ErrFormat, r.number, strconv.QuoteToASCII(string(rune(c))))
		}
		if c == ']' {
			if err := r.closeList(); err != nil {
				return err
			}
			continue
		}
		if !r.first {
			if c != ',' {
				return fmt.Errorf("%w: want a comma behind record %d", ErrFormat, r.number-1)
			}
			if c, err = r.token(); err != nil {
				return r.cut(err)
			}
		}
		r.first = false
		return r.element(c)
	}
}

// element reads one element of a list, whose first byte is c.
func (r *Reader) element(c byte) error {
	r.begin(c)
	if err := r.value(c); err != nil {
		return r.cut(err)
	}
	if c != '{' {
		n := r.number
		r.number++
		return &RecordError{Number: n, Err: errors.New("not a JSON object")}
	}
	return nil
}

// object reads an object at the top. It is a record, and done is true, unless a list
// stands under "Records": then that list's elements are what comes next.
func (r *Reader) object() (done bool, err error) {
	r.begin('{')
	for {
		c, err := r.token()
		if err == nil && c == ',' {
			c, err = r.token()
		}
		if err != nil {
			return false, r.cut(err)
		}
		if c == '}' {
			return true, nil
		}
		if c != '"' {
			return false, fmt.Errorf("%w: record %d: want the name of a member", ErrFormat, r.number)
		}
		name, err := r.name()
		if err != nil {
			return false, r.cut(err)
		}
		if c, err = r.token(); err == nil && c == ':' {
			c, err = r.token()
		} else if err == nil {
			return false, fmt.Errorf("%w: record %d: want a colon", ErrFormat, r.number)
		}
		if err != nil {
			return false, r.cut(err)
		}
		if name == "Records" && c == '[' {
			r.list, r.first = listRecords, true
			return false, nil
		}
		if err := r.value(c); err != nil {
			return false, r.cut(err)
		}
	}
}

// closeList leaves a list, and the object around it when it was under "Records".
func (r *Reader) closeList() error {
	was := r.list
	r.list = listNone
	if was == listBare {
		return nil
	}
	for {
		c, err := r.token()
		if err != nil {
			return r.cut(err)
		}
		switch c {
		case '}':
			return nil
		case ',', ':':
		default:
			if err := r.value(c); err != nil {
				return r.cut(err)
			}
		}
	}
}

// cut turns the end of the input inside a value into what it means there.
func (r *Reader) cut(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if r.ended { // said once
		return fmt.Errorf("%w: the input ends within record %d", io.ErrUnexpectedEOF, r.number)
	}
	r.ended = true
	if !r.capture {
		return fmt.Errorf("%w: the input ends before its list does", io.ErrUnexpectedEOF)
	}
	return &RecordError{Number: r.number, Open: true, Err: fmt.Errorf("the input ends within it: %w", io.ErrUnexpectedEOF)}
}

// begin starts a new record with its first byte.
func (r *Reader) begin(c byte) {
	r.raw = append(r.raw[:0], c)
	r.capture, r.tooLong = true, false
}

// byte reads one byte, into the record when one is being read. A record that is too
// long is read to its end but not kept.
func (r *Reader) byte() (byte, error) {
	c, err := r.in.ReadByte()
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, ErrTooBig) {
			return 0, err
		}
		return 0, fmt.Errorf("read input: %w", err)
	}
	if r.capture && !r.tooLong {
		if len(r.raw) < r.o.MaxRecord {
			r.raw = append(r.raw, c)
		} else {
			r.tooLong = true
		}
	}
	return c, nil
}

// token reads to the next byte that is not white space.
func (r *Reader) token() (byte, error) {
	for {
		c, err := r.byte()
		if err != nil || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c, err
		}
	}
}

// value reads the rest of the value that begins with c.
func (r *Reader) value(c byte) error {
	switch c {
	case '"':
		return r.rest()
	case '{', '[':
		for depth := 1; depth > 0; {
			c, err := r.byte()
			if err != nil {
				return err
			}
			switch c {
			case '"':
				if err := r.rest(); err != nil {
					return err
				}
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
		}
		return nil
	}
	// A number or a word ends where something else begins.
	for {
		next, err := r.in.Peek(1)
		if err != nil {
			return err
		}
		switch next[0] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return nil
		}
		if _, err := r.byte(); err != nil {
			return err
		}
	}
}

// rest reads a string to its closing quote.
func (r *Reader) rest() error {
	for {
		c, err := r.byte()
		if err == nil && c == '\\' {
			_, err = r.byte()
		} else if c == '"' {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// maxName is how much of a member's name is looked at; "Records" is shorter.
const maxName = 16

// name reads a member's name.
func (r *Reader) name() (string, error) {
	var buf [maxName]byte
	name := buf[:0]
	for {
		c, err := r.byte()
		if err != nil {
			return "", err
		}
		if c == '"' {
			return string(name), nil
		}
		if len(name) < maxName {
			name = append(name, c)
		}
		if c == '\\' {
			if _, err := r.byte(); err != nil {
				return "", err
			}
		}
	}
}
