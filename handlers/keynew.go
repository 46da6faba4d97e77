package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/views"
)

// keysPerMinute is how many keys one person may generate in a minute.
const keysPerMinute = 120

var permissionMeanings = map[models.Permissions]string{
	models.CostsRead:     "Read cost data",
	models.WorkflowsRead: "Read workflow data",
	models.AlertsRead:    "Read alerts",
	models.AlertsWrite:   "Create, update and delete alerts",
	models.WebhooksWrite: "Manage webhooks",
}

// presets are the documented sets of permissions.
var presets = []struct {
	value, label string
	permissions  models.Permissions
}{
	{"reporting", "Reporting", models.CostsRead},
	{"alerts", "Alert automation", models.AlertsRead | models.AlertsWrite},
	{"full", "Full integration", models.FullAccess},
}

// newKeyForm is the form as it was sent.
type newKeyForm struct {
	token, name, mode  string
	scoped             bool
	permissions        []string
	expires, expiresOn string
	replaces           string
}

// Form tokens are 22 characters of models.NewID.
const (
	formTokenPrefix = "form_"
	formTokenLength = len(formTokenPrefix) + 22
)

// New shows the form that generates a key: empty, filled for a replacement
// (like), with a preset chosen (preset), or as FormAgain carried it over.
func (p *Pages) New(c echo.Context) error {
	form := newKeyForm{mode: string(keytext.Live), expires: "never"}
	if like := c.QueryParam("like"); like != "" {
		old, err := p.Store.Key(c.Request().Context(), visitor(c).AccountID, like)
		if err != nil {
			return err
		}
		form.replaces, form.name, form.mode = old.Name, old.Name, string(old.Mode)
		form.scoped, form.permissions = old.Permissions != models.FullAccess, old.Permissions.Names()
		form.expires, form.expiresOn = old.ExpiryLike(p.Now())
	}
	preset := c.QueryParam("preset")
	if preset != "" || c.QueryParams().Has("name") {
		form = readKeyForm(c)
	}
	if preset != "" {
		form.scoped = true
		for _, known := range presets {
			if known.value == preset {
				form.permissions = known.permissions.Names()
			}
		}
	}
	form.token = models.NewID(formTokenPrefix)
	return Render(c, http.StatusOK, views.NewKey(p.keyForm(c, form, nil)))
}

// Create generates a key and shows it, the only time. The same form sent again goes to the key's page instead.
func (p *Pages) Create(c echo.Context) error {
	ctx, v, form := c.Request().Context(), visitor(c), readKeyForm(c)
	req, expiry, errs := form.check(p.Now())
	if errs != nil {
		return p.keyFormAgain(c, http.StatusUnprocessableEntity, form, errs)
	}
	if id, err := p.Store.KeyOfForm(ctx, v.AccountID, form.token); err == nil {
		return seeOther(c, keyURL(id))
	} else if !errors.Is(err, models.ErrNotFound) {
		return err
	}
	if ok, wait := p.creates.take(v.UserID); !ok {
		tellRetryAfter(c, wait)
		return p.keyFormAgain(c, http.StatusTooManyRequests, form,
			views.Errors{"": fmt.Sprintf("You have generated %d keys within a minute. Wait a moment, then press Create again.", keysPerMinute)})
	}
	twice, err := p.Store.NameInUse(ctx, v.AccountID, req.Name)
	if err != nil {
		return err
	}
	path := p.pathToTry(ctx, v.AccountID, req)
	secret := keytext.Mint(req.Mode)
	key, err := p.Store.CreateKey(ctx, actor(c), models.APIKey{
		ID: models.NewID(models.KeyIDPrefix), AccountID: v.AccountID, Name: req.Name, NameFolded: models.FoldName(req.Name),
		Mode: req.Mode, Permissions: req.Permissions, Hint: secret.Hint(), Hash: p.Hasher.Hash(secret), SecretID: p.SecretID,
		FormToken: form.token, CreatedBy: v.UserID,
	}, expiry)
	if errors.Is(err, models.ErrConflict) { // sent twice at once
		id, err := p.Store.KeyOfForm(ctx, v.AccountID, form.token)
		if err != nil {
			return err
		}
		return seeOther(c, keyURL(id))
	}
	if err != nil {
		return err
	}
	record := models.KeyRecord{APIKey: key, CreatorEmail: v.Email}
	return Render(c, http.StatusOK, views.RevealKey(views.Reveal{
		Page: Page(c, "Copy your new key"), Dialog: inDialog(c), Key: keyRow(&record, nil, v.Role, p.Now()),
		Text: secret.Reveal(), Curl: p.curl(secret, path), Expires: views.Exact(key.ExpiresAt.Time()), NameTwice: twice,
	}))
}

// pathToTry returns a path, with its query, that the API answers with data for
// the key asked for, if there is any. Costs that are older than what the path
// alone asks for need their dates: else the first answer would be 0.00.
func (p *Pages) pathToTry(ctx context.Context, accountID string, req models.KeyRequest) string {
	const costs = "/v1/costs"
	switch {
	case !req.Permissions.Has(models.CostsRead):
		return "/v1/key"
	case req.Mode != keytext.Live: // there is sample data for every day
		return costs
	}
	newest, err := p.Store.NewestCostDay(ctx, accountID)
	today := models.DayOf(p.Now())
	if err != nil || newest >= today-models.DefaultCostDays && newest <= today {
		return costs // an example must not fail the form
	}
	return fmt.Sprintf("%s?start_date=%s&end_date=%s", costs, newest-models.DefaultCostDays, newest)
}

