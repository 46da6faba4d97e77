package web

import (
	"net/http"
	"strings"
	"testing"

	"cicosts/models/store/storetest"
)

// A request that changes something must come from a page of ours: the browser says so in Sec-Fetch-Site or in Origin.
func TestCrossSite(t *testing.T) {
	const base = "http://cicosts.example"
	s := sqliteSite(t, withBase(base))
	b, owner := s.owner()
	const public, inside, evil = "cicosts.example", "10.0.0.1:8080", "https://evil.example"
	for _, tt := range []struct {
		name, site, origin, host string
		allowed                  bool
	}{
		{"a browser of today", "same-origin", base, public, true},
		{"without Origin", "same-origin", "", public, true},
		{"typed in", "none", "", public, true},
		{"a browser that does not send Sec-Fetch-Site", "", base, public, true},
		{"asked for by another name", "same-origin", "http://" + inside, inside, true},
		{"the same, by an old browser", "", "http://" + inside, inside, true},
		{"behind a proxy that changes Host", "same-origin", base, inside, true},
		{"the same, by an old browser", "", base, inside, true},

		{"neither header", "", "", public, false},
		{"another site", "cross-site", evil, public, false},
		{"another site, without Origin", "cross-site", "", public, false},
		{"another site that claims our origin", "cross-site", base, public, false},
		{"a sister site", "same-site", "http://other.cicosts.example", public, false},
		{"a sister site, without Origin", "same-site", "", public, false},
		{"another origin, by an old browser", "", evil, public, false},
		{"another origin beside same-origin", "same-origin", evil, public, false},
		{"another scheme", "same-origin", "https://cicosts.example", public, false},
		{"another port", "", base + ":8081", public, false},
		{"a host that begins alike", "", base + ".evil.example", public, false},
		{"our host as user name", "", "http://cicosts.example@evil.example", public, false},
		{"null", "", "null", public, false},
		{"null beside same-origin", "same-origin", "null", public, false},
		{"null from elsewhere", "cross-site", "null", public, false},
		{"nonsense", "yes", base, public, false},
	} {
		for _, r := range allPages() {
			if r.method != http.MethodPost || r.path == "/logout" && tt.allowed {
				continue
			}
			_, key := storetest.MustKey(t, s.st, owner)
			before := s.dump()
			req, err := http.NewRequestWithContext(t.Context(), r.method, s.address+strings.ReplaceAll(r.path, ":id", key.ID), nil)
			mustBeNil(t, err)
			req.Host = tt.host
			for _, cookie := range b.cookies() {
				req.AddCookie(cookie) // the client itself sends those of Host
			}
			if tt.site != "" {
				req.Header.Set("Sec-Fetch-Site", tt.site)
			}
			if tt.origin != "" {
				req.Header.Set("Origin", tt.origin)
			}
			a, err := b.do(req)
			mustBeNil(t, err)
			refused := a.status == http.StatusForbidden && strings.Contains(a.body, "did not come from a page of this site")
			if refused == tt.allowed {
				t.Errorf("%s: %s: %d", tt.name, a.asked, a.status)
			}
			if !tt.allowed {
				s.wantUnchanged(before)
			}
		}
	}
	b.get("/settings/api", "Sec-Fetch-Site", "cross-site", "Origin", evil).want(http.StatusOK) // links from elsewhere work
}

// A program that signs in without a browser's headers has no cookie yet that another site could abuse.
func TestSignInWithoutBrowserHeaders(t *testing.T) {
	s := sqliteSite(t)
	a := s.browser().send("POST", "/login", "email=nobody%40example.com&password=x", "Content-Type", "application/x-www-form-urlencoded")
	a.want(http.StatusUnprocessableEntity)
}

// The API has no cookies to be abused, so where its requests come from does not matter.
func TestAPIFromAnywhere(t *testing.T) {
	s := sqliteSite(t)
	secret, _ := storetest.MustKey(t, s.st, storetest.MustOwner(t, s.st))
	bearer := "Bearer " + secret.Reveal()
	s.browser().get("/v1/key", "Authorization", bearer, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example").want(http.StatusOK)
	s.browser().send("DELETE", "/v1/key", "", "Authorization", bearer).want(http.StatusNoContent)
}
