package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/views"
)

const (
	listURL   = "/settings/api"
	newURL    = "/settings/api/new"
	createURL = "/settings/api/keys"
)

func keyURL(id string) string { return "/settings/api/keys/" + url.PathEscape(id) }

type keyStore interface {
	Keys(ctx context.Context, accountID string, f models.KeyFilter) (models.KeyPage, error)
	KeyStats(ctx context.Context, accountID string) (models.KeyStats, error)
	UseByDay(ctx context.Context, accountID string, keyIDs []string, from models.Day) ([]models.DailyUse, error)
	Key(ctx context.Context, accountID, keyID string) (models.KeyRecord, error)
	RefusalSources(ctx context.Context, accountID, keyID string) ([]models.RefusalSource, error)
	History(ctx context.Context, accountID, targetID string) ([]models.AuditEvent, error)
	NameInUse(ctx context.Context, accountID, name string) (bool, error)
	CreateKey(ctx context.Context, by models.Actor, key models.APIKey, expiry models.Expiry) (models.APIKey, error)
	NewestCostDay(ctx context.Context, accountID string) (models.Day, error)
	KeyOfForm(ctx context.Context, accountID, formToken string) (string, error)
}

// List shows the account's keys.
func (p *Pages) List(c echo.Context) error {
	ctx, v, now := c.Request().Context(), visitor(c), p.Now()
	filter := parseFilter(c.QueryParams())
	stats, err := p.Store.KeyStats(ctx, v.AccountID)
	if err != nil {
		return err
	}
	page, err := p.Store.Keys(ctx, v.AccountID, filter)
	if err != nil {
		return err
	}
	uses, err := p.usesByKey(ctx, v.AccountID, page.Keys)
	if err != nil {
		return err
	}
	failovers, err := p.Store.Failovers(ctx, v.AccountID)
	if err != nil {
		return err
	}
	view := views.KeyListPage{
		Page: Page(c, "API keys"), CanManage: v.Role.ManagesKeys(), Stats: statTiles(stats), Filter: filterView(filter),
		NothingYet: stats.Total == 0, Failovers: failoverNotices(failovers),
	}
	for i := range page.Keys {
		k := &page.Keys[i]
		inDoubt := p.inDoubt(k, false)
		row := keyRow(k, uses[k.ID], v.Role, now)
		row.InDoubt = inDoubt
		view.Keys = append(view.Keys, row)
	}
	if page.Next != "" {
		view.MoreURL = filterURL(filter, page.Next)
	}
	if filter.After != "" {
		view.NewestURL = filterURL(filter, "")
	}
	if wider := filter; filter.Status != "" {
		wider.Status = ""
		view.AnyStatusURL = filterURL(wider, "")
	}
	switch {
	case filterURL(filter, "") != listURL:
		view.ClearURL = listURL
	case len(page.Keys) == 0 && filter.After == "" && !view.NothingYet:
		view.NoActive = noActive(stats, v.Role)
	}
	return Render(c, http.StatusOK, views.KeyList(view))
}

// noActive describes the list of an account without active keys.
func noActive(s models.KeyStats, role models.Role) *views.NoActive {
	view := views.NoActive{CanManage: role.ManagesKeys()}
	more := ""
	if s.Revoked+s.Expired > models.StatsLimit {
		more = "+"
	}
	var ended []string
	if s.Revoked > 0 {
		ended = append(ended, views.Number(int64(s.Revoked))+more+" revoked")
		view.RevokedURL = filterURL(models.KeyFilter{Status: models.StatusRevoked}, "")
	}
	if s.Expired > 0 {
		ended = append(ended, views.Number(int64(s.Expired))+more+" expired")
		view.ExpiredURL = filterURL(models.KeyFilter{Status: models.StatusExpired}, "")
	}
	if len(ended) > 0 {
		view.Ended = strings.Join(ended, ", ") + "."
	}
	return &view
}

func (p *Pages) usesByKey(ctx context.Context, accountID string, keys []models.KeyRecord) (map[string][]models.DailyUse, error) {
	ids := make([]string, len(keys))
	for i := range keys {
		ids[i] = keys[i].ID
	}
	today := models.At(p.Now()).Day()
	uses, err := p.Store.UseByDay(ctx, accountID, ids, today-chartDays+1)
	byKey := map[string][]models.DailyUse{}
	for _, u := range uses {
		if u.Day <= today { // another replica's clock may be ahead at midnight, and no chart shows tomorrow
			byKey[u.KeyID] = append(byKey[u.KeyID], u)
		}
	}
	return byKey, err
}

// parseFilter reads the list's query. What it does not know does not narrow; without a status only active keys are listed.
func parseFilter(q url.Values) models.KeyFilter {
	f := models.KeyFilter{Query: clip(q.Get("q"), 400), After: q.Get("after"), Status: models.StatusActive}
	if models.FoldName(f.Query) == "" { // looks empty
		f.Query = ""
	}
	switch s := models.Status(q.Get("status")); s {
	case models.StatusExpired, models.StatusRevoked:
		f.Status = s
	case "all":
		f.Status = ""
	}
	if m := keytext.Mode(q.Get("mode")); m.Valid() {
		f.Mode = m
	}
	if permission, err := models.ParsePermissions([]string{q.Get("permission")}); err == nil {
		f.Permission = permission
	}
	return f
}

func statusParam(s models.Status) string {
	if s == "" {
		return "all"
	}
	return string(s)
}

// filterURL is the list with this filter, from after on.
func filterURL(f models.KeyFilter, after string) string {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("q", f.Query)
	set("mode", string(f.Mode))
	set("permission", f.Permission.String())
	set("after", after)
	if f.Status != models.StatusActive {
		set("status", statusParam(f.Status))
	}
	if len(q) == 0 {
		return listURL
	}
	return listURL + "?" + q.Encode()
}

func filterView(f models.KeyFilter) views.KeyFilter {
	permissions := []views.Option{{Value: "", Label: "Any permission", Selected: f.Permission == 0}}
	for _, name := range models.FullAccess.Names() {
		permissions = append(permissions, views.Option{Value: name, Label: name, Selected: f.Permission.String() == name})
	}
	return views.KeyFilter{
		Query: f.Query,
		Modes: options(string(f.Mode), "", "Live and test", "live", "Live", "test", "Test"),
		Statuses: options(statusParam(f.Status), "active", "Active", "expired", "Expired", "revoked", "Revoked",
			"all", "Any status"),
		Permissions: permissions,
	}
}

// options makes choices of pairs of value and label.
func options(selected string, pairs ...string) []views.Option {
	var list []views.Option
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, views.Option{Value: pairs[i], Label: pairs[i+1], Selected: pairs[i] == selected})
	}
	return list
}

func statTiles(s models.KeyStats) []views.Stat {
	split := ""
	if s.Live <= models.StatsLimit && s.Test <= models.StatsLimit {
		split = fmt.Sprintf("%s live, %s test", upTo(s.Live), upTo(s.Test))
	}
	return []views.Stat{
		{Label: "Active keys", Value: upTo(s.Live + s.Test), Note: split},
		{Label: "Expiring", Value: upTo(s.Expiring), Note: "within 14 days"},
		{Label: "Due for replacement", Value: upTo(s.Old), Note: "over 90 days old"},
	}
}

// upTo writes n, or that there are more than were counted.
func upTo(n int) string {
	if n > models.StatsLimit {
		return views.Number(models.StatsLimit) + "+"
	}
	return views.Number(int64(n))
}
