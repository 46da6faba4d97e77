package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"cicosts/web/browsertest"
)

// TestForms is what the forms promise, with and without the script.
func TestForms(t *testing.T) {
	b := browsertest.Start(t)
	for name, view := range map[string]browsertest.View{"with script": {}, "without script": {NoScript: true}} {
		for what, test := range map[string]func(*testing.T, *surfer){
			"a date no longer chosen": testDateNotChosen, "errors beside their fields": testFieldErrors, "last key revoked": testLastRevoked,
		} {
			t.Run(what+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newSurfer(t, b, newProgram(t), view)
				test(t, s)
				s.Quiet(t)
			})
		}
	}
}

// TestLeaving is what happens to an uncopied key when its page is left, and to a
// form whose session has ended.
func TestLeaving(t *testing.T) {
	b := browsertest.Start(t)
	for name, test := range map[string]func(*testing.T, *surfer){
		"key in the dialog": testLeavingDialog, "key on a page": testLeavingPage, "form in the dialog": testLostForm,
		"form on a page": func(t *testing.T, s *surfer) { s.view.NoScript = true; s.Look(t, s.view); testLostForm(t, s) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSurfer(t, b, newProgram(t), browsertest.View{})
			s.setUp()
			test(t, s)
			s.Quiet(t)
		})
	}
}

func testLeavingDialog(t *testing.T, s *surfer) {
	key := s.generate("Not copied")
	s.Stay(true)
	for i, leave := range []string{"location.reload()", "history.back()", "location.assign('/settings/api?status=all')"} {
		s.is(leave + " ?? true")
		s.WaitAsked(t, i+1)
		if got := s.Value(t, "#api-key"); got != key {
			t.Errorf("%s: the key is now %q", leave, got)
		}
	}
	s.Stay(false)
	s.goTo("/settings/api?status=all")
	s.WaitAsked(t, 4)
	s.WaitGone(t, "#api-key")

	s.generate("Copied")
	s.copyKey()
	s.goTo("/settings/api?status=all")
	s.generate("Closed without a copy")
	s.Click(t, "[data-close]")
	s.WaitFor(t, "#not-copied")
	s.Click(t, "[data-close]")
	s.focused("tr:target a")
	s.goTo("/settings/api?status=all")
	if n := s.Asked(); n != 4 {
		t.Errorf("asked %d times, though a key was copied or given up", n)
	}
}

func testLeavingPage(t *testing.T, s *surfer) {
	generate := func() {
		s.goTo("/settings/api/new")
		s.Fill(t, "#name", "On a page")
		s.Follow(t, "form .primary")
		s.Click(t, "pre") // Chromium asks only after a gesture on the page
	}
	generate()
	s.Stay(true)
	s.Click(t, ".brand")
	s.WaitAsked(t, 1)
	for n := range 2 { // the form is not blocked after staying
		s.Click(t, ".topbar form button")
		s.WaitAsked(t, n+2)
	}
	s.Click(t, "[data-close]")
	s.WaitFor(t, "#not-copied")
	s.Follow(t, "[data-close]")
	s.WaitFor(t, "tr:target")

	s.Stay(false)
	generate()
	s.copyKey()
	s.Follow(t, ".brand")
	if n := s.Asked(); n != 3 {
		t.Errorf("asked %d times, though the key was copied or given up", n)
	}
}

func testLostForm(t *testing.T, s *surfer) {
	s.goTo("/settings/api?status=all")
	s.open("[data-generate]", "#name")
	s.Fill(t, "#name", "Kept & sound")
	s.Check(t, "[name=mode][value=test]", true)
	s.Click(t, "summary")
	s.Check(t, "#scoped", true)
	s.Check(t, "[value='alerts:read']", true)
	s.Fill(t, "#expires", "custom")
	s.Fill(t, "#expires_on", "2040-01-02")
	s.db("DELETE FROM sessions")
	s.open("form .primary", "#password")
	s.signIn(ownerEmail)
	s.WaitFor(t, "#expires_on")
	if s.Value(t, "#name") != "Kept & sound" || s.Value(t, "#expires_on") != "2040-01-02" ||
		!s.is("document.querySelector('[name=mode][value=test]').checked && document.querySelector(\"[value='alerts:read']\").checked") {
		t.Errorf("the form has lost what was entered: %s", s.URL(t))
	}
	if n := s.Count(t, ":checked"); n != 4 { // mode, limit, permission, and the option
		t.Errorf("%d choices", n)
	}
	s.Follow(t, "form .primary")
	if got := s.Text(t, ".dlg-body .badges"); !strings.Contains(got, "expires Jan 3, 2040") {
		t.Errorf("the new key has %q", got)
	}
}

