package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"cicosts/models/store/storetest"
)

// While this program runs, a newer one may change the tables. No page, request
// or revocation fails for it, not even the first.
func TestTablesAreAlteredUnderTheSite(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		use := func() {
			t.Helper()
			form := b.get("/settings/api/new").want(http.StatusOK).hidden()
			form.Set("name", "made")
			form.Set("mode", "live")
			made := b.post("/settings/api/keys", form).want(http.StatusOK).revealed()
			b.post("/settings/api/keys", form).want(http.StatusSeeOther) // finds the key of the form
			secret, key := storetest.MustKey(t, s.st, owner)
			for _, r := range allEndpoints() {
				if r.method == http.MethodGet {
					s.authorize(r.method, r.path, "Bearer "+secret.Reveal()).want(http.StatusOK)
				}
			}
			s.authorize("DELETE", "/v1/key", "Bearer "+made.Reveal()).want(http.StatusNoContent)
			for _, path := range []string{
				"/settings/api", "/settings/api?q=" + url.QueryEscape(key.Name), "/settings/api?status=revoked", "/settings/api/keys/" + key.ID,
				"/settings/api/keys/" + key.ID + "/revoke", "/readyz",
			} {
				b.get(path).want(http.StatusOK)
			}
			b.post("/settings/api/keys/"+key.ID+"/revoke", nil).wantRedirect("/settings/api/keys/" + key.ID)
			b.get("/settings/api/keys/" + key.ID).want(http.StatusOK)
			for _, r := range allEndpoints() {
				s.authorize(r.method, r.path, "Bearer "+secret.Reveal()).want(http.StatusUnauthorized)
			}
			other := s.browser()
			other.signIn(owner.Email)
			other.post("/logout", nil).want(http.StatusSeeOther)
		}
		use()
		for table := range s.dump() {
			s.exec("ALTER TABLE %s ADD COLUMN added_later TEXT NOT NULL DEFAULT ''", table)
		}
		use()
		if strings.HasPrefix(s.url, "sqlite:") {
			return // has no types to change
		}
		for _, change := range s.query(`SELECT format('ALTER TABLE %%I ALTER COLUMN %%I TYPE varchar(500)', table_name, column_name)
			FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'text'`) {
			s.exec("%s", change)
		}
		use()
	})
}
