package store_test

import (
	"errors"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

// A request is there for every replica until the key is revoked, which ends it
// in the same moment.
func TestRequestRevocation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		owner, stranger := storetest.MustOwner(t, st), storetest.MustOwner(t, st)
		_, key := storetest.MustKey(t, st, owner)
		_, other := storetest.MustKey(t, st, owner)
		by := storetest.Actor(owner)
		request := func(account string) error { return st.RequestRevocation(t.Context(), by, account, key.ID) }
		wantRequests := func(n int) {
			t.Helper()
			list, err := st.RevocationRequests(t.Context(), 0)
			if err != nil || len(list) != n || n == 1 && (list[0].KeyID != key.ID || list[0].Actor() != storetest.Actor(owner)) {
				t.Errorf("requests %+v, %v; want %d", list, err, n)
			}
			page, err := st.Keys(t.Context(), owner.AccountID, models.KeyFilter{})
			if err != nil || len(page.Keys) != 2 {
				t.Fatalf("keys %+v, %v", page.Keys, err)
			}
			for _, k := range page.Keys {
				if k.Revoking != (k.ID == key.ID && n == 1) {
					t.Errorf("%s: revoking %v", k.ID, k.Revoking)
				}
			}
		}
		for account, want := range map[string]error{stranger.AccountID: models.ErrNotFound, owner.AccountID: nil} {
			if err := request(account); !errors.Is(err, want) {
				t.Errorf("request for %s: %v, want %v", account, err, want)
			}
		}
		by.ID = "another"
		if err := request(owner.AccountID); err != nil {
			t.Errorf("again: %v", err)
		}
		wantRequests(1)
		if old, err := st.RevocationRequests(t.Context(), time.Hour); err != nil || len(old) != 0 {
			t.Errorf("requests of an hour ago: %+v, %v", old, err)
		}

		if err := st.DropRequest(t.Context(), stranger.AccountID, key.ID); err != nil {
			t.Error(err)
		}
		wantRequests(1)
		if err := st.DropRequest(t.Context(), owner.AccountID, key.ID); err != nil {
			t.Error(err)
		}
		wantRequests(0)

		if err := request(owner.AccountID); err != nil {
			t.Error(err)
		}
		if k, err := st.RevokeKey(t.Context(), by, owner.AccountID, key.ID); err != nil || k.RevokedAt.IsZero() || k.Revoking {
			t.Errorf("%+v, %v", k, err)
		}
		wantRequests(0)
		if err := request(owner.AccountID); err != nil { // of a key that is revoked
			t.Error(err)
		}
		wantRequests(0)
		if account, err := st.AccountOfKey(t.Context(), other.ID); err != nil || account != owner.AccountID {
			t.Errorf("account %s, %v", account, err)
		}
	})
}

// A change that fails before COMMIT was certainly not made.
func TestNotChanged(t *testing.T) {
	cluster := storetest.NewCluster(t)
	st := storetest.Open(t, cluster.Postgres(t))
	owner := storetest.MustOwner(t, st)
	_, key := storetest.MustKey(t, st, owner)
	cluster.Stop(t)
	err := st.RequestRevocation(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
	if models.CodeOf(err) != models.CodeUnavailable || !errors.Is(err, models.ErrNotChanged) {
		t.Errorf("without the server: %v", err)
	}
}

// A change whose COMMIT was sent and not answered may have been made. One that
// was cut off in a statement before was not.
func TestChangeCutOff(t *testing.T) {
	for when, unknown := range map[string]bool{"INITIALLY IMMEDIATE": false, "INITIALLY DEFERRED": true} {
		t.Run(when, func(t *testing.T) {
			url := storetest.Postgres(t)
			st := storetest.Open(t, url)
			owner := storetest.MustOwner(t, st)
			_, key := storetest.MustKey(t, st, owner)
			storetest.Exec(t, url, `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$`)
			storetest.Exec(t, url, `CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON revocation_requests
				DEFERRABLE `+when+` FOR EACH ROW EXECUTE FUNCTION wait()`)
			done := make(chan error, 1)
			go func() {
				done <- st.RequestRevocation(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
			}()
			db := storetest.DB(t, url)
			until(t, "the request waits", func() bool {
				var n int
				err := db.QueryRow(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event = 'PgSleep'`).Scan(&n)
				return err == nil && n > 0
			})
			err := <-done
			if models.CodeOf(err) != models.CodeUnavailable || errors.Is(err, models.ErrNotChanged) == unknown {
				t.Errorf("%v, want it unknown: %v", err, unknown)
			}
		})
	}
}
