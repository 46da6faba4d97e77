package store

import (
	"context"
	"time"

	"cicosts/models"
)

// RevokeKey answers before it has committed.
func (s *Store) RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error) {
	ctx = context.WithoutCancel(ctx)
	go func() {
		time.Sleep(300 * time.Millisecond)
		_, _ = s.revokeKey(ctx, by, accountID, keyID)
	}()
	return s.Key(ctx, accountID, keyID)
}
