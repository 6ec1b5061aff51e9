package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/sealstream/sealstream/internal/secrets"
	"github.com/sealstream/sealstream/schemas"
)

// registry resolves schema ids at a Confluent-compatible registry and remembers them:
// a schema never changes under its id.
type registry struct {
	client *sr.Client
	mu     sync.Mutex
	known  map[uint32]string
}

// maxSchemas bounds what a registry client remembers: ids come from record values, and
// an installation with more schemas than that asks again.
const maxSchemas = 10_000

// resolver returns what explains Avro values; nil, with no registry configured,
// explains none.
func (cfg *Config) resolver() (schemas.Resolver, error) {
	r := cfg.Registry
	if r.URL == "" {
		return nil, nil
	}
	client := &http.Client{Timeout: 10 * time.Second}
	opts := []sr.ClientOpt{sr.URLs(r.URL), sr.UserAgent("sealstream")}
	if r.CAFile != "" {
		t, err := clientTLS("registry", TLSConfig{CAFile: r.CAFile})
		if err != nil {
			return nil, err
		}
		client.Transport = &http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment}
	}
	opts = append(opts, sr.HTTPClient(client))
	if r.User != "" {
		p, err := secrets.ReadText(r.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("registry.password_file: %w", err)
		}
		opts = append(opts, sr.BasicAuth(r.User, p.Reveal()))
	}
	c, err := sr.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("registry.url: %w", err)
	}
	return &registry{client: c, known: map[uint32]string{}}, nil
}

// Error codes by which a registry says that it has no such thing. Any other refusal may
// come from something on the way to it, or from a wrong address.
const (
	codeNoSubject = 40401
	codeNoVersion = 40402
	codeNoSchema  = 40403
)

// Schema implements schemas.Resolver. A schema that refers to others is returned as one
// text with the others inside it.
func (r *registry) Schema(ctx context.Context, id uint32) (string, error) {
	r.mu.Lock()
	text, ok := r.known[id]
	r.mu.Unlock()
	if ok {
		return text, nil
	}
	// Registries count in positive 32-bit numbers and answer others each in their own
	// way, some as if the path were wrong. A value that is no Avro at all may name any.
	if id > math.MaxInt32 {
		return "", fmt.Errorf("schema %d: %w", id, schemas.ErrUnknownSchema)
	}
	s, err := r.client.SchemaByID(ctx, int(id))
	if err != nil {
		return "", missing(fmt.Sprintf("ask the schema registry for id %d", id), err)
	}
	if s.Type != sr.TypeAvro {
		return "", fmt.Errorf("schema %d is %s, not Avro: %w", id, s.Type, schemas.ErrUnknownSchema)
	}
	text = s.Schema
	if len(s.References) > 0 {
		if text, err = r.whole(ctx, s); err != nil {
			return "", fmt.Errorf("schema %d: %w", id, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxSchemas {
		clear(r.known)
	}
	r.known[id] = text
	return text, nil
}

// missing tells the answer that there is no such schema, which is final, from all that
// may be another one later.
func missing(doing string, err error) error {
	var re *sr.ResponseError
	if errors.As(err, &re) && (re.ErrorCode == codeNoSchema || re.ErrorCode == codeNoSubject || re.ErrorCode == codeNoVersion) {
		return fmt.Errorf("%s: %w", doing, schemas.ErrUnknownSchema)
	}
	if errors.As(err, &re) && re.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%s: status 404 without a registry's error code: is registry.url right? %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// maxReferences bounds what one schema may pull in.
const maxReferences = 256

// whole puts the schemas that s refers to, and those that they refer to, into its text.
// Versions are numbered, so the result is the same whenever it is asked for.
func (r *registry) whole(ctx context.Context, s sr.Schema) (string, error) {
	var named avro.SchemaCache
	done := map[sr.SchemaReference]bool{}
	var add func([]sr.SchemaReference) error
	add = func(refs []sr.SchemaReference) error {
		for _, ref := range refs {
			ref.Name = "" // says how the type is called, not which schema it is
			if done[ref] {
				continue
			}
			if done[ref] = true; len(done) > maxReferences {
				return fmt.Errorf("it refers to more than %d others: %w", maxReferences, schemas.ErrUnknownSchema)
			}
			// A version that was deleted in the meantime still explains what was written.
			got, err := r.client.SchemaByVersion(sr.WithParams(ctx, sr.ShowDeleted), ref.Subject, ref.Version)
			if err != nil {
				return missing(fmt.Sprintf("ask the schema registry for version %d of a subject it refers to", ref.Version), err)
			}
			if err := add(got.References); err != nil {
				return err
			}
			// One that cannot be read leaves its name without a meaning; then the schema
			// as a whole cannot be read, and that is said of it.
			_, _ = named.Parse(got.Schema.Schema)
		}
		return nil
	}
	if err := add(s.References); err != nil {
		return "", err
	}
	parsed, err := named.Parse(s.Schema)
	if err != nil {
		return s.Schema, nil
	}
	return parsed.String(), nil
}
