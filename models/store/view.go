package store

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// history is the line of changes that a server continues: the cluster's system identifier and the timeline, which goes up
// when a standby is promoted and when a backup is restored. Zero where the server does not say.
type history struct{ System, Timeline int64 }

func (h history) known() bool { return h.Timeline > 0 }

// before reports whether h was left behind for other: an old primary that came back, or that does not know it is one.
func (h history) before(other history) bool {
	return h.known() && h.System == other.System && h.Timeline < other.Timeline
}

// foreign reports whether h is that of another cluster.
func (h history) foreign(other history) bool {
	return h.known() && other.known() && h.System != other.System
}

// historySQL are the columns that history is read from. The timeline is that of the write-ahead log's newest file, which
// is right at once after a promotion, unlike pg_control_checkpoint().
const historySQL = `(SELECT system_identifier FROM pg_control_system()),
	CASE WHEN pg_is_in_recovery() THEN '' ELSE pg_walfile_name(pg_current_wal_lsn()) END`

func historyOf(system int64, walFile string) history {
	timeline, err := strconv.ParseInt(walFile[:min(8, len(walFile))], 16, 64)
	if err != nil {
		return history{}
	}
	return history{system, timeline}
}

// readHistory reads the history of the server that a connection leads to; zero where it does not say.
func readHistory(ctx context.Context, server *pgconn.PgConn) (history, error) {
	results, err := server.Exec(ctx, "SELECT "+historySQL).ReadAll()
	if saysNoHistory(err) {
		return history{}, nil
	}
	if err != nil {
		return history{}, err
	}
	row := results[0].Rows[0]
	system, err := strconv.ParseInt(string(row[0]), 10, 64)
	return historyOf(system, string(row[1])), err
}

// saysNoHistory reports whether err means that a server, such as a managed one, lacks the functions or forbids them.
func saysNoHistory(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code[:2] == "42" || pg.Code[:2] == "0A")
}

// serverView is what one server said of itself, or that it said nothing.
type serverView struct {
	Err          error
	Standby      bool // in recovery or read-only
	History      history
	StandbyNames string   // synchronous_standby_names
	Standbys     []string // of each that is connected: its name, a space, its sync_state, which is "" where the role may not see it
	StandbyHosts int      // how many other hosts of the URL are standbys, connected to it or not
}

// synchronous reports whether every standby that could be promoted has all that was confirmed.
func (v *serverView) synchronous() bool {
	return v.StandbyNames != "" && len(v.asynchronous()) == 0 && !v.elsewhere()
}

// elsewhere reports whether hosts of the URL are standbys that may lack what was confirmed because they are not connected
// to this server: they follow another standby, or have fallen behind.
func (v *serverView) elsewhere() bool {
	k, _ := required(v.StandbyNames)
	return v.StandbyHosts > len(v.Standbys) && v.StandbyHosts > k
}

// asynchronous lists the connected standbys that may lack what was confirmed.
func (v *serverView) asynchronous() []string {
	var names []string
	for _, standby := range v.Standbys {
		name, state := cutLast(standby)
		if k, quorum := required(v.StandbyNames); state == "sync" || state == "quorum" && quorum && k >= len(v.Standbys) {
			continue
		}
		names = append(names, name)
	}
	return names
}

func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, ' ')
	return s[:i], s[i+1:]
}

// required reads synchronous_standby_names: how many standbys a commit waits for, and whether any of those that are named
// will do, rather than the first.
func required(names string) (k int, anyOf bool) {
	fields := strings.Fields(strings.ReplaceAll(names, "(", " ( "))
	if len(fields) == 0 {
		return 0, false
	}
	anyOf = strings.EqualFold(fields[0], "ANY")
	if len(fields) > 1 && (anyOf || strings.EqualFold(fields[0], "FIRST")) {
		fields = fields[1:]
	}
	k, err := strconv.Atoi(fields[0])
	if err != nil { // a list of names alone
		return 1, false
	}
	return k, anyOf
}

// viewSQL are the columns of a serverView: read-only, StandbyNames, and Standbys a line each, as names hold only printable
// characters. It leaves out base backups, logical subscribers, and what writes the log without replaying it, an archive: none
// can be promoted.
const viewSQL = `SELECT current_setting('transaction_read_only') = 'on', current_setting('synchronous_standby_names'),
	array_to_string(ARRAY(SELECT coalesce(application_name, '') || ' ' || coalesce(sync_state, '') FROM pg_stat_replication r
		WHERE state IS DISTINCT FROM 'backup' AND NOT (write_lsn IS NOT NULL AND replay_lsn IS NULL) AND NOT EXISTS
			(SELECT 1 FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
		ORDER BY 1), E'\n')`

// watchedHost is one host of the URL. Between rounds nothing uses it.
type watchedHost struct {
	name   string
	routes []*pgconn.FallbackConfig // the ways to it: with sslmode=prefer also without TLS
	conn   *pgx.Conn                // kept open; nil: to be made
	silent bool                     // it does not say its history
}

// ask asks the host and returns before ctx ends or a little later.
func (h *watchedHost) ask(ctx context.Context, base *pgx.ConnConfig) (v serverView) {
	if h.conn == nil {
		cfg := base.Copy()
		routeTo(&cfg.Config, h.routes)
		cfg.ValidateConnect = nil // a standby is to be seen
		if h.conn, v.Err = pgx.ConnectConfig(ctx, cfg); v.Err != nil {
			return v
		}
	}
	v.Err = h.read(ctx, &v)
	if v.Err != nil && saysNoHistory(v.Err) && !h.silent {
		h.silent = true
		slog.Warn("the database server does not tell its timeline, so a failover behind its address goes unnoticed", "host", h.name, "error", v.Err)
		v.Err = h.read(ctx, &v)
	}
	if v.Err != nil {
		_ = h.conn.Close(ctx)
		h.conn = nil
	}
	return v
}

func (h *watchedHost) read(ctx context.Context, v *serverView) error {
	var standbys, walFile string
	var system int64
	var err error
	if h.silent {
		err = h.conn.QueryRow(ctx, viewSQL).Scan(&v.Standby, &v.StandbyNames, &standbys)
	} else {
		err = h.conn.QueryRow(ctx, viewSQL+", "+historySQL).Scan(&v.Standby, &v.StandbyNames, &standbys, &system, &walFile)
	}
	v.Standbys, v.History = lines(standbys), historyOf(system, walFile)
	return err
}

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}
