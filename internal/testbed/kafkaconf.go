package testbed

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// properties is the server.properties of a node.
func (k *Kafka) properties(n *kafkaNode, keystore string) string {
	replicas, least := 1, 1
	if k.o.Nodes == 3 {
		replicas, least = 3, 2
	}
	var controllers []string
	for _, o := range k.nodes {
		controllers = append(controllers, local(o.control))
	}
	listeners := []string{"PLAINTEXT://" + local(n.plain), "SASL_SSL://" + local(n.sasl)}
	advertised := slices.Clone(listeners)
	protocols := "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT"
	if k.o.Proxied {
		listeners = append(listeners, "PROXIED://"+local(n.back))
		advertised = append(advertised, "PROXIED://"+local(n.via))
		protocols += ",PROXIED:PLAINTEXT"
	}
	p := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  fmt.Sprint(n.id),
		"controller.quorum.bootstrap.servers":      strings.Join(controllers, ","),
		"controller.listener.names":                "CONTROLLER",
		"inter.broker.listener.name":               "PLAINTEXT",
		"listeners":                                strings.Join(append(listeners, "CONTROLLER://"+local(n.control)), ","),
		"advertised.listeners":                     strings.Join(advertised, ","),
		"listener.security.protocol.map":           protocols,
		"sasl.enabled.mechanisms":                  "SCRAM-SHA-512",
		"ssl.keystore.type":                        "PEM",
		"ssl.keystore.location":                    keystore,
		"ssl.enabled.protocols":                    "TLSv1.3",
		"ssl.protocol":                             "TLSv1.3",
		"authorizer.class.name":                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":                              "User:ANONYMOUS;User:" + k.User,
		"log.dirs":                                 k.DataDir(n.id),
		"auto.create.topics.enable":                "false",
		"default.replication.factor":               fmt.Sprint(replicas),
		"min.insync.replicas":                      fmt.Sprint(least),
		"offsets.topic.replication.factor":         fmt.Sprint(replicas),
		"transaction.state.log.replication.factor": fmt.Sprint(replicas),
		"transaction.state.log.min.isr":            fmt.Sprint(least),
		// Eight instead of fifty: fewer files to open, and still more coordinators than nodes.
		"offsets.topic.num.partitions":                     "8",
		"transaction.state.log.num.partitions":             "8",
		"share.coordinator.state.topic.num.partitions":     "1",
		"share.coordinator.state.topic.replication.factor": fmt.Sprint(replicas),
		"share.coordinator.state.topic.min.isr":            fmt.Sprint(least),
		"group.initial.rebalance.delay.ms":                 "0",
		"log.cleaner.dedupe.buffer.size":                   "16777216",
		"num.network.threads":                              "2",
		"num.io.threads":                                   "4",
		// A dead node is noticed in 3 s, not in 9: tests wait for it often.
		"broker.heartbeat.interval.ms": "500",
		"broker.session.timeout.ms":    "3000",
	}
	jaas := "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config"
	p[jaas] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	maps.Copy(p, k.o.Config)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s=%s\n", key, p[key])
	}
	return b.String()
}

// brokerLogging keeps the log of a broker bounded.
func brokerLogging(dir string) string {
	file := filepath.Join(dir, "server.log")
	return `<Configuration status="ERROR"><Appenders><RollingFile name="F" fileName="` + file + `" filePattern="` + file + `.%i">
<PatternLayout pattern="%d %p %c{1}: %m%n"/><Policies><SizeBasedTriggeringPolicy size="20MB"/></Policies><DefaultRolloverStrategy max="2"/></RollingFile></Appenders>
<Loggers><Logger name="kafka.server.KafkaRaftServer" level="INFO"/><Root level="WARN"><AppenderRef ref="F"/></Root></Loggers></Configuration>
`
}
