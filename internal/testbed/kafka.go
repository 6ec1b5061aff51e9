package testbed

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// KafkaOptions say what cluster is started.
type KafkaOptions struct {
	Nodes   int               // 1 or 3; each is broker and controller
	FullJIT bool              // for throughput; else the brokers start faster and run slower
	Proxied bool              // one more plaintext listener per node that is advertised at another port, see [Kafka.Proxies]
	Data    string            // parent of the data directories; empty = in the bed
	Txn     int               // the feature transaction.version; 0 = as Kafka has it, which is 2
	Config  map[string]string // more lines of server.properties, in place of ours
}

// Kafka is a real Apache Kafka cluster in KRaft mode. With three nodes topics have three
// replicas and acks=all needs two.
//
// Its authorizer is on. Who comes without credentials over the plaintext listener, and
// User, may do everything; any other SCRAM user only what its ACLs say.
type Kafka struct {
	Brokers     []string // plaintext
	SASLBrokers []string // SASL_SSL: SCRAM-SHA-512 over TLS 1.3
	CAFile      string
	User        string
	Password    string
	Jars        string  // class path of broker and Java client
	Proxies     []Proxy // with Proxied: what a proxy has to listen on, and where it leads

	bed   *Bed
	java  string
	o     KafkaOptions
	dir   string
	nodes []*kafkaNode
}

// Proxy is one address pair for a proxy in front of a broker.
type Proxy struct{ Listen, Upstream string }

type kafkaNode struct {
	id                              int
	dir                             string
	plain, sasl, control, via, back int // ports; via is advertised for back
	dirID                           string
	proc                            *Proc
}

// kafkaReady bounds the start of a cluster. On two busy cores a JVM takes its time.
const kafkaReady = 120 * time.Second

// Kafka starts a cluster and waits until every node knows every other.
func (b *Bed) Kafka(ctx context.Context, o KafkaOptions) (*Kafka, error) {
	if o.Nodes != 1 && o.Nodes != 3 {
		return nil, fmt.Errorf("start Kafka: %d nodes: want 1 or 3", o.Nodes)
	}
	jdk, err := FindJava(ctx)
	if err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	jars, err := FetchJars(ctx, "", KafkaJars())
	if err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	k := &Kafka{bed: b, o: o, java: jdk.Java, User: "admin", Password: randomText(), Jars: filepath.Join(jars, "*")}
	if k.dir, err = os.MkdirTemp(b.dir, "kafka-"); err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	if err := k.layOut(); err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	if err := k.format(ctx); err != nil {
		return nil, err
	}
	for _, n := range k.nodes {
		if err := k.launch(n); err != nil {
			return nil, err
		}
	}
	return k, k.Ready(ctx)
}

func randomText() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b)
}

// kafkaID makes one of Kafka's 22-letter ids.
func kafkaID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[0] &= 0x7f // never begins with "-", which command lines take for an option
	return base64.RawURLEncoding.EncodeToString(b)
}

