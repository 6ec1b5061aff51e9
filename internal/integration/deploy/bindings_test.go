//go:build integration

package deploy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/schemas"
)

// printed are the ACLs that `sealstream topics --acls` prints, one operation each.
func (in *install) printed() []binding {
	in.t.Helper()
	res := in.must(schemas.RoleOperator, 0, "--allow-principal", "topics", "--acls")
	var out []binding
	for line := range strings.Lines(res.Stdout) {
		out = append(out, parseLine(in.t, strings.Fields(line))...)
	}
	if len(out) == 0 {
		in.t.Fatalf("no ACL in:\n%s", res.Stdout)
	}
	return out
}

// binding is one ACL of one operation.
type binding struct {
	principal string
	kind      kmsg.ACLResourceType
	name      string
	pattern   kmsg.ACLResourcePatternType
	op        kmsg.ACLOperation
}

func (b binding) String() string {
	return fmt.Sprintf("%s %v %v %s (%v)", b.principal, b.op, b.kind, b.name, b.pattern)
}

// parseLine reads one line for kafka-acls.sh.
func parseLine(t *testing.T, f []string) []binding {
	t.Helper()
	if len(f) == 0 || f[0] == "#" {
		return nil
	}
	b := binding{pattern: kmsg.ACLResourcePatternTypeLiteral}
	var ops []kmsg.ACLOperation
	for i := 0; i < len(f); i++ {
		value := func() string { i++; return strings.Trim(f[i], "'") }
		switch f[i] {
		case "--add":
		case "--allow-principal":
			b.principal = value()
		case "--operation":
			op, err := kmsg.ParseACLOperation(value())
			if err != nil {
				t.Fatal(err)
			}
			ops = append(ops, op)
		case "--cluster":
			b.kind, b.name = kmsg.ACLResourceTypeCluster, schemas.ClusterName
		case "--topic":
			b.kind, b.name = kmsg.ACLResourceTypeTopic, value()
		case "--group":
			b.kind, b.name = kmsg.ACLResourceTypeGroup, value()
		case "--transactional-id":
			b.kind, b.name = kmsg.ACLResourceTypeTransactionalId, value()
		case "--resource-pattern-type":
			p, err := kmsg.ParseACLResourcePatternType(value())
			if err != nil {
				t.Fatal(err)
			}
			b.pattern = p
		default:
			t.Fatalf("a printed line has %q", f[i])
		}
	}
	out := make([]binding, len(ops))
	for i, op := range ops {
		out[i] = b
		out[i].op = op
	}
	return out
}

func (in *install) grant(bs ...binding) {
	in.t.Helper()
	req := kmsg.NewPtrCreateACLsRequest()
	for _, b := range bs {
		c := kmsg.NewCreateACLsRequestCreation()
		c.ResourceType, c.ResourceName, c.ResourcePatternType = b.kind, b.name, b.pattern
		c.Principal, c.Host, c.Operation, c.PermissionType = b.principal, "*", b.op, kmsg.ACLPermissionTypeAllow
		req.Creations = append(req.Creations, c)
	}
	resp, err := req.RequestWith(in.t.Context(), in.cl)
	if err != nil {
		in.t.Fatal(err)
	}
	for i, r := range resp.Results {
		if r.ErrorCode != 0 {
			in.t.Fatalf("grant %v: error code %d", bs[i], r.ErrorCode)
		}
	}
	in.until("wait for the ACLs to hold", func() bool {
		return !slices.ContainsFunc(bs, func(b binding) bool { return !in.holds(b) })
	})
}

func (in *install) revoke(b binding) {
	in.t.Helper()
	req := kmsg.NewPtrDeleteACLsRequest()
	f := kmsg.NewDeleteACLsRequestFilter()
	f.ResourceType, f.ResourceName, f.ResourcePatternType = b.kind, &b.name, b.pattern
	f.Principal, f.Operation, f.PermissionType = &b.principal, b.op, kmsg.ACLPermissionTypeAllow
	req.Filters = append(req.Filters, f)
	resp, err := req.RequestWith(in.t.Context(), in.cl)
	if err != nil {
		in.t.Fatal(err)
	}
	if len(resp.Results) != 1 || len(resp.Results[0].MatchingACLs) != 1 {
		in.t.Fatalf("revoke %v: %+v", b, resp.Results)
	}
	in.until("wait for the ACL to be gone", func() bool { return !in.holds(b) })
}

// holds asks whether the broker has an ACL: it answers a change before it follows it.
func (in *install) holds(b binding) bool {
	in.t.Helper()
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourceName, req.ResourcePatternType = b.kind, &b.name, b.pattern
	req.Principal, req.Operation, req.PermissionType = &b.principal, b.op, kmsg.ACLPermissionTypeAllow
	resp, err := req.RequestWith(in.t.Context(), in.cl)
	if err != nil {
		in.t.Fatal(err)
	}
	return len(resp.Resources) == 1
}
