package embedded

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

const (
	registryType = "application/vnd.schemaregistry.v1+json"
	maxBody      = 2 * maxSchemaBytes // the text is escaped within its request
)

// Handler serves Confluent's HTTP API.
func (r *Registry) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range r.routes() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) {
			answer, err := h(w, req)
			reply(w, answer, err)
		})
	}
	return mux
}

// handler answers one request with a value that becomes JSON, or with text.
type handler func(http.ResponseWriter, *http.Request) (any, error)

// rawText is a body that is sent as it is: the text of a schema.
type rawText string

func (r *Registry) routes() map[string]handler {
	return map[string]handler{
		"/": func(_ http.ResponseWriter, req *http.Request) (any, error) {
			if req.URL.Path == "/" && req.Method == http.MethodGet {
				return struct{}{}, nil
			}
			return nil, &RegistryError{Code: http.StatusNotFound, Message: "HTTP 404 Not Found: this registry has no such method and path"}
		},
		"GET /contexts":                func(http.ResponseWriter, *http.Request) (any, error) { return []string{"."}, nil },
		"GET /schemas/types":           func(http.ResponseWriter, *http.Request) (any, error) { return []string{"AVRO"}, nil },
		"GET /mode":                    getMode,
		"GET /mode/{subject}":          getMode,
		"PUT /mode":                    putMode,
		"PUT /mode/{subject}":          putMode,
		"DELETE /mode/{subject}":       putMode,
		"GET /schemas":                 r.getSchemas,
		"GET /schemas/ids/{id}":        r.getID,
		"GET /schemas/ids/{id}/schema": r.getIDText,
		"GET /schemas/ids/{id}/versions": func(_ http.ResponseWriter, req *http.Request) (any, error) {
			return r.usesOf(req, func(reg Registration) any {
				return map[string]any{"subject": reg.Subject, "version": reg.Version}
			})
		},
		"GET /schemas/ids/{id}/subjects": func(_ http.ResponseWriter, req *http.Request) (any, error) {
			return r.usesOf(req, func(reg Registration) any { return reg.Subject })
		},
		"GET /subjects":                                           r.getSubjects,
		"POST /subjects/{subject}":                                r.postLookup,
		"DELETE /subjects/{subject}":                              r.deleteSubject,
		"GET /subjects/{subject}/versions":                        r.getVersions,
		"POST /subjects/{subject}/versions":                       r.postVersion,
		"GET /subjects/{subject}/versions/{version}":              r.getVersion,
		"DELETE /subjects/{subject}/versions/{version}":           r.deleteVersion,
		"GET /subjects/{subject}/versions/{version}/schema":       r.getVersionText,
		"GET /subjects/{subject}/versions/{version}/referencedby": r.getReferencedBy,
		"GET /config":              r.getConfig,
		"GET /config/{subject}":    r.getConfig,
		"PUT /config":              r.putConfig,
		"PUT /config/{subject}":    r.putConfig,
		"DELETE /config":           r.deleteConfig,
		"DELETE /config/{subject}": r.deleteConfig,
		"POST /compatibility/subjects/{subject}/versions":           r.postCompatibility,
		"POST /compatibility/subjects/{subject}/versions/{version}": r.postCompatibility,
	}
}

func reply(w http.ResponseWriter, answer any, err error) {
	w.Header().Set("Content-Type", registryType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	var re *RegistryError
	switch {
	case errors.As(err, &re):
		w.WriteHeader(re.status())
		answer = map[string]any{"error_code": re.Code, "message": re.Message}
	case err != nil: // a handler wraps everything else itself
		w.WriteHeader(http.StatusInternalServerError)
		answer = map[string]any{"error_code": errCodeStore, "message": "Error in the backend data store"}
	}
	if text, ok := answer.(rawText); ok {
		_, _ = io.WriteString(w, string(text))
		return
	}
	_ = json.NewEncoder(w).Encode(answer) // the client went away; nobody else can be told
}

// status is the HTTP status that goes with an error code.
func (e *RegistryError) status() int {
	if e.Code >= 10_000 {
		return e.Code / 100
	}
	return e.Code
}

// schemaRequest is the body of requests that bring a schema.
type schemaRequest struct {
	Schema     *string         `json:"schema"`
	SchemaType string          `json:"schemaType"`
	References []any           `json:"references"`
	Metadata   json.RawMessage `json:"metadata"`
	RuleSet    json.RawMessage `json:"ruleSet"`
	ID         int             `json:"id"`
	Version    int             `json:"version"`
}

// readSchema takes the schema out of a request and refuses, rather than
// ignores, what would change its meaning.
func readSchema(w http.ResponseWriter, req *http.Request) (string, error) {
	var b schemaRequest
	if err := readBody(w, req, &b); err != nil {
		return "", err
	}
	given := func(m json.RawMessage) bool { return len(m) > 0 && string(m) != "null" }
	switch {
	case b.Schema == nil || *b.Schema == "":
		return "", refusal(errCodeBadSchema, "Empty schema: the body needs a field \"schema\" with the schema's text")
	case b.SchemaType != "" && b.SchemaType != "AVRO":
		return "", refusal(errCodeBadSchema, "schemaType %.20q is not supported by the embedded registry: it takes AVRO", b.SchemaType)
	case len(b.References) > 0:
		return "", refusal(errCodeBadSchema, "references are not supported by the embedded registry: put the named types into the schema")
	case given(b.Metadata) || given(b.RuleSet):
		return "", refusal(errCodeBadSchema, "metadata and ruleSet are not supported by the embedded registry: leave them out")
	case b.ID > 0 || b.Version > 0:
		return "", refusal(errCodeForbidden, "id and version are given by the registry: it is not in IMPORT mode")
	}
	return *b.Schema, nil
}

func readBody(w http.ResponseWriter, req *http.Request, into any) error {
	ct, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	// A page in a browser can post text or forms to a loopback port
	// without asking; it cannot post these.
	if err != nil || (ct != registryType && ct != "application/vnd.schemaregistry+json" && ct != "application/json") {
		return &RegistryError{Code: http.StatusUnsupportedMediaType, Message: "Content-Type must be " + registryType + " or application/json"}
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return refusal(errCodeTooLarge, "The request has more than %d bytes", maxBody)
	case err != nil:
		return &RegistryError{Code: http.StatusBadRequest, Message: "The request was cut short"}
	}
	if err := json.Unmarshal(b, into); err != nil {
		return &RegistryError{Code: http.StatusBadRequest, Message: "The request is not the JSON that is expected: " + err.Error()}
	}
	return nil
}

// flag reads a query parameter that is true or false.
func flag(req *http.Request, name string) bool {
	return strings.EqualFold(req.URL.Query().Get(name), "true")
}

// versionOf reads the version in the path; 0 is the latest.
func versionOf(req *http.Request) (int, error) {
	text := req.PathValue("version")
	if text == "latest" || text == "-1" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, refusal(errCodeBadVersion, "The specified version '%.20s' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"", text)
	}
	return int(n), nil
}

func idOf(req *http.Request) (uint32, error) {
	id, err := strconv.ParseUint(req.PathValue("id"), 10, 31)
	if err != nil {
		return 0, &RegistryError{Code: http.StatusNotFound, Message: "A schema id is a whole number"}
	}
	return uint32(id), nil
}
