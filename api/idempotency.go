package api

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

const maxIdempotencyKey = 255

type digest = [sha256.Size]byte

// answers remembers the first answers to requests with an Idempotency-Key. It is
// best effort: it lives in this process, forgets the oldest when it is full, and
// knows nothing after a restart. Events that were sent again then are in the ledger
// twice, each copy marked by duplicate_of.
type answers struct {
	mu   sync.Mutex
	kept *lru[digest, keptAnswer]
	open map[digest]digest // key -> request, of requests in work; bounded by their number
}

type keptAnswer struct {
	request digest
	body    []byte
	at      time.Time
}

func newAnswers(count int, bytes int64) *answers {
	return &answers{kept: newLRU[digest, keptAnswer](int64(count), bytes), open: map[digest]digest{}}
}

// claim is the outcome of asking for a key.
type claim int

const (
	claimFresh   claim = iota // go ahead, then call finish
	claimReplay               // give the kept answer
	claimOther                // the key belongs to another request
	claimPending              // the first request is still running
)

func (a *answers) claim(key, request digest, now time.Time) (claim, []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if first, ok := a.open[key]; ok {
		if first != request {
			return claimOther, nil
		}
		return claimPending, nil
	}
	if k, ok := a.kept.get(key); ok && now.Sub(k.at) < idempotencyLife {
		if k.request != request {
			return claimOther, nil
		}
		return claimReplay, k.body
	}
	a.open[key] = request
	return claimFresh, nil
}

// finish ends a fresh claim. A nil body is not kept: the request took nothing, so
// the same key may try again.
func (a *answers) finish(key digest, body []byte, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	request, ok := a.open[key]
	delete(a.open, key)
	if ok && body != nil {
		const overhead = 200 // of an entry, roughly
		a.kept.put(key, keptAnswer{request, body, now}, int64(len(body)+overhead))
	}
}

// claimKey asks for the request's Idempotency-Key; what names the stream and the
// format, which belong to the request as its body does. finish is nil when there is no
// key; otherwise it must be called exactly once, also after a panic. replay is
// the first answer, when there was one.
func (s *server) claimKey(c *gin.Context, tenant, what string, body []byte) (replay []byte, finish func([]byte), prob *problem) {
	values := c.Request.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return nil, nil, nil
	}
	if len(values) > 1 || !validKey(values[0]) {
		return nil, nil, badHeader("Idempotency-Key", "the key is empty, given twice, too long or holds other than printable ASCII", "send one key of 1 to 255 printable ASCII characters, such as a UUID")
	}
	key := digestOf([]byte(tenant), []byte(values[0]))
	switch got, first := s.answers.claim(key, digestOf([]byte(what), body), s.Now()); got {
	case claimReplay:
		s.metrics.replays.Inc()
		return first, nil, nil
	case claimOther:
		return nil, nil, &problem{kind: kindKeyReused, where: "header Idempotency-Key", detail: "this key came with another body or stream before",
			fix: "use a new key for each request, and the same key only to send the same request again"}
	case claimPending:
		return nil, nil, &problem{kind: kindInProgress, where: "header Idempotency-Key", detail: "the first request with this key has not been answered yet",
			fix: "send the same request again after Retry-After seconds to get its answer", retryAfter: time.Second}
	case claimFresh:
	}
	return nil, func(answer []byte) { s.answers.finish(key, answer, s.Now()) }, nil
}

func validKey(k string) bool {
	for i := range len(k) {
		if k[i] < 0x20 || k[i] > 0x7e {
			return false
		}
	}
	return k != "" && len(k) <= maxIdempotencyKey
}

// digestOf hashes a list of byte strings so that no two lists meet.
func digestOf(parts ...[]byte) digest {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	return digest(h.Sum(nil))
}

// answerReplay gives a kept answer again.
func answerReplay(c *gin.Context, body []byte) {
	c.Writer.Header().Set("Idempotency-Replayed", "true")
	answerJSON(c, http.StatusAccepted, body)
}
