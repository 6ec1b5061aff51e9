package testbed

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
)

// The environment by which tests learn of the servers that were started for all of
// them: the path of a file that holds a [Peers], and, for the suites that run on the
// embedded broker too, the brokers alone.
const (
	PeersEnv = "SEALSTREAM_TEST_PEERS"
	KafkaEnv = "SEALSTREAM_TEST_KAFKA"
)

// Peers are the real servers and foreign programs of one test run.
type Peers struct {
	Kafka         []string `json:"kafka"`      // plaintext; may do everything
	KafkaSASL     []string `json:"kafka_sasl"` // SASL_SSL: users have their ACLs only, but for KafkaUser
	KafkaCA       string   `json:"kafka_ca"`
	KafkaUser     string   `json:"kafka_user"`
	KafkaPassword string   `json:"kafka_password"`
	KafkaJars     string   `json:"kafka_jars"` // class path
	Registry      string   `json:"registry"`   // Apicurio's Confluent API
	Python        string   `json:"python"`     // interpreter that knows fastavro and confluent_kafka
	Binary        string   `json:"binary"`     // sealstream
}

// Shared returns the peers of this run, and ends the test when there are none.
func Shared(t testing.TB) Peers {
	t.Helper()
	p, err := ReadPeers()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ReadPeers reads what [PeersEnv] names.
func ReadPeers() (Peers, error) {
	path := os.Getenv(PeersEnv)
	if path == "" {
		return Peers{}, errors.New(PeersEnv + " is not set: this test needs real servers: run make integration, or put `go run ./internal/testbed/cmd/peers --` before the command")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Peers{}, fmt.Errorf("%s: %w", PeersEnv, err)
	}
	var p Peers
	if err := json.Unmarshal(raw, &p); err != nil {
		return Peers{}, fmt.Errorf("%s: read %s: %w", PeersEnv, path, err)
	}
	return p, nil
}

// ForTest makes a bed that ends with the test. Its logs stay when the test has failed.
func ForTest(t testing.TB) *Bed {
	t.Helper()
	bed, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the logs are in", bed.Path())
		}
		if err := bed.Close(t.Failed()); err != nil {
			t.Error(err)
		}
	})
	return bed
}
