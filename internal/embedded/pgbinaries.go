package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
)

// minMajor is the oldest PostgreSQL that Sealstream works with.
const minMajor = 15

// systemBinaries is where Debian and its kin keep server binaries, one
// directory per major version.
const systemBinaries = "/usr/lib/postgresql/*/bin"

// found is one set of server binaries.
type found struct {
	bin   string
	major int
}

// findBinaries settles which server binaries to use: those that are given,
// else the newest on the machine, else downloaded ones. A database that exists
// needs the major version that made it.
func findBinaries(ctx context.Context, o *PostgresOptions, user account, major int, log *slog.Logger) (string, error) {
	if o.BinDir != "" {
		f, err := probe(ctx, user, o.BinDir)
		if err != nil {
			return "", err
		}
		if f.major < minMajor {
			return "", fmt.Errorf("%s holds PostgreSQL %d: want %d or newer", o.BinDir, f.major, minMajor)
		}
		if major != 0 && f.major != major {
			return "", fmt.Errorf("%s holds PostgreSQL %d, the database was made by %d: give the binaries of %d, or upgrade the database with pg_upgrade", o.BinDir, f.major, major, major)
		}
		return f.bin, nil
	}
	onMachine := machineBinaries(ctx, user)
	for _, f := range onMachine {
		if f.major >= minMajor && (major == 0 || f.major == major) {
			return f.bin, nil
		}
	}
	if major != 0 && major != fetchedMajor {
		return "", fmt.Errorf("the database was made by PostgreSQL %d, whose server binaries are not on this machine any more: install postgresql-%d", major, major)
	}
	if o.CacheDir == "" {
		return "", fmt.Errorf("no PostgreSQL %d or newer is on this machine: install one (Debian: apt-get install postgresql), or give the URL of a running server", minMajor)
	}
	bin, err := fetchBinaries(ctx, o.CacheDir, user, log)
	if err != nil {
		return "", fmt.Errorf("no PostgreSQL %d or newer is on this machine, and it cannot be downloaded: %w; install one (Debian: apt-get install postgresql), or give the URL of a running server", minMajor, err)
	}
	return bin, nil
}

// machineBinaries lists what is on the machine, newest first.
func machineBinaries(ctx context.Context, user account) []found {
	dirs, _ := filepath.Glob(systemBinaries) // the pattern is a constant
	if path, err := exec.LookPath("postgres"); err == nil {
		// Often a link into a directory from above; a lone copy without
		// its libraries beside it does not run and drops out below.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	var all []found
	seen := map[string]bool{}
	for _, d := range dirs {
		if seen[d] {
			continue
		}
		seen[d] = true
		if f, err := probe(ctx, user, d); err == nil {
			all = append(all, f)
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].major > all[j].major })
	return all
}

// probe runs the binaries of a directory to see that they work for the user
// the server will run as, and which version they are.
func probe(ctx context.Context, user account, dir string) (found, error) {
	for _, name := range []string{"postgres", "initdb"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return found{}, fmt.Errorf("%s holds no %s: %w", dir, name, err)
		}
	}
	// initdb looks for its postgres beside itself and compares versions.
	if out, err := user.output(ctx, filepath.Join(dir, "initdb"), "--version"); err != nil {
		return found{}, fmt.Errorf("run initdb of %s as %s: %w: %s", dir, user.name, err, lastLines(out))
	}
	out, err := user.output(ctx, filepath.Join(dir, "postgres"), "--version")
	if err != nil {
		return found{}, fmt.Errorf("run postgres of %s as %s: %w: %s", dir, user.name, err, lastLines(out))
	}
	major, err := majorOf(string(out))
	if err != nil {
		return found{}, err
	}
	return found{dir, major}, nil
}

func majorOf(version string) (int, error) {
	m := regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`).FindStringSubmatch(version)
	if m == nil {
		return 0, errors.New("postgres --version answered something else than a version")
	}
	return strconv.Atoi(m[1])
}
