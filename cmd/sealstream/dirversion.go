package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/sealstream/sealstream/internal/embedded"
	"github.com/sealstream/sealstream/sinks/postgres"
)

// stateVersion is the version of a data directory's layout. Whoever changes the layout
// of any part of it (broker, registry, postgres, secrets) adds a step to dirSteps, so
// that this one number says who can read the whole.
const stateVersion = 2

// dirStep brings a data directory from the version before to the version to. A crash
// may come at any point of it, so doing it again must lead to the same end.
type dirStep struct {
	to   int
	what string
	do   func(dir string) error
}

func dirSteps() []dirStep {
	return []dirStep{
		{1, "the version is written down", func(string) error { return nil }},
		{2, "the place of the database is kept relative to the directory", func(dir string) error {
			return embedded.MigratePostgresDir(filepath.Join(dir, "postgres"))
		}},
	}
}

// versions are what a program reads: its own in the binary, others in tests.
type versions struct {
	dir, schema int
	program     string
}

func ownVersions() versions {
	return versions{dir: stateVersion, schema: postgres.SchemaVersion(), program: version()}
}

// checkDir refuses a data directory that a newer program has migrated, or begun to. It
// only reads, and only what no later version may change: it comes before everything
// else that is done with a directory. No directory, or one without a state, is fine.
func checkDir(dir string, own versions) error {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data directory %s: read %s: %w", dir, stateFile, plainError(err))
	}
	var has struct {
		Version   int    `json:"version"`
		Migrating int    `json:"migrating"`
		Schema    int    `json:"schema"`
		Program   string `json:"program"`
	}
	if err := json.Unmarshal(b, &has); err != nil {
		return fmt.Errorf("data directory %s: %s is damaged (%w): restore it from a backup", dir, stateFile, err)
	}
	const remedy = "run the newer sealstream, or restore a backup made before the upgrade; nothing was touched"
	by := "a newer sealstream"
	if has.Program != "" {
		by = "sealstream " + clip(has.Program)
	}
	switch v := max(has.Version, has.Migrating); {
	case v > own.dir:
		return fmt.Errorf("data directory %s has version %d, made by %s; this program (%s) reads up to version %d: %s", dir, v, by, own.program, own.dir, remedy)
	case has.Schema > own.schema:
		return fmt.Errorf("the database of data directory %s has schema version %d, made by %s; this program (%s) knows up to version %d: %s",
			dir, has.Schema, by, own.program, own.schema, remedy)
	case has.Version < 0 || has.Migrating < 0:
		return fmt.Errorf("data directory %s: %s says version %d, which never was: restore it from a backup", dir, stateFile, min(has.Version, has.Migrating))
	}
	return nil
}

// migrateDir brings an older data directory up to date. That it is under way is written
// down first, so that no older program opens what is half changed; the version last, so
// that a crash on the way makes the next start do it again.
func migrateDir(ctx context.Context, dir string, s *dirState, steps []dirStep, log *slog.Logger) error {
	latest := steps[len(steps)-1].to
	if s.Version == latest && s.Migrating == 0 {
		return nil
	}
	from := s.Version
	s.Migrating, s.Program = latest, version()
	if err := s.save(dir); err != nil {
		return err
	}
	for _, step := range steps {
		if step.to <= from {
			continue
		}
		if err := step.do(dir); err != nil {
			return fmt.Errorf("migrate data directory %s to version %d (%s): %w", dir, step.to, step.what, err)
		}
	}
	s.Version, s.Migrating = latest, 0
	if err := s.save(dir); err != nil {
		return err
	}
	log.InfoContext(ctx, "data directory migrated: an older sealstream does not open it any more", "data", dir, "from", from, "version", latest)
	return nil
}
