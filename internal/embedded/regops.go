package embedded

import (
	"context"
	"fmt"
	"sort"
)

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
	r.write.Lock()
	defer r.write.Unlock()
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
	r.write.Lock()
	defer r.write.Unlock()
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
	r.write.Lock()
	defer r.write.Unlock()
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
