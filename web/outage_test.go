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
	c.CheckTimeout = 0
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
	revoke := "/settings/api/keys/" + key.ID + "/revoke"
	for _, a := range []*answer{
		b.get("/settings/api"), b.get("/settings/api/keys/" + key.ID), b.get(revoke), b.get("/settings/api/new"), b.get("/setup?token=x"),
		b.post("/settings/api/keys", form), b.post(revoke, nil), b.post("/logout", nil), s.browser().post("/login", map[string][]string{"email": {owner.Email}}),
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
