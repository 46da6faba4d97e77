package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/revocation"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// doubtful is a store that does not say how a revocation ended, while that is wanted of it.
type doubtful struct {
	*store.Store
	silent  atomic.Bool
	commits bool // it was carried out, so that everybody sees it in the database
}

func (d *doubtful) RevokeKey(ctx context.Context, by models.Actor, accountID, keyID string) (models.KeyRecord, error) {
	if !d.silent.Load() {
		return d.Store.RevokeKey(ctx, by, accountID, keyID)
	}
	if d.commits {
		if key, err := d.Store.RevokeKey(ctx, by, accountID, keyID); err != nil {
			return key, err
		}
	}
	return models.KeyRecord{}, models.Unavailable(errors.New("no answer"))
}

// withDoubt has the site's revocations be in doubt as long as it says.
func withDoubt(t *testing.T, d *doubtful) func(*Config) {
	return func(c *Config) {
		d.Store = c.Store.(*store.Store)
		d.silent.Store(true)
		r := revocation.New(revocation.Config{Store: d, Patience: 20 * time.Millisecond, Storing: time.Minute, Pause: time.Millisecond, MaxPause: 10 * time.Millisecond, Log: c.Log})
		t.Cleanup(func() { r.Close(context.Background()) })
		c.Revoker = r
	}
}

const notConfirmedYet = "evocation not confirmed yet" // in lower case on badges

func TestRevocationInDoubt(t *testing.T) {
	for name, commits := range map[string]bool{"not committed": false, "committed": true} {
		t.Run(name, func(t *testing.T) {
			d := &doubtful{commits: commits}
			s := sqliteSite(t, withDoubt(t, d))
			b, owner := s.owner()
			secret, key := storetest.MustKey(t, s.st, owner)
			page := "/settings/api/keys/" + key.ID
			poll := func(target string) *answer { return b.get(page, "HX-Request", "true", "HX-Target", target) }
			inDoubt := func(a *answer) {
				t.Helper()
				if a.want(http.StatusServiceUnavailable); a.header.Get("Retry-After") == "" || !strings.Contains(a.text(), notConfirmedYet) || !strings.Contains(a.body, `hx-get="`+page+`"`) {
					t.Errorf("the answer is %v %s", a.header, a.body)
				}
			}
			inDoubt(b.post(page+"/revoke", nil))
			row := b.post(page+"/revoke", nil, "HX-Request", "true", "HX-Target", key.ID) // again, in the list
			if inDoubt(row); row.header.Get("HX-Reswap") != "outerHTML" || strings.Contains(row.body, "<html") {
				t.Errorf("for htmx: %v %s", row.header, row.body)
			}
			if id, status := row.row(); id != key.ID || status != "active" {
				t.Errorf("row %s is %s", id, status)
			}
			list := b.get("/settings/api?status=all").want(http.StatusOK)
			if id, status := list.row(); id != key.ID || status != "active" || !strings.Contains(list.text(), notConfirmedYet) {
				t.Errorf("the list has %s as %s: %s", id, status, list.text())
			}
			a := b.get(page).want(http.StatusOK)
			if text := a.text(); !strings.Contains(text, notConfirmedYet) || !strings.Contains(text, "Status active") || strings.Contains(text, "Revoked") {
				t.Errorf("the page says %s", text)
			}
			b.get(page + "/revoke").want(http.StatusOK) // may be asked for again
			for _, target := range []string{"main", key.ID} {
				if a := poll(target).want(http.StatusNoContent); a.body != "" {
					t.Errorf("what became of it: %s", a.body)
				}
			}
			if !commits {
				d := s.authorize("DELETE", "/v1/key", "Bearer "+secret.Reveal())
				d.wantError(503, "", `{"code": "unavailable", "message": "The revocation is not confirmed yet, so the key may still work. CICosts keeps trying."}`)
				if d.header.Get("Retry-After") == "" {
					t.Error("the API says not when to ask again")
				}
			}

			d.silent.Store(false)
			for deadline := time.Now().Add(time.Minute); poll("main").status == http.StatusNoContent; time.Sleep(5 * time.Millisecond) {
				mustf(t, time.Now().Before(deadline), "still in doubt")
			}
			for target, part := range map[string]string{"main": `<main id="main"`, key.ID: `<tr id="` + key.ID + `" data-key-id="` + key.ID + `" data-status="revoked"`} {
				a := poll(target).want(http.StatusOK)
				if !strings.Contains(a.body, part) || !strings.Contains(a.text(), "“"+key.Name+"” is revoked. Requests with it fail.") || strings.Contains(a.text(), notConfirmedYet) {
					t.Errorf("what became of it for %s: %s", target, a.body)
				}
			}
			again := b.post(page+"/revoke", nil)
			for deadline := time.Now().Add(time.Minute); again.status == http.StatusServiceUnavailable; again = b.post(page+"/revoke", nil) {
				mustf(t, time.Now().Before(deadline), "still in doubt") // a busy machine takes longer than the patience
			}
			again.wantRedirect(page)
			s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).wantError(401, challengeToken, invalidBody)
			want := []string{"key.created|user|" + owner.UserID, "key.revoked|user|" + owner.UserID}
			if diff := cmp.Diff(want, s.actions(key.ID)); diff != "" {
				t.Errorf("history (-want +got):\n%s", diff)
			}
		})
	}
}

