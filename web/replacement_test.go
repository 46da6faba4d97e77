package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
)

// A replacement is a key like the old one: with its name, mode, permissions, and
// as long a life.
func TestReplacement(t *testing.T) {
	s := sqliteSite(t)
	s.clock.setAhead(time.Until(time.Date(2027, 1, 31, 13, 0, 0, 0, time.UTC)))
	b, owner := s.owner()
	const day = 24 * time.Hour
	midnight := s.clock.Now().UTC().Truncate(day)
	for _, tt := range []struct {
		name    string
		expiry  models.Expiry
		life    time.Duration // of the old key, unless 0
		age     time.Duration
		expires string
		lastDay string
	}{
		{name: "never", expires: "never"},
		{name: "60 days", expiry: models.Expiry{Days: 60}, expires: "60"},
		{name: "365 days, half over", expiry: models.Expiry{Days: 365}, age: 180 * day, expires: "365"},
		{name: "30 days, long expired", expiry: models.Expiry{Days: 30}, age: 100 * day, expires: "30"},
		{name: "a date", expiry: models.Expiry{On: midnight.Add(45 * day)}, expires: "custom", lastDay: "2027-03-17"},
		{name: "a date that is past", expiry: models.Expiry{On: midnight.Add(45 * day)}, age: 60 * day, expires: "custom", lastDay: "2027-03-17"},
		{name: "today", expiry: models.Expiry{On: midnight}, expires: "custom", lastDay: "2027-01-31"},
		{name: "an odd length", life: 45 * day, expires: "custom", lastDay: "2027-03-17"},
		{name: "an hour", life: time.Hour, expires: "custom", lastDay: "2027-01-31"},
	} {
		_, old := storetest.MustKey(t, s.st, owner, func(k *models.APIKey, e *models.Expiry) {
			k.Name, k.Mode, k.Permissions, *e = tt.name, keytext.Test, models.AlertsRead, tt.expiry
		})
		if tt.life > 0 {
			s.exec("UPDATE api_keys SET expires_at = created_at + %d WHERE id = '%s'", tt.life.Microseconds(), old.ID)
		}
		s.exec("UPDATE api_keys SET created_at = created_at - %[1]d, expires_at = CASE expires_at WHEN 0 THEN 0 ELSE expires_at - %[1]d END WHERE id = '%[2]s'",
			tt.age.Microseconds(), old.ID)
		before := s.dump()
		a := b.get("/settings/api/new?like=" + old.ID).want(http.StatusOK)
		s.wantUnchanged(before)
		if !strings.Contains(a.text(), "with the same mode, permissions and length of life") {
			t.Errorf("%s: the form says %s", tt.name, a.text())
		}
		form := a.filledIn()
		for field, value := range map[string]string{
			"name": tt.name, "mode": "test", "scoped": "1", "permissions": "alerts:read", "expires": tt.expires, "expires_on": tt.lastDay,
		} {
			if form.Get(field) != value {
				t.Errorf("%s: %s is %q, want %q", tt.name, field, form.Get(field), value)
			}
		}
		b.createKey(form).want(http.StatusOK)
		longer := s.query(`SELECT (new.expires_at - new.created_at - old.expires_at + old.created_at) / 1000000, new.expires_at = 0, old.expires_at = 0
			FROM api_keys new, api_keys old WHERE old.id = '%s' AND new.form_token = '%s'`, old.ID, form.Get("form_token"))[0]
		if tt.expires == "never" && !strings.HasSuffix(longer, "1|1") || tt.expires != "never" && tt.expires != "custom" && longer != "0|0|0" {
			t.Errorf("%s: the new life is longer by %s", tt.name, longer)
		}
	}
}

// A key that has ended offers a replacement as well, to those who may generate
// one.
func TestReplacementOfEndedKeys(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	member, _ := s.signedIn(owner.AccountName, models.RoleMember)
	_, active := storetest.MustKey(t, s.st, owner)
	_, expired := storetest.MustKey(t, s.st, owner)
	_, revoked := storetest.MustKey(t, s.st, owner)
	s.exec("UPDATE api_keys SET expires_at = created_at + 1 WHERE id = '%s'", expired.ID)
	s.exec("UPDATE api_keys SET revoked_at = created_at + 1 WHERE id = '%s'", revoked.ID)
	for id, says := range map[string]string{
		active.ID: "If it is lost, generate a replacement", expired.ID: "This key has expired. Generate a replacement", revoked.ID: "This key is revoked. Generate a replacement",
	} {
		page := "/settings/api/keys/" + id
		a := b.get(page).want(http.StatusOK)
		if !strings.Contains(a.text(), says) || !strings.Contains(a.body, `href="/settings/api/new?like=`+id+`"`) {
			t.Errorf("%q is not on %s", says, a.text())
		}
		b.createKey(b.get("/settings/api/new?like=" + id).want(http.StatusOK).filledIn()).want(http.StatusOK).revealed()
		if a := member.get(page).want(http.StatusOK); strings.Contains(a.body, "like=") {
			t.Errorf("a member is offered a replacement: %s", a.text())
		}
	}
}
