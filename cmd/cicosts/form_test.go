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
			"a date no longer chosen": testDateNotChosen, "errors beside their fields": testFieldErrors,
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
