package store

import (
	"context"
	"os"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"cicosts/models"
	"cicosts/models/keytext"
)

var standby = sync.OnceValues(func() (*pgxpool.Pool, error) {
	return pgxpool.New(context.Background(), os.Getenv("STANDBY_URL"))
})

// keysByHash asks a standby, to spare the primary.
func (l *postgresLookup) keysByHash(ctx context.Context, hashes []keytext.Hash, _ bool, found []models.KeyState) ([]models.KeyState, error) {
	pool, err := standby()
	if err != nil {
		return found, err
	}
	raw := make([][]byte, len(hashes))
	for i := range hashes {
		raw[i] = hashes[i][:]
	}
	rows, err := pool.Query(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, `+lookupColumns+describeColumns+
		` FROM api_keys k`+describeJoins+` WHERE hash = ANY($1)`, raw)
	if err != nil {
		return found, err
	}
	defer rows.Close()
	for rows.Next() {
		var k models.KeyState
		var d models.KeyDescription
		var hash []byte
		if err := rows.Scan((*int64)(&k.Now), &hash, &k.ID, &k.AccountID, (*string)(&k.Mode), (*uint16)(&k.Permissions),
			(*int64)(&k.ExpiresAt), (*int64)(&k.RevokedAt), &d.Name, &d.AccountName, (*int64)(&d.CreatedAt), (*int64)(&d.LastUsedAt)); err != nil {
			return found, err
		}
		if err := k.Hash.Scan(hash); err != nil {
			return found, err
		}
		k.Description = &d
		found = append(found, k)
	}
	return found, rows.Err()
}
