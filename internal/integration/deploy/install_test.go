//go:build integration

package deploy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/sealstream/sealstream/internal/testbed"
	"github.com/sealstream/sealstream/schemas"
)

// cluster is what a test needs to know of the brokers it runs on.
type cluster struct {
	plain, sasl []string
	ca          string
}

// install is an installation whose roles log in as users of their own.
type install struct {
	t       *testing.T
	bed     *testbed.Bed
	binary  string
	on      cluster
	prefix  string
	base    *testbed.Given                  // as super user
	role    map[schemas.Role]*testbed.Given // as the principal of each role
	adm     *kadm.Client                    // super user
	cl      *kgo.Client
	sent    int // records that were acknowledged
	started map[string]*testbed.Proc
}

// lay makes an installation without topics, ACLs or tables, and a user for each role.
func lay(t *testing.T, bed *testbed.Bed, on cluster) *install {
	t.Helper()
	in := &install{t: t, bed: bed, binary: testbed.Shared(t).Binary, on: on, prefix: "deploy-" + random() + ".",
		role: map[schemas.Role]*testbed.Given{}, started: map[string]*testbed.Proc{}}
	var err error
	if in.cl, err = kgo.NewClient(kgo.SeedBrokers(on.plain...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.cl.Close)
	in.adm = kadm.NewClient(in.cl)
	in.base, err = bed.Bare(t.Context(), testbed.GivenOptions{Binary: in.binary, Kafka: on.plain, Prefix: in.prefix})
	if err != nil {
		t.Fatal(err)
	}
	in.jobs()
	for _, r := range schemas.Roles() {
		in.password(r, random())
		in.fileOf(r, in.passwordOf(r))
		in.as(r, string(r))
	}
	return in
}

// jobs gives verifications that the API is asked for their place in the database.
func (in *install) jobs() {
	in.t.Helper()
	u, err := url.Parse(in.base.Postgres)
	if err != nil {
		in.t.Fatal("the superuser URL is none")
	}
	u.User = url.UserPassword("sealstream_jobs", random())
	conf, err := os.ReadFile(in.base.Args[1])
	if err != nil {
		in.t.Fatal(err)
	}
	const at = "  owner_url_file: "
	text := strings.Replace(string(conf), at, "  jobs_url_file: "+in.base.File("jobs.url")+"\n"+at, 1)
	err = errors.Join(os.WriteFile(in.base.File("jobs.url"), []byte(u.String()+"\n"), 0o600), os.WriteFile(in.base.Args[1], []byte(text), 0o600))
	if err != nil {
		in.t.Fatal(err)
	}
}

func random() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// user is the name of a role's user: users are the cluster's, so they carry the prefix.
func (in *install) user(r schemas.Role) string { return in.prefix + string(r) }

// passwords are kept in files the roles do not read, so that a test can change one side.
func (in *install) passwordOf(r schemas.Role) string {
	in.t.Helper()
	b, err := os.ReadFile(in.base.File(string(r) + ".broker"))
	if err != nil {
		in.t.Fatal(err)
	}
	return string(b)
}

// password gives a user a password on the brokers.
func (in *install) password(r schemas.Role, pw string) {
	in.t.Helper()
	if err := os.WriteFile(in.base.File(string(r)+".broker"), []byte(pw), 0o600); err != nil {
		in.t.Fatal(err)
	}
	rs, err := in.adm.AlterUserSCRAMs(in.t.Context(), nil, []kadm.UpsertSCRAM{{User: in.user(r), Mechanism: kadm.ScramSha512, Iterations: 4096, Password: pw}})
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		in.t.Fatal(err)
	}
}

// fileOf writes the password that a role reads. A rename, as tools that rotate do it.
func (in *install) fileOf(r schemas.Role, pw string) {
	in.t.Helper()
	path := in.base.File(string(r) + ".password")
	err := os.WriteFile(path+".new", []byte(pw+"\n"), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		in.t.Fatal(err)
	}
}

// kafka is the section of a role.
func (in *install) kafka(r schemas.Role) []string {
	brokers, _ := json.Marshal(in.on.sasl) // strings: cannot fail
	out := []string{
		"  brokers: " + string(brokers), fmt.Sprintf("  prefix: %q", in.prefix),
		"  tls: {enabled: true, ca_file: " + in.on.ca + "}",
		fmt.Sprintf("  sasl: {mechanism: SCRAM-SHA-512, user: %q, password_file: %s}", in.user(r), in.base.File(string(r)+".password")),
		"  principals:",
	}
	for _, o := range schemas.Roles() {
		out = append(out, fmt.Sprintf("    %s: [%q]", strings.ReplaceAll(string(o), "-", "_"), "User:"+in.user(o)))
	}
	return out
}

// as is the installation as a role sees it; a process of its own needs a file of its own.
func (in *install) as(r schemas.Role, name string, more ...string) *testbed.Given {
	in.t.Helper()
	g, err := in.base.As(name, in.kafka(r), append([]string{"api:", "  local_key_file: " + in.base.File("token.pem")}, more...)...)
	if err != nil {
		in.t.Fatal(err)
	}
	in.role[r] = g
	return g
}

// do runs a command as a role.
func (in *install) do(r schemas.Role, command ...string) testbed.Result {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 60*time.Second)
	defer cancel()
	res, err := in.role[r].Run(ctx, command...)
	if err != nil {
		in.t.Fatal(err)
	}
	return res
}

