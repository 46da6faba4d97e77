package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models/store/storetest"
	"cicosts/web/browsertest"
)

// ways are how the pages are looked at.
var ways = map[string]browsertest.View{
	"desktop, light":         {},
	"phone, dark":            {Width: 390, Height: 844, Dark: true},
	"desktop without script": {NoScript: true},
}

// TestMainJob goes from the setup link to a revoked key, in each way.
func TestMainJob(t *testing.T) {
	b := browsertest.Start(t)
	for name, view := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // uses are saved every ten seconds
			mainJob(t, newSurfer(t, b, newProgram(t), view))
		})
	}
}

func mainJob(t *testing.T, s *surfer) {
	s.Go(t, s.setup)
	s.fillIn("#account", "Acme", "#email", ownerEmail, "#password", "short")
	if status := s.Follow(t, ".primary"); status != http.StatusUnprocessableEntity || s.Value(t, "#email") != ownerEmail {
		t.Errorf("a short password is answered %d", status)
	}
	s.inspect("set up, errors")
	s.setUp()
	if s.Text(t, "#keys h2") != "No API keys yet" {
		t.Errorf("the empty list says %q", s.Text(t, "#keys"))
	}
	s.open("[data-generate]", "#name")
	s.Fill(t, "#name", "Grafana")
	s.Click(t, "summary")
	s.Check(t, "#scoped", true)
	s.Check(t, "[value='costs:read']", true)
	s.Check(t, "[value='alerts:read']", true)
	s.open("form .primary", "#api-key")
	key := s.Value(t, "#api-key")
	if !wholeKey.MatchString(key) {
		t.Fatalf("the key is %q", key)
	}
	if s.view.NoScript {
		if s.is("document.querySelector('[data-copy]').checkVisibility()") {
			t.Error("a button to copy, which needs the script")
		}
	} else {
		s.copyKey()
	}
	if status, code := answered(s.t, s.base+"/v1/costs", key); status != http.StatusOK {
		t.Errorf("the new key is answered %d %s", status, code)
	}
	if status, code := answered(s.t, s.base+"/v1/key", key); status != http.StatusOK {
		t.Errorf("the new key is answered %d %s", status, code)
	}

	s.open("[data-close]", "tr[data-status=active]")
	if got := s.Text(t, "td[data-label=Permissions]"); !strings.Contains(got, "costs:read") || !strings.Contains(got, "alerts:read") {
		t.Errorf("permissions %q", got)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.Text(t, "td[data-label='Last used']"), "GET /v1/key"); s.goTo("/settings/api") {
		if time.Now().After(deadline) {
			t.Fatalf("last used: %q", s.Text(t, "td[data-label='Last used']"))
		}
		time.Sleep(100 * time.Millisecond)
	}

	s.open("tr .actions a", ".danger")
	if got := s.Text(t, "#dialog-title"); got != "Revoke “Grafana”?" {
		t.Errorf("the question is %q", got)
	}
	s.open(".danger", "[class*=badge][class*=off]")
	if status, code := answered(s.t, s.base+"/v1/key", key); status != http.StatusUnauthorized || code != "invalid_api_key" {
		t.Errorf("the revoked key is answered %d %s", status, code)
	}
	s.goTo("/settings/api?status=revoked")
	if got := s.Text(t, "tr[data-status=revoked]"); !strings.Contains(got, "Grafana") || !strings.Contains(got, "revoked "+time.Now().UTC().Format("Jan 2, 2006")) {
		t.Errorf("the revoked row says %q", got)
	}
	s.Quiet(t)
	if diff := cmp.Diff([]string{strings.TrimPrefix(s.base, "http://")}, s.Hosts()); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
}

