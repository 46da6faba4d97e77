package store

import (
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"cicosts/models"
)

// batchMemory is how long the database knows that a batch of uses was saved.
const batchMemory = 24 * time.Hour

// noteBatch notes that tx saves the batch and drops this many of its requests,
// and forgets old batches. It reports whether the batch was saved before. It
// waits for another transaction that is saving the batch.
func noteBatch(tx *gorm.DB, id string, dropped int64, now models.Instant) (saved bool, err error) {
	res := tx.Clauses(clause.OnConflict{DoNothing: true}).Table("use_batches").
		Create(map[string]any{"id": id, "saved_at": now, "dropped": dropped})
	if res.Error != nil || res.RowsAffected == 0 {
		return res.Error == nil, res.Error
	}
	return false, tx.Exec("DELETE FROM use_batches WHERE saved_at < ?", now.Add(-batchMemory)).Error
}

// ofKnownKeys returns the uses whose keys the database has, and how many
// requests the others are. A failover may have lost a key.
func ofKnownKeys(tx *gorm.DB, uses models.Uses) (known models.Uses, dropped int64, err error) {
	ids := keysOf(uses)
	has := make(map[string]bool, len(ids))
	for some := range slices.Chunk(ids, usesAtOnce) {
		var found []string
		if err := tx.Model(&models.APIKey{}).Where("id IN ?", some).Pluck("id", &found).Error; err != nil {
			return uses, 0, err
		}
		for _, id := range found {
			has[id] = true
		}
	}
	if len(has) == len(ids) {
		return uses, 0, nil
	}
	for _, c := range uses.Counts {
		if !has[c.KeyID] {
			dropped += c.Requests
		}
	}
	return models.Uses{
		ID:       uses.ID,
		Newest:   slices.DeleteFunc(slices.Clone(uses.Newest), func(u models.LastUse) bool { return !has[u.KeyID] }),
		Counts:   slices.DeleteFunc(slices.Clone(uses.Counts), func(c models.DailyUse) bool { return !has[c.KeyID] }),
		Refusals: slices.DeleteFunc(slices.Clone(uses.Refusals), func(r models.RefusalSource) bool { return !has[r.KeyID] }),
	}, dropped, nil
}

// keysOf returns the ids of all keys of the uses, once each.
func keysOf(uses models.Uses) []string {
	var ids []string
	for _, u := range uses.Newest {
		ids = append(ids, u.KeyID)
	}
	for _, c := range uses.Counts {
		ids = append(ids, c.KeyID)
	}
	for _, r := range uses.Refusals {
		ids = append(ids, r.KeyID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
