package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// logTo has the log written to the buffer that it returns until the test ends.
func logTo(t *testing.T) *bytes.Buffer {
	t.Helper()
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &log
}

// When another file takes the place of the database, the store answers nothing,
// as it cannot see what is revoked there. It says so once, and works again when
// its file is back.
func TestSQLiteFileIsReplaced(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, path string){
		"by a backup": func(t *testing.T, path string) {
			backup := path + ".backup"
			storetest.Exec(t, "sqlite:"+path, fmt.Sprintf("VACUUM INTO '%s'", backup))
			moveDatabase(t, path, path+".kept")
			moveDatabase(t, backup, path)
		},
		"by nothing": func(t *testing.T, path string) { moveDatabase(t, path, path+".kept") },
		"by a folder": func(t *testing.T, path string) {
			moveDatabase(t, path, path+".kept")
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := logTo(t)
			url := storetest.SQLite(t)
			path, _ := store.SQLitePath(url)
			st := storetest.Open(t, url)
			owner := storetest.MustOwner(t, st)
			secret, key := storetest.MustKey(t, st, owner)
			hashes := []keytext.Hash{storetest.Hasher.Hash(secret)}
			revoke := func(st *store.Store) error {
				_, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
				return err
			}

			replace(t, path)
			if name == "by a backup" { // and the key is revoked there
				other := storetest.Open(t, url)
				if err := revoke(other); err != nil {
					t.Fatal(err)
				}
				if err := other.Close(); err != nil {
					t.Fatal(err)
				}
			}
			var wg sync.WaitGroup
			for range 20 { // more than there are connections yet
				for what, ask := range map[string]func() error{
					"looking up": func() error { _, err := st.KeysByHash(t.Context(), hashes, false, nil); return err },
					"readiness":  func() error { return st.Ping(t.Context()) },
					"a page":     func() error { _, err := st.Keys(t.Context(), owner.AccountID, models.KeyFilter{}); return err },
					"revoking":   func() error { return revoke(st) },
				} {
					wg.Go(func() {
						if err := ask(); models.CodeOf(err) != models.CodeUnavailable {
							t.Errorf("%s: %v, want unavailable", what, err)
						}
					})
				}
			}
			wg.Wait()
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
				t.Errorf("%d errors are logged, want 1: %s", n, log)
			}

			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			moveDatabase(t, path+".kept", path)
			if found := find(t, st, secret); len(found) != 1 || found[0].RevokedAt != 0 {
				t.Errorf("with the file back the store finds %v", found)
			}
			if err := revoke(st); err != nil {
				t.Error(err)
			}
		})
	}
}

// moveDatabase moves a database's file and those that SQLite keeps beside it.
func moveDatabase(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(from+suffix, to+suffix); err != nil && (suffix == "" || !errors.Is(err, fs.ErrNotExist)) {
			t.Fatal(err)
		}
	}
}

// A change that is committed in a file that has lost its path is not confirmed.
func TestSQLiteFileIsReplacedDuringAChange(t *testing.T) {
	logTo(t)
	url := storetest.SQLite(t)
	path, _ := store.SQLitePath(url)
	st := storetest.Open(t, url)
	_, key := storetest.MustKey(t, st, storetest.MustOwner(t, st))
	err := st.ChangeByKey(t.Context(), "testing", models.Principal{KeyID: key.ID, AccountID: key.AccountID}, models.FullAccess,
		func(*gorm.DB, models.Instant) error { return os.Rename(path, path+".kept") })
	if models.CodeOf(err) != models.CodeUnavailable {
		t.Errorf("the change is answered %v", err)
	}
	if entries, err := filepath.Glob(path); err != nil || len(entries) > 0 {
		t.Errorf("%v was made anew, %v", entries, err)
	}
}
