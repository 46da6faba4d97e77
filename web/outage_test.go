package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"cicosts/models/keyring"
	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
)

const unavailableBody = `{"code": "unavailable", "message": "The API key could not be checked. Try again in a moment."}`

// impatient has the time limits of the program.
func impatient(c *Config) {
	c.Keys = keyring.New(keyring.Config{Source: c.Store.(keyring.Source), Hashers: []*keytext.Hasher{storetest.Hasher}})
}

// While the database is down nobody is let in and nobody is told that a key is bad, and all is well when it is back.
func TestOutage(t *testing.T) {
	cluster := storetest.NewCluster(t)
	s := newSite(t, cluster.Postgres(t), impatient)
	b, owner := s.owner()
	secret, key := storetest.MustKey(t, s.st, owner)
	unknown := keytext.Mint(keytext.Live).Reveal()
	form := b.get("/settings/api/new").want(http.StatusOK).hidden()
	form.Set("name", "after the outage")
	form.Set("mode", "live")

	revoke := "/settings/api/keys/" + key.ID + "/revoke"
	revokeForm := b.get(revoke).want(http.StatusOK).hidden()
	cluster.Stop(t)
	for _, r := range allEndpoints() {
		for _, text := range []string{secret.Reveal(), unknown} {
			a := s.authorize(r.method, r.path, "Bearer "+text)
			a.wantError(503, "", unavailableBody)
			if a.header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", a.asked)
			}
		}
		s.authorize(r.method, r.path).wantError(401, challenge, missingBody) // what needs no database is answered
		s.authorize(r.method, r.path, "Bearer x").wantError(401, challengeToken, malformedBody)
	}
	for _, a := range []*answer{
		b.get("/settings/api"), b.get("/settings/api/keys/" + key.ID), b.get(revoke), b.get("/settings/api/new"), b.get("/setup?token=x"),
		b.post("/settings/api/keys", form), b.post("/logout", nil),
	} {
		if a.want(http.StatusServiceUnavailable); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", a.asked)
		}
		if c := a.cookie("cicosts_session"); c != nil {
			t.Errorf("%s sets the cookie %v", a.asked, c)
		}
		if !strings.Contains(a.text(), "Not available just now") {
			t.Errorf("%s says %s", a.asked, a.text())
		}
	}
	for who, b := range map[string]*browser{"a stranger": s.browser(), "with a session": b} {
		a := b.post("/login", map[string][]string{"email": {owner.Email}, "password": {goodPassword}, "next": {"/settings/api/new"}}).want(http.StatusServiceUnavailable)
		if a.header.Get("Retry-After") == "" || a.cookie("cicosts_session") != nil {
			t.Errorf("%s: Retry-After %q, cookies %v", who, a.header.Get("Retry-After"), a.cookies)
		}
		if a.value("email") != owner.Email || a.value("next") != "/settings/api/new" || !strings.Contains(a.fieldErrors()[""], "You cannot sign in just now") {
			t.Errorf("%s: the form has %q and %q and says %q", who, a.value("email"), a.value("next"), a.text())
		}
	}
	for i, header := range [][]string{nil, {"HX-Request", "true"}} {
		a := b.post(revoke, revokeForm, header...).want(http.StatusServiceUnavailable)
		if text := a.text(); a.header.Get("Retry-After") == "" || a.cookie("cicosts_session") != nil ||
			!strings.Contains(text, "“"+key.Name+"” is NOT revoked.") || !strings.Contains(text, "the key still works") {
			t.Errorf("%s %v says %s", a.asked, header, text)
		}
		if i == 1 {
			a.wantInDialog("Try again")
		}
	}
	b.get("/healthz").want(http.StatusOK)
	s.clock.advance(readyEvery)
	b.get("/readyz").want(http.StatusServiceUnavailable)

	cluster.Start(t)
	for deadline := time.Now().Add(time.Minute); s.browser().get("/readyz").status != http.StatusOK; {
		mustf(t, time.Now().Before(deadline), "not ready after the outage")
		time.Sleep(20 * time.Millisecond)
	}
	answered := func(key string) *answer { // a busy machine may still take too long
		for deadline := time.Now().Add(time.Minute); ; {
			if a := s.authorize("GET", "/v1/key", "Bearer "+key); a.status != http.StatusServiceUnavailable || time.Now().After(deadline) {
				return a
			}
		}
	}
	answered(secret.Reveal()).want(http.StatusOK)
	answered(unknown).wantError(401, challengeToken, invalidBody)
	b.post("/settings/api/keys", form).want(http.StatusOK)
	b.post(revoke, nil).wantRedirect("/settings/api/keys/" + key.ID)
}

// A database that answers wrongly is no reason to let anybody in, or to call a key bad.
func TestBrokenDatabase(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		secret, _ := storetest.MustKey(t, s.st, owner)
		s.exec("ALTER TABLE api_keys RENAME TO elsewhere")
		s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).wantError(503, "", unavailableBody)
		a := b.get("/settings/api").want(http.StatusInternalServerError)
		if id := a.header.Get("X-Request-Id"); !strings.Contains(a.text(), id) {
			t.Errorf("the page does not name request %s: %s", id, a.text())
		}
		for _, secret := range []string{"api_keys", "SQL", "goroutine", "no such table", "42P01"} {
			if strings.Contains(a.body, secret) {
				t.Errorf("the page tells of %q", secret)
			}
		}
		s.exec("ALTER TABLE sessions RENAME TO sessions_elsewhere")
		b.get("/settings/api").want(http.StatusInternalServerError)
		s.browser().get("/settings/api").want(http.StatusSeeOther)
	})
}