// TestBrowser is what the pages promise beside the main job, each on its own.
func TestBrowser(t *testing.T) {
	b := browsertest.Start(t)
	for name, test := range map[string]func(*testing.T, *surfer){
		"keyboard alone": testKeyboard, "key shown once": testShownOnce, "closing without copy": testClosing,
		"one key a form": testDoubleClick, "filters": testFilters, "lost session": testLostSession,
		"every state": testStates, "other roles": testRoles,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSurfer(t, b, newProgram(t), browsertest.View{})
			s.setUp()
			test(t, s)
			s.Quiet(t)
		})
	}
	// What fails htmx writes to the console.
	for name, test := range map[string]func(*testing.T, *surfer){
		"failures": testFailures, "row gone behind the dialog": testRowGone, "revocation fails": testRevokeFails,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSurfer(t, b, newProgram(t), browsertest.View{})
			s.setUp()
			test(t, s)
		})
	}
	t.Run("revocation in doubt", func(t *testing.T) {
		t.Parallel()
		testInDoubt(t, b)
	})
	t.Run("presets without script", func(t *testing.T) {
		t.Parallel()
		s := newSurfer(t, b, newProgram(t), browsertest.View{NoScript: true})
		s.setUp()
		testPresetsWithoutScript(t, s)
		s.Quiet(t)
	})
}

func testKeyboard(t *testing.T, s *surfer) {
	s.goTo("/settings/api")
	s.tabTo("[data-generate]")
	s.Press(t, browsertest.KeyEnter)
	s.focused("#name")
	s.Press(t, "By keyboard")
	s.tabTo("summary")
	s.Press(t, browsertest.KeyEnter)
	s.tabTo("#scoped")
	s.Press(t, " ")
	s.tabTo("[value=alerts]")
	s.Press(t, browsertest.KeyEnter)
	s.tabTo("#dialog .primary")
	s.Press(t, browsertest.KeyEnter)
	s.focused("#api-key")
	s.WaitUntil(t, "(e => e.selectionStart === 0 && e.selectionEnd === e.value.length)(document.activeElement)")
	s.tabTo("[data-copy]")
	s.Press(t, browsertest.KeyEnter)
	s.WaitUntil(t, "document.querySelector('#dialog [role=status]')?.textContent === 'Copied'")
	s.Press(t, browsertest.KeyEscape)
	s.focused("tr:target a")
	if got := s.Text(t, "tr:target .scopes"); got != "alerts:read\nalerts:write" {
		t.Errorf("permissions %q", got)
	}

	s.tabTo("tr:target .actions a")
	s.Press(t, browsertest.KeyEnter)
	s.focused("#dialog [data-close]") // the safe one
	s.Press(t, browsertest.KeyEscape)
	s.focused("tr:target .actions a")
	s.Press(t, browsertest.KeyEnter)
	s.focused("#dialog [data-close]")
	s.tabTo(".danger")
	s.Press(t, browsertest.KeyEnter)
	s.focused("tr[data-status=revoked] .key-name")
	s.WaitUntil(t, "document.getElementById('announce').textContent.startsWith('“By keyboard” is revoked. Requests with it fail. It took effect ')")

	if got := s.Text(t, "#stats dd"); !strings.HasPrefix(got, "0") {
		t.Errorf("active keys, after the only one is revoked: %q", got)
	}

	s.tabTo("[data-generate]") // round the page
	s.Press(t, browsertest.KeyEnter)
	s.focused("#name")
	s.Press(t, "By Enter"+browsertest.KeyEnter) // which is Create, no preset
	s.focused("#api-key")
}

