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

// The operations that the table grants. Read, Write and Alter each imply Describe, so
// that word stands only where nothing implies it.
const (
	OpRead            = "Read"
	OpWrite           = "Write"
	OpCreate          = "Create"
	OpAlter           = "Alter"
	OpDescribe        = "Describe"
	OpDescribeConfigs = "DescribeConfigs"
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
//
// No role may change settings or delete: who mends a topic's settings does it as the
// administrator of the cluster. The operator may ask for ACLs (Describe on the cluster),
// so that `topics check` can say who else may write; the seal may not.
func ACLs(prefix string, sources []Source, role Role) []ACL {
	if !slices.Contains(Roles(), role) {
		return nil
	}
	var out []ACL
	for _, t := range Topics(prefix, sources) {
		if ops := t.Operations(role); len(ops) > 0 {
			out = append(out, ACL{Resource: ResourceTopic, Name: t.Name, Pattern: PatternLiteral, Operations: ops})
		}
	}
	switch role {
	case RoleSeal:
		out = append(out,
			ACL{ResourceGroup, prefix + GroupSeal, PatternLiteral, []string{OpRead}},
			// Write lets a seal end the transactions of a member that is gone.
			ACL{ResourceTxn, prefix + TransactionSeal, PatternPrefixed, []string{OpWrite}})
	case RoleSinkPostgres:
		out = append(out, ACL{ResourceGroup, prefix + GroupPostgres, PatternLiteral, []string{OpRead}})
	case RoleOperator:
		out = append(out, ACL{ResourceCluster, ClusterName, PatternLiteral, []string{OpDescribe}})
	case RoleProducer, RoleIngest, RoleAPI, RoleVerify:
	}
	return out
}

// Operations lists what a role may do with the topic, sorted.
func (t Topic) Operations(role Role) []string {
	var ops []string
	reads := slices.Contains(t.Readers, role)
	if slices.Contains(t.Writers, role) {
		ops = append(ops, OpWrite)
	}
	if reads {
		ops = append(ops, OpRead)
	}
	switch role {
	case RoleSeal: // it refuses to start on topics that would lose evidence
		if reads {
			ops = append(ops, OpDescribeConfigs)
		}
	case RoleOperator: // makes topics, adds partitions to sealed ones, checks all
		ops = append(ops, OpCreate, OpDescribe, OpDescribeConfigs)
		if t.Sealed() {
			ops = append(ops, OpAlter)
		}
		if len(ops) > 3 {
			ops = slices.DeleteFunc(ops, func(op string) bool { return op == OpDescribe }) // implied
		}
	case RoleProducer, RoleIngest, RoleAPI, RoleSinkPostgres, RoleVerify:
	}
	slices.Sort(ops)
	return slices.Compact(ops)
}

// Known returns the topics of a table that one of the roles can see at all, and the
// names of those whose settings it may read.
func Known(table []Topic, roles ...Role) (seen []Topic, settings map[string]bool) {
	settings = map[string]bool{}
	for _, t := range table {
		var ops []string
		for _, r := range roles {
			ops = append(ops, t.Operations(r)...)
		}
		if len(ops) > 0 {
			seen = append(seen, t)
			settings[t.Name] = slices.Contains(ops, OpDescribeConfigs)
		}
	}
	return seen, settings
}
