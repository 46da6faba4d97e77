package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"cicosts/models"
)

// activeKeys is the condition, with one argument (now), of a key that works.
const activeKeys = "revoked_at = 0 AND (expires_at = 0 OR expires_at > ?)"

// Keys returns a page of the account's keys.
func (s *Store) Keys(ctx context.Context, accountID string, f models.KeyFilter) (models.KeyPage, error) {
	q, err := s.search(s.keyRecords(ctx), accountID, f.Query)
	if err != nil {
		return models.KeyPage{}, classify("searching the keys", err)
	}
	q = s.filterKeys(q.Where("k.account_id = ?", accountID), f)
	if at, id, ok := parseCursor(f.After); ok {
		q = q.Where("(k.created_at, k.id) < (?, ?)", at, id)
	}
	var rows []keyRow
	if err := q.Order("k.created_at DESC, k.id DESC").Limit(models.KeyPageSize + 1).Scan(&rows).Error; err != nil {
		return models.KeyPage{}, classify("listing the keys", err)
	}
	page := models.KeyPage{}
	if len(rows) > models.KeyPageSize {
		rows = rows[:models.KeyPageSize]
		page.Next = cursor(rows[models.KeyPageSize-1].APIKey)
	}
	for i := range rows {
		page.Keys = append(page.Keys, rows[i].record())
	}
	if err := s.countRefused(ctx, page.Keys); err != nil {
		return models.KeyPage{}, classify("counting refused requests", err)
	}
	return page, nil
}

func (s *Store) filterKeys(q *gorm.DB, f models.KeyFilter) *gorm.DB {
	now := models.At(s.now())
	switch f.Status {
	case models.StatusActive:
		q = q.Where("k.revoked_at = 0 AND (k.expires_at = 0 OR k.expires_at > ?)", now)
	case models.StatusExpired:
		q = q.Where("k.revoked_at = 0 AND k.expires_at > 0 AND k.expires_at <= ?", now)
	case models.StatusRevoked:
		q = q.Where("k.revoked_at > 0")
	}
	if f.Mode != "" {
		q = q.Where("k.mode = ?", f.Mode)
	}
	if f.Permission != 0 {
		q = q.Where("k.permissions & ? <> 0", f.Permission)
	}
	return q
}

// AllKeys returns every key of the account, or of every account for "", oldest first, for an operator.
func (s *Store) AllKeys(ctx context.Context, accountID string) ([]models.KeyRecord, error) {
	q := s.keyRecords(ctx)
	if accountID != "" {
		q = q.Where("k.account_id = ?", accountID)
	}
	var rows []keyRow
	if err := q.Order("k.account_id, k.created_at, k.id").Scan(&rows).Error; err != nil {
		return nil, classify("listing the keys", err)
	}
	records := make([]models.KeyRecord, len(rows))
	for i := range rows {
		records[i] = rows[i].record()
	}
	return records, nil
}

// Key returns one key of the account.
func (s *Store) Key(ctx context.Context, accountID, keyID string) (models.KeyRecord, error) {
	var row keyRow
	if err := first(s.keyRecords(ctx).Where("k.account_id = ? AND k.id = ?", accountID, keyID), &row); err != nil {
		return models.KeyRecord{}, classify("reading a key", err)
	}
	keys := []models.KeyRecord{row.record()}
	err := s.countRefused(ctx, keys)
	return keys[0], classify("counting refused requests", err)
}

// keyRow is a key joined with its creator and its newest uses, which are null where there are none.
type keyRow struct {
	models.APIKey
	CreatorEmail string
	UsedAt       *models.Instant
	UsedIP       *string
	UsedAgent    *string
	UsedRoute    *string
	RefusedAt    *models.Instant
	RefusedIP    *string
	RefusedAgent *string
	RefusedRoute *string
	RefusedAs    *models.Outcome
	Revoking     bool
}

func (s *Store) keyRecords(ctx context.Context) *gorm.DB {
	return s.read.WithContext(ctx).Table("api_keys AS k").
		Select(s.columns(&models.APIKey{}, "k") + `, u.email AS creator_email, l.used_at, l.ip AS used_ip, l.user_agent AS used_agent, l.route AS used_route,
			r.used_at AS refused_at, r.ip AS refused_ip, r.user_agent AS refused_agent, r.route AS refused_route, r.outcome AS refused_as,
			q.key_id IS NOT NULL AS revoking`).
		Joins("JOIN users u ON u.id = k.created_by").
		Joins("LEFT JOIN last_uses l ON l.key_id = k.id AND l.refused = false").
		Joins("LEFT JOIN last_uses r ON r.key_id = k.id AND r.refused = true").
		Joins("LEFT JOIN revocation_requests q ON q.key_id = k.id")
}

func (r *keyRow) record() models.KeyRecord {
	rec := models.KeyRecord{APIKey: r.APIKey, CreatorEmail: r.CreatorEmail, Revoking: r.Revoking}
	if r.UsedAt != nil {
		rec.LastUse = models.LastUse{
			KeyID: r.ID, UsedAt: *r.UsedAt, IP: *r.UsedIP, UserAgent: *r.UsedAgent, Route: *r.UsedRoute, Outcome: models.OutcomeAccepted,
		}
	}
	if r.RefusedAt != nil {
		rec.LastRefusal = models.LastUse{
			KeyID: r.ID, Refused: true, UsedAt: *r.RefusedAt, IP: *r.RefusedIP, UserAgent: *r.RefusedAgent, Route: *r.RefusedRoute, Outcome: *r.RefusedAs,
		}
	}
	return rec
}

// A cursor names the last key of a page by what the list is ordered by, so that paging is as fast on page 200 as on page 1
// and neither skips nor repeats a key when others are created meanwhile.
func cursor(k models.APIKey) string { return fmt.Sprintf("%d.%s", k.CreatedAt, k.ID) }

func parseCursor(s string) (at models.Instant, id string, ok bool) {
	left, id, found := strings.Cut(s, ".")
	n, err := strconv.ParseInt(left, 10, 64)
	return models.Instant(n), id, found && err == nil
}