// must runs a command as a role, which must end with the exit code and print the text.
func (in *install) must(r schemas.Role, exit int, text string, command ...string) testbed.Result {
	in.t.Helper()
	res := in.do(r, command...)
	if res.Exit != exit || !strings.Contains(res.Stdout+res.Stderr, text) {
		in.t.Fatalf("sealstream %s as %s: exit code %d, want %d and %q:\n%s%s", strings.Join(command, " "), r, res.Exit, exit, text, res.Stdout, res.Stderr)
	}
	return res
}

// start starts one process of a role and returns it with its base URL for /readyz.
func (in *install) start(r schemas.Role, slot string) (*testbed.Proc, string) {
	in.t.Helper()
	ports, err := in.bed.FreePorts(1)
	if err != nil {
		in.t.Fatal(err)
	}
	addr := "127.0.0.1:" + strconv.Itoa(ports[0])
	var more []string
	if r == schemas.RoleAPI {
		more = []string{"  listen: " + addr}
	}
	g := in.as(r, string(r)+"-"+slot, append(more, "monitor:", "  listen: "+addr)...)
	p, err := g.Role(string(r), slot)
	if err != nil {
		in.t.Fatal(err)
	}
	in.started[string(r)+"-"+slot] = p
	return p, "http://" + addr
}

func (in *install) log(p *testbed.Proc, text string) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 40*time.Second)
	defer cancel()
	if err := p.WaitLog(ctx, text); err != nil {
		in.t.Fatal(err)
	}
}

// until waits for something, and says what when it does not come.
func (in *install) until(what string, ok func() bool) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 60*time.Second)
	defer cancel()
	began := time.Now()
	defer func() { in.t.Logf("%s: %.1f s", what, time.Since(began).Seconds()) }()
	if err := testbed.Until(ctx, func() (bool, error) { return ok(), nil }); err != nil {
		in.t.Fatalf("%s: %v", what, err)
	}
}

// alarms are the names and details of what stands at a process.
func (in *install) alarms(base string) string {
	_, body := in.ask(http.MethodGet, base+"/readyz", "", nil)
	return string(body)
}

// ask makes one request; a server that is not there answers 0.
func (in *install) ask(method, to, token string, body []byte) (int, []byte) {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.t.Context(), method, to, bytes.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-ndjson")
		if strings.HasSuffix(to, "/verify") {
			req.Header.Set("Content-Type", "application/json")
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body) // cut off: the caller finds out
	return resp.StatusCode, answer
}

func (in *install) token(role string) string {
	in.t.Helper()
	return strings.TrimSpace(in.must(schemas.RoleAPI, 0, "", "token", "--role", role).Stdout)
}

// client is a Kafka client that is not ours, logged in as a role.
func (in *install) client(r schemas.Role, o ...kgo.Opt) *kgo.Client {
	in.t.Helper()
	pem, err := os.ReadFile(in.on.ca)
	if err != nil {
		in.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(in.on.sasl...), kgo.DialTLSConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}),
		kgo.SASL(scram.Auth{User: in.user(r), Pass: in.passwordOf(r)}.AsSha512Mechanism()),
	}, o...)...)
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(cl.Close)
	return cl
}

func event(n int) []byte {
	return fmt.Appendf(nil, `{"@timestamp":"2026-11-24T10:00:00.000Z","ecs":{"version":"9.4.0"},"event":{"id":"event-%d-%s","kind":"event","category":["iam"],"type":["change"],"action":"deploy-test","outcome":"success"},"user":{"id":"u%d"}}`, n, random(), n%50)
}

// produce writes n events to a source topic and returns the first refusal.
func (in *install) produce(cl *kgo.Client, base string, n int) error {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 30*time.Second)
	defer cancel()
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, &kgo.Record{Topic: in.prefix + base, Key: fmt.Appendf(nil, "k%d", i%50), Value: event(i)})
	}
	res := cl.ProduceSync(ctx, rs...)
	for _, r := range res {
		if r.Err == nil {
			in.sent++
		}
	}
	return res.FirstErr()
}

// rows counts the events of the test in PostgreSQL.
func (in *install) rows() int {
	in.t.Helper()
	db, err := pgx.Connect(in.t.Context(), in.base.Postgres)
	if err != nil {
		in.t.Fatal(err)
	}
	defer db.Close(context.Background())
	var n int
	if err := db.QueryRow(in.t.Context(), "SELECT count(*) FROM public.events WHERE event_action = 'deploy-test'").Scan(&n); err != nil {
		in.t.Fatal(err)
	}
	return n
}

func (in *install) stored() {
	in.t.Helper()
	in.until("wait until all events are stored", func() bool { return in.rows() >= in.sent })
	if n := in.rows(); n != in.sent {
		in.t.Fatalf("%d rows of %d events", n, in.sent)
	}
}

// verified runs verify as its own principal.
func (in *install) verified() {
	in.t.Helper()
	res := in.do(schemas.RoleVerify, "verify", "--json")
	var rep struct {
		Result  string
		Records int
	}
	if err := json.Unmarshal([]byte(res.Stdout), &rep); err != nil || res.Exit != 0 || rep.Result != "ok" || rep.Records < in.sent {
		in.t.Fatalf("verify: exit code %d, %+v of %d events sent, %v\n%s%s", res.Exit, rep, in.sent, err, res.Stdout, res.Stderr)
	}
}

// stop ends processes by their names, in order.
func (in *install) stop(names ...string) {
	in.t.Helper()
	for _, n := range names {
		ctx, cancel := context.WithTimeout(in.t.Context(), 30*time.Second)
		code, err := in.started[n].Terminate(ctx)
		cancel()
		if err != nil || code != 0 {
			in.t.Errorf("stop %s: exit code %d, %v\n%s", n, code, err, in.started[n].Tail())
		}
	}
}
