package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"cicosts/web/browsertest"
)

// testStates looks at every page, dialog and state in light and dark, wide and narrow.
func testStates(t *testing.T, s *surfer) {
	s.inspect("empty list")
	for _, name := range []string{"Old", "Expired", "Expiring", "Revoked", strings.Repeat("long", 25), "لوحة التكاليف 🚀"} {
		s.generate(name)
	}
	key := s.generate("Used")
	answered(s.t, s.base+"/v1/key", key)
	const day = 24 * 3600 * 1e6
	s.db("UPDATE api_keys SET created_at = created_at - ? WHERE name IN ('Old', 'Expired')", 101*day)
	s.db("UPDATE api_keys SET expires_at = created_at + ? WHERE name = 'Expired'", 30*day)
	s.db("UPDATE api_keys SET expires_at = created_at + ? WHERE name = 'Expiring'", 6*day)
	s.db("UPDATE api_keys SET revoked_at = created_at + ? WHERE name = 'Revoked'", 1e6)
	s.refuse("Revoked", "revoked", 41, "203.0.113.9", "2001:db8:85a3:1234:5678:8a2e:370:7334", "198.51.100.77")
	s.refuse("Expired", "expired", 1234567, "192.0.2.1")
	s.goTo("/settings/api?status=all")
	s.inspect("list")
	s.goTo("/settings/api?q=nothing")
	s.inspect("nothing found")
	for _, name := range []string{"Used", "Old", "Expired", "Revoked"} {
		s.goTo("/settings/api?status=all&q=" + name)
		s.Follow(t, ".key-name")
		s.inspect("key " + name)
		if name == "Revoked" {
			if got := s.Text(t, "[aria-labelledby=proof]"); !regexp.MustCompile(`41 requests\. The last one (just now|\d+ minutes? ago) by GET /v1/costs/by-repository from 203\.0\.113\.9, curl/8\.5\.0`).MatchString(got) {
				t.Errorf("the revoked key's page says %q", got)
			}
		}
	}

	s.goTo("/settings/api?status=all&q=Revoked")
	if got := s.Text(t, "td[data-label='Last used']"); !regexp.MustCompile(`last refused (just now|\d+ minutes? ago), 41 times, from 203\.0\.113\.9`).MatchString(got) {
		t.Errorf("the revoked key was last used %q", got)
	}
	s.generate("Never refused")
	s.db("UPDATE api_keys SET revoked_at = created_at + ? WHERE name = 'Never refused'", 1e6)
	s.goTo("/settings/api?status=revoked&q=Never")
	s.Follow(t, ".key-name")
	s.inspect("key Never refused")

	s.goTo("/settings/api")
	s.open("[data-generate]", "#name")
	s.inspect("generate")
	s.Click(t, "summary")
	s.Check(t, "#scoped", true)
	s.Fill(t, "#expires", "custom")
	s.inspect("generate, advanced options")
	s.Fill(t, "#name", " ")
	s.open("form .primary", "#name-error")
	s.focused("#name")
	if n := s.Count(t, "#dialog .error"); n != 3 {
		t.Errorf("%d errors, want name, permissions and date", n)
	}
	s.inspect("generate, errors")
	s.Press(t, browsertest.KeyEscape)
	s.focused("[data-generate]")
	s.generate("Used") // again
	s.inspect("reveal")
	s.copyKey()
	s.Click(t, "[data-close]")
	s.open("tr:target .actions a", ".danger")
	s.inspect("revoke")
	s.open(".danger", "tr.changed")
	s.inspect("revoked just now")

	for _, path := range []string{"/settings/nothing", "/settings/api/keys/key_0", "/setup?token=used"} {
		if status := s.Go(t, s.base+path); status < 400 || status > 499 {
			t.Errorf("%s: %d", path, status)
		}
		s.inspect("error at " + path)
	}
	s.db("ALTER TABLE api_keys RENAME TO gone")
	s.Go(t, s.base+"/settings/api")
	s.inspect("error 500")
}

