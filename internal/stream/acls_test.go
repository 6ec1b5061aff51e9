package stream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/schemas"
)

// parseGrant reads "allow User:x *|HOST topic|txn =NAME|^PREFIX OP".
func parseGrant(t *testing.T, line string) Grant {
	t.Helper()
	f := strings.Fields(line)
	if len(f) != 6 {
		t.Fatalf("grant %q", line)
	}
	op, err := kmsg.ParseACLOperation(f[5])
	if err != nil {
		t.Fatalf("grant %q: %v", line, err)
	}
	kinds := map[string]kmsg.ACLResourceType{"topic": kmsg.ACLResourceTypeTopic, "txn": kmsg.ACLResourceTypeTransactionalId,
		"group": kmsg.ACLResourceTypeGroup, "cluster": kmsg.ACLResourceTypeCluster}
	return Grant{Deny: f[0] == "deny", Principal: f[1], Host: f[2], Resource: kinds[f[3]], Prefixed: f[4][0] == '^', Name: f[4][1:], Operation: op}
}

func guardedSources() []schemas.Source {
	return []schemas.Source{{Name: schemas.TopicAudit}, {Name: schemas.TopicControl, Product: true}}
}

func guardsOf(prefix string) []Guard {
	return Guards(prefix, guardedSources(),
		func(r schemas.Role) []string { return []string{"User:" + string(r)} })
}

