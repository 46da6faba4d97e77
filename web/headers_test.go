package web

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store/storetest"
	"cicosts/static"
)

// visits is one request to every route as somebody who may, and to what goes wrong: refusals, errors, nothing there. It
// must leave the session alone, so signing out is not among it.
func visits(s *site, b *browser, owner models.Visitor) []*answer {
	s.t.Helper()
	secret, key := storetest.MustKey(s.t, s.st, owner)
	_, revoked := storetest.MustKey(s.t, s.st, owner)
	page, revoke := "/settings/api/keys/"+key.ID, "/settings/api/keys/"+revoked.ID+"/revoke"
	bearer := []string{"Authorization", "Bearer " + secret.Reveal()}
	form := b.get("/settings/api/new").hidden()
	form.Set("name", "A key")
	form.Set("mode", "test")
	return []*answer{
		b.get("/"), b.get("/login"), s.browser().get("/login"), s.browser().get("/settings/api"), b.get("/setup?token=x"),
		b.get("/settings/api"), b.get("/settings/api?q=x&status=all"), b.get("/settings/api/new"),
		b.get("/settings/api/new", "HX-Request", "true", "HX-Target", "dialog"), b.get(page), b.get(page, "HX-Request", "true"),
		b.post("/settings/api/keys", form), b.post("/settings/api/keys", form), b.post("/settings/api/keys", nil),
		b.get(revoke), b.post(revoke, nil), b.get(revoke), b.post(revoke, nil, "HX-Request", "true"),
		b.get("/settings/api/keys/key_x"), b.get("/nowhere"), b.get("/static/nothing.js"), b.send("PATCH", "/settings/api", ""),
		b.post("/settings/api/keys", nil, "Sec-Fetch-Site", "cross-site"), b.post("/login", nil),
		b.send("OPTIONS", "/settings/api", ""), b.get("/settings/api?%zz"),
		s.browser().get("/v1/key"), s.browser().get("/v1/key", bearer...), s.browser().get("/v1/costs", bearer...), s.browser().get("/v1/nothing"),
		s.browser().send("PATCH", "/v1/key", ""), s.browser().send("OPTIONS", "/v1/key", ""),
		b.get("/healthz"), b.get("/readyz"), b.get(static.CSS.URL), b.get(static.JS.URL), b.get(static.HTMX.URL), b.get(static.Icon.URL),
	}
}

func TestSecurityHeaders(t *testing.T) {
	for _, base := range []string{"http://cicosts.example", "https://cicosts.example"} {
		t.Run(base, func(t *testing.T) {
			s := sqliteSite(t, withBase(base))
			owner := s.addUser("Acme", models.RoleOwner)
			b := s.browser()
			form := map[string][]string{"email": {owner.Email}, "password": {goodPassword}}
			withSession(b, b.post("/login", form, "Origin", base).want(http.StatusSeeOther).cookies, base)
			statuses := map[int]int{}
			for _, a := range visits(s, b, owner) {
				checkHeaders(t, a, strings.HasPrefix(base, "https"))
				statuses[a.status]++
			}
			// As the session counts, pages and errors of every kind were among them.
			want := map[int]int{200: 18, 204: 2, 303: 6, 400: 1, 401: 1, 403: 2, 404: 4, 405: 2, 422: 2}
			if diff := cmp.Diff(want, statuses); diff != "" {
				t.Errorf("answers by status (-want +got):\n%s", diff)
			}
		})
	}
}

