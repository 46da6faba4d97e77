package store

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"cicosts/models"
)

// ChangeByKey runs fn, the effect of an API request, in one transaction, if the key that asked for it still works and has
// all of needs then: a revocation that is confirmed before fn's COMMIT has kept fn from running. It waits for its turn
// first, so that effects, however many there are, leave connections to pages and revocations.
//
// Errors are models.ErrKeyRevoked, models.ErrKeyExpired and models.ErrKeyNarrowed, for which nothing was done, else as of
// every change. fn must be short: a revocation of the key waits for it.
func (s *Store) ChangeByKey(ctx context.Context, doing string, p models.Principal, needs models.Permissions, fn func(tx *gorm.DB, now models.Instant) error) error {
	done, err := s.effects.take(ctx)
	if err != nil {
		return classify(doing, err)
	}
	defer done()
	return s.change(ctx, doing, func(tx *gorm.DB, now models.Instant) error {
		if err := s.shareName(tx, p.KeyID); err != nil {
			return err
		}
		if err := s.stillWorks(tx, p, needs); err != nil {
			return err
		}
		return fn(tx, now)
	})
}

// stillWorks reads the key again, under its lock, and by the database's clock.
func (s *Store) stillWorks(tx *gorm.DB, p models.Principal, needs models.Permissions) error {
	var key struct {
		models.APIKey
		Now models.Instant
	}
	err := first(tx.Model(&models.APIKey{}).Select("permissions, expires_at, revoked_at, "+s.clock()+" AS now").
		Where("account_id = ? AND id = ?", p.AccountID, p.KeyID), &key)
	if err != nil {
		return err
	}
	switch status := key.StatusAt(key.Now); {
	case status == models.StatusRevoked:
		return models.ErrKeyRevoked
	case status == models.StatusExpired:
		return models.ErrKeyExpired
	case !key.Permissions.Has(needs):
		return models.ErrKeyNarrowed
	}
	return nil
}

// clock is the expression for an Instant of the database's clock.
func (s *Store) clock() string {
	if s.dialect == postgres {
		return "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
	}
	return "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
}

// turns lets a number of callers in at once, the others in the order in which they came.
type turns chan struct{}

// take waits for a turn, or until ctx ends. done gives the turn back.
func (t turns) take(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a turn: %w", ctx.Err())
	}
}
