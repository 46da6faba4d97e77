package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// On PostgreSQL pages and lookups have a pool each, so that slow pages cannot starve the checking of keys.
const (
	postgresConns   = 12
	postgresLookups = 4
	postgresEffects = 4 // of postgresConns, as are
	postgresReports = 4 // and the rest is for pages
	connectTimeout  = 5 * time.Second

	oldestPostgres = 150000 // as server_version_num counts
)

func openPostgres(ctx context.Context, cfg Config) (_ *Store, err error) {
	s := &Store{dialect: postgres, now: cfg.Now, effects: make(turns, postgresEffects), reports: make(turns, postgresReports)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	pages, err := s.openPool(cfg.URL, postgresConns)
	if err != nil {
		return nil, err
	}
	lookups, err := s.openPool(cfg.URL, postgresLookups)
	if err != nil {
		return nil, err
	}
	conn := pages.Config().ConnConfig
	s.location = fmt.Sprintf("postgres://%s/%s", net.JoinHostPort(conn.Host, fmt.Sprint(conn.Port)), conn.Database)
	s.lookup = &postgresLookup{pool: lookups}

	db := stdlib.OpenDBFromPool(pages)
	s.closers = append(s.closers, closeDB(db))
	if s.write, err = gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: db}), gormConfig()); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	s.read = s.write
	if err := s.checkServer(ctx); err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", s.location, err)
	}
	return s, nil
}

// openPool connects lazily, and whatever the URL says only to a server that accepts writes: of several hosts that one, and
// of one host not what has become a standby, which may not know yet that a key was revoked.
func (s *Store) openPool(url string, size int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("reading the database URL: %w", err)
	}
	cfg.MaxConns = size
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	cfg.ConnConfig.OnNotice = s.noteWarning
	cfg.BeforeClose = func(c *pgx.Conn) { s.warned.Delete(c.PgConn()) }
	cfg.ConnConfig.ValidateConnect = refuseStandby
	// The pool outlives the start-up context.
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	s.closers = append(s.closers, func() error { pool.Close(); return nil })
	return pool, nil
}

func refuseStandby(ctx context.Context, conn *pgconn.PgConn) error {
	if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn); err != nil {
		return fmt.Errorf("the server is a standby (in recovery) or read-only, so it may miss revocations; name the primary: %w", err)
	}
	return nil
}

// checkServer refuses a server on which a confirmed revocation could be forgotten or not seen.
func (s *Store) checkServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var server struct {
		Version  int
		SyncMode string
	}
	err := s.read.WithContext(ctx).Raw(`SELECT current_setting('server_version_num')::int AS version,
		current_setting('synchronous_commit') AS sync_mode`).Scan(&server).Error
	switch {
	case err != nil:
		return err
	case server.Version < oldestPostgres:
		return fmt.Errorf("PostgreSQL %d is too old, want 15 or newer", server.Version/10000)
	case server.SyncMode == "off":
		return errors.New("synchronous_commit is off, so a confirmed revocation could be lost; set it to on")
	}
	return nil
}

// errNotReplicated says that the server gave up waiting for its synchronous standbys. It reports that as a success with a
// warning, but a failover could lose what was committed.
var errNotReplicated = errors.New("the commit is not known to be replicated")

// changePostgres runs fn in one transaction whose statements, and pauses between them, may last for patience. It keeps to
// one connection, to see the warnings that come with its COMMIT.
func (s *Store) changePostgres(ctx context.Context, patience string, fn func(tx *gorm.DB) error) error {
	return s.write.WithContext(ctx).Connection(func(conn *gorm.DB) error {
		var server *pgconn.PgConn
		err := conn.Statement.ConnPool.(*sql.Conn).Raw(func(driverConn any) error {
			server = driverConn.(*stdlib.Conn).Conn().PgConn()
			return nil
		})
		if err != nil {
			return err
		}
		s.warned.Delete(server)
		err = conn.Session(&gorm.Session{}).Transaction(func(tx *gorm.DB) error {
			// Local to the transaction, so that a pooler between us and the server has nothing to leak.
			err := tx.Exec("SELECT set_config('statement_timeout', ?, true), set_config('idle_in_transaction_session_timeout', ?, true)", patience, patience).Error
			if err != nil {
				return err
			}
			return fn(tx)
		}, &sql.TxOptions{Isolation: sql.LevelReadCommitted}) // whatever the server's default: what is read under a lock is of after the lock
		if warning, ok := s.warned.LoadAndDelete(server); ok && err == nil {
			return fmt.Errorf("%w: %s", errNotReplicated, warning)
		}
		return err
	})
}

// noteWarning remembers the last warning of a connection. Our statements bring none but the one of errNotReplicated.
func (s *Store) noteWarning(server *pgconn.PgConn, notice *pgconn.Notice) {
	if notice.SeverityUnlocalized == "WARNING" {
		s.warned.Store(server, notice.Message)
	}
}

// isOutage reports whether err says that the database could not be asked or that its answer is not known, rather than
// that it refused what it was asked.
func isOutage(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code[:2] {
		case "08", "25", "40", "53", "55", "57", "58", "XX": // connection, state, rollback, resources, locks, operator, system
			return true
		}
		return false
	}
	if isSQLiteOutage(err) {
		return true
	}
	// ErrTxDone: the context ended in the middle, and rolled the transaction back.
	_, network := errors.AsType[net.Error](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return network || connecting || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, sql.ErrTxDone) || errors.Is(err, errStandby) || errors.Is(err, errNotReplicated) ||
		pgconn.SafeToRetry(err)
}
