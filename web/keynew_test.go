package web

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keytext"
)

// newKeyForm loads the form and fills it in; fields given after name are pairs.
func newKeyForm(b *browser, name string, pairs ...string) url.Values {
	b.s.t.Helper()
	form := b.get("/settings/api/new").want(http.StatusOK).hidden()
	form.Set("name", name)
	form.Set("mode", "live")
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return form
}

func (b *browser) createKey(form url.Values) *answer {
	b.s.t.Helper()
	return b.post("/settings/api/keys", form)
}

// revealed returns the key that the answer shows, in the one element with the id api-key.
func (a *answer) revealed() keytext.Secret {
	a.t.Helper()
	if n := strings.Count(a.body, `id="api-key"`); n != 1 {
		a.t.Fatalf("%s: %d elements with the id api-key", a.asked, n)
	}
	for _, input := range a.inputs() {
		if input["id"] == "api-key" {
			secret, err := keytext.Parse(input["value"])
			mustf(a.t, err == nil, "the value is no key: %v", err)
			if n := strings.Count(a.body, `value="`+secret.Reveal()+`"`); n != 1 {
				a.t.Errorf("the key is the value of %d elements", n)
			}
			return secret
		}
	}
	a.t.Fatalf("%s: no input with the id api-key", a.asked)
	return keytext.Secret{}
}

var urlToTry = regexp.MustCompile(`\s(&#34;)?http://[^/\s]+(/v1/\S+?)(&#34;)?\n`)

// tried sends the request of the reveal's curl line, and returns its path and
// the total cost in the answer.
func (a *answer) tried(s *site, key keytext.Secret) (path string, total any) {
	a.t.Helper()
	found := urlToTry.FindStringSubmatch(a.body)
	if found == nil {
		a.t.Fatalf("no curl line: %s", a.body)
	}
	path = html.UnescapeString(found[2])
	if quoted := found[1] != "" && found[3] != ""; quoted != strings.Contains(path, "&") {
		a.t.Errorf("the quotes around %s are wrong for a shell", path)
	}
	var body struct {
		Data struct {
			Total any `json:"total_cost"`
		}
	}
	answer := s.authorize("GET", path, "Bearer "+key.Reveal()).want(http.StatusOK)
	s.must(json.Unmarshal([]byte(answer.body), &body))
	return path, body.Data.Total
}

// The reveal's curl line asks for days that have data, however old the newest report is.
func TestCurlLineHasData(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, v := s.owner()
		today := models.DayOf(s.clock.Now())
		try := func(pairs ...string) (string, any) {
			t.Helper()
			form := newKeyForm(b, "Grafana")
			for i := 0; i+1 < len(pairs); i += 2 {
				form.Set(pairs[i], pairs[i+1])
			}
			a := b.createKey(form).want(http.StatusOK)
			return a.tried(s, a.revealed())
		}
		want := func(path string, total any, pairs ...string) {
			t.Helper()
			if gotPath, got := try(pairs...); gotPath != path || got != total {
				t.Errorf("%s answers %v, want %s and %v", gotPath, got, path, total)
			}
		}
		want("/v1/costs", 0.0)
		other := s.addUser("Other", models.RoleOwner)
		saveCostOf(t, s.st, other.AccountID, today)
		want("/v1/costs", 0.0)
		saveCostOf(t, s.st, v.AccountID, today-1000)
		want(fmt.Sprintf("/v1/costs?start_date=%s&end_date=%s", today-1007, today-1000), 12.5)
		if path, total := try("mode", "test"); path != "/v1/costs" || total == 0.0 {
			t.Errorf("a test key: %s answers %v", path, total)
		}
		want("/v1/key", nil, "scoped", "1", "permissions", "alerts:read")
		saveCostOf(t, s.st, v.AccountID, today-8)
		want(fmt.Sprintf("/v1/costs?start_date=%s&end_date=%s", today-15, today-8), 12.5)
		saveCostOf(t, s.st, v.AccountID, today-7)
		want("/v1/costs", 12.5)
	})
}

