package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"
)

// flagSet makes the flags of a mode. about is printed above them by --help.
func flagSet(e *env, synopsis, about string) *flag.FlagSet {
	fs := flag.NewFlagSet(strings.Fields(synopsis)[0], flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are returned; help is printed below
	fs.Usage = func() {
		fs.SetOutput(e.stdout)
		_, _ = fmt.Fprintf(e.stdout, "usage: sealstream %s\n\n%s\n\n", synopsis, strings.TrimSpace(about))
		fs.PrintDefaults()
		fs.SetOutput(io.Discard)
	}
	return fs
}

// parse reads flags wherever they stand and returns the other arguments.
func parse(fs *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, fmt.Errorf("%w: sealstream help %s lists the flags", err, fs.Name())
		}
		args = fs.Args()
		if len(args) == 0 {
			return rest, nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

// noArguments refuses arguments of a mode that takes none.
func noArguments(fs *flag.FlagSet, rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("%s takes no argument %q", fs.Name(), clip(rest[0]))
	}
	return nil
}

// positive refuses a time that would be over before anything began.
func positive(flag string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%s %s: want more than 0", flag, d)
	}
	return nil
}

// target says which installation a mode works on.
type target struct {
	configFile string
	dataDir    string
}

func (t *target) flags(fs *flag.FlagSet, e *env) {
	fs.StringVar(&t.configFile, "config", e.getenv("SEALSTREAM_CONFIG"), "configuration `file`; also SEALSTREAM_CONFIG")
	fs.StringVar(&t.dataDir, "data", e.getenv("SEALSTREAM_DATA"), "data `directory` of a running sealstream up; also SEALSTREAM_DATA")
}

// load returns the configuration with what a running `up` says laid over it.
func (t *target) load(e *env) (*Config, error) {
	cfg, err := loadConfig(t.configFile, e.getenv)
	if err == nil {
		e.kafka = &cfg.Kafka
	}
	if err != nil || t.dataDir == "" {
		return cfg, err
	}
	if t.dataDir, err = filepath.Abs(t.dataDir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := checkDir(t.dataDir, ownVersions()); err != nil {
		return nil, err
	}
	info, err := LoadRunInfo(t.dataDir)
	if err != nil {
		return nil, err
	}
	cfg.applyRun(t.dataDir, info)
	return cfg, nil
}

// needKafka refuses a configuration without brokers.
func (cfg *Config) needKafka() error {
	if len(cfg.Kafka.Brokers) == 0 {
		return errors.New("no Kafka cluster is named: give --data DIR of a running sealstream up, or --config FILE with kafka.brokers")
	}
	return nil
}

// logger writes the process's log to standard error.
func (cfg *Config) logger(e *env) *slog.Logger {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	opts := &slog.HandlerOptions{Level: levels[cfg.Log.Level]}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(e.stderr, opts))
	}
	return slog.New(slog.NewTextHandler(e.stderr, opts))
}

// isTerminal says whether a person watches w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
