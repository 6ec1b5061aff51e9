package embedded

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// brokerDirVersion is the version of the layout below BrokerOptions.Dir.
const brokerDirVersion = 1

// ErrDirVersion says that a data directory was written by another version of
// sealstream than this one can read.
var ErrDirVersion = errors.New("data directory has another version")

// identity is what a broker keeps about itself from start to start.
type identity struct {
	Version int    `json:"version"`
	Cluster string `json:"cluster_id"`
	Ports   []int  `json:"ports"`
}

func identityPath(dir string) string { return filepath.Join(dir, "broker.json") }

// loadIdentity reads the identity of dir, or makes one for a new directory.
// It refuses to make one for a directory that already holds a log: a new
// cluster id over old topics would make every ledger look like another one's.
func loadIdentity(dir string) (identity, error) {
	var id identity
	b, err := os.ReadFile(identityPath(dir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Join(dir, "log", "meta.json")); err == nil {
			return id, fmt.Errorf("broker.json is missing beside an existing log: restore it from a backup of %s", dir)
		}
		return newIdentity()
	case err != nil:
		return id, fmt.Errorf("read broker.json: %w", explain(err))
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("read broker.json: %w: restore it from a backup of %s", err, dir)
	}
	if id.Version != brokerDirVersion {
		return id, fmt.Errorf("%w: broker.json says %d, this sealstream reads %d; run the version that wrote it, or give a new directory and ingest again",
			ErrDirVersion, id.Version, brokerDirVersion)
	}
	if id.Cluster == "" {
		return id, fmt.Errorf("broker.json names no cluster_id: restore it from a backup of %s", dir)
	}
	return id, nil
}

func newIdentity() (identity, error) {
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return identity{}, fmt.Errorf("make a cluster id: %w", err)
	}
	// The form Kafka gives its own cluster ids.
	return identity{Version: brokerDirVersion, Cluster: base64.RawURLEncoding.EncodeToString(raw[:])}, nil
}

func (id identity) save(dir string) error {
	b, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("write broker.json: %w", err)
	}
	return writeFileSync(identityPath(dir), append(b, '\n'))
}
