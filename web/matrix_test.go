package web

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store/storetest"
)

// pageMatrix has the status of every page for every kind of visitor: nobody, then members of the account by role, a user
// of it who has been disabled, and the owner of another account. 303 sends to sign in, or on after what was asked for.
var pageMatrix = map[string]map[string]int{
	"GET /setup":                         everyone(403), // without a token
	"POST /setup":                        everyone(403),
	"GET /login":                         {"nobody": 200, "disabled": 200, "viewer": 303, "member": 303, "admin": 303, "owner": 303, "stranger": 303},
	"POST /login":                        everyone(422), // without a password
	"POST /logout":                       everyone(303),
	"GET /":                              everyone(303),
	"GET /settings/api":                  {"nobody": 303, "disabled": 303, "viewer": 403, "member": 200, "admin": 200, "owner": 200, "stranger": 200},
	"GET /settings/api/new":              {"nobody": 303, "disabled": 303, "viewer": 403, "member": 403, "admin": 200, "owner": 200, "stranger": 200},
	"POST /settings/api/keys":            {"nobody": 303, "disabled": 303, "viewer": 403, "member": 403, "admin": 422, "owner": 422, "stranger": 422},
	"GET /settings/api/keys/:id":         {"nobody": 303, "disabled": 303, "viewer": 403, "member": 200, "admin": 200, "owner": 200, "stranger": 404},
	"GET /settings/api/keys/:id/revoke":  {"nobody": 303, "disabled": 303, "viewer": 403, "member": 403, "admin": 200, "owner": 200, "stranger": 404},
	"POST /settings/api/keys/:id/revoke": {"nobody": 303, "disabled": 303, "viewer": 403, "member": 403, "admin": 303, "owner": 303, "stranger": 404},

	// The id is a key's, so nobody finds a failover.
	"POST /settings/api/failovers/:id/looked-at": {"nobody": 303, "disabled": 303, "viewer": 403, "member": 403, "admin": 404, "owner": 404, "stranger": 404},
}

var visitors = []string{"nobody", "disabled", "viewer", "member", "admin", "owner", "stranger"}

func everyone(status int) map[string]int {
	row := map[string]int{}
	for _, who := range visitors {
		row[who] = status
	}
	return row
}

func TestPageMatrix(t *testing.T) {
	var names []string
	for _, r := range allPages() {
		names = append(names, r.method+" "+r.path)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(pageMatrix)), slices.Sorted(slices.Values(names))); diff != "" {
		t.Fatalf("the matrix has other rows than the route table (-matrix +table):\n%s", diff)
	}
	eachSite(t, func(t *testing.T, s *site) {
		browsers, owner := matrixBrowsers(s)
		for _, r := range allPages() {
			for _, who := range visitors {
				_, key := storetest.MustKey(t, s.st, owner)
				b := browsers[who].on(s) // a copy, since signing out takes the cookie away
				before := s.query("SELECT id FROM api_keys WHERE revoked_at > 0 AND id = '%s'", key.ID)
				path := strings.ReplaceAll(r.path, ":id", key.ID)
				var a *answer
				if r.method == http.MethodGet {
					a = b.get(path)
				} else {
					a = b.post(path, nil)
				}
				want := pageMatrix[r.method+" "+r.path][who]
				if a.status != want {
					t.Errorf("%s %s for %s: %d, want %d", r.method, r.path, who, a.status, want)
				}
				toLogin := strings.HasPrefix(a.header.Get("Location"), "/login?next=")
				if out := who == "nobody" || who == "disabled"; r.access != public && out != toLogin {
					t.Errorf("%s %s for %s sends to %q", r.method, r.path, who, a.header.Get("Location"))
				}
				revoked := s.query("SELECT id FROM api_keys WHERE revoked_at > 0 AND id = '%s'", key.ID)
				mayRevoke := strings.HasPrefix(r.path, "/settings/api/keys/:id/revoke") && r.method == http.MethodPost && (who == "admin" || who == "owner")
				if len(before) != 0 || (len(revoked) == 1) != mayRevoke {
					t.Errorf("%s %s for %s: revoked %v", r.method, r.path, who, revoked)
				}
				if r.path == "/logout" { // ended on the server too
					browsers, owner = matrixBrowsers(s)
				}
			}
		}
	})
}