// refuse has n requests refused with a key that has ended: one from each address but the first, which sends the others
// under two names.
func (s *surfer) refuse(name, outcome string, n int, addresses ...string) {
	s.t.Helper()
	at := time.Now().UnixMicro()
	s.db("INSERT INTO last_uses SELECT id, false, created_at + 1, '198.51.100.7', 'cost-exporter/1.2 (+https://acme.example/bots)', 'GET /v1/costs', 'accepted' FROM api_keys WHERE name = ?", name)
	s.db("INSERT INTO last_uses SELECT id, true, ?, ?, 'curl/8.5.0', 'GET /v1/costs/by-repository', ? FROM api_keys WHERE name = ?", at, addresses[0], outcome, name)
	s.db("INSERT INTO daily_uses SELECT id, ?, 'GET /v1/costs/by-repository', ?, ? FROM api_keys WHERE name = ?", at/86400e6, outcome, n, name)
	source := func(age int64, address, agent string, requests int) {
		s.db("INSERT INTO refusal_sources SELECT id, ?, ?, 'GET /v1/costs/by-repository', ?, ?, ?, ? FROM api_keys WHERE name = ?",
			address, agent, outcome, at-2*age-1, at-age, requests, name)
	}
	source(0, addresses[0], "curl/8.5.0", n/2)
	source(90e6, addresses[0], strings.Repeat("Mozilla/5.0(X11;Linux)", 11)+" <b>&amp;", 1)
	for i, address := range addresses[1:] {
		source(int64(i+1)*3600e6, address, "python-requests/2.32.3", 1)
	}
}

func testRoles(t *testing.T, s *surfer) {
	s.generate("Theirs")
	for _, role := range []string{"member", "viewer"} {
		email := role + "@example.com"
		s.addUser(email, role)
		s.goTo("/settings/api")
		s.Follow(t, ".topbar form button") // sign out
		s.inspect("sign in")
		s.fillIn("#email", email, "#password", "a wrong password")
		s.Follow(t, ".primary")
		s.inspect("sign in, refused")
		s.signIn(email)
		if got, want := s.Go(t, s.base+"/settings/api"), map[string]int{"member": 200, "viewer": 403}[role]; got != want {
			t.Errorf("a %s is answered %d", role, got)
		}
		s.inspect("list for a " + role)
		if n := s.Count(t, "[data-generate], .actions a"); n != 0 {
			t.Errorf("a %s may do %d things", role, n)
		}
	}
}

// inspect looks at the page as it is, in light on a desktop and in dark on a phone, for what axe finds, for what is wider
// than the narrowest screen, and for what is too small to hit.
func (s *surfer) inspect(name string) {
	s.t.Helper()
	for _, v := range []browsertest.View{{Width: 1280, Height: 800}, {Width: 320, Height: 640}, {Width: 390, Height: 844, Dark: true}} {
		v.NoScript = s.view.NoScript
		s.Look(s.t, v)
		s.Screenshot(s.t, fmt.Sprintf("%s %d", strings.NewReplacer("/", "-", "?", "-").Replace(name), v.Width))
		if v.Width != 320 {
			s.Axe(s.t)
		}
		for _, what := range browsertest.Eval[[]string](s.t, s.Page, faults) {
			s.t.Errorf("%s at %d px: %s", name, v.Width, what)
		}
	}
	s.Look(s.t, s.view)
}

// faults is JavaScript for what does not fit and what is smaller than 24 px (WCAG 2.2, 2.5.8; links in sentences may be).
const faults = `(() => {
	const shown = e => e.checkVisibility({visibilityProperty: true}) && !e.closest('.visually-hidden, .skip')
	const all = selector => [...document.querySelectorAll(selector)].filter(shown), width = document.documentElement.clientWidth
	const tag = e => e.outerHTML.slice(0, 120)
	return [
		...(document.documentElement.scrollWidth > width ? ['scrolls sideways'] : []),
		...all('body *').filter(e => e.getBoundingClientRect().right > width + 1 && !e.closest('pre')).map(e => 'too wide: ' + tag(e)),
		...all('a, button, input, select, summary').filter(e => {
			const r = (e.closest('label') ?? e).getBoundingClientRect()
			return !e.closest('p') && (r.width < 24 || r.height < 24)
		}).map(e => 'too small: ' + tag(e)),
	]
})()`
