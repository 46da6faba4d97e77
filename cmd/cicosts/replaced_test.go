package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cicosts/models/store/storetest"
)

// When a backup takes the place of the SQLite file under a running server, a
// key that is revoked in the backup is not accepted by the server, which says
// once why it answers nothing.
func TestDatabaseFileIsReplaced(t *testing.T) {
	db := newDatabase(t)
	path := strings.TrimPrefix(db, "sqlite:")
	r := startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db})
	owner := newPerson(t, r.base)
	owner.setUp(r.setup)
	key := owner.generate(url.Values{"name": {"replaced"}, "mode": {"live"}})
	id := owner.newestKey()
	if status, _ := answered(t, r.base+"/v1/key", key); status != http.StatusOK {
		t.Fatalf("the new key is answered %d", status)
	}

	backup := filepath.Join(t.TempDir(), "backup.db")
	kept := filepath.Join(t.TempDir(), "kept.db")
	storetest.Exec(t, db, fmt.Sprintf("VACUUM INTO '%s'", backup))
	moveDatabase(t, path, kept)
	moveDatabase(t, backup, path)
	revoked := runProgram(t, "", nil, "key", "revoke", id, "--database-url", db)
	revoked.wantConfirmed(t, id)
	revoked.want(t, 0, id)

	for range 5 {
		if status, code := callWith(t, r.base+"/v1/key", key); status != http.StatusServiceUnavailable {
			t.Errorf("the key that is revoked in the backup is answered %d %s", status, code)
		}
		for _, page := range []string{"/readyz", "/settings/api"} {
			if status, _ := owner.get(page); status != http.StatusServiceUnavailable {
				t.Errorf("%s is answered %d", page, status)
			}
		}
	}
	if n := strings.Count(r.log.String(), "moved, removed or replaced, so nothing is answered"); n != 1 {
		t.Errorf("the log says %d times what to do, want once: %s", n, r.log)
	}

	moveDatabase(t, path, backup)
	moveDatabase(t, kept, path)
	if status, _ := answered(t, r.base+"/v1/key", key); status != http.StatusOK {
		t.Errorf("with the file back, the key is answered %d", status)
	}
	r.shutDown(t)
}

// moveDatabase moves a database's file and those that SQLite keeps beside it.
func moveDatabase(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if suffix != "" && !fileExists(from+suffix) {
			continue
		}
		if err := os.Rename(from+suffix, to+suffix); err != nil {
			t.Fatal(err)
		}
	}
}
