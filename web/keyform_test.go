package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

// Whatever is wrong, what was entered is there again, and the form works once it is put right.
func TestCreateKeyKeepsTheInput(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	name := strings.Repeat("é", 101)
	form := newKeyForm(b, name, "scoped", "1", "permissions", "alerts:read", "permissions", "costs:read", "expires", "custom", "expires_on", "2020-01-02")
	form.Set("mode", "test")
	a := b.createKey(form).want(http.StatusUnprocessableEntity)
	if errs := a.fieldErrors(); errs["name"] == "" || errs["expires_on"] == "" || len(errs) != 2 {
		t.Errorf("errors %v", errs)
	}
	kept := url.Values{}
	for _, input := range a.inputs() {
		if _, checked := input["checked"]; checked || input["name"] == "name" || input["name"] == "expires_on" {
			kept.Add(input["name"], input["value"])
		}
	}
	want := url.Values{"name": {name}, "mode": {"test"}, "scoped": {"1"}, "permissions": {"costs:read", "alerts:read"}, "expires_on": {"2020-01-02"}}
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Errorf("the form (-want +got):\n%s", diff)
	}
	for _, part := range []string{`<option value="custom" selected>`, `<details open>`, `aria-describedby="name-error name-help"`, `aria-describedby="expires_on-error"`} {
		if !strings.Contains(a.body, part) {
			t.Errorf("the form lacks %s", part)
		}
	}
	again := a.hidden()
	if again.Get("form_token") != form.Get("form_token") {
		t.Error("the form has another token, so that sending either would make a key")
	}
	for field, values := range form {
		if field != "form_token" {
			again[field] = values
		}
	}
	again.Set("name", strings.Repeat("é", 100))
	again.Set("expires_on", "2030-01-02")
	b.createKey(again).want(http.StatusOK).revealed()
}

// The fields that a form does not have change nothing, whoever adds them.
func TestCreateKeyIgnoresOtherFields(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		_, other := s.owner()
		form := newKeyForm(b, "Only this", "id", "key_CHOSEN", "account_id", other.AccountID, "AccountID", other.AccountID, "revoked_at", "1", "created_by", other.UserID,
			"created_at", "1", "hash", "x", "hint", "0000", "secret_id", "x", "role", "owner", "text", "cic_live_x", "status", "revoked", "expires_at", "1")
		secret := b.createKey(form).want(http.StatusOK).revealed()
		want := []string{fmt.Sprintf("%s|%s|Only this|%s|%d|0|0", owner.AccountID, owner.UserID, secret.Hint(), models.FullAccess)}
		if diff := cmp.Diff(want, s.query("SELECT account_id, created_by, name, hint, permissions, expires_at, revoked_at FROM api_keys")); diff != "" {
			t.Errorf("the key (-want +got):\n%s", diff)
		}
		if id := s.query("SELECT id FROM api_keys")[0]; id == "key_CHOSEN" {
			t.Error("the id was chosen")
		}
	})
}

// The same form sent again, one after the other or at once, makes no second key and shows none.
func TestSameFormAgain(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		form := newKeyForm(b, "Once")
		var wg sync.WaitGroup
		answers := make([]*answer, 20)
		sites := []*site{s, s.replica()}
		for i := range answers {
			to := b.on(sites[i%2])
			wg.Go(func() {
				answers[i], _ = to.trySend("POST", "/settings/api/keys", form.Encode(),
					"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
			})
		}
		wg.Wait()
		keys := s.query("SELECT id FROM api_keys")
		if len(keys) != 1 {
			t.Fatalf("%d keys", len(keys))
		}
		page := "/settings/api/keys/" + keys[0]
		shown := 0
		for _, a := range answers {
			mustf(t, a != nil, "no answer")
			if a.status == http.StatusOK {
				shown++
				a.revealed()
				continue
			}
			a.wantRedirect(page)
		}
		if shown != 1 {
			t.Errorf("%d answers show the key", shown)
		}
		form.Set("name", "Twice")
		b.createKey(form).wantRedirect(page)
		a := b.get(page).want(http.StatusOK)
		for _, part := range []string{"was shown once and cannot be shown again", "revoke this key", "generate a replacement"} {
			if !strings.Contains(a.text(), part) {
				t.Errorf("the key's page lacks %q", part)
			}
		}
		if !strings.Contains(a.body, page+"/revoke") || !strings.Contains(a.body, "/settings/api/new?like="+keys[0]) {
			t.Error("the key's page offers neither revocation nor replacement")
		}
		if diff := cmp.Diff([]string{"key.created|user|" + owner.UserID}, s.actions(keys[0])); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
		// A form token is an account's own: it tells nothing about another's keys.
		stranger, _ := s.owner()
		stranger.createKey(form).want(http.StatusOK).revealed()
	})
}

// A person may generate 120 keys a minute. The next waits, and nothing that was entered is lost.
func TestCreateKeyLimit(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	colleague, _ := s.signedIn(owner.AccountName, models.RoleAdmin)
	for i := range 120 {
		b.createKey(newKeyForm(b, fmt.Sprintf("Key %d", i))).want(http.StatusOK)
	}
	form := newKeyForm(b, "One too many", "scoped", "1", "permissions", "alerts:read")
	a := b.createKey(form).want(http.StatusTooManyRequests)
	if a.header.Get("Retry-After") == "" || !strings.Contains(a.fieldErrors()[""], "You have generated 120 keys within a minute.") {
		t.Errorf("Retry-After %q, %v", a.header.Get("Retry-After"), a.fieldErrors())
	}
	if a.value("name") != "One too many" || !strings.Contains(a.body, `value="alerts:read" checked`) {
		t.Error("the form has lost what was entered")
	}
	if n := len(s.query("SELECT id FROM api_keys")); n != 120 {
		t.Errorf("%d keys", n)
	}
	// In the dialog it is the status that htmx shows.
	b.post("/settings/api/keys", form, "HX-Request", "true", "HX-Target", "dialog").want(http.StatusUnprocessableEntity)
	colleague.createKey(newKeyForm(colleague, "A colleague's")).want(http.StatusOK)

	s.clock.advance(30 * time.Second)
	b.createKey(form).want(http.StatusTooManyRequests) // 120 within this minute too
	s.clock.advance(31 * time.Second)
	b.createKey(form).want(http.StatusOK)
}
