package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sealstream/sealstream/internal/embedded/logrepair"
)

// repair brings the log into a state that kfake reads back without loss. It
// runs before every start.
func (b *Broker) repair(ctx context.Context, wasClean bool) error {
	// Our settings come from the program. What kfake saved of an earlier
	// start would come back beside them, so it goes.
	err := os.Remove(filepath.Join(b.logDir(), "broker_configs.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old settings: %w", explain(err))
	}
	if b.floors, err = loadFloors(filepath.Join(b.dir, "floors.json")); err != nil {
		return err
	}
	rep, err := logrepair.Repair(ctx, b.logDir(), logrepair.Options{
		Clean: wasClean, Cluster: b.id.Cluster, Listeners: brokerListeners, Floors: b.floors.all(), Now: time.Now(),
	})
	if err != nil {
		return explain(err)
	}
	switch {
	case rep.Fresh:
		b.log.InfoContext(ctx, "log is new")
	case rep.Repaired && !wasClean:
		b.log.WarnContext(ctx, "log repaired after an unclean stop", "partitions", rep.Partitions, "batches", rep.Batches, "bytes", rep.Bytes,
			"torn_bytes_cut", rep.TornBytes, "transactions_aborted", rep.Aborted, "producers_fenced", rep.Fenced)
	default:
		b.log.InfoContext(ctx, "log checked", "partitions", rep.Partitions, "batches", rep.Batches, "bytes", rep.Bytes)
	}
	// kfake keeps a descriptor open for every segment that was ever read, and
	// a write that gets none would be a lost one.
	if limit := openFileLimit(); uint64(rep.Segments) > limit/2 {
		b.log.WarnContext(ctx, "the log has many segments for the limit of open files: raise the limit (ulimit -n), or move to a real Kafka cluster", "segments", rep.Segments, "limit", limit)
	}
	if len(rep.Orphans) > 0 {
		b.log.WarnContext(ctx, "partition directories of no topic were set aside", "names", rep.Orphans, "into", filepath.Join(b.logDir(), "orphans"))
	}
	return nil
}
