package web

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keyring"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

var timestamp = regexp.MustCompile(`"timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"`)

// wantData compares the whole body with data in the envelope.
func (a *answer) wantData(data string) {
	a.t.Helper()
	a.want(http.StatusOK)
	m := timestamp.FindStringSubmatch(a.body)
	if m == nil {
		a.t.Fatalf("%s: no timestamp in %s", a.asked, a.body)
	}
	at, err := time.Parse(time.RFC3339, m[1])
	mustBeNil(a.t, err)
	if d := time.Since(at).Abs(); d > time.Minute {
		a.t.Errorf("%s: the timestamp is %v off", a.asked, d)
	}
	want := fmt.Sprintf(`{"data": %s, "meta": {"request_id": %q, "timestamp": %q}}`, data, a.header.Get("X-Request-Id"), m[1])
	if diff := cmp.Diff(decode(a.t, want), decode(a.t, a.body)); diff != "" {
		a.t.Errorf("%s: body (-want +got):\n%s", a.asked, diff)
	}
}

func TestAPIKeyOfItself(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		owner := storetest.MustOwner(t, s.st)
		seconds := func(i models.Instant) string { return i.Time().Format("2006-01-02T15:04:05Z") }
		secret, key := storetest.MustKey(t, s.st, owner, func(k *models.APIKey, e *models.Expiry) {
			k.Name, k.Mode, k.Permissions, e.Days = `Grafana </script>"ü"`, keytext.Test, models.CostsRead|models.WebhooksWrite, 30
		})
		data := `{"id": %q, "name": "Grafana </script>\"ü\"", "mode": "test", "permissions": ["costs:read", "webhooks:write"],
			"created_at": %q, "expires_at": %q, "last_used_at": %s, "account": {"id": %q, "name": %q}}`
		s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).wantData(fmt.Sprintf(data,
			key.ID, seconds(key.CreatedAt), seconds(key.ExpiresAt), "null", owner.AccountID, owner.AccountName))

		used := models.At(time.Date(2026, 1, 2, 3, 4, 5, 999_000_000, time.UTC))
		storetest.MustSaveUse(t, s.st, models.Uses{Newest: []models.LastUse{
			{KeyID: key.ID, UsedAt: used, Route: "GET /v1/key", Outcome: models.OutcomeAccepted},
			{KeyID: key.ID, Refused: true, UsedAt: used.Add(time.Hour), Route: "GET /v1/key", Outcome: models.OutcomeForbidden},
		}})
		s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).wantData(fmt.Sprintf(data,
			key.ID, seconds(key.CreatedAt), seconds(key.ExpiresAt), `"2026-01-02T03:04:05Z"`, owner.AccountID, owner.AccountName))

		forever, key := storetest.MustKey(t, s.st, owner)
		s.authorize("GET", "/v1/key", "Bearer "+forever.Reveal()).wantData(fmt.Sprintf(`{"id": %q, "name": %q, "mode": "live",
			"permissions": ["costs:read", "workflows:read", "alerts:read", "alerts:write", "webhooks:write"], "created_at": %q,
			"expires_at": null, "last_used_at": null, "account": {"id": %q, "name": %q}}`,
			key.ID, key.Name, seconds(key.CreatedAt), owner.AccountID, owner.AccountName))
	})
}

// The check of the key brings what GET /v1/key shows: no other statement is
// sent, and nothing is remembered.
func TestAPIKeyOfItselfAsksOnce(t *testing.T) {
	counted := &countingSource{}
	eachSite(t, func(t *testing.T, s *site) {
		counted.n.Store(0)
		secret, key := storetest.MustKey(t, s.st, storetest.MustOwner(t, s.st))
		for i, name := range []string{key.Name, "Renamed", "Renamed again"} {
			s.exec("UPDATE api_keys SET name = '%s' WHERE id = '%s'", name, key.ID)
			a := s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusOK)
			if !strings.Contains(a.body, `"name":"`+name+`"`) {
				t.Errorf("not the name %q: %s", name, a.body)
			}
			if n := counted.n.Load(); n != int64(i)+1 {
				t.Errorf("%d lookups for %d requests", n, i+1)
			}
		}
	}, func(c *Config) {
		counted.Source = c.Store.(keyring.Source)
		c.Keys = keyring.New(keyring.Config{
			Source: counted, Hashers: []*keytext.Hasher{storetest.Hasher}, Timeout: time.Minute, HedgeAfter: time.Minute,
		})
		c.Store = struct{ Store }{} // every other statement is a panic
	})
}

