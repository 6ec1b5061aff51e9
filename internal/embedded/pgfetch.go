package embedded

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"github.com/ulikunitz/xz"
)

// The PostgreSQL that is downloaded when the machine has none.
const (
	fetchedMajor   = 17
	fetchedVersion = "17.11.0"
)

// fetchedSums are the SHA-256 sums of its archives, by platform. The sum that
// the repository publishes beside an archive proves only that the download is
// whole; these prove that it is the archive that was tried.
func fetchedSums() map[string]string {
	return map[string]string{
		"linux-amd64":        "f044ba1009e9c7ed62a5a9a6f923ca6327fe4e80d8f6bf4f8887dbc59ac14bed",
		"linux-arm64v8":      "3f389cec72930e0f0d6e917709593bbabcb417023c12d1f1eb7acc9ae7ab436c",
		"linux-amd64-alpine": "d4c71a0ed4756905b071aefc0bd0d0458a53a25edc643d473917cff1f49d1aa3",
	}
}

// maxArchive and maxFile bound what is unpacked.
const (
	maxArchive = 64 << 20
	maxFile    = 256 << 20
)

// fetcher gets server binaries into a cache directory.
type fetcher struct {
	cache    string
	platform string
	sum      string
	// download puts the archive into a directory under the name that
	// archiveName gives.
	download func(ctx context.Context, dir string) error
	log      *slog.Logger
}

// platform is the name of this machine in the names of archives.
func platform() string {
	arch := runtime.GOARCH
	if arch == "arm64" {
		arch += "v8"
	}
	if _, err := os.Stat("/etc/alpine-release"); err == nil {
		arch += "-alpine"
	}
	return runtime.GOOS + "-" + arch
}

func archiveName(platform string) string {
	return fmt.Sprintf("embedded-postgres-binaries-%s-%s.txz", platform, fetchedVersion)
}

// fetchBinaries returns a directory with server binaries that the account can
// run, downloading them if the cache does not hold them yet.
func fetchBinaries(ctx context.Context, cache string, user account, log *slog.Logger) (string, error) {
	f := &fetcher{cache: cache, platform: platform(), download: downloadByLibrary, log: log}
	f.sum = fetchedSums()[f.platform]
	if f.sum == "" {
		return "", fmt.Errorf("there are no binaries for %s", f.platform)
	}
	bin, err := f.get(ctx)
	if err != nil {
		return "", err
	}
	_, err = probe(ctx, user, bin)
	if err == nil || user.cred == nil {
		return bin, err
	}
	// The cache lies below a directory that only root may pass.
	f.cache = filepath.Join(farDataBase, "cache")
	log.WarnContext(ctx, "postgres binaries are kept elsewhere: the server's user cannot reach the cache", "user", user.name, "cache", cache, "instead", f.cache)
	if bin, err = f.get(ctx); err != nil {
		return "", err
	}
	_, err = probe(ctx, user, bin)
	return bin, err
}

func (f *fetcher) get(ctx context.Context) (string, error) {
	home := filepath.Join(f.cache, fmt.Sprintf("postgresql-%s-%s-%s", fetchedVersion, f.platform, f.sum[:12]))
	bin := filepath.Join(home, "bin")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil // it appeared whole, by a rename
	}
	if err := os.MkdirAll(f.cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache: %w", explain(err))
	}
	archive := filepath.Join(f.cache, archiveName(f.platform))
	if checkSum(archive, f.sum) != nil { // absent, or of an interrupted download
		f.log.InfoContext(ctx, "downloading postgres binaries", "version", fetchedVersion, "platform", f.platform, "into", f.cache)
		if err := os.RemoveAll(archive); err != nil {
			return "", fmt.Errorf("remove an unusable archive: %w", explain(err))
		}
		if err := f.download(ctx, f.cache); err != nil {
			return "", err
		}
		if err := checkSum(archive, f.sum); err != nil {
			return "", errors.Join(err, os.RemoveAll(archive))
		}
	}
	tmp, err := os.MkdirTemp(f.cache, "unpack-")
	if err != nil {
		return "", fmt.Errorf("unpack: %w", explain(err))
	}
	defer os.RemoveAll(tmp)
	if err := unpack(archive, tmp); err != nil {
		return "", err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("unpack: %w", err)
	}
	if err := os.Rename(tmp, home); err != nil {
		if _, err := os.Stat(bin); err == nil {
			return bin, nil // another process was faster
		}
		return "", fmt.Errorf("unpack: %w", explain(err))
	}
	return bin, nil
}

// downloadByLibrary has the library get the archive from its own repository,
// where it checks the published sum. The library would go on to unpack it, make
// a database and start a server, which it cannot do as root and which we do
// ourselves. So the place it is to unpack to lies behind a link that leads
// nowhere, and it ends with an error once the archive is there. Whether it is
// there is what counts, and the caller checks what it is.
func downloadByLibrary(ctx context.Context, dir string) error {
	tmp, err := os.MkdirTemp("", "sealstream-fetch-")
	if err != nil {
		return fmt.Errorf("download: %w", explain(err))
	}
	wall := filepath.Join(tmp, "wall")
	if err := os.Symlink(filepath.Join(tmp, "nowhere"), wall); err != nil {
		return fmt.Errorf("download: %w", explain(err))
	}
	pg := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Version(fetchedVersion).Port(0).Logger(io.Discard).CachePath(dir).
		RuntimePath(filepath.Join(tmp, "run")).DataPath(filepath.Join(tmp, "data")).BinariesPath(filepath.Join(wall, "bin")))
	ended := make(chan error, 1)
	go func() {
		defer os.RemoveAll(tmp)
		ended <- pg.Start()
	}()
	select {
	case err = <-ended:
	case <-ctx.Done(): // the library cannot be stopped; its download ends by itself
		return fmt.Errorf("download: %w", ctx.Err())
	}
	if _, statErr := os.Stat(filepath.Join(dir, archiveName(platform()))); statErr != nil {
		return fmt.Errorf("download: %w", errors.Join(err, statErr))
	}
	return nil
}

func checkSum(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check the archive: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxArchive)); err != nil {
		return fmt.Errorf("check the archive: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("archive %s has SHA-256 %s, want %s: it is not the one that was tried and is not used", filepath.Base(path), got, want)
	}
	return nil
}

// unpack lays the files of an archive below dir and nowhere else.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer root.Close()
	x, err := xz.NewReader(f)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	tr := tar.NewReader(x)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = place(root, h, tr)
		}
		if err != nil {
			return fmt.Errorf("unpack: %w", explain(err))
		}
	}
}

func place(root *os.Root, h *tar.Header, content io.Reader) error {
	name := filepath.Clean(filepath.FromSlash(h.Name))
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
	default:
		return fmt.Errorf("%s is of a kind that does not belong there", h.Name)
	}
	if h.Size > maxFile {
		return fmt.Errorf("%s has %d bytes: want at most %d", h.Name, h.Size, maxFile)
	}
	mode := os.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Chmod(mode), f.Close())
}
