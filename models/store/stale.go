package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// isStale reports whether PostgreSQL refused to run a prepared statement
// because a migration has since changed the type of a column it returns. The
// statement has done nothing.
func isStale(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "0A000" && pg.Routine == "RevalidateCachedQuery" // the message may be in any language
}

// replaceConnections has the pool close its connections, each of which may hold
// stale statements, as soon as they are idle.
func replaceConnections(pool *pgxpool.Pool) {
	slog.Info("the database's schema has changed; connecting anew")
	pool.Reset()
}

// pageConn is a connection of the pages' pool that replaces all of the pool's
// when a statement is stale. ExecContext is left alone: a statement that
// returns no columns is never stale.
type pageConn struct {
	*stdlib.Conn
	pool *pgxpool.Pool
}

// QueryContext prepares a stale statement anew and runs it, except in a
// transaction, which has failed by then.
func (c pageConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.Conn.QueryContext(ctx, query, args)
	if isStale(err) {
		replaceConnections(c.pool)
		if c.Conn.Conn().PgConn().TxStatus() == 'I' {
			rows, err = c.Conn.QueryContext(ctx, query, args)
		}
	}
	return rows, err
}
