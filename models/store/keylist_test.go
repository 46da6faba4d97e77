package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/keytext"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

func names(page models.KeyPage) string {
	var list []string
	for i := range page.Keys {
		list = append(list, page.Keys[i].Name)
	}
	return strings.Join(list, " ")
}

func TestFilters(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		owner := storetest.MustOwner(t, st)
		make := func(name string, change func(*models.APIKey)) models.APIKey {
			_, key := storetest.MustKey(t, st, owner, func(k *models.APIKey, _ *models.Expiry) {
				k.Name = name
				if change != nil {
					change(k)
				}
			})
			return key
		}
		plain := make("plain", nil)
		make("Ünïcode_100%", func(k *models.APIKey) { k.Mode = keytext.Test })
		make("reads", func(k *models.APIKey) { k.Permissions = models.CostsRead })
		expired := make("expired", nil)
		revoked := make("revoked", nil)
		both := make("both", nil)
		storetest.Exec(t, url, fmt.Sprintf("UPDATE api_keys SET expires_at = 1 WHERE id IN ('%s', '%s')", expired.ID, both.ID))
		for _, k := range []models.APIKey{revoked, both} {
			if _, err := st.RevokeKey(t.Context(), models.Operator, k.AccountID, k.ID); err != nil {
				t.Fatal(err)
			}
		}
		for _, tt := range []struct {
			name   string
			filter models.KeyFilter
			want   string
		}{
			{"none", models.KeyFilter{}, "both revoked expired reads Ünïcode_100% plain"},
			{"active", models.KeyFilter{Status: models.StatusActive}, "reads Ünïcode_100% plain"},
			{"expired", models.KeyFilter{Status: models.StatusExpired}, "expired"},
			{"revoked wins over expired", models.KeyFilter{Status: models.StatusRevoked}, "both revoked"},
			{"test", models.KeyFilter{Mode: keytext.Test}, "Ünïcode_100%"},
			{"permission", models.KeyFilter{Permission: models.AlertsWrite}, "both revoked expired Ünïcode_100% plain"},
			{"part of a name", models.KeyFilter{Query: "ea"}, "reads"},
			{"case folded", models.KeyFilter{Query: " ÜNÏCODE "}, "Ünïcode_100%"},
			{"percent is literal", models.KeyFilter{Query: "%"}, "Ünïcode_100%"},
			{"underscore is literal", models.KeyFilter{Query: "_"}, "Ünïcode_100%"},
			{"backslash is literal", models.KeyFilter{Query: `\`}, ""},
			{"quote", models.KeyFilter{Query: `' OR 1=1 --`}, ""},
			{"last four", models.KeyFilter{Query: plain.Hint}, "plain"},
			{"last three", models.KeyFilter{Query: plain.Hint[1:] + "~"}, ""},
			{"several", models.KeyFilter{Query: "p", Status: models.StatusActive, Mode: keytext.Live}, "plain"},
			{"broken cursor", models.KeyFilter{After: "1' OR 1=1", Query: "plain"}, "plain"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				page, err := st.Keys(t.Context(), owner.AccountID, tt.filter)
				if err != nil || names(page) != tt.want {
					t.Errorf("%q, %v; want %q", names(page), err, tt.want)
				}
			})
		}
	})
}

// A key is found by what its name looks like. One that an earlier version stored
// with invisible characters is found by its name as it was typed.
func TestSearchInvisible(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		owner := storetest.MustOwner(t, st)
		add := func(name string) models.APIKey {
			_, key := storetest.MustKey(t, st, owner, func(k *models.APIKey, _ *models.Expiry) { k.Name = name })
			return key
		}
		add("Gra\u200bfana")
		for name, folded := range map[string]string{"Old\u00adhyphen": "old\u00adhyphen", "Old  gap": "old  gap"} {
			id := add(name).ID
			storetest.Exec(t, url, fmt.Sprintf("UPDATE api_keys SET name_folded = '%s' WHERE id = '%s'", folded, id))
			storetest.Exec(t, url, fmt.Sprintf("DELETE FROM key_grams WHERE key_id = '%s'", id))
			for _, gram := range models.Grams(folded) {
				storetest.Exec(t, url, fmt.Sprintf("INSERT INTO key_grams VALUES ('%s', '%s', '%s')", owner.AccountID, gram, id))
			}
		}
		for query, want := range map[string]string{
			"grafana": "Gra\u200bfana", "Gra\u200bfana": "Gra\u200bfana", "\ufeffg\u00adr\u3164": "Gra\u200bfana", "fana\u2800": "Gra\u200bfana",
			"hyphen": "Old\u00adhyphen", "old\u00adhyphen": "Old\u00adhyphen", "OLD  GAP": "Old  gap", "p": "Old  gap|Old\u00adhyphen", "x\u200by": "",
			"\u200b": "Gra\u200bfana|Old  gap|Old\u00adhyphen", " \u2800\u3164": "Gra\u200bfana|Old  gap|Old\u00adhyphen",
		} {
			page, err := st.Keys(t.Context(), owner.AccountID, models.KeyFilter{Query: query})
			var got []string
			for i := range page.Keys {
				got = append(got, page.Keys[i].Name)
			}
			slices.Sort(got)
			if err != nil || strings.Join(got, "|") != want {
				t.Errorf("%q finds %q, %v; want %q", query, got, err, want)
			}
		}
		for name, want := range map[string]bool{
			"grafana": true, "\u2060GRAFANA": true, "Grafana\ufe0f": true, "gra fana": false,
			"old\u00adhyphen": true, "Old  Gap": true, "oldhyphen": false, // stored as they were
		} {
			if got, err := st.NameInUse(t.Context(), owner.AccountID, name); err != nil || got != want {
				t.Errorf("%q in use: %v, %v", name, got, err)
			}
		}
	})
}

