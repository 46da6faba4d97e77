package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

func source(keyID, agent string, second, requests int) models.RefusalSource {
	at := models.Instant(second * 1_000_000)
	return models.RefusalSource{
		KeyID: keyID, IP: "2001:db8::1", UserAgent: agent, Route: "GET /v1/costs", Outcome: models.OutcomeRevoked,
		FirstAt: at, LastAt: at, Requests: int64(requests),
	}
}

// The newest sources of each key are kept, whatever order replicas save them in.
func TestRefusalSources(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner, stranger := storetest.MustOwner(t, st), storetest.MustOwner(t, st)
		_, key := storetest.MustKey(t, st, owner)
		_, other := storetest.MustKey(t, st, owner)
		save := func(list ...models.RefusalSource) {
			t.Helper()
			storetest.MustSaveUse(t, st, models.Uses{Refusals: list})
		}
		sources := func(accountID, keyID string) []models.RefusalSource {
			t.Helper()
			list, err := st.RefusalSources(t.Context(), accountID, keyID)
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		save(source(key.ID, "a", 10, 3), source(key.ID, "b", 20, 1))
		save(source(key.ID, "a", 5, 2)) // another replica, late
		a := source(key.ID, "a", 5, 5)
		a.LastAt = source("", "", 10, 0).LastAt
		if diff := cmp.Diff([]models.RefusalSource{source(key.ID, "b", 20, 1), a}, sources(owner.AccountID, key.ID)); diff != "" {
			t.Errorf("sources (-want +got):\n%s", diff)
		}

		save(source(other.ID, "kept", 1, 1))
		var many []models.RefusalSource
		for i := range 30 {
			many = append(many, source(key.ID, fmt.Sprintf("client %02d", i), 100+i, 1))
		}
		save(many...)
		got := sources(owner.AccountID, key.ID)
		slices.Reverse(many)
		if diff := cmp.Diff(many[:models.MaxRefusalSources], got); diff != "" {
			t.Errorf("of many (-want +got):\n%s", diff)
		}
		if len(sources(owner.AccountID, other.ID)) != 1 {
			t.Error("another key's source is gone")
		}
		if n := len(sources(stranger.AccountID, key.ID)); n != 0 {
			t.Errorf("another account sees %d sources", n)
		}
	})
}

// All that was refused since a key ended is counted, over days and routes, and nothing else.
func TestRefusedSince(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		owner := storetest.MustOwner(t, st)
		_, active := storetest.MustKey(t, st, owner)
		_, expired := storetest.MustKey(t, st, owner)
		_, revoked := storetest.MustKey(t, st, owner)
		_, both := storetest.MustKey(t, st, owner)
		today := models.At(time.Now()).Day()
		at := func(day models.Day) models.Instant { return models.At(day.Time().Add(time.Hour)) }
		for _, sql := range []string{
			fmt.Sprintf("UPDATE api_keys SET expires_at = %d WHERE id IN ('%s', '%s')", at(today-300), expired.ID, both.ID),
			fmt.Sprintf("UPDATE api_keys SET revoked_at = %d WHERE id IN ('%s', '%s')", at(today-100), revoked.ID, both.ID),
		} {
			storetest.Exec(t, url, sql)
		}
		var counts []models.DailyUse
		add := func(key models.APIKey, outcome models.Outcome, from, to models.Day) {
			for day := from; day <= to; day++ {
				for _, route := range []string{"GET /v1/costs", "GET /v1/key"} {
					counts = append(counts, models.DailyUse{KeyID: key.ID, Day: day, Route: route, Outcome: outcome, Requests: 3})
				}
			}
		}
		for _, key := range []models.APIKey{active, expired, revoked, both} {
			add(key, models.OutcomeAccepted, today-400, today-300)
			add(key, models.OutcomeForbidden, today-400, today-300)
		}
		add(expired, models.OutcomeExpired, today-300, today)
		add(revoked, models.OutcomeRevoked, today-101, today) // the first by a clock that is behind
		add(both, models.OutcomeExpired, today-300, today-101)
		add(both, models.OutcomeRevoked, today-100, today)
		storetest.MustSaveUse(t, st, models.Uses{Counts: counts})
		want := map[string]models.Refused{
			active.ID: {}, expired.ID: {Expired: 301 * 6}, revoked.ID: {Revoked: 102 * 6}, both.ID: {Expired: 200 * 6, Revoked: 101 * 6},
		}
		page, err := st.Keys(t.Context(), owner.AccountID, models.KeyFilter{})
		if err != nil {
			t.Fatal(err)
		}
		got, each := map[string]models.Refused{}, map[string]models.Refused{}
		for i := range page.Keys {
			got[page.Keys[i].ID] = page.Keys[i].Refused
			k, err := st.Key(t.Context(), owner.AccountID, page.Keys[i].ID)
			if err != nil {
				t.Fatal(err)
			}
			each[k.ID] = k.Refused
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in the list (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, each); diff != "" {
			t.Errorf("each (-want +got):\n%s", diff)
		}
	})
}

