package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"cicosts/models"
	"cicosts/models/keytext"
)

// lookupPool answers which keys have one of some hashes, each dialect by its own fastest way, on its own connections.
type lookupPool interface {
	keysByHash(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error)
}

// KeysByHash appends to found the state of every key whose hash is among
// hashes, revoked and expired ones included, as of a snapshot taken by the
// primary after the call began. With describe each state has a Description, of
// the same snapshot. It sends one statement for all hashes, of which there is
// at least one.
func (s *Store) KeysByHash(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
	found, err := s.lookup.keysByHash(ctx, hashes, describe, found)
	return found, classify("looking keys up", err)
}

// The columns of a key's state, and those that a description adds, which make a
// lookup take about a third longer. Both joins are on a whole primary key.
const (
	lookupColumns   = "k.hash, k.id, k.account_id, k.mode, k.permissions, k.expires_at, k.revoked_at"
	describeColumns = ", k.name, a.name, k.created_at, coalesce(l.used_at, 0)"
	describeJoins   = ` LEFT JOIN accounts a ON a.id = k.account_id
	LEFT JOIN last_uses l ON l.key_id = k.id AND l.refused = false`
)

type postgresLookup struct {
	pools        *atomic.Pointer[pools]
	good, failed atomic.Int64 // since the last call of stuck
}

// stuck reports whether every lookup failed that ended since the last call.
func (l *postgresLookup) stuck() bool {
	good, failed := l.good.Swap(0), l.failed.Swap(0)
	return good == 0 && failed > 0
}

// The lookups answer a row for each hash, so that whoever answers says whether it is the primary. A pooler may lead an
// open connection to another server than the one that was asked on connecting. A transaction that begins on a standby is
// read-only to its end, and it begins before its snapshot is taken: with pg_is_in_recovery(), which is asked after, a
// promotion between the two would pass an old snapshot off as the primary's.
//
// With hash = ANY($1) a plan for unknown parameters compares each row of a table of 1,000 keys with each hash. One hash alone
// is looked up without the work that an array makes.
const (
	postgresLookup1     = postgresLookupRow + postgresFrom1
	postgresLookupAll   = postgresLookupRow + postgresFromAll
	postgresDescribe1   = postgresLookupRow + describeColumns + postgresFrom1 + describeJoins
	postgresDescribeAll = postgresLookupRow + describeColumns + postgresFromAll + describeJoins

	postgresLookupRow = `SELECT current_setting('transaction_read_only') = 'on',
	(extract(epoch FROM clock_timestamp()) * 1000000)::bigint, ` + lookupColumns
	postgresFrom1   = ` FROM (VALUES ($1::bytea)) AS asked (asked) LEFT JOIN api_keys k ON k.hash = asked`
	postgresFromAll = ` FROM unnest($1::bytea[]) AS asked LEFT JOIN api_keys k ON k.hash = asked`
)

// errStandby says that a server answered that may miss what the primary has committed.
var errStandby = errors.New("a standby (in recovery) or read-only server answered, not the primary")

func (l *postgresLookup) keysByHash(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
	found, err := l.ask(ctx, hashes, describe, found)
	if isStale(err) {
		replaceConnections(l.pools.Load().lookups)
		found, err = l.ask(ctx, hashes, describe, found)
	}
	if err != nil {
		l.failed.Add(1)
	} else {
		l.good.Add(1)
	}
	return found, err
}

func (l *postgresLookup) ask(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
	rows, err := l.query(ctx, hashes, describe)
	if err != nil {
		return found, err
	}
	defer rows.Close()
	before, answered, standby := len(found), false, false
	missing := [13]any{&standby} // where the columns of a key that does not exist go
	for rows.Next() {
		if rows.RawValues()[2] == nil { // no such key
			err = rows.Scan(missing[:len(rows.RawValues())]...)
		} else {
			found, err = appendKey(rows, &standby, describe, found)
		}
		if err == nil && standby {
			err = errStandby
		}
		if err != nil {
			return found[:before], err
		}
		answered = true
	}
	if err := rows.Err(); err != nil || answered {
		return found, err
	}
	return found, errStandby
}

func (l *postgresLookup) query(ctx context.Context, hashes []keytext.Hash, describe bool) (pgx.Rows, error) {
	pool := l.pools.Load().lookups
	if len(hashes) == 1 {
		statement := postgresLookup1
		if describe {
			statement = postgresDescribe1
		}
		return pool.Query(ctx, statement, hashes[0][:])
	}
	statement := postgresLookupAll
	if describe {
		statement = postgresDescribeAll
	}
	all := make([][]byte, len(hashes))
	for i := range hashes {
		all[i] = hashes[i][:]
	}
	return pool.Query(ctx, statement, all)
}

func appendKey(rows pgx.Rows, standby *bool, describe bool, found []models.KeyState) ([]models.KeyState, error) {
	var k models.KeyState
	var hash []byte
	dest := append(make([]any, 0, 13), standby, (*int64)(&k.Now), &hash, &k.ID, &k.AccountID, (*string)(&k.Mode), (*uint16)(&k.Permissions),
		(*int64)(&k.ExpiresAt), (*int64)(&k.RevokedAt))
	if describe {
		d := &models.KeyDescription{}
		dest = append(dest, &d.Name, &d.AccountName, (*int64)(&d.CreatedAt), (*int64)(&d.LastUsedAt))
		k.Description = d
	}
	if err := rows.Scan(dest...); err != nil {
		return found, err
	}
	if err := k.Hash.Scan(hash); err != nil {
		return found, err
	}
	return append(found, k), nil
}

type sqliteLookup struct{ db *sql.DB }

func (l *sqliteLookup) keysByHash(ctx context.Context, hashes []keytext.Hash, describe bool, found []models.KeyState) ([]models.KeyState, error) {
	args := make([]any, len(hashes))
	for i := range hashes {
		args[i] = hashes[i][:]
	}
	columns, joins := lookupColumns, ""
	if describe {
		columns, joins = lookupColumns+describeColumns, describeJoins
	}
	rows, err := l.db.QueryContext(ctx, "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER), "+columns+" FROM api_keys k"+joins+
		" WHERE k.hash IN (?"+strings.Repeat(",?", len(hashes)-1)+")", args...)
	if err != nil {
		return found, err
	}
	defer rows.Close()
	for rows.Next() {
		var k models.KeyState
		dest := append(make([]any, 0, 12), &k.Now, &k.Hash, &k.ID, &k.AccountID, &k.Mode, &k.Permissions, &k.ExpiresAt, &k.RevokedAt)
		if describe {
			d := &models.KeyDescription{}
			dest = append(dest, &d.Name, &d.AccountName, &d.CreatedAt, &d.LastUsedAt)
			k.Description = d
		}
		if err := rows.Scan(dest...); err != nil {
			return found, err
		}
		found = append(found, k)
	}
	return found, rows.Err()
}
