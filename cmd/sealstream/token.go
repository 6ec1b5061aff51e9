package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealstream/sealstream/api/auth"
)

func runToken(_ context.Context, e *env, args []string) error {
	names := make([]string, 0, len(auth.Roles()))
	for _, r := range auth.Roles() {
		names = append(names, string(r))
	}
	fs := flagSet(e, "token --role ROLE [--tenant T] [--ttl D] [--data DIR | --config FILE]", `
Prints an access token of the built-in issuer, for one-machine mode: whoever can read
the key file can make any token. Roles: `+strings.Join(names, ", ")+`.`)
	var t target
	t.flags(fs, e)
	role := fs.String("role", "", "`role` of the token")
	tenant := fs.String("tenant", "", "`tenant` it is for, * for all; default: producer.tenant for the role ingest, else *")
	subject := fs.String("subject", "local", "who it stands for")
	ttl := fs.Duration("ttl", 24*time.Hour, "how long it is valid")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if err := noArguments(fs, rest); err != nil {
		return err
	}
	if *role == "" {
		return fmt.Errorf("give --role, one of %s", strings.Join(names, ", "))
	}
	r, err := auth.ParseRole(*role)
	if err != nil {
		return err
	}
	cfg, err := t.load(e)
	if err != nil {
		return err
	}
	if cfg.API.LocalKeyFile == "" {
		return errors.New("there is no built-in issuer: give --data DIR of a running up, or set api.local_key_file")
	}
	issuer, err := auth.OpenLocalIssuer(cfg.API.LocalKeyFile, time.Now)
	if err != nil {
		return err
	}
	if *tenant == "" {
		*tenant = defaultTenant(r, cfg)
	}
	token, err := issuer.Mint(r, *tenant, *subject, *ttl)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, token)
	return err
}

// defaultTenant is all tenants, except for those who write: events belong to one.
func defaultTenant(r auth.Role, cfg *Config) string {
	if r == auth.Ingest {
		return cfg.Producer.Tenant
	}
	return auth.Global
}
