package main

import (
	"context"
	"errors"
)

func runConfig(_ context.Context, e *env, args []string) error {
	fs := flagSet(e, "config [--defaults] [--config FILE | --data DIR]", `
Prints the configuration as the roles will see it: the file, what the environment and
a running up say, and the defaults for the rest. It names the files that hold secrets
and never their contents. With --defaults it prints a commented configuration with
every key there is, to begin with.`)
	var t target
	t.flags(fs, e)
	defaults := fs.Bool("defaults", false, "print the defaults, with what each key means")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if err := noArguments(fs, rest); err != nil {
		return err
	}
	if *defaults {
		if t.configFile != "" || t.dataDir != "" {
			return errors.New("config --defaults shows what holds without a file: leave --config and --data out")
		}
		cfg := defaultConfig()
		return printConfig(e.stdout, &cfg, true)
	}
	cfg, err := t.load(e)
	if err != nil {
		return err
	}
	return printConfig(e.stdout, cfg, false)
}
