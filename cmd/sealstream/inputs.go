package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/producers/ingest"
)

// Formats of ingest.
const (
	formatCloudTrail = "cloudtrail"
	formatNDJSON     = "ndjson"
)

// headBytes is how much of a file, at most, tells it from another one of that name.
const headBytes = 4096

// stdinName is how the command line and messages call standard input.
const stdinName = "-"

// reader turns paths into inputs of events.
type reader struct {
	ctx            context.Context
	format, stream string
	tenant         string
	maxBytes       int
	stdin          io.Reader
	d              *describer

	read, total atomic.Int64 // bytes of the files, as they are on disk
}

// progress returns the bytes read and all there are.
func (r *reader) progress() (read, total int64) { return r.read.Load(), r.total.Load() }

// inputs lists what the paths name. A path that is not there is an error before
// anything is ingested; notes say what is passed over.
func (r *reader) inputs(paths []string) (inputs []ingest.Input, notes []string, err error) {
	seen := map[string]bool{}
	for _, path := range paths {
		if path == stdinName {
			inputs = append(inputs, ingest.Input{Name: "standard input", Open: r.openStdin})
			notes = append(notes, "standard input cannot be read again: if this is interrupted, what is in stays in, and a second run ingests it again")
			continue
		}
		files, passed, err := list(path, extensions(r.format))
		if err != nil {
			return nil, nil, err
		}
		if len(passed) > 0 {
			notes = append(notes, fmt.Sprintf("%s: passed over %d files that do not look like %s by their names (%s); name them to ingest them",
				path, len(passed), r.format, strings.Join(passed[:min(3, len(passed))], ", ")))
		}
		for _, file := range files {
			in, err := r.file(file)
			if err != nil {
				return nil, nil, err
			}
			if !seen[in.Path] {
				inputs, seen[in.Path] = append(inputs, in), true
			}
		}
	}
	return inputs, notes, nil
}

// extensions are the names of files that a directory is searched for.
func extensions(format string) []string {
	if format == formatCloudTrail {
		return []string{".json", ".json.gz", ".gz"}
	}
	return []string{".ndjson", ".jsonl", ".json", ".log", ".ndjson.gz", ".jsonl.gz", ".json.gz", ".log.gz"}
}

// list returns the file itself, or the files below a directory in order of names.
func list(path string, exts []string) (files, passed []string, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s does not exist", path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("look at %s: %w", path, err)
	}
	if !info.IsDir() {
		return []string{path}, nil, nil
	}
	err = filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != path && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !d.Type().IsRegular() && d.Type()&fs.ModeSymlink == 0 || strings.HasPrefix(d.Name(), "."):
		case slices.ContainsFunc(exts, func(ext string) bool { return strings.HasSuffix(strings.ToLower(file), ext) }):
			files = append(files, file)
		default:
			passed = append(passed, d.Name())
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look through %s: %w", path, err)
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("%s holds no files named %s", path, strings.Join(exts, ", "))
	}
	return files, passed, nil
}

// file describes one file.
func (r *reader) file(name string) (ingest.Input, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return ingest.Input{}, fmt.Errorf("%s: %w", name, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return ingest.Input{}, fmt.Errorf("open %s: %w", name, errors.Unwrap(err))
	}
	defer f.Close()
	head := make([]byte, headBytes)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return ingest.Input{}, fmt.Errorf("read %s: %w", name, errors.Unwrap(err))
	}
	head = head[:n]
	if r.format == formatNDJSON {
		// A log grows: its first line is what stays.
		head, _, _ = bytes.Cut(head, []byte("\n"))
		head = bytes.TrimSuffix(head, []byte("\r"))
	}
	if info, err := f.Stat(); err == nil {
		r.total.Add(info.Size())
	}
	return ingest.Input{Name: name, Path: path, Head: head, Open: func() (ingest.Source, io.Closer, error) { return r.open(path) }}, nil
}

func (r *reader) open(path string) (ingest.Source, io.Closer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	src, err := r.source(&countingReader{f, &r.read})
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return src, f, nil
}

func (r *reader) openStdin() (ingest.Source, io.Closer, error) {
	src, err := r.source(r.stdin)
	return src, io.NopCloser(nil), err
}

// source makes the events of a stream of bytes, unpacked if it is packed.
func (r *reader) source(in io.Reader) (ingest.Source, error) {
	if r.format == formatCloudTrail {
		return r.cloudTrail(in), nil // unpacks by itself
	}
	b := bufio.NewReaderSize(in, 256<<10)
	var text io.Reader = b
	if magic, _ := b.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		text = z
	}
	return ingest.NewLines(text, r.maxBytes, r.describeLine), nil
}

func (r *reader) describeLine(line []byte, it *ingest.Item) error {
	f, err := r.d.describe(r.stream, r.tenant, line)
	if err != nil {
		return err
	}
	it.Key = f.key
	it.Attributes = r.attributes(f, "sealstream/ingest/ndjson")
	return nil
}

func (r *reader) attributes(f facts, source string) producers.Attributes {
	return producers.Attributes{ID: f.id, Source: source, Type: f.action, Time: f.time, Tenant: r.tenant, ContentType: producers.ContentJSON}
}

// countingReader counts what is read, for the progress bar.
type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}