func testShownOnce(t *testing.T, s *surfer) {
	left := func(where string) {
		t.Helper()
		s.WaitUntil(t, "!document.getElementById('api-key') && document.readyState === 'complete'")
		dump := browsertest.Eval[string](t, s.Page, `document.documentElement.outerHTML + JSON.stringify([
			{...localStorage}, {...sessionStorage}, history.state, document.cookie, location.href])`)
		if key := wholeKey.FindString(dump); key != "" {
			t.Errorf("%s: the key is still there", where)
		}
	}
	s.generate("In a dialog")
	if dump := browsertest.Eval[string](t, s.Page, "JSON.stringify([{...localStorage}, {...sessionStorage}, history.state, document.cookie])"); strings.Contains(dump, "cic_") {
		t.Errorf("stored in the browser: %s", dump)
	}
	s.goTo("/settings/api?status=all")
	left("another page")
	s.back()
	left("back to the list")

	s.goTo("/settings/api/new")
	s.Fill(t, "#name", "On a page")
	s.Follow(t, "form .primary")
	s.WaitFor(t, "#api-key")
	s.is("location.reload() ?? true")
	s.WaitUntil(t, "location.pathname.startsWith('/settings/api/keys/key_')")
	left("reloaded")
	if got := s.Text(t, "main"); !strings.Contains(got, "On a page") || !strings.Contains(got, "cannot be shown again") {
		t.Errorf("reloaded, the page says %q", got)
	}
	s.back()
	left("back from the key")
	s.goTo("/settings/api?q=On+a+page")
	if n := s.Count(t, "tr[data-key-id]"); n != 1 {
		t.Errorf("%d keys", n)
	}

	s.generate("Left")
	if s.is("dispatchEvent(new PageTransitionEvent('pagehide')) && /" + wholeKey.String() + "/.test(document.documentElement.outerHTML + document.getElementById('api-key').value)") {
		t.Error("the key stays in a page that is left")
	}
}

func testClosing(t *testing.T, s *surfer) {
	s.generate("Not copied")
	s.is("(navigator.clipboard.writeText = () => Promise.reject(), true)")
	s.Click(t, "[data-copy]")
	s.WaitFor(t, "#copy-help")
	s.focused("#api-key")
	if got := s.Text(t, "[data-copy]"); got != "Copy" {
		t.Errorf("nothing was copied, and the button says %q", got)
	}
	s.inspect("copy refused")
	s.Press(t, browsertest.KeyEscape)
	s.WaitFor(t, "#not-copied")
	s.inspect("closing without copy")
	s.Click(t, "[data-close]")
	s.focused("tr:target a")

	s.goTo("/settings/api?status=all")
	s.open("[data-generate]", "#name")
	s.Fill(t, "#name", "Copied by hand")
	s.open("form .primary", "#api-key")
	s.is("document.execCommand('copy')")
	s.Click(t, "[data-close]")
	s.focused("tr:target a")
}

func testDoubleClick(t *testing.T, s *surfer) {
	// sent counts the forms that a double click sends as pages.
	sent := func() int {
		return browsertest.Eval[int](t, s.Page, `(button => {
			let sent = 0
			addEventListener('submit', e => { if (!e.defaultPrevented) sent++ })
			button.click()
			button.click()
			return sent
		})(document.querySelector('form .primary'))`)
	}
	s.goTo("/settings/api")
	s.open("[data-generate]", "#name")
	s.Fill(t, "#name", "Twice")
	sent()
	s.WaitFor(t, "#api-key")
	s.goTo("/settings/api/new")
	s.Fill(t, "#name", "Twice")
	if n := sent(); n != 1 {
		t.Errorf("the page was sent %d times", n)
	}
	s.WaitFor(t, "#api-key")
	s.Click(t, "#api-key") // on a page that nobody touched Chromium complains that it may not ask
	s.goTo("/settings/api?q=twice")
	if n := s.Count(t, "tr[data-key-id]"); n != 2 {
		t.Errorf("%d keys from two forms", n)
	}
}

func testFilters(t *testing.T, s *surfer) {
	s.generate("Warehouse one")
	s.generate("Warehouse two")
	s.goTo("/settings/api")
	s.Click(t, "[name=q]")
	s.Press(t, "house tw")
	s.WaitUntil(t, "location.search === '?q=house%20tw&status=active'")
	s.WaitUntil(t, "document.querySelectorAll('tr[data-key-id]').length === 1")
	s.focused("[name=q]")
	s.WaitUntil(t, "document.getElementById('announce').textContent === '1 key'")
	s.Follow(t, "tr .key-name")
	s.back()
	if got := []any{s.Value(t, "[name=q]"), s.Count(t, "tr[data-key-id]")}; !cmp.Equal(got, []any{"house tw", 1}) {
		t.Errorf("after Back: %v", got)
	}
	s.Fill(t, "[name=status]", "revoked")
	s.WaitFor(t, "#keys .empty")
	s.Follow(t, ".empty a") // any status
	if n := s.Count(t, "tr[data-key-id]"); n != 1 {
		t.Errorf("%d keys of any status", n)
	}
}