func TestCreateKey(t *testing.T) {
	now := time.Now().UTC()
	today := now.Format(time.DateOnly)
	all := []string{"costs:read", "workflows:read", "alerts:read", "alerts:write", "webhooks:write"}
	in := func(days int) string { return now.AddDate(0, 0, days).Format("2006-01-02T15:04") }
	midnight := now.Truncate(24*time.Hour).AddDate(0, 0, 1).Format("2006-01-02T15:04")
	for _, tt := range []struct {
		name        string
		fields      []string
		mode        string
		permissions []string
		expires     string // to the minute, or ""
	}{
		{"Advanced Options left alone", nil, "live", all, ""},
		{"test", []string{"mode", "test"}, "test", all, ""},
		{"permissions ticked but not limited", []string{"permissions", "costs:read"}, "live", all, ""},
		{"one permission", []string{"scoped", "1", "permissions", "alerts:write"}, "live", []string{"alerts:write"}, ""},
		{"permissions in any order and twice", []string{"scoped", "1", "permissions", "webhooks:write", "permissions", "costs:read", "permissions", "costs:read"}, "live", []string{"costs:read", "webhooks:write"}, ""},
		{"never", []string{"expires", "never", "expires_on", "2020-01-01"}, "live", all, ""},
		{"30 days", []string{"expires", "30"}, "live", all, in(30)},
		{"60 days", []string{"expires", "60"}, "live", all, in(60)},
		{"90 days", []string{"expires", "90"}, "live", all, in(90)},
		{"180 days", []string{"expires", "180"}, "live", all, in(180)},
		{"365 days", []string{"expires", "365"}, "live", all, in(365)},
		{"until the end of today", []string{"expires", "custom", "expires_on", today}, "live", all, midnight},
		{"until the end of a leap day", []string{"expires", "custom", "expires_on", "2028-02-29"}, "live", all, "2028-03-01T00:00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sqliteSite(t)
			b, owner := s.owner()
			form := newKeyForm(b, tt.name)
			for i := 0; i < len(tt.fields); i += 2 {
				if name := tt.fields[i]; name == "mode" {
					form.Set(name, tt.fields[i+1])
				} else {
					form.Add(name, tt.fields[i+1])
				}
			}
			secret := b.createKey(form).want(http.StatusOK).revealed()
			a := s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusOK)
			got := decode(t, a.body).(map[string]any)["data"].(map[string]any)
			if expires, _ := got["expires_at"].(string); !sameMinute(expires, tt.expires) {
				t.Errorf("expires %q, want %q", expires, tt.expires)
			}
			names := []any{}
			for _, p := range tt.permissions {
				names = append(names, p)
			}
			account := map[string]any{"id": owner.AccountID, "name": owner.AccountName}
			for field, want := range map[string]any{"name": tt.name, "mode": tt.mode, "permissions": names, "account": account} {
				if diff := cmp.Diff(want, got[field]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", field, diff)
				}
			}
			if !strings.HasPrefix(secret.Reveal(), "cic_"+tt.mode+"_") {
				t.Errorf("the prefix is not %s's", tt.mode)
			}
		})
	}
}

// sameMinute reports whether a timestamp is of the minute wanted, or the next, since time passes.
func sameMinute(timestamp, want string) bool {
	at, err := time.Parse(time.RFC3339, timestamp)
	if err != nil || want == "" {
		return timestamp == want
	}
	const minutes = "2006-01-02T15:04"
	return at.Format(minutes) == want || at.Add(-time.Minute).Format(minutes) == want
}

