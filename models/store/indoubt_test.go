package store_test

import (
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

// A server that gives up waiting for its synchronous standby says so in a warning and reports success. That is no
// confirmation, not even at the second try, until the standby is there or no longer asked for.
func TestRevocationThatIsNotReplicatedIsNotConfirmed(t *testing.T) {
	cluster := storetest.NewCluster(t, "synchronous_commit=local")
	url := cluster.Postgres(t)
	st := storetest.Open(t, url)
	owner := storetest.MustOwner(t, st)
	_, key := storetest.MustKey(t, st, owner)
	db := storetest.DB(t, url)
	cluster.SetStandbys(t, "missing")
	cluster.CommitsWait(t)
	revoke := func() <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
			done <- err
		}()
		return done
	}
	giveUpWaiting := func() {
		t.Helper()
		for deadline := time.Now().Add(7 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			var n int
			if err := db.QueryRow("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").Scan(&n); err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				return
			}
		}
		t.Fatal("nothing waits for the standby")
	}
	for try := range 2 {
		done := revoke()
		giveUpWaiting()
		if err := <-done; models.CodeOf(err) != models.CodeUnavailable {
			t.Errorf("try %d: %v, want it unconfirmed", try, err)
		}
	}
	wantUncertain := func(want bool) {
		t.Helper()
		other := storetest.Open(t, url) // as another replica sees it
		k, err := other.Key(t.Context(), owner.AccountID, key.ID)
		if err != nil || k.RevokedAt.IsZero() || k.RevocationUncertain != want {
			t.Errorf("revoked at %v, uncertain %v, %v; want %v", k.RevokedAt.Time(), k.RevocationUncertain, err, want)
		}
		left, err := other.UncertainRevocations(t.Context())
		if err != nil || len(left) == 1 != want || want && (left[0].ID != key.ID || left[0].AccountID != owner.AccountID) {
			t.Errorf("left uncertain: %+v, %v", left, err)
		}
	}
	wantUncertain(true)
	cluster.SetStandbys(t, "")
	until(t, "with no standby asked for it is confirmed", func() bool { return <-revoke() == nil })
	wantUncertain(false)
	if h, err := st.History(t.Context(), owner.AccountID, key.ID); err != nil || len(h) != 2 {
		t.Errorf("%d events, %v; want one creation and one revocation", len(h), err)
	}
}
