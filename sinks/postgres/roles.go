package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// makeRoles makes the roles, lets them into the database and sets passwords.
// Errors never show a password; the server only ever gets its SCRAM verifier, so that
// no statement log can.
func makeRoles(ctx context.Context, conn *pgx.Conn, passwords map[string]string) error {
	roles := []string{RoleOwner, RoleWriter, RoleReader, RoleRepair, RoleJobs}
	known := map[string]bool{}
	for _, role := range roles {
		known[role] = true
		var there bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)", role).Scan(&there); err != nil {
			return fmt.Errorf("look for role %s: %w", role, classify(err))
		}
		if !there {
			if _, err := conn.Exec(ctx, "CREATE ROLE "+role+" LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE"); err != nil {
				return fmt.Errorf("create role %s: %w", role, classify(err))
			}
		}
	}
	for role, password := range passwords {
		if !known[role] {
			return fmt.Errorf("password for role %s: there is no such role", role)
		}
		verifier, err := scramVerifier(password)
		if err != nil {
			return &PasswordError{Role: role, Err: err}
		}
		// ALTER ROLE takes no parameters; a verifier has no character that needs quoting.
		if _, err := conn.Exec(ctx, "ALTER ROLE "+role+" PASSWORD '"+verifier+"'"); err != nil {
			return fmt.Errorf("set password of role %s: %w", role, classify(err))
		}
	}
	var database string
	if err := conn.QueryRow(ctx, "SELECT current_database()").Scan(&database); err != nil {
		return fmt.Errorf("ask for the database's name: %w", classify(err))
	}
	for _, sql := range []string{
		"GRANT CONNECT ON DATABASE " + pgx.Identifier{database}.Sanitize() + " TO " + RoleOwner + ", " + RoleWriter + ", " + RoleReader + ", " + RoleRepair + ", " + RoleJobs,
		"REVOKE CREATE ON SCHEMA public FROM PUBLIC",
		"GRANT USAGE ON SCHEMA public TO " + RoleWriter + ", " + RoleReader + ", " + RoleRepair + ", " + RoleJobs,
		"GRANT USAGE, CREATE ON SCHEMA public TO " + RoleOwner,
		// A superuser may act as the owner anyway; another migrating role must be let.
		`DO $$ BEGIN IF NOT pg_catalog.pg_has_role(current_user, '` + RoleOwner + `', 'MEMBER') THEN GRANT ` + RoleOwner + ` TO CURRENT_USER; END IF; END $$`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("grant roles: %w", classify(err))
		}
	}
	return nil
}

// PasswordError means that a password that was given for a role is no good.
type PasswordError struct {
	Role string
	Err  error
}

func (e *PasswordError) Error() string { return fmt.Sprintf("password for role %s: %v", e.Role, e.Err) }

// Unwrap returns what is wrong with it.
func (e *PasswordError) Unwrap() error { return e.Err }

// scramVerifier computes what PostgreSQL stores for a password (RFC 5803).
func scramVerifier(password string) (string, error) {
	const iterations = 4096
	if len(password) < 8 {
		return "", fmt.Errorf("want at least 8 characters")
	}
	for _, c := range []byte(password) {
		if c < 0x20 || c > 0x7E {
			return "", fmt.Errorf("want printable ASCII only")
		}
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	sum := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(sum(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(sum(salted, "Server Key"))), nil
}
