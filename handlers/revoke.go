package handlers

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/views"
)

// RevokeForm asks before a key is revoked.
func (p *Pages) RevokeForm(c echo.Context) error {
	ctx, v, now := c.Request().Context(), visitor(c), p.Now()
	key, err := p.Store.Key(ctx, v.AccountID, c.Param("id"))
	if err != nil {
		return err
	}
	if !key.RevokedAt.IsZero() {
		return seeOther(c, keyURL(key.ID))
	}
	uses, err := p.usesByKey(ctx, v.AccountID, []models.KeyRecord{key})
	if err != nil {
		return err
	}
	row := keyRow(&key, uses[key.ID], v.Role, now)
	view := views.RevokePage{
		Page: Page(c, "Revoke "+key.Name), Dialog: inDialog(c), Key: row, LastUse: useInWords(key.LastUse, now),
		InUse: key.LastUse.UsedAt > models.At(now).Add(-models.UnusedAfter),
	}
	if today := row.Days[len(row.Days)-1]; today > 0 {
		view.Today = requests(today)
	}
	return Render(c, http.StatusOK, views.RevokeKey(view))
}

// Revoke revokes a key. Its answer is sent only when the revocation is certain.
func (p *Pages) Revoke(c echo.Context) error {
	ctx, v := c.Request().Context(), visitor(c)
	key, err := p.Store.RevokeKey(ctx, actor(c), v.AccountID, c.Param("id"))
	if models.CodeOf(err) == models.CodeUnavailable {
		return &models.Error{
			Code: models.CodeUnavailable, Err: err,
			Message: "The revocation is not confirmed yet, because the database did not answer: the key may still work. Revoke it again.",
		}
	}
	if err != nil {
		return err
	}
	uses, usesErr := p.usesByKey(ctx, v.AccountID, []models.KeyRecord{key})
	stats, statsErr := p.Store.KeyStats(ctx, v.AccountID)
	if !FromHTMX(c) || usesErr != nil || statsErr != nil { // what is done is no error, even when it cannot be drawn
		return seeOther(c, keyURL(key.ID))
	}
	row := keyRow(&key, uses[key.ID], v.Role, p.Now())
	row.Changed = true
	return Render(c, http.StatusOK, views.Revoked(row, statTiles(stats)))
}