// Replicas save uses of the same keys at once, with sources that push each other out: none fails, nothing is lost, and
// the newest use stays.
func TestReplicasSaveUseAtOnce(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		const replicas, flushes, keys = 3, 12, 5
		stores := make([]*store.Store, replicas)
		for i := range stores {
			if i > 0 && strings.HasPrefix(url, "sqlite:") {
				stores[i] = stores[0] // SQLite has one replica
				continue
			}
			stores[i] = storetest.Open(t, url)
		}
		owner := storetest.MustOwner(t, stores[0])
		var ids []string
		for range keys {
			_, key := storetest.MustKey(t, stores[0], owner)
			ids = append(ids, key.ID)
		}
		slices.Sort(ids)
		var wg sync.WaitGroup
		for replica, st := range stores {
			wg.Go(func() {
				for flush := range flushes {
					uses := models.Uses{ID: fmt.Sprint(replica, flush)}
					for _, id := range ids {
						second := 100 + flush*10 + replica
						at := models.Instant(second * 1_000_000)
						for _, refused := range []bool{false, true} {
							uses.Newest = append(uses.Newest, models.LastUse{KeyID: id, Refused: refused, UsedAt: at, Outcome: models.OutcomeRevoked})
						}
						uses.Counts = append(uses.Counts, models.DailyUse{KeyID: id, Outcome: models.OutcomeRevoked, Requests: 20})
						for i := range models.MaxRefusalSources { // some that all replicas see, and some that only one does
							agent := fmt.Sprintf("client %02d of %d", i, replica*(i%2))
							if i%3 == 0 {
								agent += fmt.Sprint(" in flush ", flush)
							}
							uses.Refusals = append(uses.Refusals, source(id, agent, second, 1))
						}
					}
					slices.SortFunc(uses.Refusals, func(a, b models.RefusalSource) int {
						return strings.Compare(a.KeyID+a.UserAgent, b.KeyID+b.UserAgent)
					})
					if _, err := st.SaveUse(t.Context(), uses); err != nil {
						t.Errorf("replica %d, flush %d: %v", replica, flush, err)
					}
				}
			})
		}
		wg.Wait()
		newest := models.Instant((100 + (flushes-1)*10 + replicas - 1) * 1_000_000)
		for _, id := range ids {
			k, err := stores[0].Key(t.Context(), owner.AccountID, id)
			if err != nil || k.LastUse.UsedAt != newest || k.LastRefusal.UsedAt != newest {
				t.Errorf("last used %v, last refused %v, %v; want %v", k.LastUse.UsedAt, k.LastRefusal.UsedAt, err, newest)
			}
			sources, err := stores[0].RefusalSources(t.Context(), owner.AccountID, id)
			if err != nil || len(sources) != models.MaxRefusalSources || sources[0].LastAt != newest {
				t.Errorf("%d sources, %v", len(sources), err)
			}
		}
		uses, err := stores[0].UseByDay(t.Context(), owner.AccountID, ids, 0)
		if err != nil || len(uses) != keys {
			t.Fatalf("%d counts, %v", len(uses), err)
		}
		for _, u := range uses {
			if u.Requests != replicas*flushes*20 {
				t.Errorf("%d requests of %s", u.Requests, u.KeyID)
			}
		}
	})
}

// Revoking waits for no flush: they lock other rows.
func TestFlushDoesNotHoldUpARevocation(t *testing.T) {
	url := storetest.Postgres(t)
	st := storetest.Open(t, url)
	owner := storetest.MustOwner(t, st)
	_, key := storetest.MustKey(t, st, owner)
	flush, err := storetest.DB(t, url).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer flush.Rollback()
	if _, err := flush.ExecContext(t.Context(), fmt.Sprintf("INSERT INTO refusal_sources VALUES ('%s', '', '', '', 'revoked', 1, 1, 1)", key.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID); err != nil {
		t.Error(errors.Unwrap(err))
	}
}

// While the synchronous standby is away, use is saved all the same, and once: a COMMIT that gives up waiting for it has
// counted already, and would count again at each further try.
func TestUseIsSavedOnceWithoutTheStandby(t *testing.T) {
	url := storetest.NewCluster(t, "synchronous_standby_names=missing", "synchronous_commit=local").Postgres(t)
	st := storetest.Open(t, url)
	_, key := storetest.MustKey(t, st, storetest.MustOwner(t, st))
	use := models.Uses{ID: "a", Counts: []models.DailyUse{{KeyID: key.ID, Day: 1, Route: "GET /v1/key", Outcome: models.OutcomeRevoked, Requests: 10}}}
	storetest.Exec(t, url, "ALTER ROLE postgres SET synchronous_commit = 'on'") // for connections from now on
	st = storetest.Open(t, url)
	if _, err := st.SaveUse(t.Context(), use); err != nil {
		t.Errorf("saving: %v", err)
	}
	var n int
	if err := storetest.DB(t, url).QueryRow("SELECT sum(requests) FROM daily_uses").Scan(&n); err != nil || n != 10 {
		t.Errorf("10 requests are counted as %d, %v", n, err)
	}
}
