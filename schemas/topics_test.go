package schemas

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTopicTable(t *testing.T) {
	topics := Topics("acme-", append(DefaultSources(), Source{Name: "billing", Partitions: 3, MaxMessageBytes: 4 << 20, RetentionMs: 1000}))
	var names []string
	byBase := map[string]Topic{}
	for _, topic := range topics {
		names = append(names, topic.Name)
		byBase[topic.Base] = topic
		if topic.Name != "acme-"+topic.Base {
			t.Errorf("%s: base %s", topic.Name, topic.Base)
		}
		if topic.Cleanup != "delete" || topic.RetentionMs == 0 || topic.RetentionBytes != Forever {
			t.Errorf("%s: %+v", topic.Name, topic)
		}
		if topic.TimestampAfterMaxMs != math.MaxInt64 || topic.TimestampBeforeMaxMs != math.MaxInt64 || topic.TimestampType != "CreateTime" {
			t.Errorf("%s refuses some timestamps", topic.Name)
		}
		if len(topic.Writers) == 0 || len(topic.Readers) == 0 || topic.Key == "" || topic.Value == "" {
			t.Errorf("%s: undocumented", topic.Name)
		}
	}
	want := []string{
		"acme-audit.events", "acme-audit.events.sealed", "acme-domain.events", "acme-domain.events.sealed",
		"acme-ledger.control", "acme-ledger.control.sealed", "acme-billing", "acme-billing.sealed", "acme-rejects",
	}
	if d := cmp.Diff(want, names); d != "" {
		t.Fatal(d)
	}
	for base, topic := range byBase {
		sealed, ok := byBase[SealedName(base)]
		if base == TopicRejects || topic.Sealed() {
			continue
		}
		if !ok || sealed.Source != topic.Name || sealed.Partitions != topic.Partitions {
			t.Errorf("%s: sealed topic %+v", base, sealed)
		}
		if sealed.MaxMessageBytes != topic.MaxMessageBytes+64<<10 {
			t.Errorf("%s: limit %d, its source %d", sealed.Name, sealed.MaxMessageBytes, topic.MaxMessageBytes)
		}
		if sealed.RetentionMs != -1 || sealed.RetentionBytes != -1 || !slices.Equal(sealed.Writers, []Role{RoleSeal}) {
			t.Errorf("%s: %+v", sealed.Name, sealed)
		}
	}
	if p := byBase[TopicAudit].Partitions; p != 12 {
		t.Errorf("audit.events has %d partitions", p)
	}
	if p := byBase[TopicControl].Partitions; p != 1 {
		t.Errorf("ledger.control has %d partitions", p)
	}
	if slices.Contains(byBase[TopicControl].Writers, RoleProducer) {
		t.Error("a foreign principal may write ledger.control")
	}
	if got, want := byBase[TopicRejects].MaxMessageBytes, int32(4<<20+64<<10); got != want {
		t.Errorf("rejects takes %d bytes, want %d: the widest source and room", got, want)
	}
}

func TestTopicConfig(t *testing.T) {
	topic := Topics("", KeepForever(DefaultSources()))[0]
	want := map[string]string{
		"cleanup.policy": "delete", "compression.type": "producer", "max.message.bytes": "1048588",
		"message.timestamp.type":          "CreateTime",
		"message.timestamp.after.max.ms":  "9223372036854775807",
		"message.timestamp.before.max.ms": "9223372036854775807",
		"retention.bytes":                 "-1", "retention.ms": "-1",
	}
	if d := cmp.Diff(want, topic.Config()); d != "" {
		t.Error(d)
	}
	if r := Topics("", DefaultSources())[0].RetentionMs; r != 30*24*3600*1000 {
		t.Errorf("without a word about it, %s is kept for %d ms", TopicAudit, r)
	}
}

