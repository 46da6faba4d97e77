package store

import (
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cicosts/models"
)

// SaveUse keeps the newest use of each key, which never moves back whatever order replicas flush in, adds up the daily
// counts, and keeps the newest sources of refused requests. All must be in the order that models.Uses tells, so that two
// flushes cannot deadlock: they take turns on the rows of last_uses, which come first.
//
// A batch that was saved in the last day is not saved again. dropped counts the
// requests of the batch whose keys the database does not have.
func (s *Store) SaveUse(ctx context.Context, uses models.Uses) (dropped int64, err error) {
	if uses.ID == "" {
		return 0, errors.New("saving use: the batch has no id")
	}
	err = s.change(ctx, "saving use", func(tx *gorm.DB, now models.Instant) error {
		if err := s.makeLocal(tx); err != nil {
			return err
		}
		known, unknown, err := ofKnownKeys(tx, uses)
		if err != nil {
			return err
		}
		saved, err := noteBatch(tx, uses.ID, unknown, now)
		if err != nil {
			return err
		}
		if saved {
			return first(tx.Table("use_batches").Select("dropped").Where("id = ?", uses.ID), &dropped)
		}
		dropped = unknown
		return saveUses(tx, known)
	})
	return dropped, err
}

func saveUses(tx *gorm.DB, uses models.Uses) error {
	for newest := range slices.Chunk(uses.Newest, usesAtOnce) {
		err := tx.Clauses(clause.OnConflict{
			Columns:   []clause.Column{{Name: "key_id"}, {Name: "refused"}},
			DoUpdates: clause.AssignmentColumns([]string{"used_at", "ip", "user_agent", "route", "outcome"}),
			Where:     clause.Where{Exprs: []clause.Expression{gorm.Expr("excluded.used_at > last_uses.used_at")}},
		}).Create(newest).Error
		if err != nil {
			return err
		}
	}
	for counts := range slices.Chunk(uses.Counts, usesAtOnce) {
		err := tx.Clauses(clause.OnConflict{
			Columns:   []clause.Column{{Name: "key_id"}, {Name: "day"}, {Name: "route"}, {Name: "outcome"}},
			DoUpdates: clause.Assignments(map[string]any{"requests": gorm.Expr("daily_uses.requests + excluded.requests")}),
		}).Create(counts).Error
		if err != nil {
			return err
		}
	}
	for sources := range slices.Chunk(uses.Refusals, usesAtOnce) {
		if err := saveSources(tx, sources); err != nil {
			return err
		}
	}
	return nil
}

// usesAtOnce is how many rows of use one statement writes.
const usesAtOnce = 500

// saveSources adds to what is known of the sources, and forgets all but the newest of each key.
func saveSources(tx *gorm.DB, sources []models.RefusalSource) error {
	err := tx.Clauses(clause.OnConflict{
		Columns: []clause.Column{{Name: "key_id"}, {Name: "ip"}, {Name: "user_agent"}, {Name: "route"}, {Name: "outcome"}},
		DoUpdates: clause.Assignments(map[string]any{
			"first_at": gorm.Expr("CASE WHEN excluded.first_at < refusal_sources.first_at THEN excluded.first_at ELSE refusal_sources.first_at END"),
			"last_at":  gorm.Expr("CASE WHEN excluded.last_at > refusal_sources.last_at THEN excluded.last_at ELSE refusal_sources.last_at END"),
			"requests": gorm.Expr("refusal_sources.requests + excluded.requests"),
		}),
	}).Create(sources).Error
	if err != nil {
		return err
	}
	var keys []string
	for i := range sources {
		if i == 0 || sources[i].KeyID != sources[i-1].KeyID {
			keys = append(keys, sources[i].KeyID)
		}
	}
	return tx.Exec(`DELETE FROM refusal_sources WHERE (key_id, ip, user_agent, route, outcome) IN (
		SELECT key_id, ip, user_agent, route, outcome FROM (
			SELECT key_id, ip, user_agent, route, outcome, row_number() OVER (
				PARTITION BY key_id ORDER BY last_at DESC, ip, user_agent, route, outcome) AS place
			FROM refusal_sources WHERE key_id IN ?) AS placed
		WHERE place > ?)`, keys, models.MaxRefusalSources).Error
}

// RefusalSources returns where requests with an ended key of the account came from, newest first.
func (s *Store) RefusalSources(ctx context.Context, accountID, keyID string) ([]models.RefusalSource, error) {
	var sources []models.RefusalSource
	err := s.read.WithContext(ctx).Table("refusal_sources AS r").Select(s.columns(&models.RefusalSource{}, "r")).Joins("JOIN api_keys k ON k.id = r.key_id").
		Where("k.account_id = ? AND r.key_id = ?", accountID, keyID).
		Order("r.last_at DESC, r.ip, r.user_agent, r.route, r.outcome").Scan(&sources).Error
	return sources, classify("reading where a key was refused", err)
}

// countRefused fills in Refused of those keys that have ended. It reads the days since then, and one more since the
// clocks of replicas may differ.
func (s *Store) countRefused(ctx context.Context, keys []models.KeyRecord) error {
	now, ended := models.At(s.now()), map[string]*models.KeyRecord{}
	var ids []string
	for i := range keys {
		if keys[i].StatusAt(now) != models.StatusActive {
			ids = append(ids, keys[i].ID)
			ended[keys[i].ID] = &keys[i]
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var sums []models.DailyUse
	err := s.read.WithContext(ctx).Table("api_keys AS k CROSS JOIN daily_uses AS d").Select("d.key_id, d.outcome, CAST(sum(d.requests) AS BIGINT) AS requests").
		Where("k.id IN ? AND d.key_id = k.id AND d.outcome IN ?", ids, []models.Outcome{models.OutcomeExpired, models.OutcomeRevoked}).
		Where(`d.day >= CASE WHEN k.expires_at > 0 AND (k.revoked_at = 0 OR k.expires_at < k.revoked_at) THEN k.expires_at
			ELSE k.revoked_at END / 86400000000 - 1`).
		Group("d.key_id, d.outcome").Scan(&sums).Error
	for _, sum := range sums {
		refused := &ended[sum.KeyID].Refused
		switch sum.Outcome {
		case models.OutcomeExpired:
			refused.Expired = sum.Requests
		case models.OutcomeRevoked:
			refused.Revoked = sum.Requests
		}
	}
	return err
}

// UseByDay returns the counts of the account's keys among keyIDs from day from on, ordered by key and day.
func (s *Store) UseByDay(ctx context.Context, accountID string, keyIDs []string, from models.Day) ([]models.DailyUse, error) {
	var uses []models.DailyUse
	if len(keyIDs) == 0 {
		return nil, nil
	}
	// SQLite takes the tables of a CROSS JOIN in this order; by itself it would walk all of the account's keys.
	err := s.read.WithContext(ctx).Table("daily_uses AS d CROSS JOIN api_keys AS k").Select(s.columns(&models.DailyUse{}, "d")).
		Where("k.id = d.key_id AND k.account_id = ? AND d.key_id IN ? AND d.day >= ?", accountID, keyIDs, from).
		Order("d.key_id, d.day, d.route, d.outcome").Scan(&uses).Error
	return uses, classify("reading use", err)
}
