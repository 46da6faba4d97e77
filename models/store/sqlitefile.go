package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
)

// errFileReplaced says that the database's path no longer leads to the file
// that was opened. Changes of the file that is there now, such as revocations,
// cannot be seen from here.
var errFileReplaced = errors.New("the database file was moved, removed or replaced")

// sqliteFile is a database file that was opened, and the path it had then.
type sqliteFile struct {
	path string
	info os.FileInfo
	gone atomic.Bool // and that was logged
}

func newSQLiteFile(path string) (*sqliteFile, error) {
	info, err := os.Stat(path)
	return &sqliteFile{path: path, info: info}, err
}

// check returns an error unless the path still leads to the file.
func (f *sqliteFile) check() error {
	info, err := os.Stat(f.path)
	if err == nil && os.SameFile(f.info, info) {
		if f.gone.Load() && f.gone.CompareAndSwap(true, false) {
			slog.Info("the database file is back", "file", f.path)
		}
		return nil
	}
	if err == nil {
		err = errors.New("another file has its path")
	}
	if f.gone.CompareAndSwap(false, true) {
		slog.Error("the database file was moved, removed or replaced, so nothing is answered from it; put it back, or restart the program to use what has its path now",
			"file", f.path, "error", err)
	}
	return fmt.Errorf("%w: %w", errFileReplaced, err)
}

// sqliteConnector opens connections to the file, and to no other that has come
// to have its path.
type sqliteConnector struct {
	driver.Connector
	file *sqliteFile
}

func (c sqliteConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := c.file.check(); err != nil {
		return nil, err
	}
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.file.check(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return sqliteConn{conn.(sqliteDriverConn), c.file}, nil
}

// sqliteDriverConn is what database/sql uses of a connection of the SQLite
// driver.
type sqliteDriverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// sqliteConn checks the file before each statement, and after COMMIT, so that
// no change is confirmed that only the former file holds.
type sqliteConn struct {
	sqliteDriverConn
	file *sqliteFile
}

func (c sqliteConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.file.check(); err != nil {
		return nil, err
	}
	tx, err := c.sqliteDriverConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return sqliteTx{tx, c.file}, nil
}

func (c sqliteConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := c.file.check(); err != nil {
		return nil, err
	}
	return c.sqliteDriverConn.PrepareContext(ctx, query)
}

func (c sqliteConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.file.check(); err != nil {
		return nil, err
	}
	return c.sqliteDriverConn.ExecContext(ctx, query, args)
}

func (c sqliteConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.file.check(); err != nil {
		return nil, err
	}
	return c.sqliteDriverConn.QueryContext(ctx, query, args)
}

// sqliteTx is a transaction of a sqliteConn.
type sqliteTx struct {
	driver.Tx
	file *sqliteFile
}

func (t sqliteTx) Commit() error {
	if err := t.Tx.Commit(); err != nil {
		return err
	}
	return t.file.check()
}
