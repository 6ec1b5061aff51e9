//go:build integration

package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
)

// What librdkafka and Kafka's Java client send, in every way they have, comes out of the
// ledger and the table as it went in.
func TestForeignProducers(t *testing.T) {
	t.Run("Apicurio", func(t *testing.T) {
		open(t, testbed.ForTest(t), testbed.Shared(t).Registry).odd(topicAudit, topicStamped)
	})
	t.Run("embedded", func(t *testing.T) { open(t, testbed.ForTest(t), "").odd(topicAudit) })
	t.Run("up", func(t *testing.T) { openUp(t, testbed.ForTest(t)).odd(topicAudit) })
}

// odd has all foreign producers write to topics, and looks at what comes of it.
func (pl *place) odd(topics ...string) {
	pl.t.Helper()
	limit := strconv.Itoa(schemas.DefaultMaxMessageBytes)
	for _, topic := range topics {
		name := pl.topic(topic)
		all := parse[sent](pl.t, pl.python("odd", "python", pl.brokers(), pl.registry, name, file(pl.t, "testdata", "login.avsc"), limit))
		all = append(all, parse[sent](pl.t, runJava(pl.t, pl.bed, "Foreign.java", "odd", "java", pl.brokers(), pl.registry, name,
			file(pl.t, "..", "..", "..", "schemas", "audit_event.avsc"), limit))...)
		pl.unchanged(topic, all)
	}
	pl.verified()
}

// unchanged holds what producers report against the source log, the ledger and the table.
func (pl *place) unchanged(topic string, all []sent) {
	pl.t.Helper()
	want := inOrder(all)
	n, aborted := 0, 0
	for _, s := range all {
		if s.Aborted {
			aborted++
		} else {
			n++
		}
	}
	if aborted == 0 || n < 8000 {
		pl.t.Fatalf("%s: %d records and %d aborted ones were sent: that is not the whole set", topic, n, aborted)
	}
	pl.stored(topic, n+partitions)
	source, sealed, rows := pl.read(pl.topic(topic)), pl.read(pl.topic(topic)+".sealed"), pl.rows(topic)
	for p := range int32(partitions) {
		pl.samePartition(topic, want[p], source[p], sealed[p], rows[p])
	}
}

func (pl *place) samePartition(topic string, want []sent, source, sealed []ledger.Record, rows []row) {
	pl.t.Helper()
	if len(source) != len(want) || len(sealed) != len(want)+1 || len(rows) != len(want)+1 {
		pl.t.Fatalf("%s: %d records sent, %d in the source, %d sealed, %d rows; want one more in the last two", topic, len(want), len(source), len(sealed), len(rows))
	}
	for i := range want {
		w := want[i].record()
		w.LogAppendTime = topic == topicStamped
		at := fmt.Sprintf("%s, case %q, partition %d, offset %d", topic, want[i].Case, want[i].Partition, w.Offset)
		if d := different(&w, &source[i]); d != "" {
			pl.t.Errorf("%s: the source differs from what was sent: %s", at, d)
		}
		// The ledger's first record says what follows.
		s, err := ledger.Open(&sealed[i+1])
		if err != nil {
			pl.t.Errorf("%s: sealed: %v", at, err)
			continue
		}
		if d := different(&w, &s.Source); d != "" || s.Statement.TimeMs != w.TimeMs || !s.CheckCommitment() {
			pl.t.Errorf("%s: sealed as another record: %s", at, d)
		}
		pl.sameRow(at, &want[i], &s, &rows[i+1])
	}
}

func (pl *place) sameRow(at string, want *sent, s *ledger.Sealed, r *row) {
	pl.t.Helper()
	w := want.record()
	if !bytes.Equal(r.Frame, ledger.AppendFrame(nil, &w)) || !bytes.Equal(r.Statement, s.Raw[:]) {
		pl.t.Errorf("%s: the row holds another record", at)
	}
	if r.RecordTime == nil || *r.RecordTime != w.TimeMs {
		pl.t.Errorf("%s: the row's time is %v, want %d", at, r.RecordTime, w.TimeMs)
	}
	for name, v := range want.Columns {
		if got := fmt.Sprint(r.Columns[name]); got != fmt.Sprint(v) && !sameNumber(r.Columns[name], v) {
			pl.t.Errorf("%s: column %s is %s, want %v (decode error %v)", at, name, got, v, show(r.DecodeError))
		}
	}
	switch decodes := len(want.Columns) > 0; {
	case decodes && r.DecodeError != nil:
		pl.t.Errorf("%s: decode error %q", at, *r.DecodeError)
	case (want.Case == "unknown id" || want.Case == "id beyond") && !strings.Contains(show(r.DecodeError), "the registry has no schema id"):
		pl.t.Errorf("%s: decode error %s, want that no schema is known", at, show(r.DecodeError))
	}
	if want.Case == "json" && r.Tenant != "acme" {
		pl.t.Errorf("%s: tenant %q, want the header's", at, r.Tenant)
	}
}

