package handlers

import (
	"errors"
	"net/http"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/views"
)

// key reads the key of the route, and whether its revocation is in doubt.
func (p *Pages) key(c echo.Context) (models.KeyRecord, bool, error) {
	// Asked before and after: a revocation that ends in between is shown as in doubt, and asked about again.
	accountID, id := visitor(c).AccountID, c.Param("id")
	before := p.Revoker.Pending(accountID, id)
	key, err := p.Store.Key(c.Request().Context(), accountID, id)
	if err != nil {
		return key, false, err
	}
	return key, p.inDoubt(&key, before), nil
}

// inDoubt reports whether the revocation of a key that was read before is, or just was, in doubt, here or on another
// replica. Then it takes it back in the record: what the database has of it may be lost yet.
func (p *Pages) inDoubt(key *models.KeyRecord, before bool) bool {
	if !before && !key.RevocationUncertain && !p.Revoker.Pending(key.AccountID, key.ID) {
		return false
	}
	key.RevokedAt = 0
	return true
}

// RevokeForm asks before a key is revoked.
func (p *Pages) RevokeForm(c echo.Context) error {
	ctx, v, now := c.Request().Context(), visitor(c), p.Now()
	key, _, err := p.key(c)
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
		Page: Page(c, "Revoke "+key.Name), Dialog: inDialog(c), OnKeyPage: c.QueryParam("on") == "key", Key: row, LastUse: useInWords(key.LastUse, now),
		InUse: key.LastUse.UsedAt > models.At(now).Add(-models.UnusedAfter),
	}
	if today := row.Days[len(row.Days)-1]; today.Accepted+today.Refused > 0 {
		view.Today = today.InWords()
	}
	return Render(c, http.StatusOK, views.RevokeKey(view))
}

// Revoke revokes a key. Its answer is a good one only when the revocation is certain.
func (p *Pages) Revoke(c echo.Context) error {
	key, err := p.Revoker.RevokeKey(c.Request().Context(), actor(c), visitor(c).AccountID, c.Param("id"))
	switch {
	case models.CodeOf(err) == models.CodeUnavailable:
		return p.notConfirmed(c, err)
	case err != nil:
		return err
	case FromHTMX(c) && target(c) != "main": // which takes the key's page
		if row, err := p.revokedRow(c, key); err == nil { // what is done is no error, even when it cannot be drawn
			return Render(c, http.StatusOK, row)
		}
	}
	return seeOther(c, keyURL(key.ID))
}

// notConfirmed answers a revocation in doubt as what it is, 503, with what will say by itself what has become of it.
func (p *Pages) notConfirmed(c echo.Context, cause error) error {
	failure := &models.Error{
		Code: models.CodeUnavailable, Err: cause,
		Message: "Revocation not confirmed yet: the database has not confirmed it, so the key may still work. CICosts keeps trying.",
	}
	if !FromHTMX(c) {
		return &Failure{Err: failure, Page: views.NotConfirmed(views.NotConfirmedPage{
			Page: Page(c, "Revocation not confirmed yet"), Key: views.KeyRow{ID: c.Param("id")},
		})}
	}
	key, _, err := p.key(c)
	if err != nil {
		return errors.Join(failure, err)
	}
	part, err := p.notConfirmedPart(c, key)
	if err != nil {
		return errors.Join(failure, err)
	}
	c.Response().Header().Set("HX-Reswap", "outerHTML") // or the script would take it for a failure alone
	return &Failure{Err: failure, Page: part}
}

// notConfirmedPart is what htmx swaps while the revocation of a key is in
// doubt: the key's page or its row of the list.
func (p *Pages) notConfirmedPart(c echo.Context, key models.KeyRecord) (templ.Component, error) {
	if target(c) == "main" {
		page, err := p.keyPage(c, &key, true)
		page.Said = page.Key.Doubt()
		return views.Key(page), err
	}
	uses, err := p.usesByKey(c.Request().Context(), key.AccountID, []models.KeyRecord{key})
	row := keyRow(&key, uses[key.ID], visitor(c).Role, p.Now())
	row.Changed, row.InDoubt = true, true
	return views.NotConfirmedRow(row), err
}

// whatBecame answers the parts of pages that show a revocation in doubt and ask every two seconds what has become of it,
// save with the whole page of the key, which is not answered.
func (p *Pages) whatBecame(c echo.Context, key models.KeyRecord, inDoubt bool) (answered bool, err error) {
	inRow := target(c) == key.ID
	if !FromHTMX(c) || !inRow && target(c) != "main" {
		return false, nil
	}
	if inDoubt {
		return true, c.NoContent(http.StatusNoContent)
	}
	if !inRow {
		return false, nil
	}
	row, err := p.revokedRow(c, key)
	if err != nil {
		return false, err
	}
	return true, Render(c, http.StatusOK, row)
}

// revokedRow is the row of a key in the list after its revocation, or the giving up of it, and the numbers above it.
func (p *Pages) revokedRow(c echo.Context, key models.KeyRecord) (templ.Component, error) {
	ctx := c.Request().Context()
	uses, err := p.usesByKey(ctx, key.AccountID, []models.KeyRecord{key})
	if err != nil {
		return nil, err
	}
	stats, err := p.Store.KeyStats(ctx, key.AccountID)
	if err != nil {
		return nil, err
	}
	row := keyRow(&key, uses[key.ID], visitor(c).Role, p.Now())
	row.Changed, row.GivenUp = true, key.RevokedAt.IsZero()
	return views.Revoked(row, statTiles(stats)), nil
}
