package store_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib"

	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func TestMigrateTwice(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		if err := st.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := migrationStates(t, st)
		if len(first) == 0 || first[len(first)-1].AppliedAt.IsZero() {
			t.Fatalf("after Migrate: %v", first)
		}
		if err := st.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, migrationStates(t, st)); diff != "" {
			t.Errorf("the second Migrate changed something (-first +second):\n%s", diff)
		}
	})
}

func TestMigrationStatesBeforeMigrate(t *testing.T) {
	storetest.EachEmpty(t, func(t *testing.T, url string) {
		states := migrationStates(t, storetest.Open(t, url))
		if len(states) == 0 {
			t.Fatal("no migrations")
		}
		for _, m := range states {
			if !m.AppliedAt.IsZero() {
				t.Errorf("%s was applied to an empty database", m.Name)
			}
		}
	})
}

// Replicas of a new version start together.
func TestMigrateConcurrently(t *testing.T) {
	const replicas = 10
	storetest.EachEmpty(t, func(t *testing.T, url string) {
		stores := make([]*store.Store, replicas)
		errs := make([]error, replicas)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range replicas {
			wg.Go(func() {
				<-start
				st, err := store.Open(t.Context(), store.Config{URL: url})
				if err != nil {
					errs[i] = err
					return
				}
				stores[i] = st
				errs[i] = st.Migrate(t.Context())
			})
		}
		close(start)
		wg.Wait()
		for _, st := range stores {
			if st != nil {
				defer st.Close()
			}
		}
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, m := range migrationStates(t, stores[0]) {
			if m.AppliedAt.IsZero() || seen[m.Name] {
				t.Errorf("%s: applied at %v, seen before: %v", m.Name, m.AppliedAt, seen[m.Name])
			}
			seen[m.Name] = true
		}
		if applied, once := versions(t, url); applied != once || once == 0 {
			t.Errorf("%d migrations applied for %d versions", applied, once)
		}
	})
}

func TestMigrateRefusesNewerDatabase(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		db := openSQL(t, url)
		if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)"); err != nil {
			t.Fatal(err)
		}
		st := storetest.Open(t, url)
		_, statesErr := st.MigrationStates(t.Context())
		for name, err := range map[string]error{"Migrate": st.Migrate(t.Context()), "MigrationStates": statesErr} {
			if err == nil {
				t.Errorf("%s accepted a newer database", name)
				continue
			}
			msg := err.Error()
			if !strings.Contains(msg, "99999") || !strings.Contains(msg, "newer") || strings.Contains(msg, "\n") {
				t.Errorf("%s: %q, want one line that names the version and what to do", name, msg)
			}
		}
	})
}

func TestSQLiteFileIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	path := filepath.Join(dir, "a b?c#d%20.db") // a name is not part of a URL
	st := storetest.Open(t, "sqlite:"+path)
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v, want mode 0700", info, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, f := range files {
		names = append(names, f.Name())
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", f.Name(), info.Mode().Perm())
		}
	}
	base := filepath.Base(path)
	if diff := cmp.Diff([]string{base, base + "-shm", base + "-wal"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func migrationStates(t *testing.T, st *store.Store) []store.MigrationState {
	t.Helper()
	states, err := st.MigrationStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return states
}

// openSQL opens the database behind the store's back.
func openSQL(t *testing.T, url string) *sql.DB {
	t.Helper()
	driver, source := "pgx", url
	if path, ok := store.SQLitePath(url); ok {
		driver, source = "sqlite", path
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// versions counts the rows of the schema's history and the distinct versions among them.
func versions(t *testing.T, url string) (rows, distinct int) {
	t.Helper()
	err := openSQL(t, url).QueryRowContext(context.Background(),
		"SELECT count(*), count(DISTINCT version_id) FROM goose_db_version").Scan(&rows, &distinct)
	if err != nil {
		t.Fatal(err)
	}
	return rows, distinct
}
