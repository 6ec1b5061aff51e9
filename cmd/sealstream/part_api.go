package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealstream/sealstream/api"
	"github.com/sealstream/sealstream/api/auth"
	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/producers"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// apiPart is what the API needs beside the runtime.
type apiPart struct {
	cfg       APIConfig
	whole     *Config                // for what verifications need
	readerURL string                 // holds a password, so it is never logged
	again     func() (string, error) // reads it anew
	resolver  schemas.Resolver
	producer  *producers.Producer
	keyer     *producers.Keyer
	metrics   *prometheus.Registry
	listening func(net.Addr)
	checks    []check
}

// check is one part that /readyz looks at.
type check struct {
	name string
	ask  func(context.Context) error
}

// runAPI answers requests until ctx ends.
func runAPI(ctx context.Context, r *runtime, p apiPart) error {
	reader, err := postgres.NewReader(ctx, postgres.ReaderOptions{URL: p.readerURL, Again: p.again, Codec: schemas.NewCodec(p.resolver)})
	if err != nil {
		return err
	}
	defer reader.Close()
	verifier, err := verifierOf(ctx, r, p.cfg)
	if err != nil {
		return err
	}
	jobs, err := newVerifyJobs(ctx, r, p.whole, reader)
	if err != nil {
		return err
	}
	l := p.cfg.Limits
	looks := &describer{codec: schemas.NewCodec(nil), keyer: p.keyer, now: time.Now}
	options := api.Options{
		Store: reader, Ingester: &ingester{r, p.producer, looks}, AccessLog: &accessLog{r, p.producer},
		Health: &health{r, append([]check{{"kafka", p.producer.Ping}, {"postgres", reader.Ping}}, p.checks...)},
		Auth:   verifier,
		Validate: func(stream string, value []byte) (string, error) {
			f, err := looks.describe(stream, "", value)
			return f.id, err
		},
		Limits: api.Limits{BodyBytes: l.BodyBytes, ItemBytes: l.ItemBytes, Items: l.Items, Rate: l.Rate, Burst: l.Burst,
			Concurrent: l.Concurrent, PerCaller: l.PerCaller, StrangerRate: l.StrangerRate, QueryTimeout: l.QueryTimeout},
		Log: r.log, Registry: p.metrics,
	}
	if jobs != nil {
		options.Verifications = jobs
	}
	handler, err := api.New(options)
	if err != nil {
		return err
	}
	return jobs.beside(ctx, p.whole, func() error {
		return api.Serve(ctx, api.ServeOptions{Addr: p.cfg.Listen, Handler: handler, CertFile: p.cfg.CertFile, KeyFile: p.cfg.KeyFile,
			Listening: p.listening, Drain: 5 * time.Second, Log: r.log})
	})
}

// verifierOf takes tokens of the configured issuers and, with a local key, our own.
func verifierOf(ctx context.Context, r *runtime, c APIConfig) (*auth.Verifier, error) {
	var issuers []auth.Issuer
	if c.LocalKeyFile != "" {
		local, err := auth.OpenLocalIssuer(c.LocalKeyFile, time.Now)
		if err != nil {
			return nil, err
		}
		i, err := local.Issuer()
		if err != nil {
			return nil, err
		}
		issuers = append(issuers, i)
	}
	for _, ic := range c.Issuers {
		var (
			keys *auth.KeySet
			err  error
		)
		if ic.JWKSFile != "" {
			keys, err = auth.KeysFromFile(ctx, ic.JWKSFile, auth.KeyOptions{Log: r.log})
		} else {
			keys, err = auth.KeysFromURL(ctx, ic.JWKSURL, auth.KeyOptions{Log: r.log})
		}
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", ic.Name, err)
		}
		issuers = append(issuers, auth.Issuer{Name: ic.Name, Audience: ic.Audience, Algorithms: ic.Algorithms, Keys: keys,
			TenantClaim: ic.TenantClaim, RolesClaim: ic.RolesClaim, Scope: ic.Scope})
	}
	return auth.NewVerifier(time.Now, issuers...)
}

// ingester makes events of a request durable.
type ingester struct {
	r        *runtime
	producer *producers.Producer
	looks    *describer
}

