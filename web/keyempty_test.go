package web

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

var (
	listPart = regexp.MustCompile(`(?s)<div id="keys">.*</main>`)
	link     = regexp.MustCompile(`<a [^>]*href="([^"]*)"`)
)

// listLinks returns where the list itself leads, without what is around it.
func (a *answer) listLinks() []string {
	var list []string
	for _, m := range link.FindAllStringSubmatch(listPart.FindString(a.body), -1) {
		list = append(list, html.UnescapeString(m[1]))
	}
	return list
}

// An empty list says why it is empty, and each of its buttons leads to another
// list or page than its own.
func TestEmptyLists(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		member, _ := s.signedIn(owner.AccountName, models.RoleMember)
		says := func(path, heading string, links ...string) {
			t.Helper()
			for _, b := range []*browser{b, member} {
				a := b.get(path).want(http.StatusOK)
				if !strings.Contains(a.body, ">"+heading+"</h2>") {
					t.Errorf("%s says %s, want %q", path, a.text(), heading)
				}
				want := strings.Join(links, " ")
				if b == member {
					want = strings.TrimPrefix(strings.TrimPrefix(want, "/settings/api/new"), " ")
				}
				if got := strings.Join(a.listLinks(), " "); got != want {
					t.Errorf("%s leads to %q, want %q", path, got, want)
				}
			}
		}
		const list, create, revoked, expired = "/settings/api", "/settings/api/new", "/settings/api?status=revoked", "/settings/api?status=expired"
		says(list, "No API keys yet")
		_, first := storetest.MustKey(t, s.st, owner)
		b.post("/settings/api/keys/"+first.ID+"/revoke", nil).want(http.StatusSeeOther)
		says(list, "No active keys. 1 revoked.", create, revoked)
		says(list+"?q=&mode=&status=active&q=+&mode=nonsense", "No active keys. 1 revoked.", create, revoked)
		says(list+"?q=%E2%A0%80", "No active keys. 1 revoked.", create, revoked)
		says(expired, "No keys match these filters.", list+"?status=all", list)
		says(list+"?q=none", "No keys match these filters.", list+"?q=none&status=all", list)
		says(list+"?q=none&status=all", "No keys match these filters.", list)
		storetest.MustKey(t, s.st, owner, func(_ *models.APIKey, e *models.Expiry) { e.On = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) })
		says(list, "No active keys. 1 revoked, 1 expired.", create, revoked, expired)
		says(list+"?mode=test", "No keys match these filters.", list+"?mode=test&status=all", list)
		storetest.MustKey(t, s.st, owner)
		says(list+"?q=none", "No keys match these filters.", list+"?q=none&status=all", list)
		says(list+"?after=1.key_A", "No older keys.", list)
		s.exec("UPDATE api_keys SET revoked_at = 0, expires_at = 1")
		says(list, "No active keys. 3 expired.", create, expired)
		says(revoked, "No keys match these filters.", list+"?status=all", list)
	})
}

// Counting is bounded, and what is not counted is said.
func TestManyEndedKeys(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	_, key := storetest.MustKey(t, s.st, owner)
	s.exec("UPDATE api_keys SET revoked_at = 1")
	s.exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO api_keys (id, account_id, name, name_folded, mode, permissions, hint, hash, secret_id, form_token, created_by, created_at, expires_at, revoked_at)
		SELECT 'key_' || i, account_id, name, name_folded, mode, permissions, hint, CAST(i AS BLOB), secret_id, i, created_by, created_at - 1, 1, 0
		FROM api_keys, n WHERE id = '%s'`, models.StatsLimit, key.ID)
	if got := b.get("/settings/api").want(http.StatusOK).text(); !strings.Contains(got, "No active keys. 1+ revoked, 1,000+ expired.") {
		t.Errorf("the list says %s", got)
	}
}

// When htmx revokes the last active key of the list, the list says so below the
// row, and only there.
func TestLastKeyRevokedWithHTMX(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	const state = `<h2 id="none-active" tabindex="-1">No active keys. `
	for i, tt := range []struct {
		from string
		says bool
	}{
		{"/settings/api", true},
		{"/settings/api?mode=live&q=key", true},
		{"/settings/api?status=all", false},
		{"/settings/api/keys/key_x", false},
		{"", false},
	} {
		_, key := storetest.MustKey(t, s.st, owner)
		_, other := storetest.MustKey(t, s.st, owner)
		revoke := func(id string) *answer {
			return b.post("/settings/api/keys/"+id+"/revoke", nil, "HX-Request", "true", "HX-Current-URL", "http://cicosts.example"+tt.from).want(http.StatusOK)
		}
		if a := revoke(other.ID); strings.Contains(a.body, "No active keys") {
			t.Errorf("%s: with an active key left: %s", tt.from, a.text())
		}
		a := revoke(key.ID)
		if got := strings.Contains(a.body, state); got != tt.says {
			t.Errorf("%s: the answer says that no key is active: %v", tt.from, got)
		}
		if id, status := a.row(); id != key.ID || status != "revoked" || !strings.Contains(a.text(), "Active keys 0 0 live, 0 test") {
			t.Errorf("%d: row %s is %s in %s", i, id, status, a.text())
		}
	}
}
