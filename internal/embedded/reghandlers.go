package embedded

import (
	"net/http"
	"strings"
)

// registrationJSON is how a version is shown.
type registrationJSON struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
	ID      uint32 `json:"id"`
	Schema  string `json:"schema"`
}

func (r *Registry) getSchemas(_ http.ResponseWriter, req *http.Request) (any, error) {
	prefix := req.URL.Query().Get("subjectPrefix")
	regs := r.all(flag(req, "deleted"), func(s string, _ version) bool { return strings.HasPrefix(s, prefix) })
	out := []registrationJSON{}
	for i, reg := range regs {
		if flag(req, "latestOnly") && i+1 < len(regs) && regs[i+1].Subject == reg.Subject {
			continue
		}
		out = append(out, registrationJSON(reg))
	}
	return out, nil
}

func (r *Registry) textOf(req *http.Request) (string, error) {
	id, err := idOf(req)
	if err != nil {
		return "", err
	}
	text, err := r.Schema(req.Context(), id)
	if err != nil {
		return "", refusal(errCodeSchema, "Schema %d not found", id)
	}
	return text, nil
}

func (r *Registry) getID(_ http.ResponseWriter, req *http.Request) (any, error) {
	text, err := r.textOf(req)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"schema": text}
	if flag(req, "fetchMaxId") {
		r.mu.RLock()
		out["maxId"] = r.lastID
		r.mu.RUnlock()
	}
	return out, nil
}

func (r *Registry) getIDText(_ http.ResponseWriter, req *http.Request) (any, error) {
	text, err := r.textOf(req)
	return rawText(text), err
}

// usesOf lists where a schema is registered.
func (r *Registry) usesOf(req *http.Request, show func(Registration) any) (any, error) {
	if _, err := r.textOf(req); err != nil {
		return nil, err
	}
	id, err := idOf(req)
	if err != nil {
		return nil, err
	}
	out := []any{}
	seen := map[any]bool{}
	for _, reg := range r.all(flag(req, "deleted"), func(_ string, v version) bool { return v.id == id }) {
		item := show(reg)
		if name, ok := item.(string); ok { // a subject is listed once
			if seen[name] {
				continue
			}
			seen[name] = true
		}
		out = append(out, item)
	}
	return out, nil
}

func (r *Registry) getSubjects(_ http.ResponseWriter, req *http.Request) (any, error) {
	prefix := req.URL.Query().Get("subjectPrefix")
	deletedOnly := flag(req, "deletedOnly")
	names := []string{}
	live := map[string]bool{}
	for _, reg := range r.all(false, func(string, version) bool { return true }) {
		live[reg.Subject] = true
	}
	for _, reg := range r.all(flag(req, "deleted") || deletedOnly, func(string, version) bool { return true }) {
		if n := len(names); n > 0 && names[n-1] == reg.Subject {
			continue
		}
		if strings.HasPrefix(reg.Subject, prefix) && !(deletedOnly && live[reg.Subject]) {
			names = append(names, reg.Subject)
		}
	}
	return names, nil
}

func (r *Registry) getVersions(_ http.ResponseWriter, req *http.Request) (any, error) {
	name := req.PathValue("subject")
	nums := []int{}
	for _, reg := range r.all(flag(req, "deleted"), func(s string, _ version) bool { return s == name }) {
		nums = append(nums, reg.Version)
	}
	if len(nums) == 0 {
		return nil, errNoSubject(name)
	}
	return nums, nil
}

func (r *Registry) postVersion(w http.ResponseWriter, req *http.Request) (any, error) {
	text, err := readSchema(w, req)
	if err != nil {
		return nil, err
	}
	reg, err := r.register(req.Context(), req.PathValue("subject"), text)
	if err != nil {
		return nil, err
	}
	return map[string]any{"id": reg.ID, "version": reg.Version}, nil
}

func (r *Registry) postLookup(w http.ResponseWriter, req *http.Request) (any, error) {
	text, err := readSchema(w, req)
	if err != nil {
		return nil, err
	}
	reg, err := r.lookup(req.PathValue("subject"), text, flag(req, "deleted"))
	if err != nil {
		return nil, err
	}
	return registrationJSON(reg), nil
}