func TestWhoElseMayWrite(t *testing.T) {
	const (
		sealed  = "p.audit.events.sealed"
		csealed = "p.ledger.control.sealed"
		control = "p.ledger.control"
		rejects = "p.rejects"
		txn     = "p.seal-"
		group   = "p.seal"
		cluster = "kafka-cluster"
		all     = sealed + " " + control + " " + csealed + " " + rejects
	)
	for _, c := range []struct{ name, grants, want string }{
		{"as printed", "allow User:seal * topic =p.audit.events.sealed write; allow User:api * topic =p.ledger.control write; allow User:operator * topic =p.ledger.control write; allow User:sink-postgres * topic =p.rejects write; allow User:seal * txn ^p.seal- write", ""},
		{"sources are anybody's", "allow User:x * topic =p.audit.events write; allow User:* * topic =p.audit.events all", ""},
		{"reading is fine", "allow User:x * topic ^p. read; allow User:x * topic ^p. describe", ""},
		{"literal", "allow User:x * topic =p.audit.events.sealed write", sealed},
		{"the other role", "allow User:api * topic =p.audit.events.sealed write; allow User:seal * topic =p.ledger.control write", sealed + " " + control},
		{"prefixed", "allow User:x * topic ^p.audit write", sealed},
		{"prefixed by one letter", "allow User:x * topic ^p all", all},
		{"prefix that is the name", "allow User:x * topic ^p.audit.events.sealed write", sealed},
		{"prefix longer than the name", "allow User:x * topic ^p.audit.events.sealed2 write", ""},
		{"another prefix", "allow User:x * topic ^q. write", ""},
		{"wildcard", "allow User:x * topic =* write", all},
		{"a literal star is no prefix", "allow User:x * topic ^* write", ""},
		{"everyone", "allow User:* * topic =p.ledger.control write", control},
		{"from one host only", "allow User:x 10.0.0.1 topic =p.ledger.control write", control},
		{"another kind of resource", "allow User:x * group =p.audit.events.sealed write", ""},
		{"another kind of principal", "allow Group:admins * topic =p.rejects all", rejects},
		{"transactional id", "allow User:x * txn =p.seal-1 write", txn},
		{"transactional ids, wider", "allow User:x * txn ^p. write", txn},
		{"transactional ids, narrower", "allow User:x * txn ^p.seal-2 all", txn},
		{"all transactional ids", "allow User:x * txn =* write", txn},
		{"somebody else's transactional ids", "allow User:x * txn ^p.other- write; allow User:x * txn =p.sea write", ""},

		{"deleting", "allow User:x * topic =p.audit.events.sealed delete", sealed},
		{"deleting, by the seal itself", "allow User:seal * topic =p.audit.events.sealed delete", sealed},
		{"deleting a source", "allow User:x * topic =p.audit.events delete", ""},
		{"altering, as printed", "allow User:operator * topic =p.audit.events.sealed alter", ""},
		{"altering by others, and where nobody should", "allow User:x * topic =p.audit.events.sealed alter; allow User:operator * topic =p.ledger.control alter", sealed + " " + control},
		{"altering settings", "allow User:operator * topic ^p. alter_configs", all},
		{"the group, as printed", "allow User:seal * group =p.seal read", ""},
		{"the group of others", "allow User:x * group =p.sealer read; allow User:x * group =p.sink-postgres read", ""},
		{"the group by others", "allow User:x * group =* read", group},
		{"describing the group", "allow User:x * group =p.seal describe", ""},
		{"deleting the group", "allow User:seal * group ^p. delete", group},
		{"rights of others", "allow User:x * cluster =kafka-cluster alter", cluster},
		{"settings of brokers", "allow User:x * cluster =kafka-cluster alter_configs", cluster},
		{"acting as a broker", "allow User:x * cluster =kafka-cluster cluster_action", cluster},
		{"all of the cluster", "allow User:x * cluster =kafka-cluster all", cluster},
		{"operators of the cluster", "allow User:operator * cluster =kafka-cluster all; allow User:operator * cluster =kafka-cluster describe", ""},
		{"harmless on the cluster", "allow User:x * cluster =kafka-cluster describe; allow User:x * cluster =kafka-cluster create; allow User:x * cluster =kafka-cluster idempotent_write", ""},
		{"all granted, only writing and altering denied", "allow User:x * topic =p.rejects all; deny User:x * topic =p.rejects write; deny User:x * topic =p.rejects alter", rejects},
		{"all granted, all that is guarded denied", "allow User:x * topic =p.rejects all; deny User:x * topic =p.rejects write; deny User:x * topic =p.rejects alter; deny User:x * topic ^p alter_configs; deny User:* * topic =* delete", ""},

		{"denied as granted", "allow User:x * topic =p.rejects write; deny User:x * topic =p.rejects write", ""},
		{"denied by all operations", "allow User:x * topic =p.rejects write; deny User:x * topic =p.rejects all", ""},
		{"denied to everyone", "allow User:x * topic ^p. write; deny User:* * topic =* write", ""},
		{"one topic denied of many", "allow User:x * topic ^p. write; deny User:x * topic =p.rejects write", sealed + " " + control + " " + csealed},
		{"denied by prefix", "allow User:x * topic =* write; deny User:x * topic ^p. all", ""},
		{"only reading denied", "allow User:x * topic =p.rejects all; deny User:x * topic =p.rejects read", rejects},
		{"denied to another", "allow User:x * topic =p.rejects write; deny User:y * topic =p.rejects write", rejects},
		{"granted to everyone, denied to one", "allow User:* * topic =p.rejects write; deny User:x * topic =p.rejects write", rejects},
		{"denied from one host", "allow User:x * topic =p.rejects write; deny User:x 10.0.0.1 topic =p.rejects write", rejects},
		{"granted and denied from one host", "allow User:x 10.0.0.1 topic =p.rejects write; deny User:x 10.0.0.1 topic =p.rejects write", ""},
		{"granted from one host, denied from all", "allow User:x 10.0.0.1 topic =p.rejects write; deny User:x * topic =p.rejects write", ""},
		{"one of two ids denied", "allow User:x * txn ^p.seal- write; deny User:x * txn =p.seal-1 write", txn},
		{"the one id denied", "allow User:x * txn =p.seal-1 write; deny User:x * txn =p.seal-1 write", ""},
		{"ids denied by prefix", "allow User:x * txn ^p.seal-2 write; deny User:x * txn ^p.seal- write", ""},
		{"ids denied by a narrower prefix", "allow User:x * txn ^p.seal- write; deny User:x * txn ^p.seal-2 write", txn},
	} {
		t.Run(c.name, func(t *testing.T) {
			var grants []Grant
			for line := range strings.SplitSeq(c.grants, ";") {
				grants = append(grants, parseGrant(t, line))
			}
			var got []string
			for _, i := range Intrusions(guardsOf("p."), grants) {
				got = append(got, i.Guard.Name)
				for _, part := range []string{i.Guard.String(), i.Grant.Principal, operationName(i.Operations[0]), "kafka-acls.sh", "--remove", "--operation " + operationName(i.Grant.Operation)} {
					if s := i.String(); !strings.Contains(s, part) {
						t.Errorf("the warning %q does not say %q", s, part)
					}
				}
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("warned of %q, want %q", g, c.want)
			}
		})
	}
}

