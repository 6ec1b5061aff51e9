package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A directory that was copied or moved uses the database that came with it, whatever
// version wrote down where it was; one whose data is elsewhere goes on there.
func TestPostgresDirKnowsItsOwnDatabase(t *testing.T) {
	const elsewhere = "/var/lib/sealstream/pg-0123456789ab"
	for _, c := range []struct {
		name, state string
		there       bool // the database lies below the directory
		want, file  string
	}{
		{"version 1, in its place", `{"version":1,"port":7,"major":15,"data":"DIR/server"}`, true, "DIR/server", "server"},
		{"version 1, copied", `{"version":1,"port":7,"major":15,"data":"/where/it/was/postgres/server"}`, true, "DIR/server", "server"},
		{"version 1, data elsewhere", `{"version":1,"port":7,"major":15,"data":"` + elsewhere + `"}`, false, elsewhere, elsewhere},
		{"version 1, not made yet", `{"version":1,"port":7}`, false, "", ""},
		{"version 2", `{"version":2,"port":7,"major":15,"data":"server"}`, true, "DIR/server", "server"},
		{"version 2, data elsewhere", `{"version":2,"port":7,"major":15,"data":"` + elsewhere + `"}`, false, elsewhere, elsewhere},
	} {
		dir := t.TempDir()
		with := func(s string) string {
			if len(s) > 3 && s[:3] == "DIR" {
				return dir + s[3:]
			}
			return s
		}
		state := c.state
		if c.name == "version 1, in its place" {
			state = fmt.Sprintf(`{"version":1,"port":7,"major":15,"data":%q}`, dir+"/server")
		}
		err := os.WriteFile(filepath.Join(dir, "postgres.json"), []byte(state), 0o600)
		if c.there {
			data := filepath.Join(dir, "server", "data")
			err = errors.Join(err, os.MkdirAll(data, 0o700), os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("15\n"), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // before the migration and after
			st, err := loadPGState(dir)
			if err != nil || st.Data != with(c.want) || st.Port != 7 {
				t.Errorf("%s: %+v, %v, want data in %s", c.name, st, err, with(c.want))
			}
			if err := MigratePostgresDir(dir); err != nil {
				t.Fatal(err)
			}
		}
		major := 15
		if c.file == "" {
			major = 0
		}
		got, err := os.ReadFile(filepath.Join(dir, "postgres.json"))
		if want := fmt.Sprintf(`{"version":2,"port":7,"major":%d,"data":%q}`+"\n", major, c.file); err != nil || string(got) != want {
			t.Errorf("%s: migrated to %s, %v, want %s", c.name, got, err, want)
		}
	}
	if err := MigratePostgresDir(t.TempDir()); err != nil {
		t.Errorf("nothing made yet: %v", err)
	}
}
