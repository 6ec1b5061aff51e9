package schemas

import "slices"

// Names of consumer groups and transactional ids, without the configured prefix. A
// seal's transactional ids are TransactionSeal followed by its slot.
const (
	GroupSeal       = "seal"
	GroupPostgres   = "sink-postgres"
	TransactionSeal = "seal-"
)

// The words of Kafka's ACL tools that the table uses.
const (
	ResourceTopic   = "topic"
	ResourceGroup   = "group"
	ResourceTxn     = "transactional-id"
	ResourceCluster = "cluster"
	ClusterName     = "kafka-cluster"
	PatternLiteral  = "literal"
	PatternPrefixed = "prefixed"
)

// ACL is one thing a role is allowed to do, in the words of Kafka's own tools.
type ACL struct {
	Resource   string   // topic, group, transactional-id or cluster
	Name       string   // with prefix
	Pattern    string   // literal or prefixed
	Operations []string // in alphabetical order
}

// ACLs returns everything a role needs on a cluster and nothing more; nil for a role
// that does not exist. Whatever is not listed is to be denied: on the sealed topics
// above all, where only the seal may write.
func ACLs(prefix string, sources []Source, role Role) []ACL {
	if !slices.Contains(Roles(), role) {
		return nil
	}
	var out []ACL
	for _, t := range Topics(prefix, sources) {
		if ops := topicOperations(t, role); len(ops) > 0 {
			out = append(out, ACL{Resource: ResourceTopic, Name: t.Name, Pattern: PatternLiteral, Operations: ops})
		}
	}
	switch role {
	case RoleSeal:
		out = append(out,
			ACL{ResourceGroup, prefix + GroupSeal, PatternLiteral, []string{"Describe", "Read"}},
			ACL{ResourceTxn, prefix + TransactionSeal, PatternPrefixed, []string{"Describe", "Write"}})
	case RoleSinkPostgres:
		out = append(out, ACL{ResourceGroup, prefix + GroupPostgres, PatternLiteral, []string{"Describe", "Read"}})
	case RoleOperator:
		out = append(out,
			ACL{ResourceGroup, prefix, PatternPrefixed, []string{"Describe"}},
			ACL{ResourceCluster, ClusterName, PatternLiteral, []string{"Create", "Describe"}})
	case RoleProducer, RoleAPI, RoleVerify:
	}
	return out
}

// topicOperations lists what a role may do with a topic, sorted.
func topicOperations(t Topic, role Role) []string {
	var ops []string
	if slices.Contains(t.Writers, role) {
		ops = append(ops, "Describe", "Write")
	}
	if slices.Contains(t.Readers, role) {
		ops = append(ops, "Describe", "DescribeConfigs", "Read")
	}
	if role == RoleOperator {
		ops = append(ops, "Alter", "AlterConfigs", "Describe", "DescribeConfigs")
	}
	slices.Sort(ops)
	return slices.Compact(ops)
}
