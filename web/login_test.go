package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

func loginForm(email, password string) url.Values {
	return url.Values{"email": {email}, "password": {password}}
}

// Who does not get in learns nothing: not by status, not by the page, not by cookies, not by time.
func TestLoginRefusalsAreAlike(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		v, disabled := s.addUser("Acme", models.RoleOwner), s.addUser("Acme", models.RoleOwner)
		s.exec("UPDATE users SET disabled_at = 1 WHERE id = '%s'", disabled.UserID)
		refuse := func(email, password string) (string, time.Duration) {
			start := time.Now()
			a := s.browser().post("/login", loginForm(email, password)).want(http.StatusUnprocessableEntity)
			took := time.Since(start)
			if len(a.cookies) != 0 {
				t.Errorf("%s: cookies %v", email, a.cookies)
			}
			if diff := cmp.Diff(map[string]string{"": "E-mail address or password is wrong."}, a.fieldErrors()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", email, diff)
			}
			return strings.ReplaceAll(a.anonymous(), email, "(address)"), took
		}
		want, _ := refuse(v.Email, "wrong horse battery staple")
		shortest := map[string]time.Duration{}
		for range 4 {
			for name, try := range map[string][2]string{
				"unknown": {"nobody@example.com", goodPassword}, "disabled": {disabled.Email, goodPassword},
				"wrong": {v.Email, "wrong horse battery staple"}, "blank": {v.Email, " "},
			} {
				got, took := refuse(try[0], try[1])
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
				if shortest[name] == 0 || took < shortest[name] {
					shortest[name] = took
				}
			}
		}
		// Hashing takes most of the time, so leaving it out for some would show at once.
		for name, took := range shortest {
			if took < shortest["wrong"]/5 {
				t.Errorf("%s takes %v, a wrong password %v", name, took, shortest["wrong"])
			}
		}
		if got := s.query("SELECT sum(times) FROM audit_events WHERE action = 'session.refused' AND account_id <> ''"); !cmp.Equal(got, []string{"13"}) {
			t.Errorf("%v refusals of known people are counted", got)
		}
	})
}

// The page names an empty field without a look at the database, and keeps the address.
func TestLoginEmptyFields(t *testing.T) {
	s := sqliteSite(t)
	v := s.addUser("Acme", models.RoleOwner)
	before := s.dump()
	const noEmail, noPassword = "Enter your e-mail address.", "Enter your password."
	for _, tt := range []struct {
		email, password string
		want            map[string]string
	}{
		{"", "", map[string]string{"email": noEmail, "password": noPassword}},
		{" \u00a0", goodPassword, map[string]string{"email": noEmail}},
		{v.Email, "", map[string]string{"password": noPassword}},
		{"nobody at all", "", map[string]string{"password": noPassword}},
	} {
		form := loginForm(tt.email, tt.password)
		form.Set("next", "/settings/api/new")
		a := s.browser().post("/login", form).want(http.StatusUnprocessableEntity)
		if diff := cmp.Diff(tt.want, a.fieldErrors()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.email, diff)
		}
		if a.value("email") != tt.email || a.value("password") != "" || a.value("next") != "/settings/api/new" {
			t.Errorf("%q: the form has %v", tt.email, a.inputs())
		}
	}
	s.wantUnchanged(before)
}

// A login gives a new session id and ends the one before, whoever set that.
func TestLoginChangesTheSession(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		v := s.addUser("Acme", models.RoleOwner)
		b := s.browser()
		b.signIn(v.Email)
		first, attacker := cookieNamed(b, "cicosts_session"), b.on(s)
		attacker.get("/settings/api").want(http.StatusOK)
		b.get("/login").wantRedirect("/settings/api")
		b.post("/login", loginForm(v.Email, goodPassword)).wantRedirect("/settings/api")
		if second := cookieNamed(b, "cicosts_session"); second == "" || second == first {
			t.Error("the session id is the old one")
		}
		attacker.get("/settings/api").wantRedirect("/login?next=%2Fsettings%2Fapi")
		b.get("/settings/api").want(http.StatusOK)
		if rows := s.query("SELECT user_id FROM sessions"); len(rows) != 1 {
			t.Errorf("%d sessions", len(rows))
		}
		want := []string{"session.started|user|" + v.UserID, "session.started|user|" + v.UserID, "user.added|operator|"}
		if diff := cmp.Diff(want, s.actions(v.UserID)); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
}

