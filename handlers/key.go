package handlers

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/views"
)

// Key shows one key: facts, use and history.
func (p *Pages) Key(c echo.Context) error {
	key, inDoubt, err := p.key(c)
	if err != nil {
		return err
	}
	if answered, err := p.whatBecame(c, key, inDoubt); answered || err != nil {
		return err
	}
	page, err := p.keyPage(c, &key, inDoubt)
	if err != nil {
		return err
	}
	if target(c) == "main" {
		page.Key.GivenUp = key.RevokedAt.IsZero()
		page.Said = page.Key.Outcome()
		return Render(c, http.StatusOK, views.Key(page)) // of which htmx takes the main part
	}
	return renderPage(c, http.StatusOK, views.Key(page))
}

// keyPage collects what the page of a key shows. inDoubt says that its
// revocation is in doubt.
func (p *Pages) keyPage(c echo.Context, key *models.KeyRecord, inDoubt bool) (views.KeyPage, error) {
	ctx, v, now := c.Request().Context(), visitor(c), p.Now()
	uses, err := p.usesByKey(ctx, v.AccountID, []models.KeyRecord{*key})
	if err != nil {
		return views.KeyPage{}, err
	}
	events, err := p.Store.History(ctx, v.AccountID, key.ID)
	if err != nil {
		return views.KeyPage{}, err
	}
	sources, err := p.Store.RefusalSources(ctx, v.AccountID, key.ID)
	if err != nil {
		return views.KeyPage{}, err
	}
	row := keyRow(key, uses[key.ID], v.Role, now)
	row.InDoubt, row.Stopping = inDoubt, p.Revoker.Closed()
	replaceBy := ""
	if v.Role.ManagesKeys() {
		replaceBy = newURL + "?like=" + key.ID
	}
	return views.KeyPage{
		Page: Page(c, key.Name), Key: row, CanRevoke: row.CanRevoke, Proof: proof(key, sources, now), Facts: facts(key, now),
		Routes: routeUses(uses[key.ID]), History: history(events, inDoubt),
		ReplaceBy: replaceBy,
	}, nil
}

func facts(k *models.KeyRecord, now time.Time) []views.Fact {
	moment := func(label string, m views.Moment, text string) views.Fact {
		return views.Fact{Label: label, Moment: &m, Text: text}
	}
	list := []views.Fact{
		{Label: "Status", Text: string(k.StatusAt(models.At(now)))},
		{Label: "Key id", Text: k.ID},
		moment("Created", views.Exact(k.CreatedAt.Time()), "by "+k.CreatorEmail),
	}
	if k.ExpiresAt.IsZero() {
		list = append(list, views.Fact{Label: "Expires", Text: "Never"})
	} else {
		list = append(list, moment("Expires", views.Exact(k.ExpiresAt.Time()), ""))
	}
	if k.StatusAt(models.At(now)) != models.StatusActive {
		return list // the proof says the rest
	}
	list = append(list, moment("Last used", views.Ago(k.LastUse.UsedAt.Time(), now), ""))
	if use := k.LastUse; !use.UsedAt.IsZero() {
		list = append(list, views.Fact{Label: "Request", Text: use.Route}, views.Fact{Label: "Address", Text: use.IP}, views.Fact{Label: "Client", Text: use.UserAgent})
	}
	if use := k.LastRefusal; !use.UsedAt.IsZero() {
		list = append(list, moment("Last refused", views.Ago(use.UsedAt.Time(), now), fmt.Sprintf("(%s from %s, %s)", use.Route, use.IP, strings.TrimPrefix(outcomeInWords(use.Outcome), "refused: "))))
	}
	return list
}

func useInWords(use models.LastUse, now time.Time) string {
	if use.UsedAt.IsZero() {
		return "Never"
	}
	return fmt.Sprintf("%s, %s from %s", views.Ago(use.UsedAt.Time(), now).Text, use.Route, use.IP)
}

func requests(n int64) string {
	if n == 0 {
		return "No requests"
	}
	if n == 1 {
		return "1 request"
	}
	return views.Number(n) + " requests"
}

// routeUses adds the counts up by route and outcome, most used first.
func routeUses(uses []models.DailyUse) []views.RouteUse {
	type routeOutcome struct {
		route   string
		outcome models.Outcome
	}
	sums := map[routeOutcome]int64{}
	for _, u := range uses {
		sums[routeOutcome{u.Route, u.Outcome}] += u.Requests
	}
	var keys []routeOutcome
	for k := range sums {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b routeOutcome) int {
		if d := sums[b] - sums[a]; d != 0 {
			return int(min(1, max(-1, d)))
		}
		return strings.Compare(a.route+string(a.outcome), b.route+string(b.outcome))
	})
	var list []views.RouteUse
	for _, k := range keys {
		list = append(list, views.RouteUse{Route: k.route, Outcome: outcomeInWords(k.outcome), Requests: views.Number(sums[k])})
	}
	return list
}

func outcomeInWords(o models.Outcome) string {
	switch o {
	case models.OutcomeAccepted:
		return "accepted"
	case models.OutcomeForbidden:
		return "refused: no permission"
	case models.OutcomeExpired:
		return "refused: expired"
	case models.OutcomeRevoked:
		return "refused: revoked"
	}
	return string(o)
}

// history tells what happened to a key, save a revocation in doubt.
func history(events []models.AuditEvent, inDoubt bool) []views.HistoryLine {
	var list []views.HistoryLine
	for _, e := range events {
		if inDoubt && e.Action == models.ActionKeyRevoked {
			continue
		}
		by := " by " + e.ActorLabel
		if e.IP != "" {
			by += " from " + e.IP
		}
		text := string(e.Action) + by
		switch e.Action {
		case models.ActionKeyCreated:
			text = "Created" + by + ": " + e.Detail
		case models.ActionKeyRevoked:
			text = "Revoked" + by
		}
		list = append(list, views.HistoryLine{At: views.Exact(e.At.Time()), Text: text})
	}
	return list
}
