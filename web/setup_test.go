package web

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

const setupToken = "ATOKENTHATASTARTMINTED"

// mintToken does what each start of the program does on a database without users.
func (s *site) mintToken(token string) {
	s.t.Helper()
	s.must(s.st.AddSetupToken(s.t.Context(), models.HashToken(token)))
}

func setupForm(token string) url.Values {
	return url.Values{"token": {token}, "account": {"Acme"}, "email": {"ada@example.com"}, "password": {goodPassword}}
}

func TestSetup(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		other := s.replica()
		s.mintToken("ANEARLIERSTARTSTOKEN")
		s.mintToken(setupToken)
		b := other.browser() // any replica knows any token
		page := b.get("/setup?token=" + setupToken).want(http.StatusOK)
		form := page.hidden()
		if form.Get("token") != setupToken {
			t.Fatalf("hidden fields %v", form)
		}
		form = setupForm(form.Get("token"))
		b.post("/setup", form).wantRedirect("/settings/api")
		list := b.get("/settings/api").want(http.StatusOK)
		if !strings.Contains(list.text(), "Acme ada@example.com") {
			t.Errorf("who is signed in? %s", list.text())
		}
		if diff := cmp.Diff([]string{"ada@example.com|owner|Acme|team"}, s.query(`SELECT u.email, m.role, a.name, a.plan FROM users u
			JOIN memberships m ON m.user_id = u.id JOIN accounts a ON a.id = m.account_id`)); diff != "" {
			t.Errorf("people (-want +got):\n%s", diff)
		}
		id := s.query("SELECT id FROM users")[0]
		if diff := cmp.Diff([]string{"account.setup|user|" + id, "session.started|user|" + id}, s.actions(id)); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}

		// Every token is used up, on every replica.
		before := s.dump()
		for _, s := range []*site{s, other} {
			for _, token := range []string{setupToken, "ANEARLIERSTARTSTOKEN", "", "x"} {
				s.browser().get("/setup?token=" + token).want(http.StatusForbidden)
				again := setupForm(token)
				again.Set("email", "eve@example.com")
				again.Set("account", "Other")
				s.browser().post("/setup", again).want(http.StatusForbidden)
			}
		}
		s.mintToken("MINTEDTOOLATE") // by a start that looked for users before there were any
		late := setupForm("MINTEDTOOLATE")
		late.Set("email", "eve@example.com")
		s.browser().post("/setup", late).want(http.StatusForbidden)
		s.wantUnchanged(before, "setup_tokens")
	})
}

func TestSetupMistakes(t *testing.T) {
	s := sqliteSite(t)
	s.mintToken(setupToken)
	before := s.dump()
	for _, tt := range []struct{ field, value, message string }{
		{"account", "", "Enter a name."},
		{"account", " \u2003 ", "Enter a name."},
		{"account", "\uffa0\u115f", "Enter a name."},
		{"account", strings.Repeat("a", 101), "Use at most 100 characters."},
		{"account", "a\x00b", "Control characters and marks that change the direction of text are not allowed."},
		{"email", "", "Enter an e-mail address such as ada@example.com."},
		{"email", "ada", "Enter an e-mail address such as ada@example.com."},
		{"email", "Ada <ada@example.com>", "Enter an e-mail address such as ada@example.com."},
		{"email", "ada@example.com, eve@example.com", "Enter an e-mail address such as ada@example.com."},
		{"password", "", "Use at least 12 characters: a few words are easy to remember."},
		{"password", "eleven char", "Use at least 12 characters: a few words are easy to remember."},
		{"password", strings.Repeat("abcdefgh ", 15), "Use at most 128 characters."},
		{"password", "passwordpassword", "This password is among those tried first. Choose another."},
	} {
		form := setupForm(setupToken)
		form.Set(tt.field, tt.value)
		a := s.browser().post("/setup", form).want(http.StatusUnprocessableEntity)
		if diff := cmp.Diff(map[string]string{tt.field: tt.message}, a.fieldErrors()); diff != "" {
			t.Errorf("%s %q (-want +got):\n%s", tt.field, tt.value, diff)
		}
		for _, field := range []string{"account", "email", "token"} {
			if got := a.value(field); got != form.Get(field) {
				t.Errorf("%s %q: the form has %s %q, want what was entered", tt.field, tt.value, field, got)
			}
		}
		if strings.Contains(a.body, goodPassword) || a.value("password") != "" {
			t.Errorf("%s %q: the form has the password", tt.field, tt.value)
		}
	}
	form := setupForm(setupToken)
	form.Set("account", "")
	form.Set("email", "")
	form.Set("password", "")
	if errs := s.browser().post("/setup", form).want(http.StatusUnprocessableEntity).fieldErrors(); len(errs) != 3 {
		t.Errorf("all at once: %v", errs)
	}
	s.wantUnchanged(before)

	// Nothing was used up by the mistakes, and long passwords with any characters do.
	long := strings.Repeat("ä🔑éß ", 25) + "end"
	form = setupForm(setupToken)
	form.Set("password", long)
	s.browser().post("/setup", form).wantRedirect("/settings/api")
	s.browser().post("/login", url.Values{"email": {"ADA@example.com"}, "password": {long}}).wantRedirect("/settings/api")
	s.browser().post("/login", url.Values{"email": {"ada@example.com"}, "password": {long + " "}}).want(http.StatusUnprocessableEntity)
	s.browser().post("/login", url.Values{"email": {"ada@example.com"}, "password": {long[:len(long)-1]}}).want(http.StatusUnprocessableEntity)
}

