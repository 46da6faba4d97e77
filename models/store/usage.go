package store

import (
	"context"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cicosts/models"
)

// SaveUse keeps the newest use of each key, which never moves back whatever order replicas flush in, and adds up the
// daily counts. Both must be in the same order on every replica (by key), so that two flushes cannot deadlock.
func (s *Store) SaveUse(ctx context.Context, newest []models.LastUse, counts []models.DailyUse) error {
	const rowsAtOnce = 500
	return s.change(ctx, "saving use", func(tx *gorm.DB, _ models.Instant) error {
		if len(newest) > 0 {
			err := tx.Clauses(clause.OnConflict{
				Columns:   []clause.Column{{Name: "key_id"}, {Name: "refused"}},
				DoUpdates: clause.AssignmentColumns([]string{"used_at", "ip", "user_agent", "route", "outcome"}),
				Where:     clause.Where{Exprs: []clause.Expression{gorm.Expr("excluded.used_at > last_uses.used_at")}},
			}).CreateInBatches(newest, rowsAtOnce).Error
			if err != nil {
				return err
			}
		}
		if len(counts) == 0 {
			return nil
		}
		return tx.Clauses(clause.OnConflict{
			Columns:   []clause.Column{{Name: "key_id"}, {Name: "day"}, {Name: "route"}, {Name: "outcome"}},
			DoUpdates: clause.Assignments(map[string]any{"requests": gorm.Expr("daily_uses.requests + excluded.requests")}),
		}).CreateInBatches(counts, rowsAtOnce).Error
	})
}

// UseByDay returns the counts of the account's keys among keyIDs from day from on, ordered by key and day.
func (s *Store) UseByDay(ctx context.Context, accountID string, keyIDs []string, from models.Day) ([]models.DailyUse, error) {
	var uses []models.DailyUse
	if len(keyIDs) == 0 {
		return nil, nil
	}
	// SQLite takes the tables of a CROSS JOIN in this order; by itself it would walk all of the account's keys.
	err := s.read.WithContext(ctx).Table("daily_uses AS d CROSS JOIN api_keys AS k").Select("d.*").
		Where("k.id = d.key_id AND k.account_id = ? AND d.key_id IN ? AND d.day >= ?", accountID, keyIDs, from).
		Order("d.key_id, d.day, d.route, d.outcome").Scan(&uses).Error
	return uses, classify("reading use", err)
}