// Paging neither skips nor repeats a key, even when keys were made in the same instant and others come meanwhile.
func TestPages(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		owner := storetest.MustOwner(t, st)
		for range 2*models.KeyPageSize + 7 {
			storetest.MustKey(t, st, owner)
		}
		storetest.Exec(t, url, "UPDATE api_keys SET created_at = created_at / 1000000 * 1000000")
		seen := map[string]int{}
		filter, pages := models.KeyFilter{Status: models.StatusActive}, 0
		for {
			page, err := st.Keys(t.Context(), owner.AccountID, filter)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for i := range page.Keys {
				seen[page.Keys[i].ID]++
			}
			if page.Next == "" {
				break
			}
			filter.After = page.Next
			storetest.MustKey(t, st, owner) // belongs on a page that is past
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s seen %d times", id, n)
			}
		}
		if pages != 3 || len(seen) != 2*models.KeyPageSize+7 {
			t.Errorf("%d keys on %d pages", len(seen), pages)
		}
	})
}

func TestStats(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		owner := storetest.MustOwner(t, st)
		if got, err := st.KeyStats(t.Context(), owner.AccountID); err != nil || got != (models.KeyStats{}) {
			t.Errorf("without keys: %+v, %v", got, err)
		}
		storetest.MustKey(t, st, owner)
		storetest.MustKey(t, st, owner, func(k *models.APIKey, e *models.Expiry) { k.Mode, e.Days = keytext.Test, 10 })
		storetest.MustKey(t, st, owner, func(_ *models.APIKey, e *models.Expiry) { e.Days = 30 })
		_, old := storetest.MustKey(t, st, owner)
		_, gone := storetest.MustKey(t, st, owner)
		past := models.At(time.Now().Add(-models.RotationAge - time.Hour))
		storetest.Exec(t, url, fmt.Sprintf("UPDATE api_keys SET created_at = %d WHERE id IN ('%s', '%s')", past, old.ID, gone.ID))
		if _, err := st.RevokeKey(t.Context(), models.Operator, gone.AccountID, gone.ID); err != nil {
			t.Fatal(err)
		}
		got, err := st.KeyStats(t.Context(), owner.AccountID)
		if want := (models.KeyStats{Total: 1, Live: 3, Test: 1, Expiring: 1, Old: 1}); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}

		// The keys that have ended count once no other is left.
		storetest.Exec(t, url, "UPDATE api_keys SET expires_at = 1 WHERE mode = 'test'")
		storetest.Exec(t, url, "UPDATE api_keys SET revoked_at = 1 WHERE mode = 'live'")
		got, err = st.KeyStats(t.Context(), owner.AccountID)
		if want := (models.KeyStats{Total: 1, Revoked: 4, Expired: 1}); err != nil || got != want {
			t.Errorf("without active keys: %+v, %v; want %+v", got, err, want)
		}
	})
}

func TestUse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner := storetest.MustOwner(t, st)
		_, key := storetest.MustKey(t, st, owner)
		_, other := storetest.MustKey(t, st, owner)
		at := func(id string, second int, refused bool, outcome models.Outcome) models.LastUse {
			return models.LastUse{
				KeyID: id, Refused: refused, UsedAt: models.Instant(second * 1_000_000), IP: fmt.Sprint(second),
				UserAgent: "curl", Route: "GET /v1/key", Outcome: outcome,
			}
		}
		count := func(day models.Day, outcome models.Outcome, n int64) models.DailyUse {
			return models.DailyUse{KeyID: key.ID, Day: day, Route: "GET /v1/key", Outcome: outcome, Requests: n}
		}
		save := func(newest []models.LastUse, counts ...models.DailyUse) {
			t.Helper()
			storetest.MustSaveUse(t, st, models.Uses{Newest: newest, Counts: counts})
		}
		save([]models.LastUse{at(key.ID, 200, false, models.OutcomeAccepted)}, count(1, models.OutcomeAccepted, 3))
		save([]models.LastUse{at(key.ID, 100, false, models.OutcomeAccepted)}, count(1, models.OutcomeAccepted, 4), count(1, models.OutcomeRevoked, 1)) // another replica, late
		save([]models.LastUse{at(key.ID, 300, true, models.OutcomeRevoked)}, count(2, models.OutcomeAccepted, 5))

		got, err := st.Key(t.Context(), owner.AccountID, key.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(at(key.ID, 200, false, models.OutcomeAccepted), got.LastUse); diff != "" {
			t.Errorf("last use moved: %s", diff)
		}
		if diff := cmp.Diff(at(key.ID, 300, true, models.OutcomeRevoked), got.LastRefusal); diff != "" {
			t.Errorf("last refusal: %s", diff)
		}
		uses, err := st.UseByDay(t.Context(), owner.AccountID, []string{key.ID, other.ID}, 1)
		want := []models.DailyUse{count(1, models.OutcomeAccepted, 7), count(1, models.OutcomeRevoked, 1), count(2, models.OutcomeAccepted, 5)}
		if diff := cmp.Diff(want, uses); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		if uses, err := st.UseByDay(t.Context(), owner.AccountID, []string{key.ID}, 2); err != nil || len(uses) != 1 {
			t.Errorf("from the second day on: %v, %v", uses, err)
		}
		if page, err := st.Keys(t.Context(), owner.AccountID, models.KeyFilter{}); err != nil || len(page.Keys) != 2 || !page.Keys[0].LastUse.UsedAt.IsZero() {
			t.Errorf("the list: %+v, %v", page, err)
		}
	})
}
