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
		r := revocation.New(revocation.Config{Store: d, Patience: 20 * time.Millisecond, Pause: time.Millisecond, MaxPause: 10 * time.Millisecond, Log: c.Log})
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
				d.wantError(503, "", `{"code": "unavailable", "message": "The service cannot answer just now. Try again in a moment."}`)
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
			b.post(page+"/revoke", nil).wantRedirect(page)
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
	page, keptPage := "/settings/api/keys/"+seen.ID, "/settings/api/keys/"+kept.ID
	s.exec("UPDATE api_keys SET revocation_uncertain = true WHERE id = '%s'", seen.ID)
	for _, address := range []string{page, "/settings/api?status=all"} {
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
	s.exec("UPDATE api_keys SET revocation_uncertain = false")
	if a := b.get(page, "HX-Request", "true", "HX-Target", "main").want(http.StatusOK); !strings.Contains(a.text(), "Took effect") {
		t.Errorf("when it is certain: %s", a.text())
	}
}

// While the database is away the answer needs nothing of it, and what became of the revocation is not known.
func TestInDoubtWithoutDatabase(t *testing.T) {
	d := &doubtful{}
	s := sqliteSite(t, withDoubt(t, d))
	b, owner := s.owner()
	_, key := storetest.MustKey(t, s.st, owner)
	page := "/settings/api/keys/" + key.ID
	s.exec("ALTER TABLE api_keys RENAME TO gone")
	if a := b.post(page+"/revoke", nil).want(http.StatusServiceUnavailable); !strings.Contains(a.text(), notConfirmedYet) {
		t.Errorf("the page says %s", a.text())
	}
	part := b.post(page+"/revoke", nil, "HX-Request", "true").want(http.StatusServiceUnavailable)
	if part.header.Get("HX-Reswap") != "" || !strings.Contains(part.body, `<p class="dangerbox">R`+notConfirmedYet) {
		t.Errorf("for htmx: %v %s", part.header, part.body)
	}
	s.exec("ALTER TABLE gone RENAME TO api_keys")
}