var matrices int

// matrixBrowsers signs one visitor of each kind in. The owner is whose account the keys belong to.
func matrixBrowsers(s *site) (map[string]*browser, models.Visitor) {
	s.t.Helper()
	matrices++
	account := fmt.Sprintf("Matrix %d", matrices)
	browsers := map[string]*browser{"nobody": s.browser()}
	var owner models.Visitor
	for _, role := range []models.Role{models.RoleOwner, models.RoleAdmin, models.RoleMember, models.RoleViewer} {
		b, v := s.signedIn(account, role)
		browsers[string(role)] = b
		if role == models.RoleOwner {
			owner = v
		}
	}
	browsers["stranger"], _ = s.owner()
	disabled, v := s.signedIn(account, models.RoleOwner)
	s.exec("UPDATE users SET disabled_at = 1 WHERE id = '%s'", v.UserID)
	browsers["disabled"] = disabled
	return browsers, owner
}

// apiMatrix has the status of every endpoint for every kind of key: none, one of well-formed text that nobody has, one
// without the permission, one with nothing else, one with all, and one that has ended.
var apiMatrix = map[string]map[string]int{
	"GET /v1/key":    {"none": 401, "unknown": 401, "without": 200, "with": 200, "all": 200, "test": 200, "revoked": 401, "expired": 401},
	"DELETE /v1/key": {"none": 401, "unknown": 401, "without": 204, "with": 204, "all": 204, "test": 204, "revoked": 401, "expired": 401},
	"GET /v1/costs":  {"none": 401, "unknown": 401, "without": 403, "with": 200, "all": 200, "test": 200, "revoked": 401, "expired": 401},
}

func TestAPIMatrix(t *testing.T) {
	var names []string
	for _, r := range allEndpoints() {
		names = append(names, r.method+" "+r.path)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(apiMatrix)), slices.Sorted(slices.Values(names))); diff != "" {
		t.Fatalf("the matrix has other rows than the route table (-matrix +table):\n%s", diff)
	}
	eachSite(t, func(t *testing.T, s *site) {
		owner := storetest.MustOwner(t, s.st)
		for _, r := range allEndpoints() {
			for who, want := range apiMatrix[r.method+" "+r.path] {
				var bearer []string
				if text := matrixKey(s, owner, who, r.access.permission); text != "" {
					bearer = []string{"Authorization", "Bearer " + text}
				}
				if a := s.browser().send(r.method, r.path, "", bearer...); a.status != want {
					t.Errorf("%s %s with key %q: %d, want %d\n%s", r.method, r.path, who, a.status, want, a.body)
				}
			}
		}
	})
}