// A past date does not block the form once the expiry is no longer a date.
func testDateNotChosen(t *testing.T, s *surfer) {
	s.setUp()
	s.open("[data-generate]", "#name")
	s.Fill(t, "#name", "Dated")
	s.Click(t, "summary")
	s.Fill(t, "#expires", "custom")
	s.Fill(t, "#expires_on", "2020-01-02")
	s.Fill(t, "#expires", "90")
	s.WaitGone(t, "#expires_on")
	s.open("form .primary", "#api-key")
	want := "expires " + time.Now().UTC().AddDate(0, 0, 90).Format("Jan 2, 2006")
	if got := s.Text(t, ".dlg-body .badges"); !strings.Contains(got, want) {
		t.Errorf("the new key has %q, want %q", got, want)
	}
}

// After the last key is revoked the numbers and the list agree, at once and when
// the list is loaded again.
func testLastRevoked(t *testing.T, s *surfer) {
	agree := func() {
		t.Helper()
		if got := s.Text(t, "#stats dd"); !strings.HasPrefix(got, "0") {
			t.Errorf("active keys: %q", got)
		}
		if n := s.Count(t, "tr[data-status=active]"); n != 0 {
			t.Errorf("%d active rows", n)
		}
		if got := s.Text(t, ".empty h2"); got != "No active keys. 1 revoked." {
			t.Errorf("the list says %q", got)
		}
	}
	s.setUp()
	s.generate("The only one")
	s.goTo("/settings/api")
	s.open("tr .actions a", ".danger")
	s.open(".danger", ".badge.off")
	if !s.view.NoScript {
		s.focused("tr[data-status=revoked] .key-name")
		agree()
		s.WaitUntil(t, "document.getElementById('announce').textContent.endsWith(' No active keys. 1 revoked.')")
		s.inspect("last key revoked just now")
		s.Click(t, "#below .primary")
		s.focused("#name")
		s.Press(t, browsertest.KeyEscape)
		s.focused("#below .primary")
	}
	s.goTo("/settings/api")
	agree()
	s.inspect("no active keys")
	s.Follow(t, ".empty a:not(.primary)")
	if got := s.Text(t, "tr[data-status=revoked] .key-name"); got != "The only one" {
		t.Errorf("the revoked keys are %q", got)
	}
	if got := s.Value(t, "[name=status]"); got != "revoked" {
		t.Errorf("the list is of %q", got)
	}
}

// The browser blocks no form. The server names each mistake beside its field.
func testFieldErrors(t *testing.T, s *surfer) {
	says := func(field, want string) {
		t.Helper()
		if got := s.Text(t, "#"+field+"-error"); got != want {
			t.Errorf("beside %s: %q, want %q", field, got, want)
		}
	}
	s.Go(t, s.setup)
	if status := s.Follow(t, ".primary"); status != http.StatusUnprocessableEntity {
		t.Errorf("an empty setup is answered %d", status)
	}
	says("account", "Enter a name.")
	says("email", "Enter an e-mail address such as ada@example.com.")
	says("password", "Use at least 12 characters: a few words are easy to remember.")
	s.fillIn("#account", "Acme", "#email", ownerEmail, "#password", goodPassword)
	s.Follow(t, ".primary")

	s.open("[data-generate]", "#name")
	s.open("form .primary", "#name-error")
	says("name", "Enter a name.")
	s.Fill(t, "#name", "Dated")
	s.Click(t, "summary")
	s.Fill(t, "#expires", "custom")
	s.Fill(t, "#expires_on", "2020-01-02")
	s.open("form .primary", "#expires_on-error")
	says("expires_on", "This date is past. Choose today or a later day.")
	if got := s.Value(t, "#name"); got != "Dated" {
		t.Errorf("the name is now %q", got)
	}
	s.goTo("/settings/api")
	s.Follow(t, ".topbar form button") // sign out
	if status := s.Follow(t, ".primary"); status != http.StatusUnprocessableEntity {
		t.Errorf("an empty sign-in is answered %d", status)
	}
	says("email", "Enter your e-mail address.")
	says("password", "Enter your password.")
	s.focused("#email")
	s.inspect("sign in, errors")
	s.fillIn("#email", "ops at acme", "#password", "")
	s.Follow(t, ".primary")
	s.focused("#password")
	if got := s.Value(t, "#email"); got != "ops at acme" {
		t.Errorf("the address is now %q", got)
	}
}
