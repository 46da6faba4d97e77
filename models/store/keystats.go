package store

import (
	"context"

	"cicosts/models"
)

// KeyStats counts the account's active keys, each number up to a little over models.StatsLimit, so that a list of many
// keys is as fast as one of few. Each count walks one range of an index and no row.
func (s *Store) KeyStats(ctx context.Context, accountID string) (models.KeyStats, error) {
	const upTo = " LIMIT @most) x)"
	const keys = "(SELECT count(*) FROM (SELECT 1 FROM api_keys WHERE account_id = @account AND revoked_at = 0 AND "
	lasting := func(mode string) string {
		return keys + "mode = '" + mode + "' AND expires_at = 0" + upTo + " + " + keys + "mode = '" + mode + "' AND expires_at > @now" + upTo
	}
	now := models.At(s.now())
	var stats models.KeyStats
	err := s.read.WithContext(ctx).Raw(`SELECT
		(SELECT count(*) FROM (SELECT 1 FROM api_keys WHERE account_id = @account LIMIT 1) x) AS total,
		`+lasting("live")+` AS live,
		`+lasting("test")+` AS test,
		`+keys+`mode IN ('live', 'test') AND expires_at > @now AND expires_at <= @soon`+upTo+` AS expiring,
		`+keys+`created_at <= @old AND (expires_at = 0 OR expires_at > @now) ORDER BY created_at DESC`+upTo+` AS old`,
		map[string]any{
			"account": accountID, "now": now, "most": models.StatsLimit + 1,
			"soon": now.Add(models.ExpiringSoon), "old": now.Add(-models.RotationAge),
		}).Scan(&stats).Error
	return stats, classify("counting the keys", err)
}
