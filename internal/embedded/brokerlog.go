package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
)

// kfakeLog passes on kfake's warnings, and takes those that tell of something
// it could not keep for what they are: the end. kfake logs them and goes on,
// and no other way to learn of them exists.
type kfakeLog struct {
	log    *slog.Logger
	broken func(error)
}

// Logf implements kfake.Logger.
func (l *kfakeLog) Logf(level kfake.LogLevel, format string, args ...any) {
	if level != kfake.LogLevelError && level != kfake.LogLevelWarn {
		return
	}
	ctx := context.Background()
	detail := fmt.Sprintf(format, args...)
	if tellsOfLoss(format) {
		l.broken(fmt.Errorf("the broker could not write: %s", detail))
		return
	}
	if level == kfake.LogLevelError {
		l.log.ErrorContext(ctx, "kfake reports an error", "detail", detail)
		return
	}
	l.log.DebugContext(ctx, "kfake reports a warning", "detail", detail)
}

// tellsOfLoss knows the messages by the start of their format. They are those
// of the pinned version of kfake; a test goes through its source.
func tellsOfLoss(format string) bool {
	for _, p := range lossFormats() {
		if strings.HasPrefix(format, p) {
			return true
		}
	}
	return false
}

func lossFormats() []string {
	return []string{"persist ", "endTx: failed to persist", "compact ", "rebuildSegments", "save session state",
		"partition %s-%d segment %d: ", "delete topic ", "pids.log: ", "groups.log: "}
}
