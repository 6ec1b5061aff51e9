package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Lines is a [Source] of one event per line. Empty lines are passed over.
type Lines struct {
	r        *bufio.Reader
	maxBytes int
	describe func(line []byte, it *Item) error
	number   int
	buf      []byte
}

// NewLines reads lines of at most maxBytes. describe fills in the attributes and the
// key of the event in line, or says why it is not one.
func NewLines(r io.Reader, maxBytes int, describe func(line []byte, it *Item) error) *Lines {
	return &Lines{r: bufio.NewReaderSize(r, 256<<10), maxBytes: maxBytes, describe: describe}
}

// Next implements [Source].
func (l *Lines) Next() (Item, error) {
	it, err := l.Pass()
	if err != nil || it.Err != nil {
		return it, err
	}
	// The value goes out exactly as it is in the file, without its line end.
	it.Value = bytes.Clone(it.Bytes)
	it.Where = "line " + strconv.Itoa(l.number)
	if it.Err = l.describe(it.Value, &it); it.Err != nil {
		it.Value = nil
	}
	return it, nil
}

// Pass is Next without looking into the line.
func (l *Lines) Pass() (Item, error) {
	for {
		line, size, open, err := l.line()
		if err != nil {
			return Item{}, err
		}
		l.number++
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		it := Item{Bytes: line, Open: open}
		switch {
		case size > l.maxBytes:
			it.Where = "line " + strconv.Itoa(l.number)
			it.Err = fmt.Errorf("%d bytes long, more than the %d that fit into a record", size, l.maxBytes)
			return it, nil
		case len(bytes.TrimSpace(line)) > 0:
			return it, nil
		}
	}
}

// line returns the next line with its line end, or the first maxBytes of one that is
// longer, with its whole size. open says that the input ended before the line did.
func (l *Lines) line() (line []byte, size int, open bool, err error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		size += len(part)
		if room := l.maxBytes + 2 - len(l.buf); room > 0 {
			l.buf = append(l.buf, part[:min(room, len(part))]...)
		}
		switch {
		case err == nil:
			if n := len(part); n > 1 && part[n-2] == '\r' {
				size--
			}
			return l.buf, size - 1, false, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && size > 0:
			return l.buf, size, true, nil
		default:
			return nil, 0, false, err
		}
	}
}
