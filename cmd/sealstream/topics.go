package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sealstream/sealstream/internal/stream"
	"github.com/sealstream/sealstream/schemas"
)

func runTopics(ctx context.Context, e *env, args []string) error {
	fs := flagSet(e, "topics create|check|list|--acls [--data DIR | --config FILE]", `
create  makes the topics that are missing, and adds partitions to sealed topics whose
        source got more. Existing settings are never changed; what would lose or
        refuse evidence is named. Running it again changes nothing.
check   only looks, and exits 1 if something is missing or wrong, or somebody else may
        write what only the seal, or only the API and operators, should.
acls    prints what each role may do, as kafka-acls.sh commands. Only the seal may write
        sealed topics: whoever else could, could append a perfect next statement. The flag
        --acls does the same.
list    prints the table: name, partitions, limits, writers, readers.`)
	var t target
	t.flags(fs, e)
	asJSON := fs.Bool("json", false, "print JSON (list, acls, check)")
	acls := fs.Bool("acls", false, "print what each role may do, like topics acls")
	timeout := fs.Duration("timeout", 30*time.Second, "how long to wait for the brokers")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if *acls && len(rest) == 0 {
		rest = []string{"acls"}
	}
	if len(rest) != 1 || *acls && rest[0] != "acls" {
		return errors.New("say what to do: sealstream topics create, check, acls or list")
	}
	if err := positive("--timeout", *timeout); err != nil {
		return err
	}
	cfg, err := t.load(e)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	switch rest[0] {
	case "create":
		return createTopics(ctx, e, cfg)
	case "check":
		return checkTopics(ctx, e, cfg, *asJSON)
	case "acls":
		return printACLs(e.stdout, cfg, *asJSON)
	case "list":
		return listTopics(e.stdout, cfg, *asJSON)
	}
	return fmt.Errorf("topics %q: want create, check, acls or list", clip(rest[0]))
}

func createTopics(ctx context.Context, e *env, cfg *Config) error {
	sc, err := cfg.kafka()
	if err != nil {
		return err
	}
	rep, err := stream.EnsureTopics(ctx, sc, cfg.topics(), cfg.Kafka.Replication)
	for _, name := range rep.Created {
		_, _ = fmt.Fprintf(e.stdout, "created %s\n", name)
	}
	for _, name := range rep.Extended {
		_, _ = fmt.Fprintf(e.stdout, "added partitions to %s\n", name)
	}
	if err != nil {
		return fmt.Errorf("topics at kafka.brokers %s: %w", strings.Join(cfg.Kafka.Brokers, ","), kafkaCause(ctx, sc, &cfg.Kafka, err))
	}
	_, _ = fmt.Fprintf(e.stdout, "%d topics, %d created, %d problems\n", len(cfg.topics()), len(rep.Created), len(rep.Problems))
	return showProblems(e.stdout, rep.Problems)
}

func checkTopics(ctx context.Context, e *env, cfg *Config, asJSON bool) error {
	sc, err := cfg.kafka()
	if err != nil {
		return err
	}
	problems, err := stream.CheckTopics(ctx, sc, cfg.topics())
	if err != nil {
		return fmt.Errorf("topics at kafka.brokers %s: %w", strings.Join(cfg.Kafka.Brokers, ","), kafkaCause(ctx, sc, &cfg.Kafka, err))
	}
	more, note := cfg.checkWriters(ctx, sc)
	problems = append(problems, more...)
	if note != "" {
		_, _ = fmt.Fprintf(e.stderr, "note: %s\n", note)
	}
	if asJSON {
		if err := writeJSON(e.stdout, map[string]any{"topics": len(cfg.topics()), "problems": emptyNotNull(problems)}); err != nil {
			return err
		}
		if len(problems) > 0 {
			return errLook
		}
		return nil
	}
	_, _ = fmt.Fprintf(e.stdout, "%d topics, %d problems\n", len(cfg.topics()), len(problems))
	return showProblems(e.stdout, problems)
}

func showProblems(w io.Writer, problems []string) error {
	for _, p := range problems {
		_, _ = fmt.Fprintf(w, "problem: %s\n", p)
	}
	if len(problems) > 0 {
		return errLook
	}
	return nil
}

// roleACLs is what one role may do, and who it is to the brokers, for scripts.
type roleACLs struct {
	Principals []string  `json:"principals"`
	ACLs       []aclJSON `json:"acls"`
}

type aclJSON struct {
	Resource   string   `json:"resource"`
	Name       string   `json:"name"`
	Pattern    string   `json:"pattern"`
	Operations []string `json:"operations"`
}

// printACLs prints commands for Kafka's own tool.
func printACLs(w io.Writer, cfg *Config, asJSON bool) error {
	all := map[schemas.Role]roleACLs{}
	var b strings.Builder
	b.WriteString("# Put before each: kafka-acls.sh --bootstrap-server HOST:PORT\n")
	for _, role := range schemas.Roles() {
		acls := schemas.ACLs(cfg.Kafka.Prefix, cfg.sources(), role)
		show := roleACLs{cfg.Kafka.principals(role), make([]aclJSON, len(acls))}
		for i, a := range acls {
			show.ACLs[i] = aclJSON(a)
		}
		all[role] = show
		fmt.Fprintf(&b, "\n# role %s\n", role)
		for _, a := range acls {
			b.WriteString("--add")
			for _, p := range cfg.Kafka.principals(role) {
				fmt.Fprintf(&b, " --allow-principal %s", shellWord(p))
			}
			for _, op := range a.Operations {
				fmt.Fprintf(&b, " --operation %s", op)
			}
			if a.Resource == schemas.ResourceCluster {
				b.WriteString(" --cluster\n")
				continue
			}
			fmt.Fprintf(&b, " --%s '%s' --resource-pattern-type %s\n", a.Resource, a.Name, a.Pattern)
		}
	}
	if asJSON {
		return writeJSON(w, all)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func listTopics(w io.Writer, cfg *Config, asJSON bool) error {
	if asJSON {
		return writeJSON(w, cfg.topics())
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, "TOPIC\tPARTITIONS\tMAX MESSAGE\tRETENTION\tWRITTEN BY\tREAD BY")
	for _, t := range cfg.topics() {
		keep := "forever"
		if t.RetentionMs >= 0 {
			keep = durationText(time.Duration(t.RetentionMs) * time.Millisecond)
		}
		_, _ = fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%s\t%s\n", t.Name, t.Partitions, t.MaxMessageBytes, keep, roles(t.Writers), roles(t.Readers))
	}
	return tw.Flush()
}

func roles(rs []schemas.Role) string {
	names := make([]string, len(rs))
	for i, r := range rs {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// emptyNotNull makes a missing list an empty one, for readers of the JSON.
func emptyNotNull[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
