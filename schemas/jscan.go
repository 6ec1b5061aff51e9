package schemas

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A strict RFC 8259 scanner over one value in memory. It allocates nothing, builds no
// tree and never looks behind the slice, so hostile bytes cost their own length and no
// more. It is ours because the projection needs three things at once that no library
// offers: whole-value validation, positions into the original bytes, and no map.

// MaxDepth is how deep objects and arrays may be nested, in JSON and in Avro.
const MaxDepth = 64

// jsonError says where a JSON text stops being one. The text is never quoted.
type jsonError struct {
	at   int
	what string
}

func (e *jsonError) Error() string { return fmt.Sprintf("json: byte %d: %s", e.at, e.what) }

// jsonKind is the kind of a JSON value, told by its first byte.
type jsonKind uint8

const (
	jsonNone jsonKind = iota
	jsonNull
	jsonBool
	jsonNumber
	jsonString
	jsonArray
	jsonObject
)

var kindNames = [...]string{"nothing", "null", "a boolean", "a number", "text", "a list", "an object"}

func (k jsonKind) String() string { return kindNames[k] }

// strInfo is what a scan of a string learned on the way.
type strInfo uint8

const (
	strEscaped  strInfo = 1 << iota // has a backslash
	strNonASCII                     // has a byte above 0x7f
)

// scan reads one JSON text.
type scan struct {
	b      []byte
	badUTF bool // a string held bytes that are no UTF-8
}

func (s *scan) fail(at int, what string) *jsonError { return &jsonError{at: at, what: what} }

// space returns the index of the next byte that is not white space.
func (s *scan) space(i int) int {
	for i < len(s.b) {
		switch s.b[i] {
		case ' ', '\n', '\r', '\t':
			i++
		default:
			return i
		}
	}
	return i
}

// kind tells what begins at i.
func (s *scan) kind(i int) jsonKind {
	if i >= len(s.b) {
		return jsonNone
	}
	switch c := s.b[i]; {
	case c == '"':
		return jsonString
	case c == '{':
		return jsonObject
	case c == '[':
		return jsonArray
	case c == '-' || c >= '0' && c <= '9':
		return jsonNumber
	case c == 't' || c == 'f':
		return jsonBool
	case c == 'n':
		return jsonNull
	}
	return jsonNone
}

// str reads the string that begins with the quote at i and returns the index behind
// its closing quote.
func (s *scan) str(i int) (end int, info strInfo, err *jsonError) {
	b, start := s.b, i
	i++
	var or byte
	for i < len(b) {
		c := b[i]
		or |= c
		switch {
		case c == '"':
			if or >= utf8.RuneSelf {
				info |= strNonASCII
				if !utf8.Valid(b[start:i]) {
					s.badUTF = true
				}
			}
			return i + 1, info, nil
		case c == '\\':
			info |= strEscaped
			n := escapeLen(b[i:])
			if n == 0 {
				return i, info, s.fail(i, "unknown escape in a string")
			}
			i += n
		case c < ' ':
			return i, info, s.fail(i, "control character in a string")
		default:
			i++
		}
	}
	return start, info, s.fail(start, "string without an end")
}

// escapeLen is the length of the escape at the start of b, 0 when it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) >= 6 && hex4(b[2:6]) >= 0 {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// number reads the number at i. whole says that it is digits with an optional minus.
func (s *scan) number(i int) (end int, whole bool, err *jsonError) {
	b, start := s.b, i
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && b[i] >= '1' && b[i] <= '9':
		i = digits(b, i)
	default:
		return start, false, s.fail(start, "not a number")
	}
	whole = true
	if i < len(b) && b[i] == '.' {
		whole = false
		j := digits(b, i+1)
		if j == i+1 {
			return start, false, s.fail(i, "no digit after the decimal point")
		}
		i = j
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		whole = false
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		j := digits(b, i)
		if j == i {
			return start, false, s.fail(i, "no digit in the exponent")
		}
		i = j
	}
	return i, whole, nil
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

// literal reads null, true or false at i.
func (s *scan) literal(i int) (end int, err *jsonError) {
	for _, w := range [...]string{"null", "true", "false"} {
		if len(s.b)-i >= len(w) && string(s.b[i:i+len(w)]) == w {
			return i + len(w), nil
		}
	}
	return i, s.fail(i, "not a JSON value")
}

