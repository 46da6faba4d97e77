package web

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"cicosts/models"
)

// hostileNames are names that mean something to a browser, a template or a parser, and must mean nothing here.
var hostileNames = []string{
	`<script>alert(1)</script>`, `</title><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `" autofocus onfocus="alert(1)`,
	`<svg/onload=alert(1)>`, `</textarea><script>alert(1)</script>`, `<!-- --><b>bold</b>`, `]]><x>`, `javascript:alert(1)`, `<a href="javascript:alert(1)">x</a>`,
	`&lt;script&gt;`, `&amp;amp;`, `&#60;script&#62;`, `\u003cscript\u003e`, `%3Cscript%3E`, `{{.}}`, `{{ constructor.constructor('alert(1)')() }}`, `${7*7}`, `<%= 7*7 %>`, `#{7*7}`,
	`{ "a": 1 }`, `{ children... }`, `@import`, "`whoami`", `$(whoami)`, `'; DROP TABLE api_keys; --`, `=1+1`, `@SUM(1)`, `../../etc/passwd`, `hx-get="/logout"`,
	`<div hx-get="/logout" hx-trigger="load">`, `<x data-hx-on:click=alert(1)>`, `Ω≈ç√∫˜µ`, `田中さん 👩‍💻`, `شركة`, `ﷺ`, "a\u00a0b", `<plaintext>`, `<base href=//evil.example>`,
}

// event is what no tag of ours has.
var event = regexp.MustCompile(`(?i)<[^>]*\s(on[a-z]+|style|srcdoc|formaction="javascript|hx-on[^=]*)\s*=`)

// TestNamesAreText has every page, part of a page and answer that shows a key's name show it as it was entered.
func TestNamesAreText(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	for _, name := range hostileNames {
		form := newKeyForm(b, name)
		reveal := b.createKey(form).want(http.StatusOK)
		id := s.query("SELECT id FROM api_keys WHERE revoked_at = 0 ORDER BY created_at DESC")[0]
		page := "/settings/api/keys/" + id
		form.Set("mode", "wrong")
		kept := b.createKey(form).want(http.StatusUnprocessableEntity)
		if kept.value("name") != name {
			t.Errorf("%s: the form has %q", name, kept.value("name"))
		}
		search := b.get("/settings/api?q=" + strings.NewReplacer("%", "%25", "&", "%26", "#", "%23", "+", "%2B", " ", "+", ";", "%3B").Replace(name)).want(http.StatusOK)
		if search.value("q") != name || !strings.Contains(search.body, `data-key-id="`+id+`"`) {
			t.Errorf("%s: a search for it has %q, and no row", name, search.value("q"))
		}
		for _, a := range []*answer{
			reveal, search, b.get("/settings/api").want(200), b.get(page).want(200), b.get(page + "/revoke").want(200),
			b.get(page+"/revoke", "HX-Request", "true", "HX-Target", "dialog").want(200), b.get("/settings/api/new?like=" + id).want(200),
			b.post(page+"/revoke", nil, "HX-Request", "true").want(200), kept,
		} {
			if !strings.Contains(a.body, html.EscapeString(name)) {
				t.Errorf("%s does not show %s as text", a.asked, name)
			}
			if strings.Contains(name, "<") && strings.Contains(a.body, name) {
				t.Errorf("%s has %s in it as it is", a.asked, name)
			}
			for _, tag := range regexp.MustCompile(`<script[^>]*>`).FindAllString(a.body, -1) {
				if !strings.HasPrefix(tag, `<script src="/static/`) {
					t.Errorf("%s: %s for %s", a.asked, tag, name)
				}
			}
			if m := event.FindString(stripQuoted(a.body)); m != "" {
				t.Errorf("%s: %s for %s", a.asked, m, name)
			}
		}
	}
}

// stripQuoted empties the values of attributes, in which anything may stand.
func stripQuoted(body string) string {
	return regexp.MustCompile(`="[^"]*"`).ReplaceAllString(body, `=""`)
}

// The name of an account, an address and a request's route and agent are text too.
func TestOtherTextsAreText(t *testing.T) {
	s := sqliteSite(t)
	const account, agent = `<script>alert("account")</script>`, `<script>alert("agent")</script>`
	b, _ := s.signedIn(account, models.RoleOwner)
	secret := b.createKey(newKeyForm(b, "A key")).revealed()
	b.get("/v1/key", "Authorization", "Bearer "+secret.Reveal(), "User-Agent", agent).want(http.StatusOK)
	mustBeNil(t, s.uses.Close(t.Context()))
	a := b.get("/settings/api/keys/" + s.query("SELECT id FROM api_keys")[0]).want(http.StatusOK)
	for _, text := range []string{account, agent} {
		if !strings.Contains(a.body, html.EscapeString(text)) || strings.Contains(a.body, text) {
			t.Errorf("the page does not show %s as text", text)
		}
	}
	login := s.browser().post("/login", loginForm(`"><script>alert(1)</script>`, "x")).want(http.StatusUnprocessableEntity)
	if login.value("email") != `"><script>alert(1)</script>` || strings.Contains(login.body, "<script>alert") {
		t.Errorf("the form that signs in has %q", login.value("email"))
	}
	for _, path := range []string{"/<script>alert(1)</script>", "/settings/api/keys/<script>alert(1)</script>", "/settings/api?q=<script>alert(1)</script>", "/login?next=/<script>alert(1)</script>"} {
		for _, b := range []*browser{b, s.browser()} {
			if a := b.get(path); strings.Contains(a.body, "<script>alert") {
				t.Errorf("%s has a script in it", path)
			}
		}
	}
}

// Names are trimmed and composed, and kept apart from their case.
func TestNamesAreNormalized(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, _ := s.owner()
		for entered, want := range map[string]string{
			"  Grafana\t": "Grafana", "Cafe\u0301": "Caf\u00e9", "ÅNGSTRÖM": "ÅNGSTRÖM", "a  b": "a  b", strings.Repeat("e\u0301", 100): strings.Repeat("\u00e9", 100),
			strings.Repeat("🔑", 100): strings.Repeat("🔑", 100), "-": "-", "0": "0",
		} {
			b.createKey(newKeyForm(b, entered)).want(http.StatusOK)
			found := false
			for _, name := range s.query("SELECT name FROM api_keys") {
				found = found || name == want
			}
			if !found {
				t.Errorf("%q is not stored as %q", entered, want)
			}
		}
		for _, name := range []string{"gRAFANA", "Gra\u200bfana", "Grafana\u3164", "\ufeffGRAF\u00adANA"} {
			again := b.createKey(newKeyForm(b, name)).want(http.StatusOK)
			if !strings.Contains(again.text(), "Another active key has the same name.") {
				t.Errorf("nothing says that %q is taken", name)
			}
		}
	})
}