// A key that revokes itself is dead on every replica when the answer has come, and the history says who did it.
func TestAPIKeyRevokesItself(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		owner := storetest.MustOwner(t, s.st)
		secret, key := storetest.MustKey(t, s.st, owner)
		other := s.replica()
		other.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusOK)
		a := s.authorize("DELETE", "/v1/key", "Bearer "+secret.Reveal()).want(http.StatusNoContent)
		if a.body != "" {
			t.Errorf("body %q", a.body)
		}
		for _, s := range []*site{s, other} {
			s.authorize("GET", "/v1/key", "Bearer "+secret.Reveal()).wantError(401, challengeToken, invalidBody)
			s.authorize("DELETE", "/v1/key", "Bearer "+secret.Reveal()).wantError(401, challengeToken, invalidBody)
		}
		want := []string{"key.created|user|" + owner.UserID, "key.revoked|key|" + key.ID}
		if diff := cmp.Diff(want, s.actions(key.ID)); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
}

// Live keys see the account's data, test keys sample data, and neither another account's.
func TestAPIModesAndAccountsAreApart(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		totals := map[string]any{}
		for _, account := range []string{"rich", "poor"} {
			owner := storetest.MustUser(t, s.st, account, models.RoleOwner)
			if account == "rich" {
				saveCost(t, s.st, owner.AccountID)
			}
			for _, mode := range []keytext.Mode{keytext.Live, keytext.Test} {
				secret, _ := storetest.MustKey(t, s.st, owner, func(k *models.APIKey, _ *models.Expiry) { k.Mode = mode })
				a := s.authorize("GET", "/v1/costs", "Bearer "+secret.Reveal()).want(http.StatusOK)
				data := decode(t, a.body).(map[string]any)["data"].(map[string]any)
				totals[account+" "+string(mode)] = data["total_cost"]
			}
		}
		if totals["rich live"] != 12.5 || totals["poor live"] != 0.0 {
			t.Errorf("live totals: %v", totals)
		}
		for _, account := range []string{"rich test", "poor test"} {
			if n, _ := totals[account].(float64); n <= 0 || n == 12.5 {
				t.Errorf("%s: %v, want sample data", account, totals[account])
			}
		}
	})
}

func saveCost(t *testing.T, st *store.Store, accountID string) {
	t.Helper()
	saveCostOf(t, st, accountID, models.DayOf(time.Now()))
}

// saveCostOf imports a report of one day that cost 12.50.
func saveCostOf(t *testing.T, st *store.Store, accountID string, day models.Day) {
	t.Helper()
	_, err := st.ReplaceReport(t.Context(), models.Operator, accountID, "report.csv", func(yield func(models.ReportRow, error) bool) {
		yield(models.ReportRow{Day: day, Organization: "o", Repository: "r", Workflow: "w", Runner: "linux", Minutes: models.One, Cost: 125_000}, nil)
	})
	mustBeNil(t, err)
}

// A path that the API does not have is 404 whatever the key, and no look is taken at it.
func TestAPIUnknownPaths(t *testing.T) {
	s := sqliteSite(t)
	secret, _ := storetest.MustKey(t, s.st, storetest.MustOwner(t, s.st))
	const body = `{"code": "not_found", "message": "There is nothing at this address."}`
	paths := []string{"/v1", "/v1/", "/v1/nothing", "/v1/keys", "/v1/key/", "/v1/key/x", "/v1//key", "/v1/KEY", "/v1/key%2f", "/v1/../v1/x", "/v1/%6Bey", "/v1%2Fkey", "/v1/.env"}
	for _, path := range paths {
		for _, header := range [][]string{nil, {"Bearer " + secret.Reveal()}, {"Bearer nonsense"}, {"a", "b"}} {
			for _, method := range []string{"GET", "POST", "DELETE"} {
				s.authorize(method, path, header...).wantError(404, "", body)
			}
		}
	}
}

func TestAPIWrongMethods(t *testing.T) {
	s := sqliteSite(t)
	secret, _ := storetest.MustKey(t, s.st, storetest.MustOwner(t, s.st))
	const body = `{"code": "method_not_allowed", "message": "This address does not answer this method."}`
	for _, r := range allEndpoints() {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "TRACE", "get", "BREW"} {
			if r.path == "/v1/key" && method == "DELETE" {
				continue
			}
			for _, header := range [][]string{nil, {"Bearer " + secret.Reveal()}} {
				a := s.authorize(method, r.path, header...)
				a.wantError(405, "", body)
				if allow := a.header.Get("Allow"); !strings.Contains(allow, "GET") || !strings.Contains(allow, "HEAD") || strings.Contains(allow, method) {
					t.Errorf("%s %s: Allow %q", method, r.path, allow)
				}
			}
		}
	}
}

func TestAPIBadParameter(t *testing.T) {
	s := sqliteSite(t)
	secret, _ := storetest.MustKey(t, s.st, storetest.MustOwner(t, s.st))
	s.authorize("GET", "/v1/costs?start_date=2026-13-01", "Bearer "+secret.Reveal()).wantError(400, "",
		`{"code": "invalid_parameter", "message": "start_date must be a date as YYYY-MM-DD", "details": {"field": "start_date"}}`)
	s.authorize("GET", "/v1/costs?start_date=%zz", "Bearer "+secret.Reveal()).wantError(400, "",
		`{"code": "invalid_request", "message": "The query string is malformed"}`)
}
