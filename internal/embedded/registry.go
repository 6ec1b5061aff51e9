package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/sealstream/sealstream/schemas"
)

// Limits of the registry. They are far above honest use; what they bound is
// the harm of a client that goes wrong.
const (
	maxSchemaBytes    = 512 << 10
	maxSchemas        = 20_000
	maxVersions       = 1_000 // of one subject
	maxSubjectBytes   = 255
	defaultLevel      = level("BACKWARD")
	errCodeSubject    = 40401
	errCodeVersion    = 40402
	errCodeSchema     = 40403
	errCodeSoft       = 40404
	errCodeNotSoft    = 40405
	errCodeVerSoft    = 40406
	errCodeVerNotSoft = 40407
	errCodeNoLevel    = 40408
	errCodeConflict   = 409
	errCodeBadSchema  = 42201
	errCodeBadVersion = 42202
	errCodeBadLevel   = 42203
	errCodeForbidden  = 42205
	errCodeBadSubject = 42208
	errCodeTooLarge   = 42209
	errCodeStore      = 50001
)

// RegistryError is a refusal with the code that Confluent's API gives it; the
// HTTP status is its first three digits.
type RegistryError struct {
	Code    int
	Message string
}

// Error implements error.
func (e *RegistryError) Error() string { return e.Message }

