package stream

import (
	"context"
	"errors"
	"fmt"
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

// Guard is something that only some principals may write: a topic, or every
// transactional id that begins with Name.
type Guard struct {
	Resource   kmsg.ACLResourceType
	Name       string
	Prefixed   bool
	Principals []string
}

// Guards lists what the table of topics trusts: sealed topics, the control topic, the
// rejects, and the seal's transactional ids. who names the principals of a role.
func Guards(prefix string, table []schemas.Topic, who func(schemas.Role) []string) []Guard {
	var out []Guard
	for _, t := range table {
		if slices.Contains(t.Writers, schemas.RoleProducer) {
			continue // anybody's, by the installation's own choice
		}
		g := Guard{Resource: kmsg.ACLResourceTypeTopic, Name: t.Name}
		for _, r := range t.Writers {
			g.Principals = append(g.Principals, who(r)...)
		}
		out = append(out, g)
	}
	return append(out, Guard{Resource: kmsg.ACLResourceTypeTransactionalId, Name: prefix + schemas.TransactionSeal, Prefixed: true,
		Principals: who(schemas.RoleSeal)})
}

// Intrusion is one principal that may write what it should not.
type Intrusion struct {
	Guard Guard
	Grant Grant // by which it may
}

func (i Intrusion) String() string {
	what, may := "topic", i.Guard.Name
	if i.Guard.Resource == kmsg.ACLResourceTypeTransactionalId {
		what, may = "transactional-id", "the transactional ids "+i.Guard.Name+"*"
	}
	who := i.Grant.Principal
	if who == everyone {
		who = "everyone (User:*)"
	}
	pattern := schemas.PatternLiteral
	if i.Grant.Prefixed {
		pattern = schemas.PatternPrefixed
	}
	return fmt.Sprintf("%s may write %s, which only %s should: remove the ACL --allow-principal %s --allow-host %s --operation %s --%s '%s' --resource-pattern-type %s, or name the principal in kafka.principals",
		who, may, strings.Join(i.Guard.Principals, ", "), i.Grant.Principal, i.Grant.Host, operationName(i.Grant.Operation), what, i.Grant.Name, pattern)
}

func operationName(op kmsg.ACLOperation) string {
	if op == kmsg.ACLOperationAll {
		return "All"
	}
	return schemas.OpWrite
}

// Intrusions finds every grant that lets a principal write what a guard does not give
// it, in the order of guards and grants. A denial counts only where it surely covers
// everything that the grant opens: rather a warning too many than one too few. Super
// users of the brokers are in no ACL and cannot be seen.
func Intrusions(guards []Guard, grants []Grant) []Intrusion {
	var out []Intrusion
	for _, g := range guards {
		for _, a := range grants {
			if a.Deny || !a.writes() || slices.Contains(g.Principals, a.Principal) || !a.touches(g) {
				continue
			}
			denied := slices.ContainsFunc(grants, func(d Grant) bool { return d.Deny && d.writes() && d.covers(g, a) })
			if !denied {
				out = append(out, Intrusion{Guard: g, Grant: a})
			}
		}
	}
	return out
}

func (a Grant) writes() bool {
	return a.Operation == kmsg.ACLOperationWrite || a.Operation == kmsg.ACLOperationAll
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
	if d.Operation != kmsg.ACLOperationAll && d.Operation != kmsg.ACLOperationWrite {
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

// ListGrants asks the brokers for all ACLs of topics and transactional ids.
func ListGrants(ctx context.Context, c Config) ([]Grant, error) {
	cl, err := kgo.NewClient(append(c.Opts(), quickRetries()...)...)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	var out []Grant
	for _, kind := range []kmsg.ACLResourceType{kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeTransactionalId} {
		req := kmsg.NewPtrDescribeACLsRequest()
		req.ResourceType, req.ResourcePatternType = kind, kmsg.ACLResourcePatternTypeAny
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
		for _, r := range resp.Resources {
			for _, a := range r.ACLs {
				out = append(out, Grant{Deny: a.PermissionType == kmsg.ACLPermissionTypeDeny, Principal: a.Principal, Host: a.Host,
					Resource: r.ResourceType, Name: r.ResourceName, Prefixed: r.ResourcePatternType == kmsg.ACLResourcePatternTypePrefixed, Operation: a.Operation})
			}
		}
	}
	return out, nil
}
