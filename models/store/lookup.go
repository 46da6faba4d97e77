package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"cicosts/models"
	"cicosts/models/keytext"
)

// lookupPool answers which keys have one of some hashes, each dialect by its own fastest way, on its own connections.
type lookupPool interface {
	keysByHash(ctx context.Context, hashes []keytext.Hash, found []models.KeyState) ([]models.KeyState, error)
}

// KeysByHash appends to found the state of every key whose hash is among hashes, revoked and expired ones included, as of
// a snapshot taken by the primary after the call began. One statement, whatever the number of hashes.
func (s *Store) KeysByHash(ctx context.Context, hashes []keytext.Hash, found []models.KeyState) ([]models.KeyState, error) {
	found, err := s.lookup.keysByHash(ctx, hashes, found)
	return found, classify("looking keys up", err)
}

const lookupColumns = "hash, id, account_id, mode, permissions, expires_at, revoked_at"

type postgresLookup struct{ pool *pgxpool.Pool }

func (l *postgresLookup) keysByHash(ctx context.Context, hashes []keytext.Hash, found []models.KeyState) ([]models.KeyState, error) {
	raw := make([][]byte, len(hashes))
	for i := range hashes {
		raw[i] = hashes[i][:]
	}
	rows, err := l.pool.Query(ctx, "SELECT "+lookupColumns+`, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
		FROM api_keys WHERE hash = ANY($1)`, raw)
	if err != nil {
		return found, err
	}
	defer rows.Close()
	for rows.Next() {
		var k models.KeyState
		var hash []byte
		if err := rows.Scan(&hash, &k.ID, &k.AccountID, (*string)(&k.Mode), (*uint16)(&k.Permissions),
			(*int64)(&k.ExpiresAt), (*int64)(&k.RevokedAt), (*int64)(&k.Now)); err != nil {
			return found, err
		}
		if err := k.Hash.Scan(hash); err != nil {
			return found, err
		}
		found = append(found, k)
	}
	return found, rows.Err()
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