func sameNumber(got, want any) bool {
	f, ok := got.(float64)
	n, ok2 := want.(json.Number)
	return ok && ok2 && strconv.FormatFloat(f, 'f', -1, 64) == n.String()
}

func show(s *string) string {
	if s == nil {
		return "none"
	}
	return *s
}

// different says in what two records differ, null and empty kept apart.
func different(a, b *ledger.Record) string {
	var out []string
	for _, c := range []struct {
		what string
		same bool
	}{
		{"key", bytes.Equal(a.Key, b.Key) && (a.Key == nil) == (b.Key == nil)},
		{"value", bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)},
		{"headers", len(a.Headers) == len(b.Headers) && (len(a.Headers) == 0 || reflect.DeepEqual(a.Headers, b.Headers))},
		{fmt.Sprintf("time (%d, %d)", a.TimeMs, b.TimeMs), a.TimeMs == b.TimeMs},
		{"who set the time", a.LogAppendTime == b.LogAppendTime},
		{"offset", a.Offset == b.Offset},
	} {
		if !c.same {
			out = append(out, c.what)
		}
	}
	return strings.Join(out, ", ")
}

// The two programs that the documentation shows do what it says, in clear and, with the
// settings that it shows, over TLS as a user who may write one topic and no more.
func TestDocumentedProducers(t *testing.T) {
	pl := open(t, testbed.ForTest(t), testbed.Shared(t).Registry)
	topic := pl.topic(topicAudit)
	send := func(brokers string, python, java []string) (ids []string) {
		t.Helper()
		out := run(t, pl.bed, append([]string{pl.p.Python, file(t, "testdata", "producer.py"), brokers, pl.registry, topic, file(t, "testdata", "login.avsc")}, python...)...)
		return append(strings.Fields(out), strings.Fields(runJava(t, pl.bed, "Producer.java", append([]string{brokers, topic}, java...)...))...)
	}
	ids := send(pl.brokers(), nil, nil)
	user := pl.user(topic)
	ids = append(ids, send(strings.Join(pl.p.KafkaSASL, ","), []string{user.settings("librdkafka.properties")}, []string{user.settings("java.properties")})...)
	pl.stored(topicAudit, len(ids)+partitions)
	var got []string
	for _, p := range pl.rows(topicAudit) {
		if len(p) > 1 && len(p) != len(ids)+1 {
			t.Errorf("one actor's events are on several partitions: %d on this one", len(p)-1)
		}
		for _, r := range p[1:] {
			got = append(got, fmt.Sprint(r.Columns["event_id"]))
			if r.Columns["event_action"] != "user.login" || r.Columns["user_name"] != "zo\u00eb" || r.Tenant != "acme" || r.DecodeError != nil {
				t.Errorf("stored: %v, tenant %q, decode error %s", r.Columns, r.Tenant, show(r.DecodeError))
			}
		}
	}
	if !slices.Equal(got, ids) || len(ids) != 6 {
		t.Errorf("stored events %v, want %v in this order", got, ids)
	}
	pl.verified()
}

// writer is a user of Kafka that may write one topic.
type writer struct {
	pl             *place
	name, password string
}

// user makes one.
func (pl *place) user(topic string) *writer {
	pl.t.Helper()
	w := &writer{pl: pl, name: strings.TrimSuffix(pl.prefix, ".") + "-portal", password: "secret of " + pl.prefix}
	_, err := pl.adm.AlterUserSCRAMs(pl.t.Context(), nil, []kadm.UpsertSCRAM{{User: w.name, Mechanism: kadm.ScramSha512, Iterations: 4096, Password: w.password}})
	if err != nil {
		pl.t.Fatal(err)
	}
	acls, err := pl.adm.CreateACLs(pl.t.Context(), kadm.NewACLs().Allow("User:"+w.name).AllowHosts("*").
		Topics(topic).ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpWrite, kadm.OpDescribe))
	for _, a := range acls {
		err = errors.Join(err, a.Err)
	}
	if err != nil {
		pl.t.Fatal(err)
	}
	return w
}

// settings writes the documented settings with the user's own values.
func (w *writer) settings(name string) string {
	w.pl.t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		w.pl.t.Fatal(err)
	}
	text := string(b)
	for from, to := range map[string]string{"/etc/kafka/ca.pem": w.pl.p.KafkaCA, "portal": w.name, "PASSWORD": w.password} {
		if !strings.Contains(text, from) {
			w.pl.t.Fatalf("%s names no %s", name, from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	path := w.pl.bed.Path(name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.pl.t.Fatal(err)
	}
	return path
}
