package main

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cicosts/web/browsertest"
)

// surfer is somebody in front of a browser, with a program of their own.
type surfer struct {
	*browsertest.Page
	*site
	t    *testing.T
	view browsertest.View
}

// site is the running program and its database.
type site struct {
	*running
	path string
}

const ownerEmail, goodPassword = "ops@acme.example", "correct horse battery"

// wholeKey is a key's text, not the hint of it.
var wholeKey = regexp.MustCompile(`cic_(live|test)_[0-9A-Za-z]{28}`)

func newProgram(t *testing.T) *site {
	path := filepath.Join(t.TempDir(), "cicosts.db")
	return &site{startServing(t, map[string]string{"CICOSTS_DATABASE_URL": "sqlite:" + path}), path}
}

func newSurfer(t *testing.T, b *browsertest.Browser, p *site, view browsertest.View) *surfer {
	return &surfer{b.Open(t, view), p, t, view}
}

func (s *surfer) goTo(path string) {
	s.t.Helper()
	if status := s.Go(s.t, s.base+path); status != http.StatusOK {
		s.t.Fatalf("%s: %d", path, status)
	}
}

// open clicks on what leads to another page, or with the script to a dialog, where something appears.
func (s *surfer) open(selector, appears string) {
	s.t.Helper()
	if s.view.NoScript {
		s.Follow(s.t, selector)
	} else {
		s.Click(s.t, selector)
	}
	s.WaitFor(s.t, appears)
}

// back goes to the page before, and waits until it is there.
func (s *surfer) back() {
	s.t.Helper()
	left := s.URL(s.t)
	s.is("history.back() ?? true")
	s.WaitUntil(s.t, "location.href !== "+quoted(left)+" && document.readyState === 'complete'")
}

func (s *surfer) fillIn(pairs ...string) {
	s.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		s.Fill(s.t, pairs[i], pairs[i+1])
	}
}

// setUp creates the owner through the setup link.
func (s *surfer) setUp() {
	s.t.Helper()
	s.Go(s.t, s.setup)
	s.fillIn("#account", "Acme", "#email", ownerEmail, "#password", goodPassword)
	s.Follow(s.t, ".primary")
}

// signIn fills in the form, which is here.
func (s *surfer) signIn(email string) {
	s.t.Helper()
	s.fillIn("#email", email, "#password", goodPassword)
	s.Follow(s.t, ".primary")
}

func (s *surfer) addUser(email, role string) {
	s.t.Helper()
	code := execute(s.t.Context(), program{
		args: []string{"user", "add", "--email", email, "--account", "Acme", "--role", role, "--password-stdin"},
		in:   strings.NewReader(goodPassword), out: s.log, err: s.log,
		env: func(name string) (string, bool) {
			return map[string]string{"CICOSTS_DATABASE_URL": "sqlite:" + s.path}[name], true
		},
	})
	if code != 0 {
		s.t.Fatalf("adding a user: %d %s", code, s.log)
	}
}

// generate makes a key with every permission in the dialog, left open, and returns its text.
func (s *surfer) generate(name string) string {
	s.t.Helper()
	s.goTo("/settings/api")
	s.open("[data-generate]", "#name")
	s.Fill(s.t, "#name", name)
	s.open("form .primary", "#api-key")
	return s.Value(s.t, "#api-key")
}

func (s *surfer) copyKey() {
	s.t.Helper()
	s.Click(s.t, "[data-copy]")
	s.WaitUntil(s.t, "document.querySelector('[data-copy]').textContent === 'Copied'")
}

// db changes the program's database.
func (s *surfer) db(query string, args ...any) {
	s.t.Helper()
	db, err := sql.Open("sqlite", s.path+"?_pragma=busy_timeout(5000)")
	if err == nil {
		defer db.Close()
		_, err = db.ExecContext(s.t.Context(), query, args...)
	}
	if err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}

// is evaluates a condition.
func (s *surfer) is(expression string) bool {
	s.t.Helper()
	return browsertest.Eval[bool](s.t, s.Page, expression)
}

// focused waits until an element has the focus.
func (s *surfer) focused(selector string) {
	s.t.Helper()
	s.WaitUntil(s.t, "document.activeElement?.matches("+quoted(selector)+")")
}

// tabTo presses Tab until an element has the focus. An open dialog lets it go nowhere else.
func (s *surfer) tabTo(selector string) {
	s.t.Helper()
	for range 60 {
		s.Press(s.t, browsertest.KeyTab)
		if s.is("!!document.querySelector('dialog[open]') && !document.activeElement.closest('dialog, body:not(:has(:focus))')") {
			s.t.Fatal("the focus has left the dialog")
		}
		if s.is("document.activeElement.matches(" + quoted(selector) + ") && document.activeElement.matches(':focus-visible')") {
			return
		}
	}
	s.t.Fatalf("Tab does not lead to %s", selector)
}

// quoted writes a JavaScript string.
func quoted(s string) string {
	b, _ := json.Marshal(s) // a string, which always can be
	return string(b)
}