// A replica that does not try itself says of a revocation no more than is certain, and says when nobody tries.
func TestDoubtOfAnotherReplica(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	_, seen := storetest.MustKey(t, s.st, owner)
	_, kept := storetest.MustKey(t, s.st, owner)
	_, err := s.st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, seen.ID)
	s.must(err)
	request := func(key models.APIKey) {
		t.Helper()
		s.exec(`INSERT INTO revocation_requests (key_id, account_id, requested_at, actor_type, actor_id, actor_label, ip)
			VALUES ('%s', '%s', 1, 'user', '', '', '')`, key.ID, key.AccountID)
	}
	_, asked := storetest.MustKey(t, s.st, owner) // and not revoked yet
	request(asked)
	page, keptPage := "/settings/api/keys/"+seen.ID, "/settings/api/keys/"+kept.ID
	request(seen)
	for _, address := range []string{page, "/settings/api?status=all", "/settings/api/keys/" + asked.ID} {
		if text := b.get(address).want(http.StatusOK).text(); !strings.Contains(text, notConfirmedYet) || strings.Contains(text, "Took effect") {
			t.Errorf("%s: %s", address, text)
		}
	}
	for target, keptTarget := range map[string]string{"main": "main", seen.ID: kept.ID} {
		b.get(page, "HX-Request", "true", "HX-Target", target).want(http.StatusNoContent)
		if a := b.get(keptPage, "HX-Request", "true", "HX-Target", keptTarget).want(http.StatusOK); !strings.Contains(a.text(), "“"+kept.Name+"” is not revoked, as far as is known here. Revoke it again.") {
			t.Errorf("a key whose revocation nobody tries: %s", a.text())
		}
	}
	s.exec("DELETE FROM revocation_requests")
	if a := b.get(page, "HX-Request", "true", "HX-Target", "main").want(http.StatusOK); !strings.Contains(a.text(), "Took effect") {
		t.Errorf("when it is certain: %s", a.text())
	}
}

// The answer needs nothing of the database, and names the key all the same.
func TestInDoubtWithoutItsRow(t *testing.T) {
	d := &doubtful{}
	s := sqliteSite(t, withDoubt(t, d))
	b, owner := s.owner()
	_, key := storetest.MustKey(t, s.st, owner)
	page := "/settings/api/keys/" + key.ID
	form := b.get(page + "/revoke").want(http.StatusOK).hidden()
	s.exec("ALTER TABLE daily_uses RENAME TO gone")
	if a := b.post(page+"/revoke", form).want(http.StatusServiceUnavailable); !strings.Contains(a.text(), notConfirmedYet) ||
		!strings.Contains(a.text(), "the revocation of “"+key.Name+"”, so") {
		t.Errorf("the page says %s", a.text())
	}
	part := b.post(page+"/revoke", form, "HX-Request", "true").want(http.StatusServiceUnavailable)
	part.wantInDialog("The revocation of “" + key.Name + "” is not confirmed yet.")
	s.exec("ALTER TABLE gone RENAME TO daily_uses")
}

// wantInDialog checks an answer that says something in the open dialog.
func (a *answer) wantInDialog(text string) {
	a.t.Helper()
	if a.header.Get("HX-Retarget") != "#revoke-outcome" || a.header.Get("HX-Reswap") != "innerHTML" ||
		!strings.Contains(a.text(), text) || strings.Contains(a.body, "<html") {
		a.t.Errorf("want %q in the dialog: %v %s", text, a.header, a.body)
	}
}

