package web

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/revocation"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// While a synchronous standby is missing, revocations that are asked for at
// once do not take the connections that pages need. Each is stored, and becomes
// certain when the standby is back.
func TestManyRevocationsWithoutTheStandby(t *testing.T) {
	const keys, pagesPool = 30, 12
	cluster := storetest.NewCluster(t)
	s := newSite(t, cluster.Postgres(t), func(c *Config) {
		r := revocation.New(revocation.Config{Store: c.Store.(*store.Store), Patience: time.Second, Log: c.Log})
		t.Cleanup(func() { r.Close(context.Background()) })
		c.Revoker = r
	})
	b, owner := s.owner()
	var ids []string
	for range keys {
		_, key := storetest.MustKey(t, s.st, owner)
		ids = append(ids, key.ID)
	}
	cluster.SetStandbys(t, "missing")
	cluster.CommitsWait(t)
	var asking sync.WaitGroup
	for _, id := range ids {
		asking.Go(func() {
			to := *b
			for deadline := time.Now().Add(time.Minute); ; { // a busy machine may not store it in time
				a, err := to.trySend("POST", "/settings/api/keys/"+id+"/revoke", "", "Sec-Fetch-Site", "same-origin")
				if err == nil && a.status == http.StatusServiceUnavailable && strings.Contains(a.text(), notConfirmedYet) {
					return
				}
				if time.Now().After(deadline) {
					t.Errorf("revoking %s: %+v, %v", id, a, err)
					return
				}
			}
		})
	}
	answered := make(chan struct{})
	go func() { asking.Wait(); close(answered) }()
	count := func(query string) int {
		t.Helper()
		n, err := strconv.Atoi(s.query("%s", query)[0])
		s.must(err)
		return n
	}
	most := 0 // of connections that wait for the standby
	look := func() int {
		most = max(most, count("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
		return most
	}
	for asked := true; asked; look() {
		select {
		case <-answered:
			asked = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
			mustf(t, time.Now().Before(deadline), "not within a minute: %s", what)
		}
	}
	if n := count("SELECT count(*) FROM revocation_requests"); n != keys {
		t.Errorf("%d requests are stored, want %d", n, keys)
	}
	until("connections wait for the standby", func() bool { return look() > 0 })
	if most > pagesPool/2 {
		t.Errorf("%d connections waited for the standby at once, want at most half of %d", most, pagesPool)
	}
	until("the list is shown", func() bool { return b.get("/settings/api").status == http.StatusOK })
	cluster.SetStandbys(t, "")
	until("all are revoked", func() bool { return count("SELECT count(*) FROM revocation_requests") == 0 })
	page, err := s.st.Keys(t.Context(), owner.AccountID, models.KeyFilter{Status: models.StatusRevoked})
	if err != nil || len(page.Keys) != keys {
		t.Errorf("%d keys are revoked, %v; want %d", len(page.Keys), err, keys)
	}
}
