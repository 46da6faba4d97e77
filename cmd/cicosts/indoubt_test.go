package main

import (
	"net/http"
	"strings"
	"testing"

	"cicosts/models/store/storetest"
	"cicosts/web/browsertest"
)

// testInDoubt revokes keys while the server waits for a standby that is not there: in the list, on the key's page and
// without the script. Each says that it is not confirmed yet, and by itself when it is.
func testInDoubt(t *testing.T, b *browsertest.Browser) {
	cluster := storetest.NewCluster(t)
	url := cluster.Postgres(t)
	s := newSurfer(t, b, &site{running: startServing(t, map[string]string{"CICOSTS_DATABASE_URL": url, "CICOSTS_SECRET": testSecret})}, browsertest.View{})
	s.setUp()
	generate := func(name string) (key, page string) {
		t.Helper()
		key = s.generate(name)
		s.goTo("/settings/api")
		page = "/settings/api/keys/" + browsertest.Eval[string](t, s.Page, "document.querySelector('tr[data-key-id]').dataset.keyId")
		cluster.SetStandbys(t, "missing")
		cluster.CommitsWait(t)
		return key, page
	}
	announced := func(text string) {
		t.Helper()
		s.WaitUntil(t, "document.getElementById('announce').textContent.startsWith("+quoted(text)+")")
	}
	certain := func(name, key string) {
		t.Helper()
		cluster.SetStandbys(t, "")
		announced("“" + name + "” is revoked. Requests with it fail.")
		if status, code := answered(s.t, s.base+"/v1/key", key); status != http.StatusUnauthorized {
			t.Errorf("the revoked key is answered %d %s", status, code)
		}
		if n := s.Count(t, "[data-poll]"); n != 0 {
			t.Errorf("%d parts of the page still ask", n)
		}
	}

	key, page := generate("In the list")
	s.open("tr .actions a", ".danger")
	s.open(".danger", "tr[data-status=active] [data-poll]")
	announced("The revocation of “In the list” is not confirmed yet. The key may still work.")
	s.focused("tr .key-name")
	if n := s.Count(t, ".complaint"); n != 0 || s.is("document.getElementById('dialog').open") {
		t.Errorf("%d complaints, or the dialog is open", n)
	}
	s.inspect("in doubt, list")
	s.goTo(page)
	s.inspect("in doubt, key")
	if text := s.Text(t, "main"); strings.Contains(text, "Revoked") || !strings.Contains(text, "not confirmed the revocation") {
		t.Errorf("the page says %q", text)
	}
	s.goTo("/settings/api?status=all")
	s.WaitFor(t, "tr [data-poll]")
	s.is("document.querySelector('tr .actions a').focus() ?? true")
	certain("In the list", key)
	s.WaitFor(t, "tr[data-status=revoked].changed")
	s.focused("tr .key-name")
	s.inspect("in doubt no more, list")

	key, page = generate("On its page")
	s.goTo(page + "/revoke")
	if status := s.Follow(t, ".danger"); status != http.StatusServiceUnavailable {
		t.Errorf("a revocation in doubt is answered %d", status)
	}
	s.inspect("in doubt, answer")
	s.is("document.querySelector('main a.btn').focus() ?? true")
	certain("On its page", key)
	s.focused("main h1")
	if at := s.URL(t); at != s.base+page || !strings.Contains(s.Text(t, "main"), "Revoked by "+ownerEmail) {
		t.Errorf("at %s the page says %q", at, s.Text(t, "main"))
	}
	s.inspect("in doubt no more, key")

	key, page = generate("In a dialog")
	s.goTo(page)
	s.open(".page-head .btn", ".danger")
	s.open(".danger", "#main > [data-poll]")
	announced("The revocation of “In a dialog” is not confirmed yet. The key may still work.")
	s.focused("main h1")
	if n := s.Count(t, ".complaint, main main"); n != 0 || s.is("document.getElementById('dialog').open") {
		t.Errorf("%d complaints or misplaced parts, or the dialog is open", n)
	}
	s.inspect("in doubt, key after its dialog")
	s.open(".page-head .btn", ".danger") // what opened it is gone when it closes
	certain("In a dialog", key)
	s.Press(t, browsertest.KeyEscape)
	s.focused("main h1")

	_, page = generate("Without script")
	s.view.NoScript = true
	s.Look(t, s.view)
	s.goTo(page + "/revoke")
	s.Follow(t, ".danger")
	s.Follow(t, "main noscript a")
	if text := s.Text(t, "main"); !strings.Contains(text, "not confirmed the revocation") {
		t.Errorf("without the script the page says %q", text)
	}
	s.inspect("in doubt, without script")
	cluster.SetStandbys(t, "")
	waitUntil(t, "looking again tells of the revocation", func() bool {
		s.goTo(page)
		return strings.Contains(s.Text(t, "main"), "Revoked by "+ownerEmail)
	})
}

