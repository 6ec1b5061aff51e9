//go:build fetch && linux

package embedded

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// The real download (15 MB), checked, unpacked and run:
//
//	go test -tags fetch -run TestFetchedBinariesRun ./internal/embedded
func TestFetchedBinariesRun(t *testing.T) {
	user, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	dir := passableDir(t)
	cache := filepath.Join(filepath.Dir(dir), "cache")
	bin, err := fetchBinaries(t.Context(), cache, user, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	p := startPostgres(t, PostgresOptions{Dir: dir, BinDir: bin})
	if got := query(t, p, "SHOW server_version"); got != "17.11" {
		t.Fatalf("server version %s, want 17.11", got)
	}
}