func testFailures(t *testing.T, s *surfer) {
	s.generate("Unlucky")
	s.goTo("/settings/api")
	says := func(where, what string) {
		t.Helper()
		s.WaitUntil(t, "document.querySelector("+quoted(where+" > .complaint[role=alert]")+")?.textContent.includes("+quoted(what)+")")
	}
	s.db("ALTER TABLE api_keys RENAME TO gone")
	s.Click(t, "tr .actions a")
	says("main", "Something went wrong on our side.")
	s.db("ALTER TABLE gone RENAME TO api_keys")
	s.open("[data-generate]", "#name")
	s.WaitGone(t, ".complaint")

	s.db("ALTER TABLE api_keys RENAME TO gone")
	s.Fill(t, "#name", "Kept")
	s.Click(t, "form .primary")
	says("#dialog .dlg-body", "Something went wrong on our side.")
	s.db("ALTER TABLE gone RENAME TO api_keys")
	s.open("form .primary", "#api-key")
	s.copyKey()
	s.Click(t, "[data-close]")
	s.focused("tr:target a")

	s.open("[data-generate]", "#name")
	s.Fill(t, "#name", "Kept")
	s.shutDown(t)
	s.Click(t, "form .primary")
	says("#dialog .dlg-body", "The server could not be reached.")
	if got := s.Value(t, "#name"); got != "Kept" {
		t.Errorf("the name is now %q", got)
	}
}

// A key is revoked even when its row has left the list meanwhile, as a search that is still on its way can have it.
func testRowGone(t *testing.T, s *surfer) {
	s.generate("Gone from the list")
	s.goTo("/settings/api")
	s.open("tr .actions a", "#dialog .danger")
	s.is("(document.querySelector('tr[data-key-id]').remove(), true)")
	s.Click(t, "#dialog .danger")
	s.WaitUntil(t, "location.pathname.startsWith('/settings/api/keys/') && document.body.textContent.includes('Revoked by')")
}

func testLostSession(t *testing.T, s *surfer) {
	s.goTo("/settings/api?status=all")
	storetest.Exec(t, "sqlite:"+s.path, "DELETE FROM sessions") // the browser keeps the cookie
	s.Click(t, "[data-generate]")
	s.WaitFor(t, "#password")
	if got := s.Text(t, ".infobox"); !strings.Contains(got, "session has ended") {
		t.Errorf("the page to sign in says %q", got)
	}
	s.inspect("lost session")
	s.signIn(ownerEmail)
	if got := s.URL(t); got != s.base+"/settings/api?status=all" {
		t.Errorf("back to %s", got)
	}
}

func testPresetsWithoutScript(t *testing.T, s *surfer) {
	s.goTo("/settings/api")
	s.Follow(t, "[data-generate]")
	s.Fill(t, "#name", "Kept")
	s.Check(t, "[name=mode][value=test]", true)
	s.Click(t, "summary")
	s.Fill(t, "#expires", "30")
	s.Check(t, "#scoped", true)
	s.Follow(t, "[value=alerts]")
	s.inspect("preset without script")
	s.Follow(t, "form .primary")
	row := s.Text(t, ".dlg-body .badges")
	for _, want := range []string{"test", "alerts:read", "alerts:write", "expires " + time.Now().UTC().AddDate(0, 0, 30).Format("Jan 2, 2006")} {
		if !strings.Contains(row, want) {
			t.Errorf("the new key lacks %q: %q", want, row)
		}
	}
	s.inspect("reveal without script")
	s.Follow(t, "[data-close]")
	s.Fill(t, "[name=mode]", "live")
	s.Follow(t, "noscript button")
	if s.Text(t, "#keys h2") != "No keys match these filters." {
		t.Errorf("the list says %q", s.Text(t, "#keys"))
	}
}