// Nobody is warned of what `topics --acls` prints.
func TestPrintedACLsAreNoIntrusion(t *testing.T) {
	var grants []Grant
	for _, role := range schemas.Roles() {
		for _, a := range schemas.ACLs("p.", guardedSources(), role) {
			for _, op := range a.Operations {
				o, err := kmsg.ParseACLOperation(op)
				if err != nil {
					t.Fatal(err)
				}
				r, err := kmsg.ParseACLResourceType(a.Resource)
				if err != nil {
					t.Fatal(err)
				}
				grants = append(grants, Grant{Principal: "User:" + string(role), Host: everywhere, Resource: r, Name: a.Name,
					Prefixed: a.Pattern == schemas.PatternPrefixed, Operation: o})
			}
		}
	}
	if found := Intrusions(guardsOf("p."), grants); len(found) > 0 || len(grants) < 20 {
		t.Errorf("of %d ACLs, warned of %v", len(grants), found)
	}
	for i := range grants { // the same rights in other hands
		grants[i].Principal = "User:x"
	}
	if found := Intrusions(guardsOf("p."), grants); len(found) < 7 {
		t.Errorf("warned only of %v", found)
	}
}

func TestIntrusionSaysHowToEndIt(t *testing.T) {
	grant := parseGrant(t, "allow User:x h1 group ^p. read")
	grant.Principal = "User:CN=it's me, O=x"
	got := Intrusions(guardsOf("p."), []Grant{grant, parseGrant(t, "allow User:* * cluster =kafka-cluster all"), parseGrant(t, "allow User:x * topic =p.rejects delete")})
	want := []string{
		`User:x may Delete p.rejects, which nobody should: remove the ACL with kafka-acls.sh --bootstrap-server HOST:PORT --remove --allow-principal 'User:x' --allow-host '*' --operation Delete --topic 'p.rejects' --resource-pattern-type literal, or name the principal in kafka.principals`,
		`User:CN=it's me, O=x may Read the group p.seal, which only User:seal (Read) should: remove the ACL with kafka-acls.sh --bootstrap-server HOST:PORT --remove --allow-principal 'User:CN=it'\''s me, O=x' --allow-host 'h1' --operation Read --group 'p.' --resource-pattern-type prefixed, or name the principal in kafka.principals`,
		`everyone (User:*) may Alter, ClusterAction, AlterConfigs the cluster, which only User:operator (Alter), User:operator (ClusterAction), User:operator (AlterConfigs) should: remove the ACL with kafka-acls.sh --bootstrap-server HOST:PORT --remove --allow-principal 'User:*' --allow-host '*' --operation All --cluster --resource-pattern-type literal, or name the principal in kafka.principals`,
	}
	if len(got) != len(want) {
		t.Fatalf("%d warnings: %v", len(got), got)
	}
	for i := range want {
		if got[i].String() != want[i] {
			t.Errorf("got  %s\nwant %s", got[i], want[i])
		}
	}
}

