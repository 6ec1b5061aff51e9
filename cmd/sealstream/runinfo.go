package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"

	"github.com/sealstream/sealstream/internal/secrets"
)

// RunInfo is what a running `up` tells others: its ready file, and DIR/run.json. The
// field names are part of what scripts rely on.
type RunInfo struct {
	API      string            `json:"api"`      // base URL
	Kafka    []string          `json:"kafka"`    // host:port
	Registry string            `json:"registry"` // base URL
	Postgres string            `json:"postgres"` // URL of the superuser, password included
	Tokens   map[string]string `json:"tokens"`   // role -> file that holds a token
	PID      int               `json:"pid"`
}

// Places within a data directory.
const (
	runFile   = "run.json"
	lockFile  = "up.lock"
	saltDir   = "salt"
	secretDir = "secrets"
	tokenDir  = "tokens"
	ingestDir = "ingest"

	tokenKeyFile  = secretDir + "/token-key.pem"
	pseudonymFile = secretDir + "/pseudonym.key"
	writerFile    = secretDir + "/postgres-writer.url"
	readerFile    = secretDir + "/postgres-reader.url"
	jobsFile      = secretDir + "/postgres-jobs.url"
	ownerFile     = secretDir + "/postgres-owner.url"
)

// Write puts the information into a file of mode 0600: it holds a password.
func (r *RunInfo) Write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return secrets.Replace(path, append(b, '\n'))
}

// errNotRunning means that there is no `up` to talk to.
var errNotRunning = errors.New("no running up")

// LoadRunInfo reads what the `up` that runs in a data directory says. A file that a
// killed `up` left behind is not believed: the lock is gone with its process.
func LoadRunInfo(dir string) (*RunInfo, error) {
	none := fmt.Errorf("%w in %s: start it with: sealstream up --data %s", errNotRunning, dir, dir)
	if running, err := isRunning(dir); err != nil {
		return nil, err
	} else if !running {
		return nil, none
	}
	s, err := secrets.ReadText(filepath.Join(dir, runFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s that is ready: it is still starting; try again when it says so", errNotRunning, dir)
	}
	if err != nil {
		return nil, err
	}
	var r RunInfo
	if err := json.Unmarshal(s.Bytes(), &r); err != nil {
		return nil, fmt.Errorf("%s is damaged: start up again", filepath.Join(dir, runFile))
	}
	p, err := os.FindProcess(r.PID)
	if err == nil {
		err = p.Signal(syscall.Signal(0))
	}
	// EPERM: it is there, and belongs to somebody else.
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, none
	}
	return &r, nil
}

// isRunning says whether an `up` holds the data directory.
func isRunning(dir string) (bool, error) {
	path := filepath.Join(dir, lockFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	l := flock.New(path)
	free, err := l.TryRLock()
	if err != nil {
		return false, fmt.Errorf("look whether an up runs in %s: %w", dir, err)
	}
	if free {
		_ = l.Unlock()
	}
	return !free, nil
}

// applyRun lays a running `up` over a configuration: its servers, and the secrets that
// lie in its data directory.
func (cfg *Config) applyRun(dir string, r *RunInfo) {
	cfg.applyDir(dir)
	cfg.Kafka.Brokers, cfg.Kafka.TLS, cfg.Kafka.SASL = r.Kafka, TLSConfig{}, SASLConfig{}
	cfg.Registry = RegistryConfig{URL: r.Registry}
	cfg.embeddedAt = r.Registry
}

// applyDir sets the secrets of one-machine mode.
func (cfg *Config) applyDir(dir string) {
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	cfg.Seal.SaltDir = at(saltDir)
	if st, err := loadDirState(dir); err == nil && cfg.Seal.Name == "" {
		cfg.Seal.Name = st.Name
	}
	cfg.Producer.PseudonymKeyFile = at(pseudonymFile)
	cfg.SinkPostgres.WriterURLFile, cfg.SinkPostgres.ReaderURLFile = at(writerFile), at(readerFile)
	cfg.SinkPostgres.OwnerURLFile, cfg.SinkPostgres.JobsURLFile = at(ownerFile), at(jobsFile)
	cfg.API.LocalKeyFile = at(tokenKeyFile)
}