// Only a browser that sends a session cookie reads that a session has ended.
func TestSessionHasEnded(t *testing.T) {
	s := sqliteSite(t)
	v := s.addUser("Acme", models.RoleOwner)
	const ended, undone = "Your session has ended.", "that was not carried out"
	says := func(a *answer, wantEnded, wantUndone bool) {
		t.Helper()
		text := a.want(http.StatusOK).text()
		if strings.Contains(text, ended) != wantEnded || strings.Contains(text, undone) != wantUndone {
			t.Errorf("it says %q", text)
		}
	}
	b := s.browser()
	says(b.get("/login"), false, false)
	says(b.get("/login?next=%2Fsettings%2Fapi"), false, false)
	b.signIn(v.Email)
	s.exec("DELETE FROM sessions")
	says(b.get("/login?next=%2Fsettings%2Fapi"), true, true)
	says(b.get("/login"), true, false)
	b.signIn(v.Email)
	b.post("/logout", nil)
	says(b.get("/login?next=%2Fsettings%2Fapi"), false, false)
}

// held holds a sign-in between the check of its password and its session.
type held struct {
	Store
	checked, goOn chan struct{}
}

func (h *held) StartSession(ctx context.Context, in models.SignIn) error {
	close(h.checked)
	<-h.goOn
	return h.Store.StartSession(context.WithoutCancel(ctx), in) // however long it was held
}

func (h *held) RecordRefusedSignIn(ctx context.Context, by models.Actor) error {
	return h.Store.RecordRefusedSignIn(context.WithoutCancel(ctx), by)
}

// A password that is changed during a sign-in with it is a wrong one.
func TestPasswordChangesDuringSignIn(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		v := s.addUser("Acme", models.RoleOwner)
		wrong := s.browser().post("/login", loginForm(v.Email, "wrong horse battery staple")).want(http.StatusUnprocessableEntity)
		h := &held{checked: make(chan struct{}), goOn: make(chan struct{})}
		slow := s.replica(func(c *Config) {
			h.Store = c.Store
			c.Store = h
		})
		b, answered := slow.browser(), make(chan *answer)
		go func() {
			a, err := b.trySend("POST", "/login", loginForm(v.Email, goodPassword).Encode(), "Content-Type", "application/x-www-form-urlencoded")
			if err != nil {
				t.Error(err)
			}
			answered <- a
		}()
		<-h.checked
		s.must(s.st.SetPassword(t.Context(), models.Operator, v.Email, "another hash"))
		close(h.goOn)
		a := (<-answered).want(http.StatusUnprocessableEntity)
		if diff := cmp.Diff(wrong.anonymous(), a.anonymous()); diff != "" {
			t.Errorf("(-wrong password +changed password):\n%s", diff)
		}
		if len(a.cookies) != 0 || len(s.query("SELECT user_id FROM sessions")) != 0 {
			t.Errorf("cookies %v, sessions %v", a.cookies, s.query("SELECT user_id FROM sessions"))
		}
		if n := len(s.query("SELECT id FROM audit_events WHERE action = 'session.refused' AND actor_id = '%s'", v.UserID)); n != 2 {
			t.Errorf("%d refusals in the history, want 2", n)
		}
	})
}

// The first owner's password may be changed before they are signed in.
func TestPasswordChangesDuringSetup(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		h := &held{checked: make(chan struct{}), goOn: make(chan struct{})}
		slow := s.replica(func(c *Config) {
			h.Store = c.Store
			c.Store = h
		})
		s.mintToken(setupToken)
		b, answered := slow.browser(), make(chan *answer)
		go func() {
			a, err := b.trySend("POST", "/setup", setupForm(setupToken).Encode(), "Content-Type", "application/x-www-form-urlencoded")
			if err != nil {
				t.Error(err)
			}
			answered <- a
		}()
		<-h.checked
		s.must(s.st.SetPassword(t.Context(), models.Operator, "ada@example.com", "another hash"))
		close(h.goOn)
		if a := (<-answered).wantRedirect("/login"); len(a.cookies) != 0 {
			t.Errorf("cookies %v", a.cookies)
		}
	})
}

