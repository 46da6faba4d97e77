package web

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
)

var (
	keyID     = regexp.MustCompile(`<[a-z]+ [^>]*data-key-id="(key_[A-Z2-7]+)"[^>]*>`)
	keyStatus = regexp.MustCompile(` data-status="([a-z]+)"`)
)

// rows returns the ids of the keys listed, in order.
func (a *answer) rows() []string {
	var ids []string
	for _, m := range keyID.FindAllStringSubmatch(a.body, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

// row returns the id of the one key listed and its status.
func (a *answer) row() (id, status string) {
	a.t.Helper()
	m := keyID.FindAllStringSubmatch(a.body, -1)
	mustf(a.t, len(m) == 1, "%s: %d rows", a.asked, len(m))
	words := keyStatus.FindStringSubmatch(m[0][0])
	mustf(a.t, words != nil, "%s: the row has no status: %s", a.asked, m[0][0])
	return m[0][1], words[1]
}

func TestKeyList(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		ids, hints := map[string]string{}, map[string]string{}
		add := func(name string, change ...func(*models.APIKey, *models.Expiry)) string {
			secret, key := storetest.MustKey(t, s.st, owner, append(change, func(k *models.APIKey, _ *models.Expiry) { k.Name = name })...)
			ids[name], hints[name] = key.ID, secret.Hint()
			return key.ID
		}
		past := func(_ *models.APIKey, e *models.Expiry) { e.On = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }
		add("Straße 100%")
		add("under_score", func(k *models.APIKey, _ *models.Expiry) { k.Mode = keytext.Test })
		add(`back\slash`, func(k *models.APIKey, _ *models.Expiry) { k.Permissions = models.AlertsRead })
		add("Ended", past)
		for _, name := range []string{"Gone", "Gone and ended"} {
			change := []func(*models.APIKey, *models.Expiry){}
			if name != "Gone" {
				change = append(change, past)
			}
			_, err := s.st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, add(name, change...))
			mustBeNil(t, err)
		}
		storetest.MustKey(t, s.st, storetest.MustOwner(t, s.st), func(k *models.APIKey, _ *models.Expiry) { k.Name = "Straße of others" })
		active, all := []string{`back\slash`, "under_score", "Straße 100%"}, []string{"Gone and ended", "Gone", "Ended", `back\slash`, "under_score", "Straße 100%"}
		for _, tt := range []struct {
			query string
			want  []string
		}{
			{"", active},
			{"status=active", active},
			{"status=nonsense", active},
			{"status=all", all},
			{"status=expired", []string{"Ended"}},
			{"status=revoked", []string{"Gone and ended", "Gone"}},
			{"mode=test", []string{"under_score"}},
			{"mode=live", []string{`back\slash`, "Straße 100%"}},
			{"mode=nonsense&permission=nonsense&after=nonsense", active},
			{"permission=alerts:read", active},
			{"permission=costs:read", []string{"under_score", "Straße 100%"}},
			{"permission=costs:read&mode=live&status=all&q=gone", []string{"Gone and ended", "Gone"}},
			{"q=STRASSE", []string{"Straße 100%"}},
			{"q=" + url.QueryEscape("traße 1"), []string{"Straße 100%"}},
			{"q=" + url.QueryEscape(" straße "), []string{"Straße 100%"}},
			{"q=%25", []string{"Straße 100%"}},
			{"q=_", []string{"under_score"}},
			{"q=" + url.QueryEscape(`\`), []string{`back\slash`}},
			{"q=" + url.QueryEscape("*"), nil},
			{"q=" + url.QueryEscape("u%e"), nil},
			{"q=ae", nil},
			{"q=" + hints["under_score"], []string{"under_score"}},
			{"q=" + hints["under_score"][1:], nil},
			{"q=" + ids["Ended"] + "&status=all", nil},
			{"q=cic_live_&status=all", nil},
		} {
			var want []string
			for _, name := range tt.want {
				want = append(want, ids[name])
			}
			if diff := cmp.Diff(want, b.get("/settings/api?"+tt.query).want(http.StatusOK).rows()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.query, diff)
			}
		}
		for query, want := range map[string]string{"q=ended&status=expired": "expired", "q=gone+and&status=all": "revoked", "q=under&status=all": "active"} {
			if _, status := b.get("/settings/api?" + query).want(http.StatusOK).row(); status != want {
				t.Errorf("%s: the status is %s, want %s", query, status, want)
			}
		}
	})
}

// Every key stands on exactly one page, newest first, even when others are created between two pages.
func TestKeyListPages(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		var want []string
		for range 120 {
			_, key := storetest.MustKey(t, s.st, owner)
			want = append(want, key.ID)
		}
		// All but the newest ten are of the same instant, as after an import.
		s.exec("UPDATE api_keys SET created_at = (SELECT min(created_at) FROM api_keys) WHERE id NOT IN ('%s')", strings.Join(want[110:], "','"))
		slices.Reverse(want)
		slices.SortFunc(want[10:], func(x, y string) int { return strings.Compare(y, x) })

		var got []string
		pages := 0
		for path := "/settings/api?status=all&q=key"; path != ""; pages++ {
			a := b.get(path).want(http.StatusOK)
			got = append(got, a.rows()...)
			storetest.MustKey(t, s.st, owner)
			path = ""
			if m := regexp.MustCompile(`<a [^>]*href="([^"]*)" rel="next">`).FindStringSubmatch(a.body); m != nil {
				path = strings.ReplaceAll(m[1], "&amp;", "&")
				u, err := url.Parse(path)
				mustBeNil(t, err)
				if u.Query().Get("q") != "key" || u.Query().Get("status") != "all" || u.Query().Get("after") == "" {
					t.Errorf("the next page is %s", path)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || pages != 3 {
			t.Errorf("%d pages (-want +got):\n%s", pages, diff)
		}
	})
}

func TestKeyListOfAMember(t *testing.T) {
	s := sqliteSite(t)
	owner, v := s.owner()
	member, _ := s.signedIn(v.AccountName, models.RoleMember)
	empty := member.get("/settings/api").want(http.StatusOK)
	_, key := storetest.MustKey(t, s.st, v)
	page := "/settings/api/keys/" + key.ID
	for _, a := range []*answer{empty, member.get("/settings/api").want(http.StatusOK), member.get(page).want(http.StatusOK), member.get("/settings/api?status=all&q=key").want(http.StatusOK)} {
		for _, action := range []string{"/settings/api/new", "/revoke", "Generate API Key"} {
			if strings.Contains(a.body, action) {
				t.Errorf("%s offers %s", a.asked, action)
			}
		}
	}
	for _, a := range []*answer{owner.get("/settings/api").want(http.StatusOK), owner.get(page).want(http.StatusOK)} {
		if !strings.Contains(a.body, page+"/revoke") {
			t.Errorf("%s does not offer to revoke", a.asked)
		}
	}
}

// What the list says of a key is never more than its prefix and last four characters.
func TestKeyPagesShowTheHintAlone(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	secret := b.createKey(newKeyForm(b, "A key")).revealed()
	text := secret.Reveal()
	id := s.query("SELECT id FROM api_keys")[0]
	for _, path := range []string{"/settings/api", "/settings/api/keys/" + id, "/settings/api/keys/" + id + "/revoke", "/settings/api/new?like=" + id} {
		a := b.get(path).want(http.StatusOK)
		if !strings.Contains(path, "like=") && !strings.Contains(a.text(), "cic_live_…"+secret.Hint()) {
			t.Errorf("%s lacks the hint", path)
		}
		for i := 9; i+6 <= len(text); i++ {
			if strings.Contains(a.body, text[i:i+6]) {
				t.Errorf("%s shows six characters of the key", path)
			}
		}
		if strings.Contains(a.body, fmt.Sprintf("%x", storetest.Hasher.Hash(secret))) {
			t.Errorf("%s shows the hash", path)
		}
	}
}
