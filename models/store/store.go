// Package store owns every query: it keeps the models in SQLite or PostgreSQL and migrates both.
//
// Each method takes the account it works for and names it in every WHERE, so that another account's row answers exactly
// as a missing one. A change and its audit event are one transaction. Errors are models.Error: models.ErrNotFound,
// models.ErrConflict, code "unavailable" when the database could not be asked or its answer is not known, else a plain
// error, which is a defect.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"cicosts/models"
	"cicosts/models/keytext"
)

// Store is an open database. It is safe for concurrent use.
type Store struct {
	dialect  dialect
	write    *gorm.DB // one connection on SQLite, the pool on PostgreSQL
	read     *gorm.DB
	lookup   lookupPool
	effects  turns // of changes that API requests make
	reports  turns // of API requests that read much
	closers  []func() error
	now      func() time.Time
	location string // where the database is, without credentials

	// On PostgreSQL alone:
	watch  *watcher
	pools  atomic.Pointer[pools] // to the primary of the moment
	warned sync.Map              // *pgconn.PgConn to the text of its last warning
}

type dialect string

const (
	sqlite   dialect = "sqlite"
	postgres dialect = "postgres"
)

// Config says which database to open.
type Config struct {
	// URL is sqlite:PATH or postgres://…
	URL string
	// Now is the clock for what is written; nil means time.Now.
	Now func() time.Time
	// Inspect opens a database as it is, for Checks: an SQLite file is not made, and a server whose settings are refused
	// otherwise is opened.
	Inspect bool
}

// Open connects to the database, creating an SQLite file (mode 0600) and its directory when missing. It does not
// migrate. Close the Store after use.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := CheckURL(cfg.URL); err != nil {
		return nil, err
	}
	if path, ok := SQLitePath(cfg.URL); ok {
		return openSQLite(ctx, path, cfg)
	}
	return openPostgres(ctx, cfg)
}

// Location says which database this is, without credentials.
func (s *Store) Location() string { return s.location }

// Close closes every connection.
func (s *Store) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}

// Ping reports whether keys can be checked: it looks one up that does not exist.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.KeysByHash(ctx, []keytext.Hash{{}}, false, nil)
	return err
}

// writeTimeout bounds a change, COMMIT included, as does an earlier deadline of the caller's.
const writeTimeout = 8 * time.Second

// detach returns a context for a change, which is not cut short when its request's client goes away.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	end := time.Now().Add(writeTimeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(end) {
		end = deadline
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}

// change runs fn in one transaction on the primary and returns nil only after COMMIT returned cleanly: any
// other end, code "unavailable", leaves it open whether the change was made,
// unless models.ErrNotChanged is in the chain. fn may run twice; the first run
// is rolled back then.
func (s *Store) change(ctx context.Context, doing string, fn func(tx *gorm.DB, now models.Instant) error) error {
	ctx, cancel := detach(ctx)
	defer cancel()
	complete := false // only COMMIT is left to do
	run := func(tx *gorm.DB) error {
		complete = false
		err := fn(tx, models.At(s.now()))
		complete = err == nil
		return err
	}
	var err error
	if s.dialect == postgres {
		err = s.changePostgres(ctx, "5s", run)
		if isStale(err) { // which has rolled everything back
			err = s.changePostgres(ctx, "5s", run)
		}
	} else {
		err = s.write.WithContext(ctx).Transaction(run)
	}
	if !complete && isOutage(err) {
		err = fmt.Errorf("%w: %w", models.ErrNotChanged, err)
	}
	return classify(doing, err)
}

// lockName makes changes that name the same thing wait for each other until their transaction ends. SQLite has one writer.
func (s *Store) lockName(tx *gorm.DB, name string) error {
	if s.dialect != postgres {
		return nil
	}
	return tx.Exec("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", name).Error
}

// shareName has lockName wait for it, and waits for lockName, but not for others that share. Who came first goes first.
func (s *Store) shareName(tx *gorm.DB, name string) error {
	if s.dialect != postgres {
		return nil
	}
	return tx.Exec("SELECT pg_advisory_xact_lock_shared(hashtextextended(?, 0))", name).Error
}

// columns lists the columns of model, as those of the table or alias.
func (s *Store) columns(model any, table string) string {
	parsed := gorm.Statement{DB: s.write}
	if err := parsed.Parse(model); err != nil {
		panic(err) // the model's type is wrong
	}
	return table + "." + strings.Join(parsed.Schema.DBNames, ", "+table+".")
}

// first reads one row into dest and returns models.ErrNotFound where there is none.
func first(q *gorm.DB, dest any) error {
	res := q.Limit(1).Scan(dest)
	if res.Error == nil && res.RowsAffected == 0 {
		return models.ErrNotFound
	}
	return res.Error
}

// classify turns a database error into one that callers and users can act on.
func classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*models.Error](err); ok {
		return err
	}
	wrapped := fmt.Errorf("%s: %w", doing, err)
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return models.ErrNotFound
	case errors.Is(err, gorm.ErrDuplicatedKey):
		return models.ErrConflict
	case isOutage(err):
		return models.Unavailable(wrapped)
	}
	return wrapped
}

func gormConfig() *gorm.Config {
	return &gorm.Config{
		SkipDefaultTransaction: true, // change and the import begin theirs
		DisableAutomaticPing:   true,
		TranslateError:         true,
		QueryFields:            true,           // a newer program may add columns, which * would read
		Logger:                 logger.Discard, // errors are returned, and logged once where they are handled
	}
}

func closeDB(db *sql.DB) func() error { return db.Close }
