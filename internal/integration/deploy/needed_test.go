//go:build integration

package deploy

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// TestEachACLIsNeeded takes each printed ACL away, one operation at a time, and finds
// that its role cannot do what it is there for any more.
func TestEachACLIsNeeded(t *testing.T) {
	t.Parallel()
	in := lay(t, testbed.ForTest(t), shared(t))
	all := in.printed()
	in.grant(all...)
	of := map[schemas.Role][]binding{}
	for _, b := range all {
		r := schemas.Role(strings.TrimPrefix(b.principal, "User:"+in.prefix))
		if of[r] = append(of[r], b); !slices.Contains(schemas.Roles(), r) {
			t.Fatalf("the printed ACL %v is nobody's", b)
		}
	}
	in.creates(of[schemas.RoleOperator])
	in.must(schemas.RoleOperator, 0, "0 problems", "topics", "create")
	in.must(schemas.RoleOperator, 0, "up to date", "database", "migrate")
	for _, r := range []schemas.Role{schemas.RoleSeal, schemas.RoleSinkPostgres} {
		in.start(r, "1")
	}
	in.feed(200)
	in.stored()
	in.verified()
	in.must(schemas.RoleOperator, 0, "written at", in.order(schemas.TopicAudit)...)
	in.stop("seal-1", "sink-postgres-1")
	in.feed(20) // for the seals below
	for _, r := range schemas.Roles() {
		t.Run(string(r), func(t *testing.T) {
			t.Parallel()
			sub := *in
			sub.t, sub.role, sub.started = t, maps.Clone(in.role), map[string]*testbed.Proc{}
			for _, b := range of[r] {
				if b.op == kmsg.ACLOperationCreate {
					continue // see creates
				}
				sub.revoke(b)
				if said := sub.misses(r, b); !strings.Contains(said, "AUTHORIZATION_FAILED") && !strings.Contains(said, "was not checked") {
					t.Errorf("without %v nothing is missed:\n%s", b, said)
				}
				sub.grant(b)
			}
		})
	}
}

// creates goes through the topics in the order in which they are made.
func (in *install) creates(bs []binding) {
	in.t.Helper()
	for _, b := range bs {
		if b.op != kmsg.ACLOperationCreate {
			continue
		}
		in.revoke(b)
		res := in.do(schemas.RoleOperator, "topics", "create")
		if res.Exit == 0 || !strings.Contains(res.Stderr, "AUTHORIZATION_FAILED") || !strings.Contains(res.Stderr, b.name) {
			in.t.Errorf("topics create without %v: exit code %d:\n%s%s", b, res.Exit, res.Stdout, res.Stderr)
		}
		in.grant(b)
	}
}

// feed puts events into both sources, as super user.
func (in *install) feed(n int) {
	in.t.Helper()
	for _, base := range []string{schemas.TopicAudit, schemas.TopicDomain} {
		if err := in.produce(in.cl, base, n); err != nil {
			in.t.Fatal(err)
		}
	}
}

func (in *install) order(source string) []string {
	return []string{"order", "resume", "--source", source, "--partition", "0", "--reason", "a test", "--wait", "0s"}
}

// misses does what needs an ACL and returns what was said of it.
func (in *install) misses(r schemas.Role, b binding) string {
	in.t.Helper()
	base := strings.TrimPrefix(b.name, in.prefix)
	switch r {
	case schemas.RoleProducer:
		return fmt.Sprint(in.produce(in.client(r), base, 1))
	case schemas.RoleIngest:
		return in.ingestMisses(b, base)
	case schemas.RoleVerify:
		return said(in.do(r, "verify", "--json"))
	case schemas.RoleOperator:
		return in.operatorMisses(b, base)
	}
	if b.op == kmsg.ACLOperationWrite && b.kind == kmsg.ACLResourceTypeTopic && r == schemas.RoleSeal {
		source := strings.TrimSuffix(b.name, ".sealed")
		// Partition 0 by its number: the operator's test adds others.
		cl, err := kgo.NewClient(kgo.SeedBrokers(in.on.plain...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			in.t.Fatal(err)
		}
		defer cl.Close()
		if err := cl.ProduceSync(in.t.Context(), &kgo.Record{Topic: source, Value: event(1)}).FirstErr(); err != nil {
			in.t.Fatal(err)
		}
	}
	p, _ := in.start(r, "9")
	defer func() { _ = p.Kill() }()
	ctx, cancel := context.WithTimeout(in.t.Context(), 20*time.Second)
	defer cancel()
	_ = p.WaitLog(ctx, "AUTHORIZATION_FAILED") // the caller looks at what it says
	return p.Log()
}

// ingestMisses: reading is needed by a run that goes on where a killed one was.
func (in *install) ingestMisses(b binding, base string) string {
	in.t.Helper()
	file, lines := in.base.File("ingest-"+random()), 1
	if b.op == kmsg.ACLOperationRead {
		lines = 40_000
	}
	var text bytes.Buffer
	for i := range lines {
		text.Write(bytes.Replace(event(i), []byte(`"user"`), fmt.Appendf(nil, `"aggregate":{"type":"order","id":"o%d","version":%d},"user"`, i%99, i+1), 1))
		text.WriteByte('\n')
	}
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		in.t.Fatal(err)
	}
	command := []string{"ingest", "--quiet", "--format", "ndjson", "--stream", strings.TrimSuffix(base, ".events"), "--state", file + ".state", file}
	if b.op == kmsg.ACLOperationRead {
		before := in.end(b.name)
		p, err := in.bed.Start("ingest", in.binary, append(command, in.role[schemas.RoleIngest].Args...)...)
		if err != nil {
			in.t.Fatal(err)
		}
		in.until("wait for events of ingest", func() bool { return in.end(b.name) > before })
		if err := p.Kill(); err != nil {
			in.t.Fatal(err)
		}
	}
	return said(in.do(schemas.RoleIngest, command...))
}

// end is how many offsets a topic has.
func (in *install) end(topic string) (sum int64) {
	in.t.Helper()
	ends, err := in.adm.ListEndOffsets(in.t.Context(), topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		in.t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum
}

func (in *install) operatorMisses(b binding, base string) string {
	in.t.Helper()
	source := strings.TrimSuffix(base, ".sealed")
	switch {
	case b.op == kmsg.ACLOperationAlter:
		n := schemas.HotPartitions + 1
		if source == schemas.TopicControl {
			n = 2
		}
		rs, err := in.adm.UpdatePartitions(in.t.Context(), n, in.prefix+source)
		if err == nil {
			err = rs.Error()
		}
		if err != nil {
			in.t.Fatal(err)
		}
		return said(in.do(schemas.RoleOperator, "topics", "create"))
	case b.op == kmsg.ACLOperationRead && base == schemas.TopicRejects:
		return said(in.do(schemas.RoleOperator, "rejects", "list"))
	case b.op == kmsg.ACLOperationRead, b.op == kmsg.ACLOperationWrite:
		return said(in.do(schemas.RoleOperator, in.order(source)...))
	}
	return said(in.do(schemas.RoleOperator, "topics", "check"))
}

// said is what a command that failed printed; a note of one that did not counts too.
func said(r testbed.Result) string {
	if r.Exit == 0 && !strings.Contains(r.Stderr, "note:") {
		return fmt.Sprintf("exit code 0:\n%s", r.Stdout)
	}
	return r.Stdout + r.Stderr
}
