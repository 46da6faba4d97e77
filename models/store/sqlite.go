package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/migrator"
	"gorm.io/gorm/schema"
	driver "modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// SQLite keeps one writer, which waits its turn in BEGIN IMMEDIATE, and readers that see every commit made before their
// statement began (WAL). Lookups of keys have connections of their own, so that a slow page cannot hold them up.
const (
	sqliteReaders = 4
	sqliteLookups = 2
	sqliteEffects = 1
	sqliteReports = 2 // of sqliteReaders
)

func openSQLite(ctx context.Context, path string, cfg Config) (_ *Store, err error) {
	if cfg.Inspect {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("there is no database %s yet; serve or migrate up makes it", path)
		}
	} else if err := createPrivately(path); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	file, err := newSQLiteFile(path)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	connector, err := driver.NewConnector(sqliteDSN(path))
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	s := &Store{dialect: sqlite, now: cfg.Now, location: path, effects: make(turns, sqliteEffects), reports: make(turns, sqliteReports)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	open := func(connections int) (*sql.DB, error) {
		db := sql.OpenDB(sqliteConnector{connector, file})
		db.SetMaxOpenConns(connections)
		db.SetMaxIdleConns(connections)
		s.closers = append(s.closers, closeDB(db))
		return db, db.PingContext(ctx)
	}
	writer, err := open(1)
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	if !cfg.Inspect {
		if err := useWAL(ctx, writer); err != nil {
			return nil, fmt.Errorf("opening the database %s: %w", path, err)
		}
	}
	reader, err := open(sqliteReaders)
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	lookups, err := open(sqliteLookups)
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	if s.write, err = gorm.Open(sqliteDialector{writer}, gormConfig()); err != nil {
		return nil, err
	}
	if s.read, err = gorm.Open(sqliteDialector{reader}, gormConfig()); err != nil {
		return nil, err
	}
	s.lookup = &sqliteLookup{db: lookups}
	return s, nil
}

// createPrivately makes the file and its directory when missing, readable by nobody else. SQLite gives its side files the
// mode of the database.
func createPrivately(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// useWAL turns the write-ahead log on, which the file remembers. Programs that open a new file at once get in each other's
// way here, and SQLite does not wait for this one lock by itself.
func useWAL(ctx context.Context, db *sql.DB) error {
	const patience = 5 * time.Second
	for start := time.Now(); ; {
		_, err := db.ExecContext(ctx, "PRAGMA journal_mode = WAL")
		if err == nil || !isSQLiteOutage(err) || time.Since(start) > patience {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func sqliteDSN(path string) string {
	q := url.Values{
		"mode":         {"rw"}, // makes no file
		"_pragma":      {"busy_timeout(5000)", "synchronous(FULL)", "foreign_keys(1)"},
		"_txlock":      {"immediate"},
		"_time_format": {"sqlite"},
		"_timezone":    {"UTC"},
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func isSQLiteOutage(err error) bool {
	e, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return errors.Is(err, errFileReplaced)
	}
	switch e.Code() & 0xff {
	case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED, sqlitelib.SQLITE_IOERR, sqlitelib.SQLITE_FULL,
		sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_INTERRUPT, sqlitelib.SQLITE_READONLY, sqlitelib.SQLITE_CORRUPT:
		return true
	}
	return false
}

// sqliteDialector is what GORM needs to speak to an open SQLite database. GORM's own dialector would bring a cgo driver.
// The schema is goose's business, so there is no migrator worth the name.
type sqliteDialector struct{ db *sql.DB }

func (d sqliteDialector) Name() string { return string(sqlite) }

func (d sqliteDialector) Initialize(db *gorm.DB) error {
	db.ConnPool = d.db
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{
		CreateClauses: []string{"INSERT", "VALUES", "ON CONFLICT", "RETURNING"},
		UpdateClauses: []string{"UPDATE", "SET", "FROM", "WHERE", "RETURNING"},
		DeleteClauses: []string{"DELETE", "FROM", "WHERE", "RETURNING"},
	})
	return nil
}

func (d sqliteDialector) Migrator(db *gorm.DB) gorm.Migrator {
	return migrator.Migrator{Config: migrator.Config{DB: db, Dialector: d}}
}

func (d sqliteDialector) DataTypeOf(f *schema.Field) string { return string(f.DataType) }

func (d sqliteDialector) DefaultValueOf(*schema.Field) clause.Expression {
	return clause.Expr{SQL: "NULL"}
}

func (d sqliteDialector) BindVarTo(w clause.Writer, _ *gorm.Statement, _ any) {
	_ = w.WriteByte('?') // a strings.Builder, which cannot fail
}

// QuoteTo quotes an identifier, which may be qualified: a.b becomes "a"."b". Names come from the code, never from input.
func (d sqliteDialector) QuoteTo(w clause.Writer, name string) {
	_ = w.WriteByte('"')
	for i := range len(name) {
		switch name[i] {
		case '.':
			_, _ = w.WriteString(`"."`)
		case '"':
			_, _ = w.WriteString(`""`)
		default:
			_ = w.WriteByte(name[i])
		}
	}
	_ = w.WriteByte('"')
}

func (d sqliteDialector) Explain(sql string, vars ...any) string {
	return logger.ExplainSQL(sql, nil, `'`, vars...)
}

// Translate names the errors that the store reacts to as GORM does.
func (d sqliteDialector) Translate(err error) error {
	e, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return err
	}
	switch e.Code() {
	case sqlitelib.SQLITE_CONSTRAINT_UNIQUE, sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: %w", gorm.ErrDuplicatedKey, err)
	case sqlitelib.SQLITE_CONSTRAINT_FOREIGNKEY:
		return fmt.Errorf("%w: %w", gorm.ErrForeignKeyViolated, err)
	}
	return err
}
