package web

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

func TestRevoke(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		other := s.replica()
		secret, key := storetest.MustKey(t, s.st, owner)
		page := "/settings/api/keys/" + key.ID
		other.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusOK)

		ask := b.get(page + "/revoke").want(http.StatusOK)
		if !strings.Contains(ask.text(), "Revoke “"+key.Name+"”?") || !strings.Contains(ask.body, "<html") {
			t.Errorf("the page asks: %s", ask.text())
		}
		dialog := b.get(page+"/revoke", "HX-Request", "true", "HX-Target", "dialog").want(http.StatusOK)
		if !strings.Contains(dialog.body, `hx-post="`+page+`/revoke"`) || strings.Contains(dialog.body, "<html") {
			t.Errorf("the dialog: %s", dialog.body)
		}
		s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusOK) // asking is not revoking

		b.post(page+"/revoke", ask.hidden()).wantRedirect(page)
		for _, s := range []*site{s, other} {
			s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).wantError(401, challengeToken, invalidBody)
		}
		a := b.get(page).want(http.StatusOK)
		if !strings.Contains(a.text(), "Status revoked") || !strings.Contains(a.text(), "Revoked by "+owner.Email+" from 127.0.0.1") || strings.Contains(a.body, page+"/revoke") {
			t.Errorf("the page says %s", a.text())
		}

		// Again: nothing changes, and the first time stays.
		before := s.dump()
		s.clock.advance(30 * time.Second)
		b.post(page+"/revoke", nil).wantRedirect(page)
		b.get(page + "/revoke").wantRedirect(page)
		if id, status := b.post(page+"/revoke", nil, "HX-Request", "true").want(http.StatusOK).row(); id != key.ID || status != "revoked" {
			t.Errorf("row %s is %s", id, status)
		}
		s.wantUnchanged(before)
		want := []string{"key.created|user|" + owner.UserID, "key.revoked|user|" + owner.UserID}
		if diff := cmp.Diff(want, s.actions(key.ID)); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
}

func TestRevokeWithHTMX(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	_, key := storetest.MustKey(t, s.st, owner)
	a := b.post("/settings/api/keys/"+key.ID+"/revoke", nil, "HX-Request", "true").want(http.StatusOK)
	if id, status := a.row(); id != key.ID || status != "revoked" || strings.Contains(a.body, "<html") {
		t.Errorf("row %s is %s in %s", id, status, a.body)
	}
	if !strings.Contains(a.text(), "“"+key.Name+"” is revoked.") {
		t.Errorf("nothing is announced: %s", a.text())
	}
	missing := b.post("/settings/api/keys/key_missing/revoke", nil, "HX-Request", "true").want(http.StatusNotFound)
	if strings.Contains(missing.body, "<html") {
		t.Errorf("a page for a part of one: %s", missing.body)
	}
}

// However many revoke a key at once, the history has it once.
func TestRevokeRace(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		secret, key := storetest.MustKey(t, s.st, owner)
		sites := []*site{s, s.replica()}
		var wg sync.WaitGroup
		statuses := make([]int, 12)
		for i := range statuses {
			to := b.on(sites[i%2])
			wg.Go(func() {
				a, err := to.trySend("POST", "/settings/api/keys/"+key.ID+"/revoke", "", "Sec-Fetch-Site", "same-origin")
				if i%3 == 0 {
					a, err = to.trySend("DELETE", "/v1/key", "", "Authorization", "Bearer "+secret.Reveal())
				}
				if err == nil {
					statuses[i] = a.status
				}
			})
		}
		wg.Wait()
		for i, status := range statuses {
			if status != http.StatusSeeOther && (i%3 != 0 || status != http.StatusNoContent && status != http.StatusUnauthorized) {
				t.Errorf("request %d: %d", i, status)
			}
		}
		if n := len(s.query("SELECT id FROM audit_events WHERE action = 'key.revoked'")); n != 1 {
			t.Errorf("revoked %d times", n)
		}
	})
}

// A change that cannot be written to the history is not made.
func TestNoChangeWithoutHistory(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		signedOut := s.addUser(owner.AccountName, models.RoleAdmin)
		secret, key := storetest.MustKey(t, s.st, owner)
		form := newKeyForm(b, "Never made")
		refuseHistory(s)
		before := s.dump()
		b.createKey(form).want(http.StatusInternalServerError)
		b.post("/settings/api/keys/"+key.ID+"/revoke", nil).want(http.StatusInternalServerError)
		s.authorize("DELETE", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusInternalServerError)
		in := s.browser().post("/login", loginForm(signedOut.Email, goodPassword)).want(http.StatusInternalServerError)
		wrong := s.browser().post("/login", loginForm(signedOut.Email, "wrong horse battery staple")).want(http.StatusInternalServerError)
		out := b.on(s).post("/logout", nil).want(http.StatusInternalServerError)
		for _, a := range []*answer{in, wrong, out} {
			if len(a.cookies) != 0 {
				t.Errorf("%s: cookies %v", a.asked, a.cookies)
			}
		}
		s.wantUnchanged(before)
		s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusOK)

		allowHistory(s)
		b.createKey(form).want(http.StatusOK).revealed()
		s.authorize("DELETE", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusNoContent)
	})
}

func TestNoSetupWithoutHistory(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.mintToken(setupToken)
		refuseHistory(s)
		before := s.dump()
		s.browser().post("/setup", setupForm(setupToken)).want(http.StatusInternalServerError)
		s.wantUnchanged(before)
		allowHistory(s)
		s.browser().post("/setup", setupForm(setupToken)).wantRedirect("/settings/api")
	})
}

// refuseHistory has every INSERT into the history fail.
func refuseHistory(s *site) {
	s.t.Helper()
	if strings.HasPrefix(s.url, "sqlite:") {
		s.exec("CREATE TRIGGER refuse BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'refused'); END")
		return
	}
	s.exec("ALTER TABLE audit_events ADD CONSTRAINT refuse CHECK (false) NOT VALID")
}

func allowHistory(s *site) {
	s.t.Helper()
	if strings.HasPrefix(s.url, "sqlite:") {
		s.exec("DROP TRIGGER refuse")
		return
	}
	s.exec("ALTER TABLE audit_events DROP CONSTRAINT refuse")
}

// What one account does leaves every row of another as it was.
func TestAccountsAreApart(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		_, theirs := s.owner()
		_, key := storetest.MustKey(t, s.st, theirs)
		b, owner := s.owner()
		rows := func() (list []string) {
			for table, all := range s.dump() {
				for _, row := range all {
					if strings.Contains(row, theirs.AccountID) || strings.Contains(row, key.ID) || strings.Contains(row, theirs.UserID) {
						list = append(list, table+": "+row)
					}
				}
			}
			slices.Sort(list)
			return list
		}
		before := rows()
		secret, own := storetest.MustKey(t, s.st, owner)
		for _, id := range []string{key.ID, own.ID} {
			b.get("/settings/api/keys/" + id)
			b.get("/settings/api/new?like=" + id)
			b.createKey(newKeyForm(b, "Key of mine", "account_id", theirs.AccountID, "id", id))
			b.post("/settings/api/keys/"+id+"/revoke", nil)
		}
		s.authorize("DELETE", "/v1/key", "Bearer "+secret.Reveal())
		b.get("/settings/api?status=all&q=key")
		b.post("/logout", nil)
		if diff := cmp.Diff(before, rows()); diff != "" || len(before) < 5 {
			t.Errorf("the other account's %d rows (-before +after):\n%s", len(before), diff)
		}
	})
}