// A used link says that setup is done, and offers to sign in.
func TestUsedSetupLink(t *testing.T) {
	s := sqliteSite(t)
	const unknown, done = "This link does not work here", "Setup is done An owner exists, so this link has nothing left to do."
	says := func(a *answer, want, button string) {
		t.Helper()
		if text := a.want(http.StatusForbidden).text(); !strings.Contains(text, want+button) || strings.Contains(text, "not allowed") {
			t.Errorf("%s says %q", a.asked, text)
		}
	}
	says(s.browser().get("/setup?token=x"), unknown, "")
	says(s.browser().post("/setup", setupForm("x")), unknown, "")
	s.mintToken(setupToken)
	b := s.browser()
	b.post("/setup", setupForm(setupToken)).wantRedirect("/settings/api")
	for _, path := range []string{"/setup?token=" + setupToken, "/setup?token=x", "/setup"} {
		says(b.get(path), done, " Continue")
		says(s.browser().get(path), done, " Sign in")
	}
	says(s.browser().post("/setup", setupForm(setupToken)), done, " Sign in")
}

// However many people follow the link at once, on whatever replicas, one of them becomes the owner.
func TestSetupRace(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		s := newSite(t, url)
		sites := []*site{s, s.replica()}
		s.mintToken(setupToken)
		var wg sync.WaitGroup
		statuses := make([]int, 8)
		for i := range statuses {
			wg.Go(func() {
				form := setupForm(setupToken)
				form.Set("email", []string{"ada@example.com", "eve@example.com"}[i%2])
				form.Set("account", []string{"Acme", "Other", "acme"}[i%3])
				a, err := sites[i%2].browser().trySend("POST", "/setup", form.Encode(),
					"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
				if err == nil {
					statuses[i] = a.status
				}
			})
		}
		wg.Wait()
		counts := map[int]int{}
		for _, status := range statuses {
			counts[status]++
		}
		if diff := cmp.Diff(map[int]int{303: 1, 403: 7}, counts); diff != "" {
			t.Errorf("answers by status (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"1|1|1"}, s.query("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM accounts), (SELECT count(*) FROM memberships WHERE role = 'owner')")); diff != "" {
			t.Errorf("users, accounts, owners (-want +got):\n%s", diff)
		}
	})
}

func TestNoDefaultAccount(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		if users := s.query("SELECT * FROM users"); len(users) != 0 {
			t.Errorf("users %v", users)
		}
		s.browser().get("/setup").want(http.StatusForbidden)
		s.browser().post("/setup", setupForm("")).want(http.StatusForbidden)
		for _, email := range []string{"", "admin", "admin@example.com", "root"} {
			s.browser().post("/login", url.Values{"email": {email}, "password": {""}}).want(http.StatusUnprocessableEntity)
		}
	})
}