func (r *Registry) wanted(req *http.Request) (Registration, error) {
	number, err := versionOf(req)
	if err != nil {
		return Registration{}, err
	}
	return r.get(req.PathValue("subject"), number, flag(req, "deleted"))
}

func (r *Registry) getVersion(_ http.ResponseWriter, req *http.Request) (any, error) {
	reg, err := r.wanted(req)
	if err != nil {
		return nil, err
	}
	return registrationJSON(reg), nil
}

func (r *Registry) getVersionText(_ http.ResponseWriter, req *http.Request) (any, error) {
	reg, err := r.wanted(req)
	return rawText(reg.Schema), err
}

// getReferencedBy: without references there is never anything.
func (r *Registry) getReferencedBy(_ http.ResponseWriter, req *http.Request) (any, error) {
	if _, err := r.wanted(req); err != nil {
		return nil, err
	}
	return []int{}, nil
}

func (r *Registry) deleteSubject(_ http.ResponseWriter, req *http.Request) (any, error) {
	return r.remove(req.PathValue("subject"), 0, flag(req, "permanent"))
}

func (r *Registry) deleteVersion(_ http.ResponseWriter, req *http.Request) (any, error) {
	number, err := versionOf(req)
	if err != nil {
		return nil, err
	}
	name, permanent := req.PathValue("subject"), flag(req, "permanent")
	if number == 0 {
		reg, err := r.get(name, 0, permanent)
		if err != nil {
			return nil, err
		}
		number = reg.Version
	}
	gone, err := r.remove(name, number, permanent)
	if err != nil {
		return nil, err
	}
	return gone[0], nil
}

func (r *Registry) getConfig(_ http.ResponseWriter, req *http.Request) (any, error) {
	lvl, err := r.getLevel(req.PathValue("subject"), flag(req, "defaultToGlobal"))
	if err != nil {
		return nil, err
	}
	return map[string]level{"compatibilityLevel": lvl}, nil
}

func (r *Registry) putConfig(w http.ResponseWriter, req *http.Request) (any, error) {
	var b struct {
		Compatibility level `json:"compatibility"`
	}
	if err := readBody(w, req, &b); err != nil {
		return nil, err
	}
	lvl := level(strings.ToUpper(string(b.Compatibility)))
	if !lvl.valid() {
		return nil, refusal(errCodeBadLevel, "Invalid compatibility level %.40q: want one of %v", b.Compatibility, levels())
	}
	if _, err := r.setLevel(req.PathValue("subject"), lvl); err != nil {
		return nil, err
	}
	return map[string]level{"compatibility": lvl}, nil
}

// deleteConfig answers with the level that was. Clients look for it under
// either name.
func (r *Registry) deleteConfig(_ http.ResponseWriter, req *http.Request) (any, error) {
	before, err := r.setLevel(req.PathValue("subject"), "")
	if err != nil {
		return nil, err
	}
	return map[string]level{"compatibility": before, "compatibilityLevel": before}, nil
}

func (r *Registry) postCompatibility(w http.ResponseWriter, req *http.Request) (any, error) {
	number, all := 0, req.PathValue("version") == ""
	if !all {
		var err error
		if number, err = versionOf(req); err != nil {
			return nil, err
		}
	}
	text, err := readSchema(w, req)
	if err != nil {
		return nil, err
	}
	msgs, err := r.tryAgainst(req.PathValue("subject"), number, all, text)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"is_compatible": len(msgs) == 0}
	if flag(req, "verbose") {
		out["messages"] = append([]string{}, msgs...)
	}
	return out, nil
}

func getMode(http.ResponseWriter, *http.Request) (any, error) {
	return map[string]string{"mode": "READWRITE"}, nil
}

func putMode(http.ResponseWriter, *http.Request) (any, error) {
	return nil, refusal(errCodeForbidden, "the mode of the embedded registry is READWRITE and cannot be changed")
}