// A revocation that fails says in the dialog and on the page that the key still
// works, with its name, though the database is away.
func testRevokeFails(t *testing.T, s *surfer) {
	effect := "getComputedStyle(document.querySelector('#revoke-outcome + .dangerbox')).color"
	var before string
	says := func(selector string) {
		t.Helper()
		text := s.Text(t, selector)
		if !strings.Contains(text, "“Nightly export” is NOT revoked.") || !strings.Contains(text, "the key still works") {
			t.Errorf("%s says %q", selector, text)
		}
		if s.Text(t, selector+" button.danger") != "Try again" || browsertest.Eval[string](t, s.Page, effect) == before {
			t.Errorf("%s: the button says %q, or what would have happened is not muted", selector, s.Text(t, selector+" button.danger"))
		}
	}
	for _, from := range []struct{ page, button, lands string }{
		{"list", "tr .actions a", "tr[data-status=revoked] .key-name"},
		{"key", ".page-head .btn", "#main h1"},
	} {
		s.generate("Nightly export")
		s.goTo("/settings/api")
		if from.page == "key" {
			s.Follow(t, "tr .key-name")
		}
		s.open(from.button, "#dialog .danger")
		before = browsertest.Eval[string](t, s.Page, effect)
		s.db("ALTER TABLE sessions RENAME TO gone")
		s.Click(t, "#dialog .danger")
		s.focused("#revoke-outcome .complaint")
		says("#dialog")
		s.inspect("revocation failed, dialog on the page of the " + from.page)
		s.Click(t, "#dialog .danger") // again, with one complaint
		s.WaitUntil(t, "document.querySelector('#revoke-outcome .complaint') === document.activeElement && !document.querySelector('.danger[disabled]')")
		if n := s.Count(t, ".complaint"); n != 1 {
			t.Errorf("%d complaints", n)
		}
		s.db("ALTER TABLE gone RENAME TO sessions")
		s.Click(t, "#dialog .danger")
		s.focused(from.lands)
	}

	s.generate("Nightly export")
	s.goTo("/settings/api")
	key := browsertest.Eval[string](t, s.Page, "document.querySelector('tr[data-key-id]').dataset.keyId")
	s.view.NoScript = true
	s.Look(t, s.view)
	s.goTo("/settings/api/keys/" + key + "/revoke")
	s.db("ALTER TABLE sessions RENAME TO gone")
	if status := s.Follow(t, ".danger"); status != http.StatusInternalServerError {
		t.Errorf("without the script it is answered %d", status)
	}
	says("main")
	s.inspect("revocation failed, page")
	s.db("ALTER TABLE gone RENAME TO sessions")
	s.Follow(t, "main .danger")
	if text := s.Text(t, "main"); !strings.Contains(text, "Revoked by "+ownerEmail) {
		t.Errorf("tried again: %q", text)
	}

	// An answer that never comes leaves it unknown.
	s.view.NoScript = false
	s.Look(t, s.view)
	s.generate("Unreachable")
	s.goTo("/settings/api")
	s.open("tr .actions a", "#dialog .danger")
	s.shutDown(t)
	s.Click(t, "#dialog .danger")
	s.WaitUntil(t, "document.querySelector('#dialog .complaint')?.textContent.startsWith('It is unknown whether “Unreachable” is revoked.')")
}