// matrixKey returns the text of a new key of the kind.
func matrixKey(s *site, owner models.Visitor, kind string, permission models.Permissions) string {
	s.t.Helper()
	secret, key := storetest.MustKey(s.t, s.st, owner, func(k *models.APIKey, e *models.Expiry) {
		switch kind {
		case "without":
			if k.Permissions &^= permission; permission == 0 {
				k.Permissions = models.WebhooksWrite
			}
		case "with":
			if k.Permissions = permission; permission == 0 {
				k.Permissions = models.CostsRead
			}
		case "test":
			k.Mode = keytext.Test
		case "expired":
			e.On = time.Date(2020, 2, 29, 0, 0, 0, 0, time.UTC)
		}
	})
	switch kind {
	case "none":
		return ""
	case "unknown":
		return keytext.Mint(keytext.Live).Reveal()
	case "revoked":
		_, err := s.st.RevokeKey(s.t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
		s.must(err)
	}
	return secret.Reveal()
}

// Another account's key answers byte for byte as one that does not exist, so that ids tell nothing.
func TestForeignIDIsAMissingOne(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, _ := s.owner()
		_, foreign := storetest.MustKey(t, s.st, storetest.MustOwner(t, s.st))
		missing := models.NewID(models.KeyIDPrefix)
		paths := []string{"/settings/api/new?like=:id"}
		for _, r := range allPages() {
			if strings.Contains(r.path, ":id") {
				paths = append(paths, r.path)
			}
		}
		for _, path := range paths {
			for _, htmx := range []string{"", "true"} {
				ask := func(id string) (answers []*answer) {
					at := strings.ReplaceAll(path, ":id", id)
					return []*answer{b.get(at, "HX-Request", htmx), b.post(at, url.Values{}, "HX-Request", htmx)}
				}
				theirs, nobodys := ask(foreign.ID), ask(missing)
				for i := range theirs {
					if diff := cmp.Diff(nobodys[i].anonymous(), theirs[i].anonymous()); diff != "" {
						t.Errorf("%s (-missing +foreign):\n%s", theirs[i].asked, diff)
					}
					if diff := cmp.Diff(statusAndHeaders(nobodys[i]), statusAndHeaders(theirs[i])); diff != "" {
						t.Errorf("%s (-missing +foreign):\n%s", theirs[i].asked, diff)
					}
				}
				found := theirs[0]
				if found.status == http.StatusMethodNotAllowed {
					found = theirs[1]
				}
				found.want(http.StatusNotFound)
			}
		}
	})
}

// An address without a page looks like that of a missing key.
func TestNothingHasOneFace(t *testing.T) {
	s := sqliteSite(t)
	owner, v := s.owner()
	member, _ := s.signedIn(v.AccountName, models.RoleMember)
	for who, b := range map[string]*browser{"owner": owner, "member": member} {
		want := b.get("/settings/api/keys/" + models.NewID(models.KeyIDPrefix)).want(http.StatusNotFound)
		for _, path := range []string{"/nowhere", "/settings/nowhere", "/settings/api/keys/x/y"} {
			if diff := cmp.Diff(want.anonymous(), b.get(path).want(http.StatusNotFound).anonymous()); diff != "" {
				t.Errorf("%s: %s (-missing key +nothing):\n%s", who, path, diff)
			}
		}
	}
	a := s.browser().get("/nowhere").want(http.StatusNotFound)
	if !strings.Contains(a.text(), "There is nothing at this address.") {
		t.Errorf("a stranger reads %q", a.text())
	}
}

// A page that a role does not include says whom to ask, of the own account.
func TestNotAllowedSaysWhomToAsk(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		viewer, _ := s.signedIn("Acme", models.RoleViewer)
		member, _ := s.signedIn("Acme", models.RoleMember)
		s.owner() // of another account
		says := func(a *answer, want string) {
			t.Helper()
			if text := a.want(http.StatusForbidden).text(); !strings.Contains(text, want) {
				t.Errorf("%s says %q, want %q", a.asked, text, want)
			}
		}
		const viewers = "Your role in Acme is viewer, which does not include API keys."
		says(viewer.get("/settings/api"), viewers+" Ask an owner or admin of Acme.")
		owner := s.addUser("Acme", models.RoleOwner)
		says(viewer.get("/settings/api"), viewers+" Ask "+owner.Email+", who manages them.")
		admin := s.addUser("Acme", models.RoleAdmin)
		both := " Ask " + owner.Email + " or " + admin.Email + ", who manage them."
		says(viewer.get("/settings/api"), viewers+both)
		const members = "Your role in Acme is member, which can see API keys but not change them."
		says(member.get("/settings/api/new"), members+both)
		says(member.get("/settings/api/new", "HX-Request", "true"), members+both)
		says(member.post("/settings/api/keys", nil), members+both)
	})
}

// statusAndHeaders are an answer's status and headers, without what every answer has anew.
func statusAndHeaders(a *answer) map[string][]string {
	h := a.header.Clone()
	h.Del("X-Request-Id")
	h.Del("Date")
	h.Set("status", fmt.Sprint(a.status))
	return h
}
