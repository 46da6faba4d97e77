// Package storetest gives tests throw-away databases: SQLite files, and databases on a PostgreSQL server that the test
// process starts when first asked and that ends with it. It is imported by tests only.
//
// Packages whose tests use PostgreSQL declare
//
//	func TestMain(m *testing.M) { storetest.Main(m) }
//
// Tests inside package store itself belong to package store_test, since this package imports store.
package storetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"cicosts/models/store"
)

// Main runs the tests and stops the shared PostgreSQL server. Without it the server ends too, but only after the process
// has.
func Main(m *testing.M) {
	m.Run()
	shared.stop()
}

// Each runs fn as the subtests "sqlite" and "postgres", each on a store of its own with the newest schema and no rows,
// closed when the subtest ends.
func Each(t *testing.T, fn func(t *testing.T, st *store.Store)) {
	t.Helper()
	EachURL(t, func(t *testing.T, url string) { fn(t, Open(t, url)) })
}

// EachURL is Each for tests that open the database themselves.
func EachURL(t *testing.T, fn func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { fn(t, Postgres(t)) })
}

// EachEmpty is EachURL with databases that were never migrated; SQLite's file does not exist yet.
func EachEmpty(t *testing.T, fn func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, "sqlite:"+filepath.Join(t.TempDir(), "cicosts.db")) })
	t.Run("postgres", func(t *testing.T) { fn(t, server(t).Empty(t)) })
}

// Open opens the database at url until the test ends. It does not migrate.
func Open(t testing.TB, url string) *store.Store {
	t.Helper()
	st, err := store.Open(context.Background(), store.Config{URL: url})
	if err != nil {
		t.Fatalf("opening %s: %v", url, err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("closing %s: %v", url, err)
		}
	})
	return st
}

// SQLite returns the URL of a new, migrated SQLite database.
func SQLite(t testing.TB) string {
	t.Helper()
	template, err := sqliteTemplate()
	if err != nil {
		t.Fatalf("preparing an SQLite database: %v", err)
	}
	path := filepath.Join(t.TempDir(), "cicosts.db")
	if err := os.WriteFile(path, template, 0o600); err != nil {
		t.Fatal(err)
	}
	return "sqlite:" + path
}

// sqliteTemplate holds a migrated database's file.
var sqliteTemplate = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "cicosts-sqlite-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "template.db")
	if err := migrate("sqlite:" + path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// Postgres returns the URL of a new, migrated database on the shared PostgreSQL server, dropped when the test ends. The
// test is skipped where PostgreSQL is not installed; with CI set it fails.
func Postgres(t testing.TB) string {
	t.Helper()
	return server(t).Postgres(t)
}

// shared is the process's PostgreSQL server.
var shared sharedServer

type sharedServer struct {
	mu      sync.Mutex
	started bool
	c       *Cluster // nil where starting it failed
	err     error
}

func server(t testing.TB) *Cluster {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.started {
		shared.started = true
		if shared.c, shared.err = newCluster(); shared.err == nil {
			shared.c.shared = true
		}
	}
	if shared.err != nil {
		unavailable(t, shared.err)
	}
	return shared.c
}

func (s *sharedServer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil {
		s.c.remove()
		s.c, s.err = nil, fmt.Errorf("the PostgreSQL server for tests was stopped")
	}
}

func migrate(url string) error {
	ctx := context.Background()
	st, err := store.Open(ctx, store.Config{URL: url})
	if err != nil {
		return err
	}
	if err := st.Migrate(ctx); err != nil {
		st.Close()
		return err
	}
	return st.Close()
}
