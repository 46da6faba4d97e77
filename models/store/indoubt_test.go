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
	if err := st.RequestRevocation(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID); err != nil {
		t.Fatal(err) // waits for no standby
	}
	revoke := func() <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
			done <- err
		}()
		return done
	}
	for try, givenUp := 0, 0; givenUp < 2; try++ {
		if try == 20 {
			t.Fatal("nothing waits for the standby")
		}
		for done := revoke(); done != nil; {
			select {
			case err := <-done:
				if models.CodeOf(err) != models.CodeUnavailable {
					t.Fatalf("try %d: %v, want it unconfirmed", try, err)
				}
				done = nil
			case <-time.After(5 * time.Millisecond):
				var n int
				if err := db.QueryRow("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").Scan(&n); err != nil {
					t.Fatal(err)
				}
				givenUp += n
			}
		}
	}
	wantUncertain := func(want bool) {
		t.Helper()
		other := storetest.Open(t, url) // as another replica sees it
		k, err := other.Key(t.Context(), owner.AccountID, key.ID)
		if err != nil || k.RevokedAt.IsZero() || k.Revoking != want {
			t.Errorf("revoked at %v, uncertain %v, %v; want %v", k.RevokedAt.Time(), k.Revoking, err, want)
		}
		left, err := other.RevocationRequests(t.Context(), 0)
		if err != nil || len(left) == 1 != want || want && (left[0].KeyID != key.ID || left[0].AccountID != owner.AccountID ||
			left[0].Actor() != storetest.Actor(owner)) {
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
