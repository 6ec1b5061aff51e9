package main

import (
	"context"
	"fmt"
	goruntime "runtime"
	"runtime/debug"
)

// version names the build: the module's version where there is one, else the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v, dirty := info.Main.Version, ""
	if v != "" && v != "(devel)" {
		return v
	}
	v = "devel"
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v = "devel-" + s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	return v + dirty
}

func runVersion(_ context.Context, e *env, args []string) error {
	fs := flagSet(e, "version", "Prints the version of this program and of Go.")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if err := noArguments(fs, rest); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "sealstream %s %s %s/%s\n", version(), goruntime.Version(), goruntime.GOOS, goruntime.GOARCH)
	return err
}