func cookieNamed(b *browser, name string) string {
	for _, c := range b.cookies() {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

func TestForgedCookies(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	good, device := cookieNamed(b, "cicosts_session"), cookieNamed(b, "cicosts_device")
	foreign := sqliteSite(t, func(c *Config) {
		c.CookieKeys = [][]byte{[]byte(strings.Repeat("S", 32)), []byte(strings.Repeat("E", 32))}
	})
	other, _ := foreign.owner()
	for name, value := range map[string]string{
		"changed": good[:20] + "A" + good[21:], "cut": good[:len(good)-4], "longer": good + "AAAA", "empty": "", "nonsense": "x", "the device's": device,
		"of another secret": cookieNamed(other, "cicosts_session"), "very long": strings.Repeat("A", 5000),
	} {
		if a := s.browser().get("/settings/api", "Cookie", "cicosts_session="+value); a.status != http.StatusSeeOther {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	s.browser().get("/settings/api", "Cookie", "cicosts_session="+good).want(http.StatusOK)
	s.browser().get("/settings/api", "Cookie", "__Host-cicosts_session="+good).want(http.StatusSeeOther)
	// After a change of the secret the old cookies count until they end.
	rotated := s.replica(func(c *Config) {
		c.CookieKeys = append([][]byte{[]byte(strings.Repeat("S", 32)), []byte(strings.Repeat("E", 32))}, c.CookieKeys...)
	})
	b.on(rotated).get("/settings/api").want(http.StatusOK)
}

// notLocal are values of next that lead elsewhere, or nowhere.
var notLocal = []string{
	"//evil.example", "//evil.example/settings/api", "///evil.example", "/\\evil.example", "\\\\evil.example", "\\/evil.example", "/\t/evil.example", "\t//evil.example",
	"/\n/evil.example", "/\r/evil.example", " //evil.example", "https://evil.example", "https:evil.example", "http:/evil.example", "HTTP://evil.example",
	"javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "evil.example", "settings/api", ".", "..//evil.example", "/settings\\..\\..//evil.example",
	"//user@evil.example", "//[::1]/", "/\x00/evil.example", "?x", "#x", "%2f%2fevil.example", "/\x7f", "/%zz", "//", "",
}

func TestLoginNext(t *testing.T) {
	s := sqliteSite(t)
	v := s.addUser("Acme", models.RoleOwner)
	local := []string{"/", "/settings/api?q=a%20b&status=all", "/settings/api/keys/key_x", "/settings/api/new?like=key_x", "/%2F/x", "/..//x"}
	wants := map[string]string{}
	for i, next := range append(local, notLocal...) {
		want := next
		if i >= len(local) {
			want = ""
		}
		wants[next] = want
		if strings.ContainsAny(next, "\x00") { // refused as an address
			continue
		}
		page := s.browser().get("/login?" + url.Values{"next": {next}}.Encode()).want(http.StatusOK)
		if got := page.hidden().Get("next"); got != want {
			t.Errorf("the form for %q has next %q, want %q", next, got, want)
		}
	}
	for next, want := range wants {
		s.clock.advance(time.Hour)
		form := loginForm(v.Email, goodPassword)
		form.Set("next", next)
		if want == "" {
			want = "/settings/api"
		}
		s.browser().post("/login", form).wantRedirect(want)
	}
}

// Who is not signed in comes back to the page they were on.
func TestSentToSignIn(t *testing.T) {
	s := sqliteSite(t)
	for _, tt := range []struct {
		name, method, path, referer, current, want string
	}{
		{"a page", "GET", "/settings/api?q=a%20b", "", "", "/settings/api?q=a%20b"},
		{"a form on a page", "POST", "/settings/api/keys", "http://cicosts.example/settings/api/new?like=key_x", "", "/settings/api/new?like=key_x"},
		{"a form from nowhere", "POST", "/settings/api/keys", "", "", "/"},
		{"a part of a page", "GET", "/settings/api/new", "", "http://cicosts.example/settings/api?status=all", "/settings/api?status=all"},
		{"a host in the referer", "POST", "/settings/api/keys", "http://evil.example//evil.example", "", "/settings/api"},
		{"a host in htmx's header", "GET", "/settings/api/new", "", "//evil.example//x", "/settings/api"},
		{"a scheme in htmx's header", "GET", "/settings/api/new", "", "javascript:alert(1)", "/settings/api"},
	} {
		header := []string{"Referer", tt.referer, "HX-Current-URL", tt.current}
		if tt.current != "" {
			header = append(header, "HX-Request", "true")
		}
		a := s.browser().send(tt.method, tt.path, "", append(header, "Sec-Fetch-Site", "same-origin")...)
		if got, want := a.header.Get("Location"), "/login?next="+url.QueryEscape(tt.want); got != want {
			t.Errorf("%s: sent to %q, want %q", tt.name, got, want)
		}
	}
}