func (i *ingester) Ingest(ctx context.Context, q api.IngestRequest) ([]api.Placed, error) {
	base, err := streamTopic(q.Stream)
	if err != nil {
		return nil, err
	}
	topic := i.r.named(base).Name
	placed := make([]api.Placed, len(q.Items))
	msgs := make([]producers.Message, 0, len(q.Items))
	at := make([]int, 0, len(q.Items))
	for n, item := range q.Items {
		m, id, err := i.message(&q, topic, item)
		placed[n] = api.Placed{ID: id, Topic: topic, Partition: -1, Offset: -1}
		if err != nil {
			placed[n].Err = &api.ItemError{Code: "invalid", Detail: err.Error()}
			continue
		}
		msgs, at = append(msgs, m), append(at, n)
	}
	for k, res := range i.producer.Send(ctx, msgs) {
		p := &placed[at[k]]
		p.Partition, p.Offset, p.Err = res.Partition, res.Offset, res.Err
		var large *producers.TooLargeError
		if errors.As(res.Err, &large) {
			p.Err = &api.ItemError{Code: "too_large", Detail: large.Error()}
		}
	}
	return placed, nil
}

// message is the record of one event: its bytes as they were sent.
func (i *ingester) message(q *api.IngestRequest, topic string, item []byte) (producers.Message, string, error) {
	f, err := i.looks.describe(q.Stream, q.Tenant, item)
	if err != nil {
		return producers.Message{}, f.id, err
	}
	headers, err := producers.Attributes{ID: f.id, Source: "sealstream/api/" + q.Principal, Type: f.action, Time: f.time,
		Tenant: q.Tenant, ContentType: producers.ContentJSON}.Headers(nil)
	return producers.Message{Topic: topic, Key: f.key, Value: item, Headers: headers, TimeMs: q.ReceivedMs}, f.id, err
}

// accessLog keeps reads, and who asked for verifications, as events of ledger.control,
// durable before the answer.
type accessLog struct {
	r        *runtime
	producer *producers.Producer
}

func (l *accessLog) Record(ctx context.Context, a api.Access) error {
	query, err := json.Marshal(struct {
		Query     map[string]string `json:"query"`
		RequestID string            `json:"request_id"`
		ClientID  string            `json:"client_id"`
		Issuer    string            `json:"issuer"`
		TokenID   string            `json:"token_id"`
		Roles     []auth.Role       `json:"roles"`
		Address   string            `json:"address"`
		Salt      bool              `json:"salt,omitempty"`
	}{a.Query, a.RequestID, a.ClientID, a.Issuer, a.TokenID, a.Roles, a.Address, a.Salt})
	if err != nil {
		return fmt.Errorf("record access: %w", err)
	}
	act, err := newAct(a.Subject, a.Operation, "")
	if err != nil {
		return err
	}
	act.Time, act.Tenant = a.At, a.Tenant
	var e *schemas.AuditEvent
	switch a.Operation {
	case api.OpVerifyStart, api.OpVerifyCancel:
		act.Object = a.Query["verification"]
		e, err = schemas.Announce(a.Operation, act, query)
	default:
		e, err = schemas.AccessRead(act, schemas.Read{Query: a.Operation + " " + string(query), Rows: int64(a.Rows), Digest: a.Digest, Purpose: a.Purpose})
	}
	if err != nil {
		return fmt.Errorf("record access: %w", err)
	}
	m, err := controlMessage(l.r.kafka.Prefix, e, act.ID)
	if err != nil {
		return err
	}
	if _, err := record(ctx, l.producer, m); err != nil {
		return fmt.Errorf("record access: %w", err)
	}
	return nil
}

// health answers /readyz.
type health struct {
	r      *runtime
	checks []check
}

func (h *health) Ready(ctx context.Context) api.Readiness {
	var out api.Readiness
	for _, c := range h.checks {
		cctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := c.ask(cctx)
		cancel()
		res := api.Check{Name: c.name, OK: err == nil}
		if err != nil {
			res.Detail = err.Error()
		}
		out.Checks = append(out.Checks, res)
	}
	out.Alarms = alarmsOf(h.r.alarms.List())
	return out
}

func alarmsOf(in []stream.Alarm) []api.Alarm {
	out := make([]api.Alarm, len(in))
	for i, a := range in {
		out[i] = api.Alarm{Name: a.Stage + "/" + a.Kind, Detail: a.Key + ": " + a.Detail, Since: a.Since}
	}
	return out
}
