package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sealstream/sealstream/schemas"
)

// TopicsReport says what [EnsureTopics] found and did.
type TopicsReport struct {
	Created  []string
	Extended []string // sealed topics that got more partitions
	Problems []string // settings that would lose or refuse evidence, each with what to set
}

// EnsureTopics makes the topics that are missing, extends sealed topics that have
// fewer partitions than their source, and checks those that exist. It never changes
// a setting of an existing topic. replication -1 takes the broker's default.
func EnsureTopics(ctx context.Context, c Config, topics []schemas.Topic, replication int16) (TopicsReport, error) {
	cl, err := kgo.NewClient(append(c.Opts(), quickRetries()...)...)
	if err != nil {
		return TopicsReport{}, fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	var rep TopicsReport
	have, err := listTopics(ctx, cl, topics)
	if err != nil {
		return rep, err
	}
	for _, t := range topics {
		if _, ok := have[t.Name]; ok {
			continue
		}
		conf := map[string]*string{}
		for k, v := range t.Config() {
			conf[k] = kadm.StringPtr(v)
		}
		parts := t.Partitions
		if src, ok := have[t.Source]; ok && t.Sealed() {
			parts = max(parts, int32(len(src.Partitions)))
		}
		r, err := adm.CreateTopic(ctx, parts, replication, conf, t.Name)
		if err = errors.Join(err, r.Err); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return rep, fmt.Errorf("create topic %s: %w", t.Name, err)
		}
		if err == nil {
			rep.Created = append(rep.Created, t.Name)
		}
	}
	if err := awaitCreated(ctx, cl, rep.Created); err != nil {
		return rep, err
	}
	if err := extendSealed(ctx, cl, topics, &rep); err != nil {
		return rep, err
	}
	rep.Problems, err = checkTopics(ctx, cl, topics, nil)
	return rep, err
}

// awaitCreated waits until every broker knows the topics and a leader of each partition.
// A cluster answers the creation before its brokers have heard of it.
func awaitCreated(ctx context.Context, cl *kgo.Client, names []string) error {
	if len(names) == 0 {
		return nil
	}
	brokers, err := kadm.NewClient(cl).ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	for _, id := range brokers.NodeIDs() {
		for {
			missing, err := unknownTo(ctx, cl.Broker(int(id)), names)
			if err == nil && missing == "" {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait until broker %d knows topic %s: %w", id, missing, errors.Join(err, ctx.Err()))
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// unknownTo returns one of the topics that cannot be used through a broker yet.
func unknownTo(ctx context.Context, b *kgo.Broker, names []string) (string, error) {
	have, _, err := metadata(ctx, b, names...)
	if err != nil {
		return names[0], err
	}
	for _, name := range names {
		td, ok := have[name]
		if !ok || td.Err != nil || len(td.Partitions) == 0 {
			return name, nil
		}
		for _, p := range td.Partitions {
			if p.Err != nil {
				return name, nil
			}
		}
	}
	return "", nil
}

// CheckTopics only looks, at what the roles may see; without a role at everything.
func CheckTopics(ctx context.Context, c Config, topics []schemas.Topic, roles ...schemas.Role) ([]string, error) {
	cl, err := kgo.NewClient(append(c.Opts(), quickRetries()...)...)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	if len(roles) == 0 {
		return checkTopics(ctx, cl, topics, nil)
	}
	seen, settings := schemas.Known(topics, roles...)
	return checkTopics(ctx, cl, seen, settings)
}

func listTopics(ctx context.Context, cl *kgo.Client, topics []schemas.Topic) (kadm.TopicDetails, error) {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
	}
	all, _, err := metadata(ctx, cl, names...)
	if err != nil {
		return nil, err
	}
	have := kadm.TopicDetails{}
	for name, td := range all {
		if td.Err == nil {
			have[name] = td
		} else if !errors.Is(td.Err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("describe topic %s: %w", name, td.Err)
		}
	}
	return have, nil
}

func extendSealed(ctx context.Context, cl *kgo.Client, topics []schemas.Topic, rep *TopicsReport) error {
	have, err := listTopics(ctx, cl, topics)
	if err != nil {
		return err
	}
	for _, t := range topics {
		src, sealed := have[t.Source], have[t.Name]
		if !t.Sealed() || len(sealed.Partitions) >= len(src.Partitions) {
			continue
		}
		rs, err := kadm.NewClient(cl).UpdatePartitions(ctx, len(src.Partitions), t.Name)
		if err = errors.Join(err, rs.Error()); err != nil {
			return fmt.Errorf("extend %s to %d partitions: %w", t.Name, len(src.Partitions), err)
		}
		if err := awaitPartitions(ctx, cl, t.Name, len(src.Partitions)); err != nil {
			return err
		}
		rep.Extended = append(rep.Extended, t.Name)
	}
	return nil
}

// checkTopics compares only what evidence depends on. Of a topic that settings does not
// name only its being there is looked at; nil names all.
func checkTopics(ctx context.Context, cl *kgo.Client, topics []schemas.Topic, settings map[string]bool) ([]string, error) {
	have, err := listTopics(ctx, cl, topics)
	if err != nil {
		return nil, err
	}
	var names, problems []string
	byName := map[string]schemas.Topic{}
	for _, t := range topics {
		byName[t.Name] = t
		switch _, ok := have[t.Name]; {
		case ok && (settings == nil || settings[t.Name]):
			names = append(names, t.Name)
		case !ok:
			problems = append(problems, fmt.Sprintf("%s: missing: run sealstream topics create", t.Name))
		}
	}
	if settings == nil {
		problems = append(problems, narrow(have, topics)...)
	}
	if len(names) == 0 {
		return problems, nil
	}
	rcs, err := kadm.NewClient(cl).DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe topic configurations: %w", err)
	}
	for _, rc := range rcs {
		if rc.Err != nil {
			return nil, fmt.Errorf("describe configuration of %s: %w", rc.Name, rc.Err)
		}
		got := map[string]string{}
		for _, c := range rc.Configs {
			got[c.Key] = c.MaybeValue()
		}
		problems = append(problems, topicProblems(byName[rc.Name], got)...)
	}
	slices.Sort(problems)
	return problems, nil
}

// topicProblems names each setting of one topic that would lose or refuse evidence.
func topicProblems(t schemas.Topic, got map[string]string) []string {
	var out []string
	bad := func(key, want string) {
		out = append(out, fmt.Sprintf("%s: %s is %q, want %s; set it: %s", t.Name, key, got[key], want, alterTopic(t, key)))
	}
	if strings.Contains(got["cleanup.policy"], "compact") && t.Cleanup == "delete" {
		bad("cleanup.policy", "delete: compaction drops records that statements count")
	}
	if !t.Sealed() {
		return out
	}
	want := t.Config()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		switch k {
		case "retention.ms", "retention.bytes":
			if got[k] != want[k] {
				bad(k, want[k]+": the broker would delete evidence")
			}
		case "message.timestamp.type":
			if got[k] != want[k] {
				bad(k, want[k])
			}
		case "max.message.bytes", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms":
			have, err := strconv.ParseInt(got[k], 10, 64)
			least, _ := strconv.ParseInt(want[k], 10, 64)
			if got[k] != "" && (err != nil || have < least) {
				bad(k, "at least "+want[k]+": records the source takes would be refused")
			}
		}
	}
	return out
}
