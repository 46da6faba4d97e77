package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// On PostgreSQL pages and lookups have a pool each, so that slow pages cannot starve the checking of keys. Two lookups are out
// at once, each perhaps sent once more, beside those sent again in vain.
const (
	postgresConns   = 12
	postgresLookups = 6
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
	pool, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, errURL // not pgx's error, which quotes the URL
	}
	s.watch = newWatcher(pool.ConnConfig)
	s.closers = append(s.closers, s.closeServers)
	var names []string
	for _, h := range s.watch.hosts {
		names = append(names, h.name)
	}
	s.location = fmt.Sprintf("postgres://%s/%s", strings.Join(names, ","), pool.ConnConfig.Database)
	if err := s.watch.find(ctx); err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", s.location, err)
	}
	s.watch.moved = func(primary *watchedHost) { s.connectTo(pool, primary) }
	s.connectTo(pool, s.watch.primary)
	lookup := &postgresLookup{pools: &s.pools}
	s.lookup, s.watch.stuck = lookup, lookup.stuck

	db := sql.OpenDB(pages{s})
	db.SetMaxIdleConns(0) // the pool keeps them
	s.closers = append(s.closers, closeDB(db))
	if s.write, err = gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: db}), gormConfig()); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	s.read = s.write
	if err := s.checkServer(ctx); err != nil && !cfg.Inspect {
		return nil, fmt.Errorf("opening the database %s: %w", s.location, err)
	}
	s.inBackground(s.watch.run)
	return s, nil
}

// inBackground runs fn until Close, which ends its context and waits for it.
func (s *Store) inBackground(fn func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(ctx)
	}()
	s.closers = append(s.closers, func() error {
		cancel()
		<-done
		return nil
	})
}

// pools are the connections to one primary.
type pools struct {
	pages, lookups *pgxpool.Pool
	connector      driver.Connector // to pages
}

func (p *pools) close() {
	p.lookups.Close()
	p.pages.Close()
}

// connectTo has everything that is asked from now on go to the given primary. The pools before are not reset but left: a
// connection to a silent server keeps its place in its pool for up to 15 s after it was given up.
func (s *Store) connectTo(cfg *pgxpool.Config, primary *watchedHost) {
	cfg = cfg.Copy()
	routeTo(&cfg.ConnConfig.Config, s.watch.routesFrom(primary))
	next := &pools{pages: s.newPool(cfg, postgresConns), lookups: s.newPool(cfg, postgresLookups)}
	next.connector = stdlib.GetPoolConnector(next.pages)
	if before := s.pools.Swap(next); before != nil {
		go before.close() // waits for what is under way
	}
}

func (s *Store) closeServers() error {
	s.watch.close()
	if p := s.pools.Load(); p != nil {
		p.close()
	}
	return nil
}

// pages connects database/sql to the pages' pool of the moment.
type pages struct{ s *Store }

func (p pages) Connect(ctx context.Context) (driver.Conn, error) {
	for {
		now := p.s.pools.Load()
		conn, err := now.connector.Connect(ctx)
		if err == nil {
			return pageConn{conn.(*stdlib.Conn), now.pages}, nil
		}
		if ctx.Err() != nil || now == p.s.pools.Load() {
			return nil, err
		} // else the pool was closed while we waited for it, because the primary is another
	}
}

func (p pages) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// newPool connects lazily, and whatever the URL says only to a server that accepts writes: of several hosts that one, and
// of one host not what has become a standby, which may not know yet that a key was revoked.
func (s *Store) newPool(cfg *pgxpool.Config, size int32) *pgxpool.Pool {
	cfg = cfg.Copy()
	cfg.MaxConns = size
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	cfg.ConnConfig.OnNotice = s.noteWarning
	cfg.BeforeClose = func(c *pgx.Conn) { s.warned.Delete(c.PgConn()) }
	cfg.ConnConfig.ValidateConnect = func(ctx context.Context, server *pgconn.PgConn) error {
		if err := refuseStandby(ctx, server); err != nil {
			return err
		}
		return s.watch.refuseOldPrimary(ctx, server)
	}
	// The pool outlives the start-up context. It fails for a configuration without connections only.
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		panic(err)
	}
	return pool
}

func refuseStandby(ctx context.Context, conn *pgconn.PgConn) error {
	err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn)
	if err == nil || ctx.Err() != nil { // not asked to the end
		return err
	}
	return fmt.Errorf("the server is a standby (in recovery) or read-only, so it may miss revocations; name the primary: %w", err)
}

// errNotReplicated says that the server gave up waiting for its synchronous standbys. It reports that as a success with a
// warning, but a failover could lose what was committed.
var errNotReplicated = errors.New("the commit is not known to be replicated")

// errMoved says that another primary was followed during a change: the one that committed it may have been left behind.
var errMoved = errors.New("the primary changed meanwhile")

// changePostgres runs fn in one transaction whose statements, and pauses between them, may last for patience. It keeps to
// one connection, to see the warnings that come with its COMMIT.
func (s *Store) changePostgres(ctx context.Context, patience string, fn func(tx *gorm.DB) error) error {
	moves := s.watch.movesSoFar()
	return s.write.WithContext(ctx).Connection(func(conn *gorm.DB) error {
		var server *pgconn.PgConn
		err := conn.Statement.ConnPool.(*sql.Conn).Raw(func(driverConn any) error {
			server = driverConn.(pageConn).Conn.Conn().PgConn()
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
		if err == nil && s.watch.movesSoFar() != moves {
			return errMoved
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
		return isStale(err)
	}
	if isSQLiteOutage(err) {
		return true
	}
	// ErrTxDone: the context ended in the middle, and rolled the transaction back.
	_, network := errors.AsType[net.Error](err)
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return network || connecting || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, sql.ErrTxDone) || errors.Is(err, errStandby) || errors.Is(err, errMoved) ||
		errors.Is(err, errNotReplicated) || pgconn.SafeToRetry(err)
}