// skip validates the value at i, however it is made, and returns the index behind it.
// depth counts the objects and arrays around it.
func (s *scan) skip(i, depth int) (int, *jsonError) {
	switch s.kind(i) {
	case jsonString:
		end, _, err := s.str(i)
		return end, err
	case jsonNumber:
		end, _, err := s.number(i)
		return end, err
	case jsonBool, jsonNull:
		return s.literal(i)
	case jsonArray:
		return s.array(i, depth, func(j int) (int, *jsonError) { return s.skip(j, depth+1) })
	case jsonObject:
		return s.object(i, depth, func(_, _ int, _ strInfo, j int) (int, *jsonError) { return s.skip(j, depth+1) })
	}
	if i >= len(s.b) {
		return i, s.fail(i, "the text ends where a value should be")
	}
	return i, s.fail(i, "not a JSON value")
}

// array walks the array at i; each reads one element and returns the index behind it.
func (s *scan) array(i, depth int, each func(j int) (int, *jsonError)) (int, *jsonError) {
	if depth >= MaxDepth {
		return i, s.fail(i, tooDeep)
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == ']' {
		return i + 1, nil
	}
	for {
		end, err := each(s.space(i))
		if err != nil {
			return end, err
		}
		i = s.space(end)
		switch {
		case i >= len(s.b):
			return i, s.fail(i, "list without an end")
		case s.b[i] == ']':
			return i + 1, nil
		case s.b[i] != ',':
			return i, s.fail(i, "want a comma or the end of the list")
		}
		i++
	}
}

// object walks the object at i. member gets the bounds of the key between its quotes,
// what is known of it, and where its value begins; it returns the index behind the value.
func (s *scan) object(i, depth int, member func(k0, k1 int, info strInfo, j int) (int, *jsonError)) (int, *jsonError) {
	if depth >= MaxDepth {
		return i, s.fail(i, tooDeep)
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == '}' {
		return i + 1, nil
	}
	for {
		i = s.space(i)
		if s.kind(i) != jsonString {
			return i, s.fail(i, "want the name of a member")
		}
		end, info, err := s.str(i)
		if err != nil {
			return end, err
		}
		k0, k1 := i+1, end-1
		i = s.space(end)
		if i >= len(s.b) || s.b[i] != ':' {
			return i, s.fail(i, "want a colon after the name")
		}
		if end, err = member(k0, k1, info, s.space(i+1)); err != nil {
			return end, err
		}
		i = s.space(end)
		switch {
		case i >= len(s.b):
			return i, s.fail(i, "object without an end")
		case s.b[i] == '}':
			return i + 1, nil
		case s.b[i] != ',':
			return i, s.fail(i, "want a comma or the end of the object")
		}
		i++
	}
}

const tooDeep = "nested deeper than 64 levels"

// top finds the one object a value must be and returns where it begins.
func (s *scan) top() (int, *jsonError) {
	i := s.space(0)
	switch k := s.kind(i); {
	case k == jsonObject:
		return i, nil
	case k == jsonNone && i < len(s.b):
		return i, s.fail(i, "neither a JSON object nor framed Avro")
	default:
		return i, s.fail(i, "want one object, found "+k.String())
	}
}

// tail checks that nothing but white space stands at and behind i.
func (s *scan) tail(i int) *jsonError {
	if i = s.space(i); i < len(s.b) {
		return s.fail(i, "something stands behind the object")
	}
	return nil
}

// unquote returns the text of a string body (without quotes) that str accepted.
// Half a surrogate pair becomes U+FFFD, as in encoding/json; bytes that are no UTF-8
// stay as they are.
func unquote(b []byte, info strInfo) string {
	if info&strEscaped == 0 {
		return string(b)
	}
	var sb strings.Builder
	sb.Grow(len(b))
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			sb.WriteByte(b[i])
			i++
			continue
		}
		switch c := b[i+1]; c {
		case 'u':
			r := hex4(b[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
					low = hex4(b[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			sb.WriteRune(r)
			continue
		case 'b':
			sb.WriteByte('\b')
		case 'f':
			sb.WriteByte('\f')
		case 'n':
			sb.WriteByte('\n')
		case 'r':
			sb.WriteByte('\r')
		case 't':
			sb.WriteByte('\t')
		default:
			sb.WriteByte(c)
		}
		i += 2
	}
	return sb.String()
}