// TestOnlySealMayWriteSealed names a trust root: whoever else may write a sealed topic
// can append a perfect next statement.
func TestOnlySealMayWriteSealed(t *testing.T) {
	sources := DefaultSources()
	sealed := map[string]bool{}
	for _, topic := range Topics("p.", sources) {
		sealed[topic.Name] = topic.Sealed()
	}
	for _, role := range Roles() {
		acls := ACLs("p.", sources, role)
		if len(acls) == 0 {
			t.Errorf("%s may do nothing", role)
		}
		writes := 0
		for _, a := range acls {
			if !slices.IsSorted(a.Operations) || len(a.Operations) == 0 {
				t.Errorf("%s %s: %v", role, a.Name, a.Operations)
			}
			if a.Resource == ResourceTopic && a.Pattern != PatternLiteral {
				t.Errorf("%s has a pattern over topics: %s", role, a.Name)
			}
			if a.Resource == ResourceTopic && sealed[a.Name] && slices.Contains(a.Operations, "Write") {
				writes++
			}
		}
		if role == RoleSeal && writes != len(sources) || role != RoleSeal && writes != 0 {
			t.Errorf("%s may write %d sealed topics", role, writes)
		}
	}
	if ACLs("", sources, "intruder") != nil {
		t.Error("a role that does not exist has rights")
	}
}

func TestACLsByRole(t *testing.T) {
	flat := func(role Role) map[string][]string {
		out := map[string][]string{}
		for _, a := range ACLs("p.", []Source{{Name: TopicAudit}, {Name: TopicControl, Product: true}}, role) {
			out[a.Resource+" "+a.Pattern+" "+a.Name] = a.Operations
		}
		return out
	}
	read, write := []string{"Read"}, []string{"Write"}
	look, creates := []string{"DescribeConfigs", "Read"}, []string{"Create", "Describe", "DescribeConfigs"}
	sealed := []string{"Alter", "Create", "DescribeConfigs", "Read"}
	want := map[Role]map[string][]string{
		RoleProducer: {"topic literal p.audit.events": write},
		RoleIngest:   {"topic literal p.audit.events": {"Read", "Write"}},
		RoleAPI: {
			"topic literal p.audit.events": write, "topic literal p.audit.events.sealed": read,
			"topic literal p.ledger.control": write, "topic literal p.ledger.control.sealed": read, "topic literal p.rejects": read,
		},
		RoleSeal: {
			"topic literal p.audit.events": look, "topic literal p.audit.events.sealed": {"DescribeConfigs", "Read", "Write"},
			"topic literal p.ledger.control": look, "topic literal p.ledger.control.sealed": {"DescribeConfigs", "Read", "Write"},
			"group literal p.seal": read, "transactional-id prefixed p.seal-": write,
		},
		RoleSinkPostgres: {
			"topic literal p.audit.events.sealed": read, "topic literal p.ledger.control.sealed": read,
			"topic literal p.rejects": write, "group literal p.sink-postgres": read,
		},
		RoleVerify: {
			"topic literal p.audit.events.sealed": read, "topic literal p.ledger.control.sealed": read, "topic literal p.rejects": read,
		},
		RoleOperator: {
			"topic literal p.audit.events": creates, "topic literal p.audit.events.sealed": sealed,
			"topic literal p.ledger.control":        {"Create", "DescribeConfigs", "Write"},
			"topic literal p.ledger.control.sealed": sealed, "topic literal p.rejects": {"Create", "DescribeConfigs", "Read"},
			"cluster literal kafka-cluster": {"Describe"},
		},
	}
	for _, role := range Roles() {
		if d := cmp.Diff(want[role], flat(role)); d != "" {
			t.Errorf("%s: %s", role, d)
		}
	}
}

func TestKnownTopics(t *testing.T) {
	for _, c := range []struct{ roles, seen, settings string }{
		{"seal", "audit.events audit.events.sealed ledger.control ledger.control.sealed", "audit.events audit.events.sealed ledger.control ledger.control.sealed"},
		{"sink-postgres", "audit.events.sealed ledger.control.sealed rejects", ""},
		{"producer", "audit.events", ""},
		{"operator producer", "audit.events audit.events.sealed ledger.control ledger.control.sealed rejects", "audit.events audit.events.sealed ledger.control ledger.control.sealed rejects"},
	} {
		var roles []Role
		for _, r := range strings.Fields(c.roles) {
			roles = append(roles, Role(r))
		}
		seen, settings := Known(Topics("", []Source{{Name: TopicAudit}, {Name: TopicControl, Product: true}}), roles...)
		var names, read []string
		for _, topic := range seen {
			names = append(names, topic.Name)
			if settings[topic.Name] {
				read = append(read, topic.Name)
			}
		}
		if got := strings.Join(names, " "); got != c.seen {
			t.Errorf("%s sees %s, want %s", c.roles, got, c.seen)
		}
		if got := strings.Join(read, " "); got != c.settings {
			t.Errorf("%s reads settings of %s, want %s", c.roles, got, c.settings)
		}
	}
}
