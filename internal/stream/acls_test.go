package stream

import (
	"fmt"
	"math/rand/v2"
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
	ops := map[string]kmsg.ACLOperation{"write": kmsg.ACLOperationWrite, "all": kmsg.ACLOperationAll, "read": kmsg.ACLOperationRead, "describe": kmsg.ACLOperationDescribe}
	kinds := map[string]kmsg.ACLResourceType{"topic": kmsg.ACLResourceTypeTopic, "txn": kmsg.ACLResourceTypeTransactionalId, "group": kmsg.ACLResourceTypeGroup}
	return Grant{Deny: f[0] == "deny", Principal: f[1], Host: f[2], Resource: kinds[f[3]], Prefixed: f[4][0] == '^', Name: f[4][1:], Operation: ops[f[5]]}
}

func guardsOf(prefix string) []Guard {
	return Guards(prefix, schemas.Topics(prefix, []schemas.Source{{Name: schemas.TopicAudit}, {Name: schemas.TopicControl, Product: true}}),
		func(r schemas.Role) []string { return []string{"User:" + string(r)} })
}

func TestWhoElseMayWrite(t *testing.T) {
	const (
		sealed  = "p.audit.events.sealed"
		csealed = "p.ledger.control.sealed"
		control = "p.ledger.control"
		rejects = "p.rejects"
		txn     = "p.seal-"
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

		{"denied as granted", "allow User:x * topic =p.rejects write; deny User:x * topic =p.rejects write", ""},
		{"denied by all operations", "allow User:x * topic =p.rejects write; deny User:x * topic =p.rejects all", ""},
		{"all granted, writing denied", "allow User:x * topic =p.rejects all; deny User:x * topic =p.rejects write", ""},
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
				if s := i.String(); !strings.Contains(s, i.Guard.Name) || !strings.Contains(s, i.Grant.Principal) {
					t.Errorf("the warning %q does not name who and what", s)
				}
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("warned of %q, want %q", g, c.want)
			}
		})
	}
}

// allowed is the authorizer of the brokers, in the simplest words: does principal write
// the resource from host?
func allowed(grants []Grant, kind kmsg.ACLResourceType, name, principal, host string) bool {
	yes := false
	for _, g := range grants {
		fits := g.Resource == kind && (g.Principal == everyone || g.Principal == principal) && (g.Host == everywhere || g.Host == host) &&
			(g.Prefixed && strings.HasPrefix(name, g.Name) || !g.Prefixed && (g.Name == "*" || g.Name == name)) && g.writes()
		if fits && g.Deny {
			return false
		}
		yes = yes || fits
	}
	return yes
}

// TestNobodyWritesUnwarned tries random ACLs against a model of the authorizer: who can
// write anything that is guarded without being named is a warning too few.
func TestNobodyWritesUnwarned(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	guards, found := guardsOf("p."), 0
	for range 20_000 {
		var grants []Grant
		for range 1 + rng.IntN(4) {
			kind, name := "topic", pick("=p.rejects", "^p.", "^p.re", "=*", "=p.ledger.control", "^p.ledger.control", "=p.ledger.control.sealed")
			if rng.IntN(3) == 0 {
				kind, name = "txn", pick("=p.seal-1", "=p.seal-2", "^p.seal-", "^p.", "^p.seal-1", "=*", "=p.x")
			}
			grants = append(grants, parseGrant(t, fmt.Sprint(pick("allow", "allow", "deny"), " ", pick("User:x", "User:y", "User:seal", "User:*"), " ",
				pick("*", "*", "h1"), " ", kind, " ", name, " ", pick("write", "all", "read"))))
		}
		warned := Intrusions(guards, grants)
		for _, g := range guards {
			names := []string{g.Name}
			if g.Prefixed {
				names = []string{g.Name + "1", g.Name + "2", g.Name + "3"}
			}
			for _, name := range names {
				for _, who := range []string{"User:x", "User:y", "User:seal", "User:other"} {
					for _, host := range []string{"h1", "h2"} {
						if !allowed(grants, g.Resource, name, who, host) || strings.Contains(strings.Join(g.Principals, " "), who) {
							continue
						}
						found++
						if !namedIn(warned, g.Name, who) {
							t.Fatalf("%s may write %s from %s, and nothing is said of it: %+v", who, name, host, grants)
						}
					}
				}
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d cases where somebody may write: the grants do not try enough", found)
	}
}

// namedIn says whether a warning names the guard and the principal, or everyone.
func namedIn(warned []Intrusion, guard, who string) bool {
	for _, w := range warned {
		if w.Guard.Name == guard && (w.Grant.Principal == who || w.Grant.Principal == everyone) {
			return true
		}
	}
	return false
}
