package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"

	"cicosts/models"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

func principal(k models.APIKey) models.Principal {
	return models.Principal{KeyID: k.ID, AccountID: k.AccountID, Mode: k.Mode, Permissions: k.Permissions}
}

func TestChangeByKey(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		owner := storetest.MustOwner(t, st)
		_, working := storetest.MustKey(t, st, owner)
		_, revoked := storetest.MustKey(t, st, owner)
		if _, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, revoked.ID); err != nil {
			t.Fatal(err)
		}
		_, expired := storetest.MustKey(t, st, owner, func(_ *models.APIKey, e *models.Expiry) { e.On = time.Date(2020, 2, 29, 0, 0, 0, 0, time.UTC) })
		_, narrow := storetest.MustKey(t, st, owner, func(k *models.APIKey, _ *models.Expiry) { k.Permissions = models.AlertsRead })
		narrow.Permissions = models.FullAccess // what it had when the request came
		foreign := working
		foreign.AccountID = storetest.MustOwner(t, st).AccountID
		for name, tt := range map[string]struct {
			key  models.APIKey
			want error
		}{
			"working": {working, nil}, "revoked": {revoked, models.ErrKeyRevoked}, "expired": {expired, models.ErrKeyExpired},
			"narrowed": {narrow, models.ErrKeyNarrowed}, "another account's": {foreign, models.ErrNotFound},
		} {
			ran := false
			err := st.ChangeByKey(t.Context(), "testing", principal(tt.key), models.AlertsRead|models.AlertsWrite, func(*gorm.DB, models.Instant) error {
				ran = true
				return nil
			})
			if !errors.Is(err, tt.want) || ran != (tt.want == nil) {
				t.Errorf("%s: %v, done %v; want %v", name, err, ran, tt.want)
			}
		}
	})
}

// A revocation waits for the effects that have begun, and none begins after it.
func TestChangeByKeyAndRevocation(t *testing.T) {
	test := func(t *testing.T, st *store.Store) {
		owner := storetest.MustOwner(t, st)
		_, key := storetest.MustKey(t, st, owner)
		change := func(fn func()) <-chan error {
			done := make(chan error, 1)
			go func() {
				done <- st.ChangeByKey(t.Context(), "testing", principal(key), models.AlertsWrite, func(*gorm.DB, models.Instant) error {
					fn()
					return nil
				})
			}()
			return done
		}
		begun, end := make(chan struct{}), make(chan struct{})
		first := change(func() { close(begun); <-end })
		<-begun
		revoked := make(chan error, 1)
		go func() {
			_, err := st.RevokeKey(t.Context(), storetest.Actor(owner), owner.AccountID, key.ID)
			revoked <- err
		}()
		select {
		case err := <-revoked:
			close(end)
			t.Fatalf("revoked during an effect: %v", err)
		case <-time.After(time.Second): // time enough to do wrong, and to wait
		}
		second := change(func() { t.Error("an effect that began after the revocation") })
		time.Sleep(50 * time.Millisecond)
		released := models.At(time.Now())
		close(end)
		for what, err := range map[string]error{"first": <-first, "revocation": <-revoked} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := <-second; !errors.Is(err, models.ErrKeyRevoked) {
			t.Errorf("the second: %v", err)
		}
		if k, err := st.Key(t.Context(), owner.AccountID, key.ID); err != nil || k.RevokedAt < released {
			t.Errorf("%v; it says to be revoked before the effect it waited for ended", err)
		}
	}
	storetest.Each(t, test)
	t.Run("postgres, repeatable read by default", func(t *testing.T) {
		test(t, storetest.Open(t, storetest.Postgres(t)+"&default_transaction_isolation=repeatable%20read"))
	})
}

// Who waits for a turn in vain is told in time, and others have the database meanwhile.
func TestChangeByKeyTurns(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		const clients, turns = 9, 4 // as many as PostgreSQL has, or more
		owner := storetest.MustOwner(t, st)
		_, key := storetest.MustKey(t, st, owner)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done, end := make(chan error, clients), make(chan struct{})
		for range clients {
			go func() {
				done <- st.ChangeByKey(ctx, "testing", principal(key), 0, func(*gorm.DB, models.Instant) error {
					<-end
					return nil
				})
			}()
		}
		for range clients - turns {
			if err := <-done; models.CodeOf(err) != models.CodeUnavailable {
				t.Errorf("%v, want it to say that it has waited in vain", err)
			}
		}
		if _, err := st.Key(t.Context(), owner.AccountID, key.ID); err != nil {
			t.Errorf("reading meanwhile: %v", err)
		}
		close(end)
		for range turns { // whose context has ended too
			if err := <-done; models.CodeOf(err) != models.CodeUnavailable {
				t.Errorf("%v, want it rolled back", err)
			}
		}
	})
}