// layOut picks ports and writes each node's configuration.
func (k *Kafka) layOut() error {
	ports, err := k.bed.FreePorts(5 * k.o.Nodes)
	if err != nil {
		return err
	}
	server, ca, err := writeCertificates(k.dir)
	if err != nil {
		return err
	}
	k.CAFile = ca
	for i := range k.o.Nodes {
		p := ports[5*i:]
		n := &kafkaNode{id: i + 1, dir: filepath.Join(k.dir, fmt.Sprint("n", i+1)), plain: p[0], sasl: p[1], control: p[2], via: p[3], back: p[4], dirID: kafkaID()}
		k.nodes = append(k.nodes, n)
		k.Brokers = append(k.Brokers, local(n.plain))
		k.SASLBrokers = append(k.SASLBrokers, local(n.sasl))
		if k.o.Proxied {
			k.Proxies = append(k.Proxies, Proxy{Listen: local(n.via), Upstream: local(n.back)})
		}
	}
	for _, n := range k.nodes {
		if err := os.Mkdir(n.dir, 0o755); err != nil {
			return err
		}
		err := os.WriteFile(filepath.Join(n.dir, "server.properties"), []byte(k.properties(n, server)), 0o600)
		err = errors.Join(err, os.WriteFile(filepath.Join(n.dir, "log4j2.xml"), []byte(brokerLogging(n.dir)), 0o600))
		if err != nil {
			return err
		}
	}
	return nil
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// DataDir is where a node keeps its topics: one directory per partition.
func (k *Kafka) DataDir(id int) string {
	if k.o.Data != "" {
		return filepath.Join(k.o.Data, fmt.Sprint("kafka-n", id))
	}
	return filepath.Join(k.node(id).dir, "data")
}

func (k *Kafka) node(id int) *kafkaNode { return k.nodes[id-1] }

// format writes the metadata that a new node begins with, on all nodes at once.
func (k *Kafka) format(ctx context.Context) error {
	var initial []string
	for _, n := range k.nodes {
		initial = append(initial, fmt.Sprintf("%d@%s:%s", n.id, local(n.control), n.dirID))
	}
	cluster := kafkaID()
	var features []string
	if k.o.Txn > 0 {
		features = []string{"--feature", fmt.Sprint("transaction.version=", k.o.Txn)}
	}
	errs := make(chan error, len(k.nodes))
	for _, n := range k.nodes {
		go func() {
			r, err := k.bed.Run(ctx, k.java, append([]string{"-XX:TieredStopAtLevel=1", "-Xmx128m", "-Dlog4j2.configurationFile=" + filepath.Join(n.dir, "log4j2.xml"),
				"-cp", k.Jars, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", filepath.Join(n.dir, "server.properties"),
				"--initial-controllers", strings.Join(initial, ","), "--add-scram", fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", k.User, k.Password)}, features...)...)
			if err == nil && r.Exit != 0 {
				err = fmt.Errorf("format Kafka node %d: exit code %d:\n%s%s", n.id, r.Exit, r.Stdout, r.Stderr)
			}
			errs <- err
		}()
	}
	var err error
	for range k.nodes {
		err = errors.Join(err, <-errs)
	}
	return err
}

func (k *Kafka) launch(n *kafkaNode) error {
	heap := "-Xmx1g"
	if k.o.Nodes > 1 {
		heap = "-Xmx512m"
	}
	args := []string{"-Xms128m", heap, "-XX:+UseG1GC", "-XX:MaxDirectMemorySize=256m", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"}
	if !k.o.FullJIT {
		args = append(args, "-XX:TieredStopAtLevel=1")
	}
	args = append(args, "-Dlog4j2.configurationFile="+filepath.Join(n.dir, "log4j2.xml"), "-cp", k.Jars, "kafka.Kafka", filepath.Join(n.dir, "server.properties"))
	p, err := k.bed.Start(fmt.Sprint("kafka-", n.id), k.java, args...)
	if err != nil {
		return err
	}
	n.proc = p
	return nil
}

// Proc is the process of a node, 1 to Nodes; another one after each start.
func (k *Kafka) Proc(id int) *Proc { return k.node(id).proc }

// Kill ends a node with SIGKILL.
func (k *Kafka) Kill(id int) error { return k.node(id).proc.Kill() }

// Terminate has a node leave the cluster in order and waits until it is gone.
func (k *Kafka) Terminate(ctx context.Context, id int) error {
	_, err := k.node(id).proc.Terminate(ctx)
	return err
}

// Start starts a node that is down, on its old data, without waiting.
func (k *Kafka) Start(id int) error {
	if n := k.node(id); !n.proc.Ended() {
		return fmt.Errorf("start Kafka node %d: it runs", id)
	}
	return k.launch(k.node(id))
}

// Ready waits until every node answers and knows every other.
func (k *Kafka) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaReady)
	defer cancel()
	for _, n := range k.nodes {
		var last error
		err := Until(ctx, func() (bool, error) {
			if n.proc.Ended() {
				return false, fmt.Errorf("it ended with exit code %d; its log ends with:\n%s\n%s", n.proc.Exit(), n.proc.Tail(), k.Log(n.id))
			}
			var known int
			known, last = liveBrokers(ctx, local(n.plain))
			return last == nil && known == len(k.nodes), nil
		})
		if err != nil {
			return fmt.Errorf("wait for Kafka node %d to be ready: %w (last: %w)", n.id, err, last)
		}
	}
	return nil
}

// liveBrokers asks one broker how many it knows.
func liveBrokers(ctx context.Context, addr string) (int, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DialTimeout(time.Second))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	resp, err := req.RequestWith(ctx, cl.SeedBrokers()[0])
	if err != nil {
		return 0, err
	}
	return len(resp.Brokers), nil
}

// LogFile is where a broker writes its own log.
func (k *Kafka) LogFile(id int) string { return filepath.Join(k.node(id).dir, "server.log") }

// Log is the end of a broker's own log.
func (k *Kafka) Log(id int) string {
	raw, err := os.ReadFile(k.LogFile(id))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
