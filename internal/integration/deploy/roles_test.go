//go:build integration

package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

func shared(t *testing.T) cluster {
	t.Helper()
	p := testbed.Shared(t)
	return cluster{plain: p.Kafka, sasl: p.KafkaSASL, ca: p.KafkaCA}
}

// TestRolesWithTheirACLs runs two of each role with exactly the ACLs that are printed,
// and does with each principal what it is there for.
func TestRolesWithTheirACLs(t *testing.T) {
	t.Parallel()
	in := lay(t, testbed.ForTest(t), shared(t))
	in.grant(in.printed()...)
	in.must(schemas.RoleOperator, 0, "7 topics, 7 created, 0 problems", "topics", "create")
	in.must(schemas.RoleOperator, 0, "7 topics, 0 problems", "topics", "check")
	in.must(schemas.RoleOperator, 0, "up to date", "database", "migrate")

	apis := map[string]string{}
	for _, slot := range []string{"1", "2"} {
		for _, r := range []schemas.Role{schemas.RoleSeal, schemas.RoleSinkPostgres, schemas.RoleAPI} {
			p, base := in.start(r, slot)
			in.log(p, "msg=running")
			if r == schemas.RoleAPI {
				apis[slot] = base
			}
		}
	}
	producer := in.client(schemas.RoleProducer)
	for _, base := range []string{schemas.TopicAudit, schemas.TopicDomain} {
		if err := in.produce(producer, base, 300); err != nil {
			t.Fatalf("produce to %s as producer: %v", base, err)
		}
	}
	ingested := in.base.File("events.ndjson")
	if err := os.WriteFile(ingested, []byte(string(event(1))+"\n"+string(event(2))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again: it looks into the topic for what is there
		in.must(schemas.RoleIngest, 0, "ingested", "ingest", "--quiet", "--format", "ndjson", "--state", in.base.File("ingest"), ingested)
	}
	in.sent += 2
	write, read := in.token("ingest"), in.token("auditor")
	for slot, base := range apis {
		in.until("wait for api "+slot, func() bool { code, _ := in.ask(http.MethodGet, base+"/healthz", "", nil); return code == http.StatusOK })
		code, answer := in.ask(http.MethodPost, base+"/v1/events?stream=audit", write, append(append(event(7), '\n'), event(8)...))
		if code != http.StatusAccepted {
			t.Fatalf("post by api %s: status %d: %s", slot, code, answer)
		}
		in.sent += 2
	}
	in.stored()
	for slot, base := range apis {
		code, answer := in.ask(http.MethodGet, base+"/v1/events?limit=3&action=deploy-test", read, nil)
		if code != http.StatusOK || !strings.Contains(string(answer), "deploy-test") {
			t.Errorf("query by api %s: status %d: %s", slot, code, answer)
		}
	}
	in.verifies(apis["1"], read)
	in.verified()
	in.must(schemas.RoleOperator, 0, "0 rejects", "rejects", "list")
	in.must(schemas.RoleOperator, 0, "written at", "order", "resume", "--source", schemas.TopicAudit, "--partition", "1", "--reason", "a test", "--wait", "0s")
	in.refusals()
	in.fences()
	in.warns()
	for name, p := range in.started {
		if strings.Contains(p.Log(), "AUTHORIZATION_FAILED") {
			t.Errorf("%s is refused something:\n%s", name, p.Tail())
		}
	}
	in.stop("api-1", "api-2", "seal-2", "sink-postgres-1", "sink-postgres-2")
}

// verifies has the API do it, which reads sealed topics and rejects as its own principal.
func (in *install) verifies(base, token string) {
	in.t.Helper()
	code, answer := in.ask(http.MethodPost, base+"/v1/verify", token, []byte("{}"))
	var job struct{ ID, State, Result string }
	if err := json.Unmarshal(answer, &job); err != nil || code != http.StatusAccepted {
		in.t.Fatalf("start a verification: status %d: %s", code, answer)
	}
	in.until("wait for the verification", func() bool {
		_, answer = in.ask(http.MethodGet, base+"/v1/verify/"+job.ID, token, nil)
		return strings.Contains(string(answer), `"state":"done"`) || strings.Contains(string(answer), `"state":"failed"`)
	})
	if !strings.Contains(string(answer), `"result":"ok"`) {
		in.t.Errorf("a verification by the API: %s", answer)
	}
}

// refusals: who is no seal cannot write what is sealed, by the brokers' own word.
func (in *install) refusals() {
	in.t.Helper()
	for role, topics := range map[schemas.Role][]string{
		schemas.RoleProducer:     {"audit.events.sealed", "domain.events.sealed", "ledger.control.sealed", schemas.TopicControl, schemas.TopicRejects},
		schemas.RoleIngest:       {"audit.events.sealed", schemas.TopicControl, schemas.TopicRejects},
		schemas.RoleSinkPostgres: {"audit.events.sealed", "ledger.control.sealed", schemas.TopicAudit, schemas.TopicControl},
		schemas.RoleAPI:          {"audit.events.sealed", "ledger.control.sealed", schemas.TopicRejects},
		schemas.RoleVerify:       {"audit.events.sealed", schemas.TopicAudit, schemas.TopicControl, schemas.TopicRejects},
		schemas.RoleOperator:     {"audit.events.sealed", "ledger.control.sealed", schemas.TopicAudit, schemas.TopicRejects},
		schemas.RoleSeal:         {schemas.TopicAudit, schemas.TopicControl, schemas.TopicRejects},
	} {
		cl := in.client(role)
		for _, base := range topics {
			before := in.sent
			err := in.produce(cl, base, 1)
			// Who may write nothing at all does not even get a producer id.
			if !errors.Is(err, kerr.TopicAuthorizationFailed) && (role != schemas.RoleVerify || !errors.Is(err, kerr.ClusterAuthorizationFailed)) {
				in.t.Errorf("%s writes %s: %v, want TOPIC_AUTHORIZATION_FAILED", role, base, err)
			}
			in.sent = before
		}
	}
	// Nor with a transaction of the seal's name, which would end the seal's own.
	cl := in.client(schemas.RoleProducer)
	req := kmsg.NewPtrInitProducerIDRequest()
	id := in.prefix + schemas.TransactionSeal + "1"
	req.TransactionalID, req.TransactionTimeoutMillis = &id, 15_000
	resp, err := req.RequestWith(in.t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if !errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		in.t.Errorf("a producer takes the seal's transactional id: %v", err)
	}
}

// fences: a member that is gone for good leaves a transaction open. The other one ends
// it by name, which takes nothing but the seal's own ACLs.
func (in *install) fences() {
	in.t.Helper()
	cl := in.client(schemas.RoleSeal, kgo.TransactionalID(in.prefix+schemas.TransactionSeal+"gone"), kgo.TransactionTimeout(15*time.Minute),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := cl.BeginTransaction(); err != nil {
		in.t.Fatal(err)
	}
	for p := range int32(schemas.HotPartitions) {
		if err := cl.ProduceSync(in.t.Context(), &kgo.Record{Topic: in.prefix + "audit.events.sealed", Partition: p, Value: []byte("never committed")}).FirstErr(); err != nil {
			in.t.Fatal(err)
		}
	}
	if err := in.started["seal-1"].Kill(); err != nil {
		in.t.Fatal(err)
	}
	in.log(in.started["seal-2"], "ended a transaction that its owner left open")
	if err := in.produce(in.client(schemas.RoleProducer), schemas.TopicAudit, 100); err != nil {
		in.t.Fatal(err)
	}
	in.stored()
	in.verified()
}

// warns: the seal may not see the ACLs and says so; the operator may; a seal that may
// warns, and stays ready.
func (in *install) warns() {
	in.t.Helper()
	in.log(in.started["seal-2"], "who else may write sealed topics cannot be checked by this role")
	intruder := binding{principal: "User:" + in.user(schemas.RoleProducer), kind: kmsg.ACLResourceTypeTopic, name: in.prefix + "audit.",
		pattern: kmsg.ACLResourcePatternTypePrefixed, op: kmsg.ACLOperationAll}
	ask := binding{principal: "User:" + in.user(schemas.RoleSeal), kind: kmsg.ACLResourceTypeCluster, name: schemas.ClusterName,
		pattern: kmsg.ACLResourcePatternTypeLiteral, op: kmsg.ACLOperationDescribe}
	in.grant(intruder, ask)
	want := fmt.Sprintf("%s may Write, Delete, Alter, AlterConfigs %saudit.events.sealed", intruder.principal, in.prefix)
	in.must(schemas.RoleOperator, 1, want, "topics", "check")
	p, base := in.start(schemas.RoleSeal, "3")
	in.log(p, want)
	in.until("wait for the warning", func() bool { return strings.Contains(in.alarms(base), want) })
	if code, body := in.ask(http.MethodGet, base+"/readyz", "", nil); code != http.StatusOK || !strings.Contains(string(body), "others_may_write") {
		in.t.Errorf("a seal with a warning: status %d: %s", code, body)
	}
	in.revoke(intruder)
	in.revoke(ask)
	in.must(schemas.RoleOperator, 0, "7 topics, 0 problems", "topics", "check")
	in.stop("seal-3")
}
