package web

import (
	"net/url"
	"strings"
	"testing"

	"cicosts/models/store/storetest"
)

// TestHostileInput sends what databases and parsers stumble over to every place that takes input: that is the sender's
// mistake and no defect of the server.
func TestHostileInput(t *testing.T) {
	nasty := []string{
		"\x00", "a\x00b", "\xff", "a\xc3(", "\xed\xa0\x80", "\u202e", "\ufeff", "%00", "'", "\" OR 1=1 --", "%", "_", "\\", "a\r\nb", strings.Repeat("é", 3000),
		strings.Repeat("9", 40), "9223372036854775807.key_x", "-1.", ".", "1.\x00", "form_\x00aaaaaaaaaaaaaaaaaaaaa", "form_\xff\xffaaaaaaaaaaaaaaaaaaaa",
	}
	queries := map[string][]string{
		"/setup": {"token"}, "/login": {"next"}, "/settings/api": {"q", "status", "mode", "permission", "after"},
		"/settings/api/new": {"like", "preset", "name", "mode", "permissions", "expires", "expires_on", "scoped"}, "/settings/api/keys/:id": {"any"},
	}
	fields := []string{"email", "password", "next", "token", "account", "form_token", "name", "mode", "scoped", "permissions", "expires", "expires_on"}
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		_, key := storetest.MustKey(t, s.st, owner)
		s.must(s.st.AddSetupToken(t.Context(), []byte("hash")))
		check := func(a *answer, value string) {
			t.Helper()
			if a.status >= 500 || a.status < 200 {
				t.Errorf("%s with %.40q: %d", a.asked, value, a.status)
			}
		}
		for _, value := range nasty {
			for _, r := range allPages() {
				path := strings.ReplaceAll(r.path, ":id", key.ID)
				if r.method == "GET" {
					query := url.Values{}
					for _, name := range queries[r.path] {
						query.Set(name, value)
						check(b.get(path+"?"+url.Values{name: {value}}.Encode()), name+"="+value)
					}
					check(b.get(path+"?"+query.Encode()), value)
				} else if r.path != "/logout" && r.path != "/login" {
					form := url.Values{}
					for _, name := range fields {
						form.Set(name, value)
					}
					check(b.post(path, form), value)
					form = url.Values{"name": {"A name"}, "mode": {"live"}, "form_token": {value}}
					check(b.post(path, form), value)
				}
				check(b.get(strings.ReplaceAll(r.path, ":id", url.PathEscape(value))), value)
			}
			check(s.browser().post("/login", url.Values{"email": {value}, "password": {value}, "next": {value}}), value)
		}
	})
}

// Whatever a client calls itself, it can sign in and use its key.
func TestHostileUserAgent(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		v := s.addUser("Acme", "owner")
		var keys []string
		for _, agent := range []string{"\xff\xfe", strings.Repeat("é", 300), "a" + strings.Repeat("é", 300), `"; DROP TABLE users`, "<script>alert(1)</script>", "a\tb\u0085\u202ec"} {
			b := s.browser()
			b.post("/login", url.Values{"email": {v.Email}, "password": {goodPassword}}, "User-Agent", agent).wantRedirect("/settings/api")
			secret, key := storetest.MustKey(t, s.st, v)
			b.get("/v1/key", "Authorization", "Bearer "+secret.Reveal(), "User-Agent", agent).want(200)
			b.get("/settings/api/keys/" + key.ID).want(200)
			b.post("/settings/api/keys/"+key.ID+"/revoke", nil).want(303)
			b.get("/v1/key", "Authorization", "Bearer "+secret.Reveal(), "User-Agent", agent).want(401)
			keys = append(keys, key.ID)
		}
		mustBeNil(t, s.uses.Close(t.Context()))
		for _, table := range []string{"last_uses WHERE refused = false", "last_uses WHERE refused = true", "refusal_sources"} {
			if uses := s.query("SELECT key_id FROM %s", table); len(uses) != len(keys) {
				t.Errorf("%d of %d uses are in %s", len(uses), len(keys), table)
			}
		}
		if agents := s.query("SELECT user_agent FROM refusal_sources WHERE user_agent = 'abc'"); len(agents) != 1 {
			t.Error("control characters are saved")
		}
		b := s.browser()
		b.signIn(v.Email)
		for _, id := range keys {
			b.get("/settings/api/keys/" + id).want(200)
		}
	})
}
