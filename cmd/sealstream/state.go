package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sealstream/sealstream/internal/secrets"
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/schemas"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// stateFile keeps what a data directory must remember for ever.
const stateFile = "state.json"

// dirState is the state of a data directory.
type dirState struct {
	Version int `json:"version"`
	// Migrating is the version that a migration under way leads to, 0 when none is.
	Migrating int `json:"migrating,omitempty"`
	// Program is the build that made the directory or migrated it last: it is what an
	// older program names when it refuses.
	Program string `json:"program,omitempty"`
	// Schema is the version to which the database was migrated, or was about to be. It
	// stands here so that a program too old for the database stops before it starts any.
	Schema int `json:"schema,omitempty"`
	// Name is the log name of this installation; every ledger carries it, so it is
	// made once. A shared default would collide where logs of many are watched.
	Name string `json:"name"`
	// RegistryPort is the port the registry was given at first.
	RegistryPort int `json:"registry_port"`
	// Seeded says that the sample events of the first start are in.
	Seeded bool `json:"seeded"`
}

// loadDirState reads the state of dir, fs.ErrNotExist when there is none yet. It may be
// of an older version: see migrateDir.
func loadDirState(dir string) (*dirState, error) {
	if err := checkDir(dir, ownVersions()); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	var s dirState
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("data directory %s: %s is damaged (%w): restore it from a backup", dir, stateFile, err)
	}
	if s.Name == "" {
		return nil, fmt.Errorf("data directory %s: %s does not hold the name of the ledgers: restore it from a backup; a new name would stop every partition", dir, stateFile)
	}
	return &s, nil
}

// openDirState reads the state of dir or begins it; fresh says that it did. A fresh
// state is saved only when the directory's secrets are there: a directory that has a
// state never gets new ones.
func openDirState(dir string) (s *dirState, fresh bool, err error) {
	s, err = loadDirState(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, false, err
	}
	if _, serr := os.Stat(filepath.Join(dir, "broker", "broker.json")); serr == nil {
		return nil, false, fmt.Errorf("data directory %s has a broker's log and no %s, which holds the name of its ledgers: restore that file from a backup; a new name would stop every partition", dir, stateFile)
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	s = &dirState{Version: stateVersion, Program: version(), Name: hex.EncodeToString(random[:]) + ".sealstream.invalid/log"}
	return s, true, nil
}

func (s *dirState) save(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("save %s: %w", stateFile, err)
	}
	return secrets.Replace(filepath.Join(dir, stateFile), append(b, '\n'))
}

// loadKeys reads the salt masters.
func loadKeys(cfg *Config) (*ledger.Keyring, error) {
	if cfg.Seal.SaltDir == "" {
		return nil, errors.New("seal.salt_dir is not set: commitments need salts, or erased content can be guessed")
	}
	masters, err := secrets.LoadSalts(cfg.Seal.SaltDir)
	if err != nil {
		return nil, fmt.Errorf("seal.salt_dir: %w", err)
	}
	return ledger.NewKeyring(masters, cfg.Seal.SaltKey)
}

// tenants says whose the records of each sealed topic are.
func (cfg *Config) tenants() postgres.Tenants {
	t := postgres.Tenants{}
	for _, s := range cfg.Sources {
		if s.Tenant != "" {
			t[schemas.SealedName(cfg.Kafka.Prefix+s.Topic)] = s.Tenant
		}
	}
	return t
}
