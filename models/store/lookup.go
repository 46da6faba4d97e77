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
	keysByHash(ctx context.Context, hashes []keytext.Hash, found []models.KeyState) ([]models.KeyState, error)
}

// KeysByHash appends to found the state of every key whose hash is among hashes, revoked and expired ones included, as of
// a snapshot taken by the primary after the call began. One statement, whatever the number of hashes, which is not 0.
func (s *Store) KeysByHash(ctx context.Context, hashes []keytext.Hash, found []models.KeyState) ([]models.KeyState, error) {
	found, err := s.lookup.keysByHash(ctx, hashes, found)
	return found, classify("looking keys up", err)
}

const lookupColumns = "hash, id, account_id, mode, permissions, expires_at, revoked_at"

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
	postgresLookup1   = postgresLookupRow + `(VALUES ($1::bytea)) AS asked (asked) LEFT JOIN api_keys ON hash = asked`
	postgresLookupAll = postgresLookupRow + `unnest($1::bytea[]) AS asked LEFT JOIN api_keys ON hash = asked`

	postgresLookupRow = `SELECT current_setting('transaction_read_only') = 'on',
	(extract(epoch FROM clock_timestamp()) * 1000000)::bigint, ` + lookupColumns + ` FROM `
)

// errStandby says that a server answered that may miss what the primary has committed.
var errStandby = errors.New("a standby (in recovery) or read-only server answered, not the primary")

func (l *postgresLookup) keysByHash(ctx context.Context, hashes []keytext.Hash, found []models.KeyState) ([]models.KeyState, error) {
	found, err := l.ask(ctx, hashes, found)
	if isStale(err) {
		replaceConnections(l.pools.Load().lookups)
		found, err = l.ask(ctx, hashes, found)
	}
	if err != nil {
		l.failed.Add(1)
	} else {
		l.good.Add(1)
	}
	return found, err
}

func (l *postgresLookup) ask(ctx context.Context, hashes []keytext.Hash, found []models.KeyState) ([]models.KeyState, error) {
	lookup, asked := postgresLookup1, any(hashes[0][:])
	if len(hashes) > 1 {
		all := make([][]byte, len(hashes))
		for i := range hashes {
			all[i] = hashes[i][:]
		}
		lookup, asked = postgresLookupAll, all
	}
	rows, err := l.pools.Load().lookups.Query(ctx, lookup, asked)
	if err != nil {
		return found, err
	}
	defer rows.Close()
	before, answered, standby := len(found), false, false
	for rows.Next() {
		if rows.RawValues()[2] == nil { // no such key
			err = rows.Scan(&standby, nil, nil, nil, nil, nil, nil, nil, nil)
		} else {
			found, err = appendKey(rows, &standby, found)
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

func appendKey(rows pgx.Rows, standby *bool, found []models.KeyState) ([]models.KeyState, error) {
	var k models.KeyState
	var hash []byte
	if err := rows.Scan(standby, (*int64)(&k.Now), &hash, &k.ID, &k.AccountID, (*string)(&k.Mode), (*uint16)(&k.Permissions),
		(*int64)(&k.ExpiresAt), (*int64)(&k.RevokedAt)); err != nil {
		return found, err
	}
	if err := k.Hash.Scan(hash); err != nil {
		return found, err
	}
	return append(found, k), nil
}

type sqliteLookup struct{ db *sql.DB }

func (l *sqliteLookup) keysByHash(ctx context.Context, hashes []keytext.Hash, found []models.KeyState) ([]models.KeyState, error) {
	args := make([]any, len(hashes))
	for i := range hashes {
		args[i] = hashes[i][:]
	}
	rows, err := l.db.QueryContext(ctx, "SELECT "+lookupColumns+`, CAST(unixepoch('subsec') * 1000000 AS INTEGER)
		FROM api_keys WHERE hash IN (?`+strings.Repeat(",?", len(hashes)-1)+")", args...)
	if err != nil {
		return found, err
	}
	defer rows.Close()
	for rows.Next() {
		var k models.KeyState
		if err := rows.Scan(&k.Hash, &k.ID, &k.AccountID, &k.Mode, &k.Permissions, &k.ExpiresAt, &k.RevokedAt, &k.Now); err != nil {
			return found, err
		}
		found = append(found, k)
	}
	return found, rows.Err()
}
