package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/schemas"
)

// Grant is one ACL as the brokers have it.
type Grant struct {
	Deny      bool
	Principal string // "User:*" is everyone
	Host      string // "*" is everywhere
	Resource  kmsg.ACLResourceType
	Name      string // literal "*" is every resource of the type
	Prefixed  bool
	Operation kmsg.ACLOperation
}

const (
	everyone   = "User:*"
	everywhere = "*"
)

// Guard is something that only some principals may touch: a topic, a group, the cluster,
// or every transactional id that begins with Name.
type Guard struct {
	Resource kmsg.ACLResourceType
	Name     string
	Prefixed bool
	May      map[kmsg.ACLOperation][]string // who may, for each operation that is guarded
}

// Guards lists what is trusted, and what could take it away: sealed topics, the control
// topic and the rejects, the seal's group and transactional ids, and the cluster. Who may
// is what [schemas.ACLs] gives; who names the principals of a role. On the cluster that is
// whoever has a place there at all: brokers and administrators stand in no table, and an
// installation names them as operators.
func Guards(prefix string, sources []schemas.Source, who func(schemas.Role) []string) []Guard {
	var out []Guard
	for _, t := range schemas.Topics(prefix, sources) {
		if slices.Contains(t.Writers, schemas.RoleProducer) {
			continue // anybody's, by the installation's own choice
		}
		out = append(out, guardOf(kmsg.ACLResourceTypeTopic, t.Name,
			kmsg.ACLOperationWrite, kmsg.ACLOperationDelete, kmsg.ACLOperationAlter, kmsg.ACLOperationAlterConfigs))
	}
	txn := guardOf(kmsg.ACLResourceTypeTransactionalId, prefix+schemas.TransactionSeal, kmsg.ACLOperationWrite)
	txn.Prefixed = true
	cluster := guardOf(kmsg.ACLResourceTypeCluster, schemas.ClusterName,
		kmsg.ACLOperationAlter, kmsg.ACLOperationAlterConfigs, kmsg.ACLOperationClusterAction)
	out = append(out, txn, guardOf(kmsg.ACLResourceTypeGroup, prefix+schemas.GroupSeal, kmsg.ACLOperationRead, kmsg.ACLOperationDelete), cluster)
	for _, role := range schemas.Roles() {
		for _, a := range schemas.ACLs(prefix, sources, role) {
			for _, g := range out {
				g.give(a, who(role))
			}
		}
	}
	return out
}

func guardOf(kind kmsg.ACLResourceType, name string, ops ...kmsg.ACLOperation) Guard {
	g := Guard{Resource: kind, Name: name, May: map[kmsg.ACLOperation][]string{}}
	for _, op := range ops {
		g.May[op] = nil
	}
	return g
}

// give lets principals do what the table gives them.
func (g Guard) give(a schemas.ACL, principals []string) {
	if a.Resource != resourceName(g.Resource) || a.Name != g.Name || (a.Pattern == schemas.PatternPrefixed) != g.Prefixed {
		return
	}
	for op := range g.May {
		if g.Resource == kmsg.ACLResourceTypeCluster || slices.Contains(a.Operations, operationName(op)) {
			g.May[op] = append(g.May[op], principals...)
		}
	}
}

// opens lists the guarded operations that one ACL entry names.
func (g Guard) opens(op kmsg.ACLOperation) []kmsg.ACLOperation {
	if op == kmsg.ACLOperationAll {
		return slices.Sorted(maps.Keys(g.May))
	}
	if _, ok := g.May[op]; ok {
		return []kmsg.ACLOperation{op}
	}
	return nil
}

// String names what is guarded, for people and as the key of an alarm.
func (g Guard) String() string {
	switch {
	case g.Resource == kmsg.ACLResourceTypeTopic:
		return g.Name
	case g.Resource == kmsg.ACLResourceTypeCluster:
		return "the cluster"
	case g.Prefixed:
		return "the " + resourceName(g.Resource) + "s " + g.Name + "*"
	}
	return "the " + resourceName(g.Resource) + " " + g.Name
}

// Intrusion is one ACL by which a principal may do what it should not.
type Intrusion struct {
	Guard      Guard
	Grant      Grant               // by which it may
	Operations []kmsg.ACLOperation // of those that are guarded
}

func (i Intrusion) String() string {
	var ops, should []string
	for _, op := range i.Operations {
		ops = append(ops, operationName(op))
		if may := i.Guard.May[op]; len(may) > 0 {
			should = append(should, fmt.Sprintf("%s (%s)", strings.Join(may, ", "), operationName(op)))
		}
	}
	only := "nobody"
	if len(should) > 0 {
		only = "only " + strings.Join(should, ", ")
	}
	who := i.Grant.Principal
	if who == everyone {
		who = "everyone (User:*)"
	}
	return fmt.Sprintf("%s may %s %s, which %s should: remove the ACL with kafka-acls.sh --bootstrap-server HOST:PORT %s, or name the principal in kafka.principals",
		who, strings.Join(ops, ", "), i.Guard, only, i.Grant.removal())
}

