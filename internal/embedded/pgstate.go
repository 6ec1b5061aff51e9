package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// pgDirVersion is the version of the layout below PostgresOptions.Dir. In version 1
// the place of the data was absolute, so that a copy of the directory, such as a
// restored backup, went on using the database of the original.
const pgDirVersion = 2

// farDataBase is where the data goes when the server's user cannot reach Dir.
const farDataBase = "/var/lib/sealstream"

// pgState is what an embedded PostgreSQL keeps about itself from start to
// start. Major is 0 until the database is made. Data is absolute here, and relative
// in the file where it lies below the directory.
type pgState struct {
	Version int    `json:"version"`
	Port    int    `json:"port"`
	Major   int    `json:"major"`
	Data    string `json:"data"`
}

// MigratePostgresDir brings what an older version left in a directory of
// [PostgresOptions] up to date. Doing it again changes nothing; nobody may use the
// directory meanwhile.
func MigratePostgresDir(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "postgres.json")); errors.Is(err, fs.ErrNotExist) {
		return nil // made by a first start that did not come this far, or with a server that was given
	}
	st, err := loadPGState(dir)
	if err != nil {
		return fmt.Errorf("postgres in %s: %w", dir, err)
	}
	if err := st.save(dir); err != nil {
		return fmt.Errorf("postgres in %s: %w", dir, err)
	}
	return nil
}

func loadPGState(dir string) (pgState, error) {
	st := pgState{Version: pgDirVersion}
	b, err := os.ReadFile(filepath.Join(dir, "postgres.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("read postgres.json: %w", explain(err))
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return st, fmt.Errorf("read postgres.json: %w: restore it from a backup of %s", err, dir)
	}
	if st.Version < 1 || st.Version > pgDirVersion {
		return st, fmt.Errorf("%w: postgres.json says %d, this sealstream reads %d; run the version that wrote it, or give a new directory",
			ErrDirVersion, st.Version, pgDirVersion)
	}
	st.Data = located(dir, st)
	st.Version = pgDirVersion
	return st, nil
}

// located is where the data lies, as an absolute path.
func located(dir string, st pgState) string {
	home := filepath.Join(dir, "server")
	switch {
	case st.Data == "" || st.Data == home:
		return st.Data
	case !filepath.IsAbs(st.Data):
		return filepath.Join(dir, st.Data)
	}
	// Version 1 named the place where the directory was made. If the database came
	// along when the directory was copied or moved, that is the one to use.
	if _, err := os.Stat(filepath.Join(home, "data", "PG_VERSION")); err == nil {
		return home
	}
	return st.Data
}

func (st pgState) save(dir string) error {
	if rel, err := filepath.Rel(dir, st.Data); err == nil && filepath.IsLocal(rel) {
		st.Data = rel
	}
	b, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("write postgres.json: %w", err)
	}
	return writeFileSync(filepath.Join(dir, "postgres.json"), append(b, '\n'))
}

// place settles where the data lies: where it was, else below Dir, else, when
// the server's user cannot reach that, below farDataBase.
func (p *Postgres) place(ctx context.Context, st *pgState) error {
	if st.Data == "" {
		home := filepath.Join(p.dir, "server")
		err := p.user.own(home)
		if err == nil {
			err = p.user.reaches(ctx, p.bin, home)
		}
		if err != nil && p.user.cred == nil {
			return err
		}
		if err != nil {
			var raw [6]byte
			if _, err := rand.Read(raw[:]); err != nil {
				return fmt.Errorf("make a directory name: %w", err)
			}
			far := filepath.Join(farDataBase, "pg-"+hex.EncodeToString(raw[:]))
			if err2 := p.placeFar(ctx, far); err2 != nil {
				return fmt.Errorf("the server runs as user %s, who cannot use %s (%w) nor %s (%w): give a data directory below one that all users may pass", p.user.name, home, err, far, err2)
			}
			p.log.WarnContext(ctx, "postgres keeps its data elsewhere: its user cannot reach the data directory", "user", p.user.name, "unreachable", home, "data", far)
			home = far
		}
		st.Data = home
		// Remembered before anything is made there, so that a start
		// that is killed does not lose track of it.
		if err := st.save(p.dir); err != nil {
			return err
		}
	}
	p.data = filepath.Join(st.Data, "data")
	if err := p.user.reaches(ctx, p.bin, st.Data); err != nil {
		return fmt.Errorf("the server runs as user %s, who cannot use %s: %w; every directory above it must be passable for that user", p.user.name, st.Data, err)
	}
	return nil
}

