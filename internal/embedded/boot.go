package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	_, _ = ctx, wasClean
	return nil
}
