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
	if err == nil && stats.Total > 0 && stats.Live+stats.Test == 0 {
		stats.Revoked, stats.Expired, err = s.endedKeys(ctx, accountID)
	}
	return stats, classify("counting the keys", err)
}

// endedKeys counts the revoked and the expired ones among the newest keys of an
// account without active ones. No index has the revoked keys, so it reads rows,
// at most models.StatsLimit + 1.
func (s *Store) endedKeys(ctx context.Context, accountID string) (revoked, expired int, err error) {
	var n struct{ Revoked, Ended int }
	err = s.read.WithContext(ctx).Raw(`SELECT count(CASE WHEN revoked_at > 0 THEN 1 END) AS revoked, count(*) AS ended
		FROM (SELECT revoked_at FROM api_keys WHERE account_id = ? ORDER BY created_at DESC, id DESC LIMIT ?) x`,
		accountID, models.StatsLimit+1).Scan(&n).Error
	return n.Revoked, n.Ended - n.Revoked, err
}