func (p *Postgres) placeFar(ctx context.Context, far string) error {
	if err := os.MkdirAll(farDataBase, 0o711); err != nil {
		return fmt.Errorf("make directory: %w", explain(err))
	}
	if err := p.user.own(far); err != nil {
		return err
	}
	return p.user.reaches(ctx, p.bin, far)
}

// initdb makes the database and returns the server's major version.
func (p *Postgres) initdb(ctx context.Context) (int, error) {
	fresh := p.data + ".new"
	pwFile := p.data + ".password"
	if err := errors.Join(os.RemoveAll(fresh), os.RemoveAll(pwFile)); err != nil {
		return 0, fmt.Errorf("remove a half-made database: %w", explain(err))
	}
	if err := p.user.write(pwFile, p.password); err != nil {
		return 0, err
	}
	defer os.Remove(pwFile)
	out, err := p.user.output(ctx, filepath.Join(p.bin, "initdb"),
		"-D", fresh, "-U", Superuser, "--pwfile="+pwFile, "--auth-host=scram-sha-256", "--auth-local=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions")
	if err != nil {
		return 0, fmt.Errorf("make the database: %w: %s", err, lastLines(out))
	}
	b, err := os.ReadFile(filepath.Join(fresh, "PG_VERSION"))
	if err != nil {
		return 0, fmt.Errorf("make the database: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("make the database: version of the new database: %w", err)
	}
	if err := os.Rename(fresh, p.data); err != nil {
		return 0, fmt.Errorf("make the database: %w", err)
	}
	return major, syncDir(filepath.Dir(p.data))
}

// serverArgs are the settings of one start; they win over the files in the
// data directory, so that an old directory follows the program.
//
// Errors of statements go to their client and not to the log, which would
// show values of rows. max_wal_size lets a bulk load run without a checkpoint
// every few seconds.
func (p *Postgres) serverArgs() []string {
	args := []string{"-D", p.data}
	for _, s := range [][2]string{
		{"listen_addresses", "127.0.0.1"},
		{"port", strconv.Itoa(p.port)},
		{"unix_socket_directories", ""},
		{"max_connections", "60"},
		{"shared_buffers", "128MB"},
		{"max_wal_size", "2GB"},
		{"checkpoint_timeout", "15min"},
		{"fsync", "on"},
		{"full_page_writes", "on"},
		{"synchronous_commit", "on"},
		{"password_encryption", "scram-sha-256"},
		{"timezone", "UTC"},
		{"log_timezone", "UTC"},
		{"logging_collector", "off"},
		{"log_destination", "stderr"},
		{"log_min_messages", "log"},
		{"log_min_error_statement", "panic"},
		{"log_error_verbosity", "terse"},
		{"log_checkpoints", "off"},
		{"log_line_prefix", "%m [%p] "},
	} {
		args = append(args, "-c", s[0]+"="+s[1])
	}
	return args
}

// serverLogMax is the size at which the server's log is put aside at a start.
const serverLogMax = 16 << 20

func openServerLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > serverLogMax {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("put the server's log aside: %w", explain(err))
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", explain(err))
	}
	return f, nil
}

// tail returns the end of what a log got since from.
func tail(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return "(not readable)"
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, from, 64<<10))
	if err != nil {
		return "(not readable)"
	}
	return lastLines(b)
}

func lastLines(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " | ")
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