// curl is a request for the path with the key, ready to paste.
func (p *Pages) curl(secret keytext.Secret, path string) string {
	url := p.BaseURL + path
	if strings.Contains(url, "&") { // which a shell would take for itself
		url = `"` + url + `"`
	}
	return fmt.Sprintf("export CICOSTS_API_KEY=%s\ncurl -H \"Authorization: Bearer $CICOSTS_API_KEY\" \\\n  %s\n", secret.Reveal(), url)
}

// carriedFields are the fields of the form that FormAgain carries over, in the
// order in which it tries them. Permissions come last because a request may
// repeat them without end.
var carriedFields = []string{"mode", "expires", "expires_on", "scoped", "name", "replaces", "permissions"}

// FormAgain returns the address of the form that generates a key, with the
// fields that this request has sent, or "" for any other request. It is for a
// session that has ended: no field is secret, and the form gets a new token. The
// address is a local path. Escaped once more it stays under 8 KiB, because
// proxies refuse longer ones. It leaves out values that do not fit.
func FormAgain(c echo.Context) string {
	const limit = 4000
	r := c.Request()
	if r.Method != http.MethodPost || c.Path() != createURL || !r.PostForm.Has("name") {
		return ""
	}
	query, asText := "", strings.NewReplacer("\x00", "\ufffd")
	for _, field := range carriedFields {
		for _, value := range r.PostForm[field] {
			pair := url.QueryEscape(field) + "=" + url.QueryEscape(asText.Replace(strings.ToValidUTF8(value, "\ufffd")))
			if len(query)+len(pair) < limit {
				query += "&" + pair
			}
		}
	}
	if !strings.Contains(query, "&name=") {
		query += "&name="
	}
	return newURL + "?" + query[1:]
}

// readKeyForm reads the form from the body of a POST, or from the query of a GET.
func readKeyForm(c echo.Context) newKeyForm {
	form := newKeyForm{
		token: c.FormValue("form_token"), name: c.FormValue("name"), mode: c.FormValue("mode"), scoped: c.FormValue("scoped") != "",
		expires: c.FormValue("expires"), expiresOn: c.FormValue("expires_on"), replaces: c.FormValue("replaces"),
	}
	form.permissions = c.Request().Form["permissions"] // FormValue has parsed it
	return form
}

// check returns what is asked for, or what is wrong with the form, by field.
func (f newKeyForm) check(now time.Time) (models.KeyRequest, models.Expiry, views.Errors) {
	permissions, permissionsErr := models.FullAccess, error(nil)
	if f.scoped {
		permissions, permissionsErr = models.ParsePermissions(f.permissions)
	}
	expiry, expiryErr := models.ParseExpiry(f.expires, f.expiresOn, now)
	req := models.KeyRequest{Name: f.name, Mode: keytext.Mode(f.mode), Permissions: permissions}
	req, requestErrs := req.Clean()
	all := []error{permissionsErr}
	for _, err := range requestErrs {
		all = append(all, err)
	}
	if expiryErr != nil {
		all = append(all, expiryErr)
	}
	if !isFormToken(f.token) {
		all = append(all, models.Invalid("", "The form was not complete. Nothing is lost: press Create again."))
	}
	errs, _ := formErrors(all...) // all are about the form
	return req, expiry, errs
}

func isFormToken(s string) bool {
	random, ok := strings.CutPrefix(s, formTokenPrefix)
	return ok && len(s) == formTokenLength && strings.Trim(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// keyFormAgain shows the form as it was sent, with what is wrong.
func (p *Pages) keyFormAgain(c echo.Context, status int, form newKeyForm, errs views.Errors) error {
	if !isFormToken(form.token) {
		form.token = models.NewID(formTokenPrefix)
	}
	if inDialog(c) {
		status = http.StatusUnprocessableEntity // the one error that htmx puts into the dialog
	}
	return Render(c, status, views.NewKey(p.keyForm(c, form, errs)))
}

func (p *Pages) keyForm(c echo.Context, form newKeyForm, errs views.Errors) views.KeyForm {
	now := p.Now().UTC()
	view := views.KeyForm{
		Page: Page(c, "Generate API key"), Dialog: inDialog(c), FormToken: form.token, Name: form.name, Mode: form.mode,
		Scoped: form.scoped, Expires: expiryOptions(form.expires, now), ExpiresOn: form.expiresOn, Today: now.Format(time.DateOnly),
		Replaces: form.replaces, Errors: errs,
	}
	view.Advanced = form.scoped || form.expires != "" && form.expires != "never" ||
		errs["permissions"] != "" || errs["expires"] != "" || errs["expires_on"] != ""
	checked := map[string]bool{}
	for _, name := range form.permissions {
		checked[name] = true
	}
	for _, name := range models.FullAccess.Names() {
		one, _ := models.ParsePermissions([]string{name}) // its own name
		view.Permissions = append(view.Permissions, views.Permission{Name: name, Means: permissionMeanings[one], Checked: checked[name]})
	}
	for _, preset := range presets {
		view.Presets = append(view.Presets, views.Preset{Value: preset.value, Label: preset.label, Permissions: preset.permissions.String()})
	}
	return view
}

func expiryOptions(selected string, now time.Time) []views.Option {
	pairs := []string{"never", "Never"}
	for _, n := range []int{30, 60, 90, 180, 365} {
		label := fmt.Sprintf("In %d days: %s", n, views.Date(now.AddDate(0, 0, n)).Text)
		if n == 90 {
			label += " (recommended)"
		}
		pairs = append(pairs, fmt.Sprint(n), label)
	}
	return options(selected, append(pairs, "custom", "On a date")...)
}
