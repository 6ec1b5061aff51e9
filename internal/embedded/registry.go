package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
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
// and to be set before the first request.
func (r *Registry) Announce(fn func(context.Context, Registration) error) { r.announce = fn }

// Close gives the directory back. Everything is on disk already.
func (r *Registry) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
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

// commit makes a change durable, then takes it into memory. r.mu is held.
func (r *Registry) commit(c *change) error {
	if err := r.store.append(c); err != nil {
		r.log.ErrorContext(context.Background(), "schema registry cannot write: it refuses changes until it is started again", "error", err)
		return refusal(errCodeStore, "the registry cannot write its file: %v", err)
	}
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

// register gives a schema an id and its subject a version, or finds those it
// has.
func (r *Registry) register(ctx context.Context, name, text string) (Registration, error) {
	if err := checkSubject(name); err != nil {
		return Registration{}, err
	}
	p, err := parseSchema(text)
	if err != nil {
		return Registration{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subjects[name]
	id, known := r.ids[p.key]
	if known {
		for _, v := range s.live(false) {
			if v.id == id {
				return Registration{name, v.number, id, r.schemas[id].text}, nil
			}
		}
	}
	if msgs := r.incompatible(s, p); len(msgs) > 0 {
		return Registration{}, refusal(errCodeConflict, "Schema being registered is incompatible with an earlier schema for subject %q, details: %s", name, join(msgs))
	}
	c := &change{Op: opRegister, Subject: name, Versions: []int{1}, ID: id}
	if s != nil && len(s.versions) > 0 {
		c.Versions[0] = s.versions[len(s.versions)-1].number + 1
	}
	if s != nil && len(s.versions) >= maxVersions {
		return Registration{}, refusal(errCodeForbidden, "subject %q has %d versions, which is the limit: delete some for good", name, maxVersions)
	}
	if !known {
		if len(r.schemas) >= maxSchemas {
			return Registration{}, refusal(errCodeForbidden, "the registry holds %d schemas, which is its limit", maxSchemas)
		}
		c.ID, c.Schema = r.lastID+1, text
	}
	reg := Registration{name, c.Versions[0], c.ID, text}
	if r.announce != nil {
		if err := r.announce(ctx, reg); err != nil {
			return Registration{}, refusal(errCodeStore, "the registration cannot be put on record, so it was not made; try again")
		}
	}
	if err := r.commit(c); err != nil {
		return Registration{}, err
	}
	r.log.InfoContext(ctx, "schema registered", "subject", name, "version", reg.Version, "schema_id", reg.ID)
	return reg, nil
}

// incompatible lists why a schema may not follow those of its subject.
func (r *Registry) incompatible(s *subject, p *parsedSchema) []string {
	vs := s.live(false)
	lvl := r.levelOf(s)
	if len(vs) == 0 || lvl == "NONE" {
		return nil
	}
	if !lvl.transitive() {
		vs = vs[len(vs)-1:]
	}
	var msgs []string
	for i := len(vs) - 1; i >= 0 && len(msgs) == 0; i-- { // newest first, as it is what most will look at
		msgs = r.against(vs[i], p, lvl)
	}
	return msgs
}

func (r *Registry) against(v version, p *parsedSchema, lvl level) []string {
	old, err := parseSchema(r.schemas[v.id].text)
	if err != nil {
		return []string{fmt.Sprintf("version %d cannot be read: %v", v.number, err)}
	}
	var msgs []string
	for _, why := range lvl.check(p, old) {
		msgs = append(msgs, fmt.Sprintf("version %d: %s", v.number, why))
	}
	return msgs
}

func (r *Registry) levelOf(s *subject) level {
	if s != nil && s.level != "" {
		return s.level
	}
	return r.level
}

// lookup finds a schema under a subject.
func (r *Registry) lookup(name, text string, withDeleted bool) (Registration, error) {
	p, err := parseSchema(text)
	if err != nil {
		return Registration{}, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	vs := r.subjects[name].live(withDeleted)
	if len(vs) == 0 {
		return Registration{}, errNoSubject(name)
	}
	id, known := r.ids[p.key]
	for i := len(vs) - 1; i >= 0 && known; i-- {
		if vs[i].id == id {
			return Registration{name, vs[i].number, id, r.schemas[id].text}, nil
		}
	}
	return Registration{}, refusal(errCodeSchema, "Schema not found")
}

// get finds a version; number 0 is the latest.
func (r *Registry) get(name string, number int, withDeleted bool) (Registration, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	v, err := r.version(name, number, withDeleted)
	if err != nil {
		return Registration{}, err
	}
	return Registration{name, v.number, v.id, r.schemas[v.id].text}, nil
}

func (r *Registry) version(name string, number int, withDeleted bool) (version, error) {
	vs := r.subjects[name].live(withDeleted)
	if len(vs) == 0 {
		return version{}, errNoSubject(name)
	}
	if number == 0 {
		return vs[len(vs)-1], nil
	}
	for _, v := range vs {
		if v.number == number {
			return v, nil
		}
	}
	return version{}, refusal(errCodeVersion, "Version %d not found.", number)
}

func errNoSubject(name string) error {
	return refusal(errCodeSubject, "Subject '%s' not found.", name)
}

// all lists registrations, by subject and version.
func (r *Registry) all(withDeleted bool, want func(subject string, v version) bool) []Registration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var regs []Registration
	for name, s := range r.subjects {
		for _, v := range s.live(withDeleted) {
			if want(name, v) {
				regs = append(regs, Registration{name, v.number, v.id, r.schemas[v.id].text})
			}
		}
	}
	sort.Slice(regs, func(i, j int) bool {
		if regs[i].Subject != regs[j].Subject {
			return regs[i].Subject < regs[j].Subject
		}
		return regs[i].Version < regs[j].Version
	})
	return regs
}

// remove deletes versions of a subject: number 0 means all of them. Deleting
// for good needs a soft delete before it.
func (r *Registry) remove(name string, number int, permanent bool) ([]int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subjects[name]
	if s == nil || len(s.versions) == 0 {
		return nil, errNoSubject(name)
	}
	c := &change{Op: opDelete, Subject: name, Permanent: permanent}
	if number == 0 {
		live := len(s.live(false))
		switch {
		case permanent && live > 0:
			return nil, refusal(errCodeNotSoft, "Subject '%s' was not deleted first before being permanently deleted", name)
		case !permanent && live == 0:
			return nil, refusal(errCodeSoft, "Subject '%s' was soft deleted. Set permanent=true to delete permanently", name)
		}
		for _, v := range s.live(permanent) {
			c.Versions = append(c.Versions, v.number)
		}
	} else {
		i := s.find(number)
		switch {
		case i < 0:
			return nil, refusal(errCodeVersion, "Version %d not found.", number)
		case permanent && !s.versions[i].deleted:
			return nil, refusal(errCodeVerNotSoft, "Subject '%s' Version %d was not deleted first before being permanently deleted", name, number)
		case !permanent && s.versions[i].deleted:
			return nil, refusal(errCodeVerSoft, "Subject '%s' Version %d was soft deleted. Set permanent=true to delete permanently", name, number)
		}
		c.Versions = []int{number}
	}
	if err := r.commit(c); err != nil {
		return nil, err
	}
	r.log.InfoContext(context.Background(), "schema versions deleted", "subject", name, "versions", c.Versions, "permanent", permanent)
	return c.Versions, nil
}

// setLevel sets or, with "", resets a compatibility level; subject "" is the
// global one. It returns the level before.
func (r *Registry) setLevel(name string, lvl level) (level, error) {
	if name != "" {
		if err := checkSubject(name); err != nil {
			return "", err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.level
	if name != "" {
		before = ""
		if s := r.subjects[name]; s != nil {
			before = s.level
		}
		if lvl == "" && before == "" {
			return "", errNoLevel(name)
		}
		if _, ok := r.subjects[name]; !ok && len(r.subjects) >= maxSchemas {
			return "", refusal(errCodeForbidden, "the registry holds %d subjects, which is its limit", maxSchemas)
		}
	}
	return before, r.commit(&change{Op: opLevel, Subject: name, Level: lvl})
}

func errNoLevel(name string) error {
	return refusal(errCodeNoLevel, "Subject '%s' does not have subject-level compatibility configured", name)
}

// getLevel returns the level of a subject, "" for the global one.
func (r *Registry) getLevel(name string, orGlobal bool) (level, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if name == "" {
		return r.level, nil
	}
	s := r.subjects[name]
	if (s == nil || s.level == "") && !orGlobal {
		return "", errNoLevel(name)
	}
	return r.levelOf(s), nil
}

// tryAgainst checks a schema against one version (number > 0), the latest (0),
// or as a registration would (all = true).
func (r *Registry) tryAgainst(name string, number int, all bool, text string) ([]string, error) {
	p, err := parseSchema(text)
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := r.subjects[name]
	if all {
		return r.incompatible(s, p), nil
	}
	v, err := r.version(name, number, false)
	if err != nil {
		return nil, err
	}
	lvl := r.levelOf(s)
	if lvl == "NONE" {
		return nil, nil
	}
	return r.against(v, p, lvl), nil
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