func refusal(code int, format string, args ...any) error {
	return &RegistryError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Registration is a schema under a subject's version.
type Registration struct {
	Subject string
	Version int
	ID      uint32
	Schema  string
}

// Registry is the embedded schema registry: Avro schemas in one file, written
// and synced before any answer. A schema stays readable by its id for ever,
// even when its subject was deleted for good: sealed events name it by that id.
type Registry struct {
	log  *slog.Logger
	lock *dirLock

	// write is held by whoever changes something, from the first look to the
	// answer; mu only while memory changes, so that nobody who reads waits
	// for the disk or for Announce. Who holds write may read without mu.
	write    sync.Mutex
	mu       sync.RWMutex
	store    *registryStore
	schemas  map[uint32]*storedSchema
	ids      map[identityKey]uint32
	subjects map[string]*subject
	level    level
	lastID   uint32
	announce func(context.Context, Registration) error
}

type storedSchema struct {
	id   uint32
	text string
}

// subject is a name with its versions, in rising order.
type subject struct {
	versions []version
	level    level // "" = the global one
}

type version struct {
	number  int
	id      uint32
	deleted bool // softly: still there for those who ask for deleted ones
}

// NewRegistry opens the registry in dir, which belongs to one process at a
// time. What a crash cut off at the end of the file had not been answered and
// is dropped; damage anywhere else is an error.
func NewRegistry(dir string, log *slog.Logger) (*Registry, error) {
	if dir == "" || log == nil {
		return nil, errors.New("registry: a directory and a logger are needed")
	}
	r := &Registry{
		log: log.With("part", "registry"), schemas: map[uint32]*storedSchema{}, ids: map[identityKey]uint32{},
		subjects: map[string]*subject{}, level: defaultLevel,
	}
	var err error
	if r.lock, err = lockDir(dir); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if r.store, err = openRegistryStore(dir, r.log, r.apply); err != nil {
		r.lock.release()
		return nil, fmt.Errorf("registry in %s: %w", dir, err)
	}
	r.log.InfoContext(context.Background(), "embedded schema registry opened", "schemas", len(r.schemas), "subjects", len(r.subjects))
	return r, nil
}

// Announce has fn called with every new registration before it is stored; its
// error refuses the registration. It is for keeping registrations as evidence,
// and to be set before the first request. Other changes wait for fn, readers do
// not.
func (r *Registry) Announce(fn func(context.Context, Registration) error) { r.announce = fn }

// Close gives the directory back. Everything is on disk already.
func (r *Registry) Close() error {
	r.write.Lock()
	defer r.write.Unlock()
	defer r.lock.release()
	return r.store.close()
}

// Schema returns the text of a schema; it implements [schemas.Resolver]. Its
// only error wraps [schemas.ErrUnknownSchema].
func (r *Registry) Schema(_ context.Context, id uint32) (string, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.schemas[id]
	if !ok {
		return "", fmt.Errorf("schema %d: %w", id, schemas.ErrUnknownSchema)
	}
	return s.text, nil
}

// apply takes one change from the file, or one that was just written to it,
// into memory. It refuses what could not have come from this program.
func (r *Registry) apply(c *change) error {
	switch c.Op {
	case opRegister:
		return r.applyRegister(c)
	case opDelete:
		s := r.subjects[c.Subject]
		if s == nil {
			return fmt.Errorf("deletes from subject %q, which does not exist", c.Subject)
		}
		for _, n := range c.Versions {
			i := s.find(n)
			if i < 0 {
				return fmt.Errorf("deletes version %d of subject %q, which does not exist", n, c.Subject)
			}
			if c.Permanent {
				s.versions = slices.Delete(s.versions, i, i+1)
			} else {
				s.versions[i].deleted = true
			}
		}
		if len(s.versions) == 0 && s.level == "" {
			delete(r.subjects, c.Subject)
		}
	case opLevel:
		return r.applyLevel(c)
	default:
		return fmt.Errorf("unknown operation %q", c.Op)
	}
	return nil
}

func (r *Registry) applyRegister(c *change) error {
	if c.Schema != "" {
		p, err := parseSchema(c.Schema)
		if err != nil {
			return fmt.Errorf("schema %d: %w", c.ID, err)
		}
		if r.schemas[c.ID] != nil || c.ID == 0 {
			return fmt.Errorf("schema id %d is given twice", c.ID)
		}
		r.schemas[c.ID] = &storedSchema{id: c.ID, text: c.Schema}
		r.ids[p.key] = c.ID
		r.lastID = max(r.lastID, c.ID)
	}
	if r.schemas[c.ID] == nil {
		return fmt.Errorf("registers schema id %d, which does not exist", c.ID)
	}
	s := r.subjects[c.Subject]
	if s == nil {
		s = &subject{}
		r.subjects[c.Subject] = s
	}
	if len(c.Versions) != 1 || (len(s.versions) > 0 && c.Versions[0] <= s.versions[len(s.versions)-1].number) {
		return fmt.Errorf("registers version %v of subject %q out of order", c.Versions, c.Subject)
	}
	s.versions = append(s.versions, version{number: c.Versions[0], id: c.ID})
	return nil
}

func (r *Registry) applyLevel(c *change) error {
	if c.Level != "" && !c.Level.valid() {
		return fmt.Errorf("unknown compatibility level %q", c.Level)
	}
	if c.Subject == "" {
		r.level = c.Level
		if r.level == "" {
			r.level = defaultLevel
		}
		return nil
	}
	s := r.subjects[c.Subject]
	if s == nil {
		s = &subject{}
		r.subjects[c.Subject] = s
	}
	s.level = c.Level
	if len(s.versions) == 0 && s.level == "" {
		delete(r.subjects, c.Subject)
	}
	return nil
}

// commit makes a change durable, then takes it into memory. write is held.
func (r *Registry) commit(c *change) error {
	if err := r.store.append(c); err != nil {
		r.log.ErrorContext(context.Background(), "schema registry cannot write: it refuses changes until it is started again", "error", err)
		return refusal(errCodeStore, "the registry cannot write its file: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.apply(c); err != nil { // our own arithmetic is broken
		return refusal(errCodeStore, "the registry contradicts itself: %v", err)
	}
	return nil
}

func (s *subject) find(number int) int {
	return slices.IndexFunc(s.versions, func(v version) bool { return v.number == number })
}

// live are the versions that were not deleted, in rising order.
func (s *subject) live(withDeleted bool) []version {
	if s == nil {
		return nil
	}
	var vs []version
	for _, v := range s.versions {
		if withDeleted || !v.deleted {
			vs = append(vs, v)
		}
	}
	return vs
}

func checkSubject(name string) error {
	if name == "" || len(name) > maxSubjectBytes {
		return refusal(errCodeBadSubject, "The subject's name has %d bytes: want 1 to %d", len(name), maxSubjectBytes)
	}
	for _, c := range name {
		if c < 0x20 || c == 0x7f || c == 0xfffd {
			return refusal(errCodeBadSubject, "The subject's name holds a control character or is not UTF-8")
		}
	}
	return nil
}