// allowed is the authorizer of the brokers, in the simplest words: may principal do op to
// the resource from host?
func allowed(grants []Grant, q question) bool {
	yes := false
	for _, g := range grants {
		fits := g.Resource == q.kind && (g.Principal == everyone || g.Principal == q.who) && (g.Host == everywhere || g.Host == q.host) &&
			(g.Prefixed && strings.HasPrefix(q.name, g.Name) || !g.Prefixed && (g.Name == "*" || g.Name == q.name)) &&
			(g.Operation == q.op || g.Operation == kmsg.ACLOperationAll)
		if fits && g.Deny {
			return false
		}
		yes = yes || fits
	}
	return yes
}

type question struct {
	kind            kmsg.ACLResourceType
	name, who, host string
	op              kmsg.ACLOperation
}

// questions are all that can be asked about what is guarded, by those who should not.
func questions(g Guard) []question {
	names := []string{g.Name}
	if g.Prefixed {
		names = []string{g.Name + "1", g.Name + "2", g.Name + "3"}
	}
	var out []question
	for op, may := range g.May {
		for _, who := range []string{"User:x", "User:y", "User:seal", "User:operator", "User:other"} {
			for _, name := range names {
				if !slices.Contains(may, who) {
					out = append(out, question{g.Resource, name, who, "h1", op}, question{g.Resource, name, who, "h2", op})
				}
			}
		}
	}
	return out
}

// TestNobodyIntrudesUnwarned tries random ACLs against a model of the authorizer: who can do
// anything that is guarded without being named is a warning too few.
func TestNobodyIntrudesUnwarned(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	guards, found := guardsOf("p."), map[string]int{}
	for range 10_000 {
		var grants []Grant
		for range 1 + rng.IntN(4) {
			kind, name := "topic", pick("=p.rejects", "^p.", "^p.re", "=*", "=p.ledger.control", "^p.ledger.control", "=p.ledger.control.sealed")
			switch rng.IntN(6) {
			case 0, 1:
				kind, name = "txn", pick("=p.seal-1", "=p.seal-2", "^p.seal-", "^p.", "^p.seal-1", "=*", "=p.x")
			case 2:
				kind, name = "group", pick("=p.seal", "^p.", "^p.seal", "=*", "=p.sealer")
			case 3:
				kind, name = "cluster", pick("=kafka-cluster", "=*")
			}
			grants = append(grants, parseGrant(t, fmt.Sprint(pick("allow", "allow", "deny"), " ", pick("User:x", "User:y", "User:seal", "User:operator", "User:*"), " ",
				pick("*", "*", "h1"), " ", kind, " ", name, " ", pick("write", "all", "all", "read", "delete", "alter", "alter_configs", "cluster_action", "describe"))))
		}
		warned := Intrusions(guards, grants)
		for _, g := range guards {
			for _, q := range questions(g) {
				if !allowed(grants, q) {
					continue
				}
				found[resourceName(q.kind)+" "+operationName(q.op)]++
				if !namedIn(warned, g, q) {
					t.Fatalf("%+v is allowed, and nothing is said of it: %+v", q, grants)
				}
			}
		}
	}
	for _, g := range guards {
		for op := range g.May {
			if n := found[resourceName(g.Resource)+" "+operationName(op)]; n < 100 {
				t.Errorf("only %d cases where somebody may %s %s: the grants do not try enough", n, operationName(op), g)
			}
		}
	}
}

// namedIn says whether a warning names the guard, the operation and the principal, or
// everyone.
func namedIn(warned []Intrusion, g Guard, q question) bool {
	for _, w := range warned {
		if w.Guard.Name == g.Name && w.Guard.Resource == g.Resource && (w.Grant.Principal == q.who || w.Grant.Principal == everyone) && slices.Contains(w.Operations, q.op) {
			return true
		}
	}
	return false
}