func checkHeaders(t *testing.T, a *answer, https bool) {
	t.Helper()
	api, asset := strings.Contains(a.asked, " /v1"), strings.Contains(a.asked, " /static/") && a.status == http.StatusOK
	want := map[string]string{
		"X-Content-Type-Options":       "nosniff",
		"Cache-Control":                "no-store",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Content-Security-Policy":      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
		"Referrer-Policy":              "same-origin",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"X-Frame-Options":              "DENY",
		"Strict-Transport-Security":    "",
		"Server":                       "", "X-Powered-By": "", "Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "",
	}
	if api {
		want["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'; sandbox"
		want["Referrer-Policy"], want["Cross-Origin-Opener-Policy"], want["X-Frame-Options"] = "", "", ""
	}
	if asset {
		want["Cache-Control"] = "public, max-age=31536000, immutable"
	}
	if https {
		want["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
	}
	got := map[string]string{}
	for name := range want {
		got[name] = strings.Join(a.header.Values(name), " AND ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s, %d (-want +got):\n%s", a.asked, a.status, diff)
	}
	if contentType := a.header.Get("Content-Type"); a.body != "" && !strings.Contains(contentType, "charset=") && contentType != "application/json" && contentType != "image/svg+xml" {
		t.Errorf("%s, %d: Content-Type %q", a.asked, a.status, contentType)
	}
	if !requestID.MatchString(a.header.Get("X-Request-Id")) {
		t.Errorf("%s: request id %q", a.asked, a.header.Get("X-Request-Id"))
	}
}

// withSession has the browser send the cookies whatever their attributes, and forms as from a page of origin.
func withSession(b *browser, cookies []*http.Cookie, origin string) {
	var pairs []string
	for _, c := range cookies {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	b.client.Transport = addCookies{strings.Join(pairs, "; "), origin}
}

type addCookies struct{ cookies, origin string }

func (a addCookies) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Cookie", a.cookies)
	if r.Header.Get("Origin") != "" {
		r.Header.Set("Origin", a.origin)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// Nobody is let in from another origin, whatever it is.
func TestNoCORS(t *testing.T) {
	s := sqliteSite(t)
	secret, _ := storetest.MustKey(t, s.st, storetest.MustOwner(t, s.st))
	for _, origin := range []string{"https://evil.example", "null", s.address, "http://cicosts.example"} {
		for _, path := range []string{"/login", "/v1/key", "/v1/nothing", static.JS.URL} {
			for _, method := range []string{"GET", "OPTIONS"} {
				a := s.browser().send(method, path, "", "Origin", origin, "Authorization", "Bearer "+secret.Reveal(),
					"Access-Control-Request-Method", "DELETE", "Access-Control-Request-Headers", "authorization")
				for name := range a.header {
					if strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("%s from %s: %s: %s", a.asked, origin, name, a.header.Get(name))
					}
				}
			}
		}
	}
}

func TestCookies(t *testing.T) {
	for _, tt := range []struct {
		base, session, device string
		secure                bool
	}{
		{"http://cicosts.example", "cicosts_session", "cicosts_device", false},
		{"https://cicosts.example", "__Host-cicosts_session", "__Host-cicosts_device", true},
	} {
		t.Run(tt.base, func(t *testing.T) {
			s := sqliteSite(t, withBase(tt.base))
			v := s.addUser("Acme", models.RoleOwner)
			form := map[string][]string{"email": {v.Email}, "password": {goodPassword}}
			origin := []string{"Origin", strings.Replace(s.address, "http:", strings.SplitAfter(tt.base, ":")[0], 1)}
			a := s.browser().post("/login", form, origin...).want(http.StatusSeeOther)
			if len(a.cookies) != 2 {
				t.Fatalf("%d cookies: %v", len(a.cookies), a.cookies)
			}
			out := s.browser().post("/logout", nil, origin...).want(http.StatusSeeOther)
			for name, c := range map[string]*http.Cookie{tt.session: a.cookie(tt.session), tt.device: a.cookie(tt.device), "ended": out.cookie(tt.session)} {
				if c == nil {
					t.Errorf("no cookie %s among %v", name, a.cookies)
					continue
				}
				if !c.HttpOnly || c.Secure != tt.secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
					t.Errorf("%s: %s", name, c.Raw)
				}
				maxAge := map[string]int{tt.session: 7 * 24 * 3600, tt.device: 180 * 24 * 3600, "ended": -1}[name]
				if c.MaxAge != maxAge {
					t.Errorf("%s lasts %d s, want %d", name, c.MaxAge, maxAge)
				}
			}
			if got := out.header.Get("Clear-Site-Data"); got != `"cache", "storage"` {
				t.Errorf("Clear-Site-Data %q", got)
			}
		})
	}
}
