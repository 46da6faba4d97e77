package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

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

// inDoubt reports whether the revocation of a key that was read before is, or
// just was, in doubt, here or on another replica. If so it clears
// key.RevokedAt, because the stored revocation may still be lost.
func (p *Pages) inDoubt(key *models.KeyRecord, before bool) bool {
	if !before && !key.Revoking && !p.Revoker.Pending(key.AccountID, key.ID) {
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

// Revoke revokes a key. Its answer is a good one only when the revocation is
// certain.
func (p *Pages) Revoke(c echo.Context) error {
	key, err := p.Revoker.RevokeKey(c.Request().Context(), actor(c), visitor(c).AccountID, c.Param("id"))
	switch {
	case errors.Is(err, models.ErrInDoubt):
		return p.notConfirmed(c, err)
	case models.CodeOf(err) == models.CodeUnavailable && !errors.Is(err, models.ErrNotRevoked):
		return revokeFailed(c, err, views.RevokeUnknown)
	case err != nil:
		return err // ExplainRevoke says the rest
	case FromHTMX(c) && target(c) != "main": // which takes the key's page
		if row, err := p.revokedRow(c, key); err == nil { // what is done is no error, even when it cannot be drawn
			return Render(c, http.StatusOK, row)
		}
	}
	return seeOther(c, keyURL(key.ID))
}

// ExplainRevoke makes a failed request to revoke a key say that the key is not
// revoked. It applies also where the database is away before the session is
// found. It does not ask the database.
func ExplainRevoke(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		err := next(c)
		_, explained := errors.AsType[*Failure](err)
		_, ofEcho := errors.AsType[*echo.HTTPError](err)
		switch {
		case explained || ofEcho:
		case models.CodeOf(err) == models.CodeUnavailable:
			return revokeFailed(c, err, views.RevokeNotDone)
		case models.CodeOf(err) == models.CodeInternal:
			return revokeFailed(c, err, views.RevokeBroken)
		}
		return err
	}
}

// revokeFailed answers a revocation that is not confirmed: in the open dialog
// for htmx, else as a page.
func revokeFailed(c echo.Context, cause error, outcome views.RevokeOutcome) error {
	view := views.RevokeFailedPage{
		Dialog: FromHTMX(c), Key: keyOfForm(c), Outcome: outcome,
		RequestID: c.Response().Header().Get(echo.HeaderXRequestID),
	}
	view.Page = Page(c, view.Heading())
	if view.Dialog {
		c.Response().Header().Set("HX-Retarget", "#revoke-outcome")
		c.Response().Header().Set("HX-Reswap", "innerHTML")
		c.Response().Header().Set("HX-Reselect", ".complaint") // the form on the key's page selects its main part
	}
	return &Failure{Err: cause, Page: views.RevokeFailed(view)}
}

// keyOfForm is what the form says of its key. The name is only shown again,
// because a client can send any name.
func keyOfForm(c echo.Context) views.KeyRow {
	name, err := models.CleanName("name", c.FormValue("name"))
	if err != nil {
		name = ""
	}
	return views.KeyRow{ID: url.PathEscape(c.Param("id")), Name: name}
}

// notConfirmed answers a revocation in doubt as what it is, 503, with what will say by itself what has become of it.
func (p *Pages) notConfirmed(c echo.Context, cause error) error {
	if !FromHTMX(c) {
		return &Failure{Err: cause, Page: views.NotConfirmed(views.NotConfirmedPage{
			Page: Page(c, "Revocation not confirmed yet"), Key: keyOfForm(c),
		})}
	}
	key, _, err := p.key(c)
	var part templ.Component
	if err == nil {
		part, err = p.notConfirmedPart(c, key)
	}
	if err != nil {
		return revokeFailed(c, fmt.Errorf("%w; drawing what is in doubt: %w", cause, err), views.RevokeInDoubt)
	}
	c.Response().Header().Set("HX-Reswap", "outerHTML") // or the script would take it for a failure alone
	return &Failure{Err: cause, Page: part}
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
	return views.Revoked(row, statTiles(stats), emptiedList(c, stats)), nil
}

// emptiedList describes the list behind a request of htmx after its last active
// key has ended. It returns nil for any other page and any other list.
func emptiedList(c echo.Context, stats models.KeyStats) *views.NoActive {
	list, err := url.Parse(c.Request().Header.Get("HX-Current-URL"))
	if err != nil || list.Path != listURL || parseFilter(list.Query()).Status != models.StatusActive ||
		stats.Total == 0 || stats.Live+stats.Test > 0 {
		return nil
	}
	return noActive(stats, visitor(c).Role)
}
