package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/gzip"
)

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// errBudget: all bodies together take as much memory as they may.
var errBudget = errors.New("body memory is used up")

// bodyType reads the content type; the answer is typeJSON or typeNDJSON.
func bodyType(r *http.Request) (string, *problem) {
	bad := &problem{kind: kindMediaType, where: "header Content-Type", detail: "the body's content type is missing or not one that is taken",
		fix: "send application/json (one event or an array) or application/x-ndjson (one event a line), in UTF-8", allow: "Accept-Post: application/json, application/x-ndjson"}
	if len(r.Header.Values("Content-Type")) != 1 {
		return "", bad
	}
	t, ps, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return "", bad
	}
	for name, v := range ps {
		if name == "charset" && !strings.EqualFold(v, "utf-8") {
			return "", bad
		}
	}
	switch t {
	case typeJSON, typeNDJSON:
		return t, nil
	case "application/ndjson":
		return typeNDJSON, nil
	}
	return "", bad
}

// readBody returns the whole body, decompressed, and a function that gives its
// memory back to the budget.
func (s *server) readBody(c *gin.Context) (body []byte, done func(), prob *problem) {
	r, limit := c.Request, s.Limits.BodyBytes
	var packed bool
	switch enc := r.Header.Values("Content-Encoding"); {
	case len(enc) == 0, len(enc) == 1 && strings.EqualFold(enc[0], "identity"):
	case len(enc) == 1 && strings.EqualFold(enc[0], "gzip"):
		packed = true
	default:
		return nil, nil, &problem{kind: kindEncoding, where: "header Content-Encoding", detail: "the body's encoding is not one that is taken",
			fix: "send the body as it is or as gzip, once", allow: "Accept-Encoding: gzip"}
	}
	if r.ContentLength > limit {
		return nil, nil, s.tooLarge(packed)
	}
	var src io.Reader = http.MaxBytesReader(c.Writer, r.Body, limit)
	if packed {
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, nil, s.bodyProblem(err, packed)
		}
		defer z.Close()
		src = z
	}
	hint := r.ContentLength + 1 // one byte more than the body shows its end without growing
	if packed || hint <= 0 {
		hint = 64 << 10
	}
	purse := s.purseOf(c)
	body, err := s.readAll(src, hint, purse)
	done = purse.empty
	if err != nil {
		done()
		return nil, nil, s.bodyProblem(err, packed)
	}
	return body, done, nil
}

// readAll reads up to the limit into one buffer whose memory it takes from the
// budget before it has it, so that neither a bomb nor many honest bodies can grow
// the process.
func (s *server) readAll(src io.Reader, hint int64, purse *purse) (body []byte, err error) {
	limit := s.Limits.BodyBytes
	size := min(hint, limit+1, 1<<20) // an announced length alone gets nobody much memory
	if !purse.take(size) {
		return nil, errBudget
	}
	body = make([]byte, 0, size)
	for {
		n, err := src.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if int64(len(body)) > limit {
			return nil, &http.MaxBytesError{Limit: limit}
		}
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, err // told apart by bodyProblem
		}
		if len(body) == cap(body) {
			old := int64(cap(body))
			if size = min(2*old, limit+1); !purse.take(size) {
				return nil, errBudget
			}
			body = append(make([]byte, 0, size), body...)
			purse.give(old)
		}
	}
}

func (s *server) tooLarge(packed bool) *problem {
	detail := fmt.Sprintf("the body has more than %d bytes", s.Limits.BodyBytes)
	if packed {
		detail += ", before or after decompression"
	}
	return &problem{kind: kindTooLarge, where: "body", detail: detail, fix: "send the events in several bodies"}
}

// bodyProblem says why a body could not be read. All of it is checked before any
// event is passed on, so nothing of such a body was taken.
func (s *server) bodyProblem(err error, packed bool) *problem {
	var tooLong *http.MaxBytesError
	var netErr net.Error
	switch {
	case errors.Is(err, errBudget):
		return &problem{kind: kindBusy, where: "server", detail: "the bodies of other requests, or your own, fill the memory set aside for them",
			fix: "send the same request again after Retry-After seconds", retryAfter: time.Second}
	case errors.As(err, &tooLong):
		return s.tooLarge(packed)
	case errors.As(err, &netErr) && netErr.Timeout():
		return &problem{kind: kindTimeout, where: "body", detail: "the body did not arrive in time; nothing of it was taken", fix: "send smaller bodies, or mend the connection"}
	case errors.Is(err, io.ErrUnexpectedEOF) && !packed:
		return badBody("body", "the body is cut short: it ends before its announced length; nothing of it was taken", "send the whole body again")
	case packed:
		return badBody("body", "the body is not gzip, or it is cut short or damaged; nothing of it was taken", "compress it again and send it whole, or send it without Content-Encoding")
	}
	return &problem{kind: kindBody, where: "body", detail: "the body could not be read to its end; nothing of it was taken", fix: "send the whole body again", err: fmt.Errorf("read body: %w", err)}
}
