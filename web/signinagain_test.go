package web

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

// filledIn returns the fields of the form that generates a key, as a browser
// would send them.
func (a *answer) filledIn() url.Values {
	form := url.Values{}
	for _, input := range a.inputs() {
		_, checked := input["checked"]
		if choice := input["type"] == "radio" || input["type"] == "checkbox"; !choice || checked {
			form.Add(input["name"], input["value"])
		}
	}
	if m := strings.Split(a.body, `" selected>`); len(m) == 2 {
		form.Set("expires", m[0][strings.LastIndex(m[0], `"`)+1:])
	}
	return form
}

// A session that ends in the middle of the form loses nothing that was entered,
// in the dialog as on the page, and generates nothing.
func TestSessionEndsInTheForm(t *testing.T) {
	for _, header := range [][]string{nil, {"HX-Request", "true", "HX-Target", "dialog"}} {
		s := sqliteSite(t)
		b, owner := s.owner()
		form := newKeyForm(b, `Ünlucky & "co" 100% 👩‍💻`, "scoped", "1", "permissions", "alerts:read", "permissions", "webhooks:write",
			"expires", "custom", "expires_on", "2040-01-02", "replaces", "An old one")
		form.Set("mode", "test")
		s.exec("DELETE FROM sessions")
		to := b.post("/settings/api/keys", form, header...).want(http.StatusSeeOther).header.Get("Location")
		if strings.Contains(to, "form_token") || len(to) > 7000 {
			t.Errorf("sent to %s", to)
		}
		login := b.get(to, header...)
		if header != nil {
			if login.header.Get("HX-Redirect") != to {
				t.Fatalf("htmx is sent to %q, want %q", login.header.Get("HX-Redirect"), to)
			}
			login = b.get(to)
		}
		in := login.want(http.StatusOK).hidden()
		in.Set("email", owner.Email)
		in.Set("password", goodPassword)
		page := b.post("/login", in).want(http.StatusSeeOther).header.Get("Location")
		again := b.get(page).want(http.StatusOK).filledIn()
		if token := again.Get("form_token"); token == form.Get("form_token") || token == "" {
			t.Errorf("the form has the token %q", token)
		}
		want := maps.Clone(form)
		want["form_token"] = again["form_token"]
		if diff := cmp.Diff(want, again); diff != "" {
			t.Errorf("the form (-want +got):\n%s", diff)
		}
		if n := len(s.query("SELECT id FROM api_keys")); n != 0 {
			t.Errorf("%d keys", n)
		}
		b.createKey(again).want(http.StatusOK).revealed()
	}
}

// Every field that the form has now is carried over, but for its token.
func TestFormIsCarriedWhole(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	form := url.Values{}
	for _, input := range b.get("/settings/api/new").want(http.StatusOK).inputs() {
		form.Set(input["name"], "x")
	}
	form.Set("expires", "x")
	form.Set("replaces", "x") // where there is one to replace
	_, carried := formAfterSignIn(t, s, form)
	delete(form, "form_token")
	if diff := cmp.Diff(slices.Sorted(maps.Keys(form)), slices.Sorted(maps.Keys(carried))); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

// formAfterSignIn sends form without a session. It returns the address to which
// signing in leads from there, and its fields.
func formAfterSignIn(t *testing.T, s *site, form url.Values) (next string, fields url.Values) {
	t.Helper()
	a := s.browser().post("/settings/api/keys", form).want(http.StatusSeeOther)
	to, err := url.Parse(a.header.Get("Location"))
	mustBeNil(t, err)
	next = to.Query().Get("next")
	page, err := url.Parse(next)
	mustBeNil(t, err)
	if to.Path != "/login" || page.Path != "/settings/api/new" || page.Host != "" {
		t.Errorf("sent to %s", to)
	}
	return next, page.Query()
}

// A value that no address can hold is left out. The rest is carried over.
func TestLongFormIsCarried(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	for _, name := range []string{strings.Repeat("🔑", models.MaxName), strings.Repeat("x", 40_000), "a\x00b\xffc", "\x1b[1m\n", "//evil.example"} {
		form := url.Values{"name": {name}, "mode": {"test"}, "expires": {"30"}, "scoped": {"1"}, "permissions": slices.Repeat([]string{"costs:read"}, 500), "other": {"x"}}
		next, carried := formAfterSignIn(t, s, form)
		if len(url.QueryEscape(next)) > 7000 {
			t.Errorf("an address of %d bytes for %.20q", len(next), name)
		}
		if got := carried.Get("name"); len(name) <= 400 && got != strings.NewReplacer("\x00", "\ufffd", "\xff", "\ufffd").Replace(name) {
			t.Errorf("%.20q is carried as %q", name, got)
		}
		if carried.Get("mode") != "test" || carried.Get("expires") != "30" || carried.Get("other") != "" {
			t.Errorf("carried for %.20q: %v", name, carried)
		}
		a := b.get(next).want(http.StatusOK)
		if !strings.Contains(a.body, `value="costs:read" checked`) || a.value("name") != carried.Get("name") {
			t.Errorf("the form for %.20q has %q", name, a.value("name"))
		}
	}
}
