package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Migrations are numbered SQL for both databases, forward only, each file in a transaction of its own.
//
//go:embed migrations
var migrations embed.FS

// MigrationState is one line of the schema's history.
type MigrationState struct {
	Name      string
	AppliedAt time.Time // zero: pending
}

// Migrate brings the schema up to this program's. Several replicas may do so at once: on PostgreSQL they take turns on a
// lock, on SQLite whoever comes second finds nothing left to do. A database that a newer program has migrated is refused.
func (s *Store) Migrate(ctx context.Context) error {
	p, err := s.migrations(true)
	if err != nil {
		return err
	}
	if err := s.refuseNewer(ctx, p); err != nil {
		return err
	}
	pending, err := p.HasPending(ctx)
	if err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	const tries = 3
	for try := 1; pending; try++ {
		_, err = p.Up(ctx)
		if err == nil {
			return nil
		}
		if still, checkErr := p.HasPending(ctx); checkErr == nil && !still {
			return nil
		}
		if s.dialect == postgres || try == tries {
			return fmt.Errorf("migrating the database: %w", err)
		}
	}
	return nil
}

// MigrationStates lists every migration of this program, oldest first, with when it was applied. It takes no lock: that is
// a change, which would wait for a synchronous standby that is missing for as long as it is.
func (s *Store) MigrationStates(ctx context.Context) ([]MigrationState, error) {
	p, err := s.migrations(false)
	if err != nil {
		return nil, err
	}
	if err := s.refuseNewer(ctx, p); err != nil {
		return nil, err
	}
	list, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	states := make([]MigrationState, 0, len(list))
	for _, m := range list {
		states = append(states, MigrationState{Name: m.Source.Path, AppliedAt: m.AppliedAt})
	}
	return states, nil
}

func (s *Store) refuseNewer(ctx context.Context, p *goose.Provider) error {
	has, knows, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("reading the schema version: %w", err)
	}
	if has > knows {
		return fmt.Errorf("the database has schema version %d, but this program knows only %d: start a newer program", has, knows)
	}
	return nil
}

// migrations returns what reads the migrations and, when locked, may apply them.
func (s *Store) migrations(locked bool) (*goose.Provider, error) {
	db, err := s.write.DB()
	if err != nil {
		return nil, err
	}
	dir, err := fs.Sub(migrations, "migrations/"+string(s.dialect))
	if err != nil {
		return nil, err
	}
	gooseDialect := goose.DialectSQLite3
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler))}
	if s.dialect == postgres {
		gooseDialect = goose.DialectPostgres
	}
	if s.dialect == postgres && locked {
		locker, err := lock.NewPostgresTableLocker(lock.WithTableLockTimeout(time.Second, 120))
		if err != nil {
			return nil, err
		}
		options = append(options, goose.WithLocker(locker))
	}
	p, err := goose.NewProvider(gooseDialect, db, dir, options...)
	if errors.Is(err, goose.ErrNoMigrations) {
		return nil, fmt.Errorf("the program holds no migrations: %w", err)
	}
	return p, err
}