// A program that is stopping does not promise to try again.
func TestInDoubtWhileStopping(t *testing.T) {
	d := &doubtful{}
	s := sqliteSite(t, withDoubt(t, d))
	b, owner := s.owner()
	_, key := storetest.MustKey(t, s.st, owner)
	_, other := storetest.MustKey(t, s.st, owner)
	pages := map[string]models.APIKey{"/settings/api/keys/" + key.ID: key, "/settings/api/keys/" + other.ID: other}
	b.post("/settings/api/keys/"+key.ID+"/revoke", nil).want(http.StatusServiceUnavailable)
	s.cfg.Revoker.(*revocation.Revoker).Close(t.Context())
	for page, k := range pages {
		form := b.get(page + "/revoke").want(http.StatusOK).hidden()
		for _, header := range [][]string{nil, {"HX-Request", "true"}} {
			a := b.post(page+"/revoke", form, header...).want(http.StatusServiceUnavailable)
			if text := a.text(); !strings.Contains(text, "It is unknown whether “"+k.Name+"” is revoked.") || strings.Contains(text, "keeps trying") {
				t.Errorf("%s: %s", a.asked, text)
			}
		}
		if text := b.get(page).want(http.StatusOK).text(); !strings.Contains(text, notConfirmedYet) ||
			!strings.Contains(text, "This server is stopping.") || strings.Contains(text, "keeps trying") {
			t.Errorf("%s: %s", page, text)
		}
	}
}

// unwritten is a store that cannot store requests.
type unwritten struct {
	*store.Store
	err error
}

func (u *unwritten) RequestRevocation(context.Context, models.Actor, string, string) error {
	return u.err
}

// A revocation that is not even stored says that the key still works, or that
// this is unknown. It names the key as the form does.
func TestRevocationNotStored(t *testing.T) {
	for name, tt := range map[string]struct {
		err    error
		status int
		says   []string
	}{
		"not written": {
			models.Unavailable(models.ErrNotChanged), http.StatusServiceUnavailable,
			[]string{"“NAME” is NOT revoked. The database does not answer. Nothing was changed, so the key still works"},
		},
		"perhaps written": {
			models.Unavailable(errors.New("no answer")), http.StatusServiceUnavailable,
			[]string{"It is unknown whether “NAME” is revoked.", "Look at the key in a moment"},
		},
		"a defect": {
			errors.New("a defect"), http.StatusInternalServerError,
			[]string{"“NAME” is NOT revoked. Something went wrong on our side.", "the key still works"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := sqliteSite(t, func(c *Config) {
				r := revocation.New(revocation.Config{
					Store: &unwritten{c.Store.(*store.Store), tt.err}, Patience: 20 * time.Millisecond, Log: c.Log,
				})
				t.Cleanup(func() { r.Close(context.Background()) })
				c.Revoker = r
			})
			b, owner := s.owner()
			secret, key := storetest.MustKey(t, s.st, owner, func(k *models.APIKey, _ *models.Expiry) { k.Name = `<b>"Nightly" & export` })
			page := "/settings/api/keys/" + key.ID
			form := b.get(page + "/revoke").want(http.StatusOK).hidden()
			whole := b.post(page+"/revoke", form).want(tt.status)
			part := b.post(page+"/revoke", form, "HX-Request", "true").want(tt.status)
			for _, says := range tt.says {
				says = strings.ReplaceAll(says, "NAME", key.Name)
				if !strings.Contains(whole.text(), says) || !strings.Contains(whole.body, "<html") {
					t.Errorf("want %q: %s", says, whole.text())
				}
				part.wantInDialog(says)
			}
			for _, a := range []*answer{whole, part} {
				if text := a.text(); strings.Contains(text, "keeps trying") || !strings.Contains(text, a.header.Get("X-Request-Id")) || strings.Contains(a.body, "<b>") {
					t.Errorf("%s: %s", a.asked, a.body)
				}
			}
			again := whole.hidden() // the page can be sent again
			if again.Get("name") != key.Name || !strings.Contains(whole.body, `action="`+page+`/revoke"`) {
				t.Errorf("the page's form has %v", again)
			}
			if text := b.get(page).want(http.StatusOK).text(); strings.Contains(text, notConfirmedYet) {
				t.Errorf("the key's page: %s", text)
			}
			s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusOK)
			s.authorize("DELETE", "/v1/key", "Bearer "+secret.Reveal()).want(tt.status)
		})
	}
}