// removal are the arguments of Kafka's own tool that take the ACL away.
func (a Grant) removal() string {
	args := fmt.Sprintf("--remove --allow-principal %s --allow-host %s --operation %s", quote(a.Principal), quote(a.Host), operationName(a.Operation))
	pattern := schemas.PatternLiteral
	if a.Prefixed {
		pattern = schemas.PatternPrefixed
	}
	if a.Resource == kmsg.ACLResourceTypeCluster {
		return args + " --cluster --resource-pattern-type " + pattern
	}
	return fmt.Sprintf("%s --%s %s --resource-pattern-type %s", args, resourceName(a.Resource), quote(a.Name), pattern)
}

// quote makes one word for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// operationName is the word of Kafka's tool.
func operationName(op kmsg.ACLOperation) string {
	switch op {
	case kmsg.ACLOperationAll:
		return "All"
	case kmsg.ACLOperationRead:
		return schemas.OpRead
	case kmsg.ACLOperationWrite:
		return schemas.OpWrite
	case kmsg.ACLOperationDelete:
		return "Delete"
	case kmsg.ACLOperationAlter:
		return schemas.OpAlter
	case kmsg.ACLOperationAlterConfigs:
		return "AlterConfigs"
	case kmsg.ACLOperationClusterAction:
		return "ClusterAction"
	}
	return op.String()
}

func resourceName(r kmsg.ACLResourceType) string {
	switch r {
	case kmsg.ACLResourceTypeTopic:
		return schemas.ResourceTopic
	case kmsg.ACLResourceTypeGroup:
		return schemas.ResourceGroup
	case kmsg.ACLResourceTypeTransactionalId:
		return schemas.ResourceTxn
	case kmsg.ACLResourceTypeCluster:
		return schemas.ResourceCluster
	}
	return r.String()
}

// Intrusions finds every grant that lets a principal do what a guard does not give it, in
// the order of guards and grants. A denial counts only where it surely covers everything
// that the grant opens: rather a warning too many than one too few. Super users of the
// brokers are in no ACL and cannot be seen.
func Intrusions(guards []Guard, grants []Grant) []Intrusion {
	var out []Intrusion
	for _, g := range guards {
		for _, a := range grants {
			if a.Deny || !a.touches(g) {
				continue
			}
			var ops []kmsg.ACLOperation
			for _, op := range g.opens(a.Operation) {
				if slices.Contains(g.May[op], a.Principal) {
					continue
				}
				denied := slices.ContainsFunc(grants, func(d Grant) bool { return d.Deny && d.names(op) && d.covers(g, a) })
				if !denied {
					ops = append(ops, op)
				}
			}
			if len(ops) > 0 {
				out = append(out, Intrusion{Guard: g, Grant: a, Operations: ops})
			}
		}
	}
	return out
}

// names says whether the entry is about op.
func (a Grant) names(op kmsg.ACLOperation) bool {
	return a.Operation == op || a.Operation == kmsg.ACLOperationAll
}

// touches says whether a names some resource that g guards.
func (a Grant) touches(g Guard) bool {
	switch {
	case a.Resource != g.Resource:
		return false
	case a.Prefixed:
		return strings.HasPrefix(g.Name, a.Name) || g.Prefixed && strings.HasPrefix(a.Name, g.Name)
	case a.Name == everywhere:
		return true
	case g.Prefixed:
		return strings.HasPrefix(a.Name, g.Name)
	}
	return a.Name == g.Name
}

// covers says whether the denial d takes away all that a opens of g.
func (d Grant) covers(g Guard, a Grant) bool {
	if d.Resource != g.Resource ||
		d.Principal != everyone && d.Principal != a.Principal ||
		d.Host != everywhere && d.Host != a.Host {
		return false
	}
	switch {
	case d.Prefixed:
		return strings.HasPrefix(g.Name, d.Name) || g.Prefixed && strings.HasPrefix(a.Name, d.Name)
	case d.Name == everywhere:
		return true
	case g.Prefixed: // one id of many: it covers a grant of that id alone
		return !a.Prefixed && a.Name == d.Name
	}
	return d.Name == g.Name
}

// ErrNoAuthorizer means that the brokers keep no ACLs: everybody may write everything.
var ErrNoAuthorizer = errors.New("the brokers have no authorizer: whoever reaches them may write sealed topics and ledger.control: set authorizer.class.name, and the ACLs that sealstream topics --acls prints")

// ErrMayNotAsk means that our principal may not see ACLs.
var ErrMayNotAsk = errors.New("this principal may not see the ACLs of the brokers (Describe on the cluster): run sealstream topics check as the operator")

// ListGrants asks the brokers for all ACLs.
func ListGrants(ctx context.Context, c Config) ([]Grant, error) {
	cl, err := kgo.NewClient(append(c.Opts(), quickRetries()...)...)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	req.Operation, req.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("ask for ACLs: %w", err)
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case errors.Is(err, kerr.SecurityDisabled):
		return nil, ErrNoAuthorizer
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return nil, ErrMayNotAsk
	case err != nil:
		return nil, fmt.Errorf("ask for ACLs: %w", err)
	}
	var out []Grant
	for _, r := range resp.Resources {
		for _, a := range r.ACLs {
			out = append(out, Grant{Deny: a.PermissionType == kmsg.ACLPermissionTypeDeny, Principal: a.Principal, Host: a.Host,
				Resource: r.ResourceType, Name: r.ResourceName, Prefixed: r.ResourcePatternType == kmsg.ACLResourcePatternTypePrefixed, Operation: a.Operation})
		}
	}
	return out, nil
}
