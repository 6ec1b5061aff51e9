package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFileErrorsSayWhatToDo(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{syscall.EROFS, "read-only"},
		{syscall.EACCES, "writable"},
		{syscall.EPERM, "writable"},
		{syscall.ENOSPC, "free some space"},
		{syscall.EDQUOT, "free some space"},
		{syscall.ENOTDIR, "a file stands"},
	} {
		in := &fs.PathError{Op: "open", Path: "/data/x", Err: tc.err}
		out := explain(in)
		if !errors.Is(out, tc.err) || !strings.Contains(out.Error(), tc.want) || !strings.Contains(out.Error(), "/data/x") {
			t.Errorf("%v became %q, want the path and %q", in, out, tc.want)
		}
	}
	if plain := errors.New("other"); explain(plain) != plain {
		t.Error("an error without a remedy was changed")
	}
}

func TestWriteFileSyncReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []string{"first", "the second"} {
		if err := writeFileSync(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v; want mode 0600", st, err)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}
