package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"cicosts/web/browsertest"
)

// TestFocus checks where the focus is after the page has changed. On the body a
// keyboard starts again at the page's top.
func TestFocus(t *testing.T) {
	b := browsertest.Start(t)
	for name, test := range map[string]func(*testing.T, *surfer){
		"form with errors": testFormErrors, "paging": testPaging, "dialog on the key's page": testKeyPageDialog,
		"names of rows and of the key": testNames, "stopped form": testStoppedForm,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSurfer(t, b, newProgram(t), browsertest.View{})
			s.setUp()
			test(t, s)
			s.Quiet(t)
		})
	}
	// htmx writes failed requests to the console, so these pages are not quiet.
	t.Run("failed requests", func(t *testing.T) {
		t.Parallel()
		s := newSurfer(t, b, newProgram(t), browsertest.View{})
		s.setUp()
		testFailedFocus(t, s)
	})
	t.Run("paging without script", func(t *testing.T) {
		t.Parallel()
		s := newSurfer(t, b, newProgram(t), browsertest.View{NoScript: true})
		s.setUp()
		testPaging(t, s)
		s.Quiet(t)
	})
	t.Run("form with errors without script", func(t *testing.T) {
		t.Parallel()
		s := newSurfer(t, b, newProgram(t), browsertest.View{NoScript: true})
		s.setUp()
		testFormErrors(t, s)
		s.Quiet(t)
	})
}

// testFormErrors sends the form with one fault at a time, as a dialog or
// without the script as a page.
func testFormErrors(t *testing.T, s *surfer) {
	set := func(selector, change string) {
		s.is("(e => { " + change + "; return true })(document.querySelector(" + quoted(selector) + "))")
	}
	for _, tt := range []struct{ field, fault, selector, focused string }{
		{"name", "e.value = ' '", "#name", "#name"},
		{"mode", "e.value = 'other'", "[name=mode]:checked", "[name=mode]"},
		{"permissions", "e.checked = true; e.form.querySelector('details').open = false", "#scoped", "#scoped"},
		{"expires", "e.add(new Option('', 'nonsense', true, true)); e.form.querySelector('details').open = false", "#expires", "#expires"},
		{"form token", "e.value = ''", "[name=form_token]", "#dialog-title ~ *, .dlg-body > [role=alert]"},
	} {
		s.goTo("/settings/api")
		s.open("[data-generate]", "#name")
		set("#name", "e.value = 'Faulty'")
		set(tt.selector, tt.fault)
		s.open("form .primary", ".error, .dlg-body > [role=alert]")
		s.focused(tt.focused)
		if !s.is("document.activeElement.checkVisibility()") {
			t.Errorf("%s: what has the focus is not shown", tt.field)
		}
	}
	s.inspect("generate, complaint")
}

// testFailedFocus has requests of dialogs fail, which disable the button that
// has the focus.
func testFailedFocus(t *testing.T, s *surfer) {
	s.generate("Unlucky")
	for _, tt := range []struct{ opener, button string }{{"[data-generate]", "form .primary"}, {"tr .actions a", "#dialog .danger"}} {
		s.goTo("/settings/api")
		s.open(tt.opener, tt.button)
		if tt.opener == "[data-generate]" {
			s.Fill(t, "#name", "Kept")
		}
		s.db("ALTER TABLE api_keys RENAME TO gone")
		s.tabTo(tt.button)
		s.Press(t, browsertest.KeyEnter)
		s.focused("#dialog .complaint")
		s.db("ALTER TABLE gone RENAME TO api_keys")
		s.WaitUntil(t, "!document.querySelector("+quoted(tt.button)+").disabled")
		s.focused("#dialog .complaint")
	}
}

// testPaging goes to older keys and back to the newest.
func testPaging(t *testing.T, s *surfer) {
	s.generate("Copied")
	s.db(`WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60)
		INSERT INTO api_keys (id, account_id, name, name_folded, mode, permissions, hint, hash, secret_id, form_token, created_by, created_at, expires_at)
		SELECT id || n, account_id, name || n, name_folded || n, mode, permissions, hint, randomblob(32), secret_id, form_token || n, created_by, created_at - n, expires_at
		FROM api_keys, n`)
	s.goTo("/settings/api")
	for _, link := range []string{"[rel=next]", ".pager a:not([rel])"} {
		s.Follow(t, link)
		s.focused("#found")
		if !s.is("(r => r.top >= 0 && r.bottom < innerHeight)(document.activeElement.getBoundingClientRect()) && document.querySelector('tr[data-key-id] .key-name').getBoundingClientRect().bottom < innerHeight") {
			t.Error("the count and the first key are not in sight")
		}
		if got := s.Text(t, "#found"); !strings.HasSuffix(got, " on this page") {
			t.Errorf("the count says %q", got)
		}
	}
}