func TestCreateKeyMistakes(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	yesterday := time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	const unsafe = "Control characters and marks that change the direction of text are not allowed."
	const number = "Choose never, 30, 60, 90, 180 or 365 days, or a date."
	before := s.dump()
	for _, tt := range []struct {
		field, value, beside, message string
		more                          []string
	}{
		{"name", "", "name", "Enter a name.", nil},
		{"name", " \t\u00a0\u3000", "name", "Enter a name.", nil},
		{"name", "\u200b", "name", "Enter a name.", nil},
		{"name", "\u3164", "name", "Enter a name.", nil},
		{"name", "\u2800", "name", "Enter a name.", nil},
		{"name", strings.Repeat("é", 101), "name", "Use at most 100 characters.", nil},
		{"name", "a\x00b", "name", unsafe, nil},
		{"name", "a\nb", "name", unsafe, nil},
		{"name", "a\x7fb", "name", unsafe, nil},
		{"name", "a\u0085b", "name", unsafe, nil},
		{"name", "a\u202eb", "name", unsafe, nil},
		{"name", "a\u2066b", "name", unsafe, nil},
		{"name", "a\u200fb", "name", unsafe, nil},
		{"name", "a\u2028b", "name", unsafe, nil},
		{"name", "a\xffb", "name", "This is not text in UTF-8.", nil},
		{"mode", "", "mode", "Choose live or test.", nil},
		{"mode", "LIVE", "mode", "Choose live or test.", nil},
		{"mode", "prod", "mode", "Choose live or test.", nil},
		{"scoped", "1", "permissions", "Choose at least one permission, or leave the permissions unlimited.", nil},
		{"permissions", "admin", "permissions", `There is no permission "admin". Permissions are costs:read, workflows:read, alerts:read, alerts:write, webhooks:write.`, []string{"scoped", "1"}},
		{"permissions", "COSTS:READ", "permissions", `There is no permission "COSTS:READ". Permissions are costs:read, workflows:read, alerts:read, alerts:write, webhooks:write.`, []string{"scoped", "1"}},
		{"expires", "31", "expires", number, nil},
		{"expires", "-30", "expires", number, nil},
		{"expires", "030", "expires", number, nil},
		{"expires", "30 ", "expires", number, nil},
		{"expires", "Never", "expires", number, nil},
		{"expires", "custom", "expires_on", "Enter a date as YYYY-MM-DD.", nil},
		{"expires_on", yesterday, "expires_on", "This date is past. Choose today or a later day.", []string{"expires", "custom"}},
		{"expires_on", "2027-02-29", "expires_on", "Enter a date as YYYY-MM-DD.", []string{"expires", "custom"}},
		{"expires_on", "29.02.2028", "expires_on", "Enter a date as YYYY-MM-DD.", []string{"expires", "custom"}},
		{"expires_on", "2027-1-1", "expires_on", "Enter a date as YYYY-MM-DD.", []string{"expires", "custom"}},
		{"expires_on", "9999-12-31", "expires_on", "Enter a date as YYYY-MM-DD.", []string{"expires", "custom"}},
		{"form_token", "", "", "The form was not complete. Nothing is lost: press Create again.", nil},
		{"form_token", "form_short", "", "The form was not complete. Nothing is lost: press Create again.", nil},
	} {
		form := newKeyForm(b, "Typed in", tt.more...)
		form.Set(tt.field, tt.value)
		for _, dialog := range []string{"", "dialog"} {
			htmx := strings.ReplaceAll(dialog, "dialog", "true")
			a := b.post("/settings/api/keys", form, "HX-Request", htmx, "HX-Target", dialog)
			if a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s %q: %d", tt.field, tt.value, a.status)
				continue
			}
			if diff := cmp.Diff(map[string]string{tt.beside: tt.message}, a.fieldErrors()); diff != "" {
				t.Errorf("%s %q (-want +got):\n%s", tt.field, tt.value, diff)
			}
			if strings.Contains(a.body, `id="api-key"`) || strings.Contains(a.body, "<html") == (dialog != "") {
				t.Errorf("%s %q: a reveal, or not the form alone: %s", tt.field, tt.value, a.text())
			}
		}
	}
	s.wantUnchanged(before)
}
