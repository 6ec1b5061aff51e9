package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/schemas"
)

// principals says who a role is to the brokers.
func (k *KafkaConfig) principals(role schemas.Role) []string {
	p := &k.Principals
	given := map[schemas.Role][]string{
		schemas.RoleProducer: p.Producer, schemas.RoleIngest: p.Ingest, schemas.RoleAPI: p.API, schemas.RoleSeal: p.Seal,
		schemas.RoleSinkPostgres: p.SinkPostgres, schemas.RoleVerify: p.Verify, schemas.RoleOperator: p.Operator,
	}[role]
	if len(given) == 0 {
		return []string{"User:" + string(role)}
	}
	return given
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:._@=/+-"
	if strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + s + "'" // holds no quote: see checkKafka
}

// otherWriters asks the brokers who else may write what is trusted. own are the roles
// of this process, so that the name it goes by is one of theirs, whatever it is.
func (cfg *Config) otherWriters(ctx context.Context, sc stream.Config, own ...schemas.Role) ([]stream.Intrusion, error) {
	grants, err := stream.ListGrants(ctx, sc)
	if err != nil {
		return nil, err
	}
	who := func(r schemas.Role) []string {
		names := slices.Clone(cfg.Kafka.principals(r))
		if cfg.Kafka.SASL.User != "" && slices.Contains(own, r) {
			names = append(names, "User:"+cfg.Kafka.SASL.User)
		}
		return names
	}
	return stream.Intrusions(stream.Guards(cfg.Kafka.Prefix, cfg.sources(), who), grants), nil
}

// checkWriters is the look of `topics check`: problems, or why there was none.
func (cfg *Config) checkWriters(ctx context.Context, sc stream.Config) (problems []string, note string) {
	if cfg.embeddedAt != "" {
		return nil, "" // one machine: whoever may log in there is trusted
	}
	found, err := cfg.otherWriters(ctx, sc)
	switch {
	case errors.Is(err, stream.ErrNoAuthorizer):
		return []string{err.Error()}, ""
	case err != nil:
		return nil, fmt.Sprintf("who else may write sealed topics was not checked: %v", err)
	}
	for _, i := range found {
		problems = append(problems, i.String())
	}
	return problems, ""
}

// writersEvery is the time between two looks at the ACLs.
const writersEvery = time.Minute

// The warnings about the brokers' ACLs.
const (
	brokersStage     = "brokers"
	kindOtherWriters = "others_may_write"
	kindNoAuthorizer = "no_authorizer"
	kindRefused      = "refused"
)

// writersWatch looks now and then who else may write what only the seal should, as far
// as the seal's principal may know.
type writersWatch struct {
	ask    func(context.Context) ([]stream.Intrusion, error)
	alarms *stream.Alarms
	log    *slog.Logger
	every  time.Duration

	silent   bool            // it was said that the ACLs may not be seen
	standing map[string]bool // guards with a warning
}

func (w *writersWatch) run(ctx context.Context) {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *writersWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	found, err := w.ask(ctx)
	if errors.Is(err, stream.ErrMayNotAsk) {
		if !w.silent {
			w.log.InfoContext(ctx, "who else may write sealed topics cannot be checked by this role", "err", err)
		}
		w.silent = true
		return
	}
	if errors.Is(err, stream.ErrNoAuthorizer) {
		w.alarms.Raise(stream.Alarm{Stage: brokersStage, Key: "all", Kind: kindNoAuthorizer, Detail: err.Error(), Warning: true})
		return
	}
	if err != nil {
		return // brokers that do not answer are for others to say
	}
	w.alarms.Clear(brokersStage, "all", kindNoAuthorizer)
	now := map[string]string{}
	for _, i := range found {
		key := i.Guard.String()
		if now[key] != "" {
			now[key] += "; "
		}
		now[key] += i.String()
	}
	for name := range w.standing {
		if now[name] == "" {
			w.alarms.Clear(brokersStage, name, kindOtherWriters)
		}
	}
	w.standing = map[string]bool{}
	for name, detail := range now {
		w.standing[name] = true
		w.alarms.Raise(stream.Alarm{Stage: brokersStage, Key: name, Kind: kindOtherWriters, Detail: detail, Warning: true})
	}
}