// testKeyPageDialog revokes a key in the dialog of its own page.
func testKeyPageDialog(t *testing.T, s *surfer) {
	key := s.generate("On its page")
	s.copyKey()
	s.open("[data-close]", "tr[data-key-id]")
	s.Follow(t, ".key-name")
	address := s.URL(t)
	s.tabTo(".page-head .btn")
	s.Press(t, browsertest.KeyEnter)
	s.focused("#dialog [data-close]")
	s.inspect("revoke, on the key's page")
	s.Press(t, browsertest.KeyEscape)
	s.focused(".page-head .btn")
	s.Click(t, "main a[href$='/revoke']:not(.btn)")
	s.focused("#dialog [data-close]")
	if s.Text(t, "#dialog-title") != "Revoke “On its page”?" {
		t.Errorf("the question is %q", s.Text(t, "#dialog-title"))
	}
	s.tabTo(".danger")
	s.Press(t, browsertest.KeyEnter)
	s.focused("main h1")
	s.WaitUntil(t, "document.getElementById('announce').textContent.startsWith('“On its page” is revoked. Requests with it fail.')")
	if s.is("document.getElementById('dialog').open") || s.URL(t) != address || s.Count(t, "main") != 1 {
		t.Errorf("at %s with %d main parts, or the dialog is open", s.URL(t), s.Count(t, "main"))
	}
	if got := s.Text(t, "main"); !strings.Contains(got, "Took effect") || s.Count(t, "main a[href$='/revoke']") != 0 {
		t.Errorf("the page says %q", got)
	}
	if status, code := answered(s.t, s.base+"/v1/key", key); status != http.StatusUnauthorized || code != "invalid_api_key" {
		t.Errorf("the revoked key is answered %d %s", status, code)
	}
	s.inspect("revoked on the key's page")
}

// testNames checks what a screen reader says of a row and of a new key.
func testNames(t *testing.T, s *surfer) {
	s.generate("Named")
	if !s.is("(e => e.textContent.startsWith('This is the only time'))(document.getElementById(document.getElementById('api-key').getAttribute('aria-describedby')))") {
		t.Error("the key's field is not described by its warning")
	}
	s.goTo("/settings/api")
	if got := s.Text(t, "tr[data-key-id] th[scope=row] .key-name"); got != "Named" {
		t.Errorf("the row is called %q", got)
	}
}

// testStoppedForm stops a plain form on its way, and sends it again.
func testStoppedForm(t *testing.T, s *surfer) {
	held, forms, release := s.hold()
	if status := s.Go(t, held+"/settings/api/new"); status != http.StatusOK {
		t.Fatalf("the form: %d", status)
	}
	s.Fill(t, "#name", "Stopped")
	// While a navigation is under way the page evaluates nothing for the
	// debugger, so the clicks go as one.
	const clickTwice = `(button => {
		self.sent ??= 0
		const count = e => { if (!e.defaultPrevented) sent++ }
		addEventListener('submit', count)
		button.click()
		button.click()
		removeEventListener('submit', count)
		return sent
	})(document.querySelector('form .primary'))`
	for n := range 2 {
		if sent := browsertest.Eval[int](t, s.Page, clickTwice); sent != n+1 {
			t.Errorf("sent %d times, want %d", sent, n+1)
		}
		form := receive(t, forms)
		s.StopLoading(t)
		receive(t, form.Done())
		s.WaitUntil(t, "!document.querySelector('.panel form').dataset.sent")
	}
	release()
	s.Follow(t, "form .primary")
	s.WaitFor(t, "#api-key")
}

// hold returns an address of the program at which forms wait until release is
// called. Each sends the context of its request, which ends when the browser
// gives the form up.
func (s *surfer) hold() (address string, forms <-chan context.Context, release func()) {
	s.t.Helper()
	to, err := url.Parse(s.base)
	if err != nil {
		s.t.Fatal(err)
	}
	sent, released := make(chan context.Context, 10), make(chan struct{})
	pages := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body) // a server notices only then that its client goes away
			if err != nil {
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			sent <- r.Context()
			select {
			case <-released:
			case <-r.Context().Done():
				return
			}
		}
		pages.ServeHTTP(w, r)
	}))
	release = sync.OnceFunc(func() { close(released) })
	s.t.Cleanup(func() {
		release()
		server.Close()
	})
	return server.URL, sent, release
}

// receive waits for the next value, or until the channel is closed.
func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing was received within a minute")
		panic("unreachable")
	}
}
