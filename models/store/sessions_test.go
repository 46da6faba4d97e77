package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

// A session starts only with the password of the moment, for a user who is not
// disabled.
func TestSessionNeedsThePasswordOfTheMoment(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		user := storetest.MustOwner(t, st)
		refused := func(what string, in models.SignIn) {
			t.Helper()
			if err := st.StartSession(t.Context(), in); !errors.Is(err, models.ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
			if _, err := st.Visitor(t.Context(), in.Hash); !errors.Is(err, models.ErrNotFound) {
				t.Errorf("%s: the session is there, %v", what, err)
			}
		}
		in := storetest.SignIn(user, "a")
		if err := st.SetPassword(t.Context(), models.Operator, user.Email, "new"); err != nil {
			t.Fatal(err)
		}
		refused("the password before", in)
		in.User.PasswordHash = "new"
		if err := st.StartSession(t.Context(), in); err != nil {
			t.Errorf("the new password: %v", err)
		}
		storetest.Exec(t, url, "UPDATE users SET disabled_at = 1")
		in.Hash = models.HashToken("b")
		refused("a disabled user", in)
	})
}

// A new password leaves no session of the one before, in either order of the
// commits.
func TestNewPasswordBesideSignIns(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		user := storetest.MustOwner(t, st)
		hash := storetest.SignIn(user, "").User.PasswordHash
		for round := range 20 {
			var all sync.WaitGroup
			next := fmt.Sprint("password ", round)
			for i := range 4 {
				in := storetest.SignIn(user, fmt.Sprint(round, i))
				in.User.PasswordHash = hash
				all.Go(func() {
					if err := st.StartSession(t.Context(), in); err != nil && !errors.Is(err, models.ErrNotFound) {
						t.Error(err)
					}
				})
			}
			all.Go(func() {
				if err := st.SetPassword(t.Context(), models.Operator, user.Email, next); err != nil {
					t.Error(err)
				}
			})
			all.Wait()
			for i := range 4 {
				if _, err := st.Visitor(t.Context(), models.HashToken(fmt.Sprint(round, i))); !errors.Is(err, models.ErrNotFound) {
					t.Errorf("round %d: a session with the password before lives (%v)", round, err)
				}
			}
			hash = next
		}
	})
}

// A sign-in that meets a new password before its COMMIT waits for it, and is
// refused.
func TestSignInWaitsForTheNewPassword(t *testing.T) {
	url := storetest.Postgres(t)
	st := storetest.Open(t, url)
	user := storetest.MustOwner(t, st)
	db := storetest.DB(t, url)
	change, err := db.BeginTx(t.Context(), nil) // SetPassword's statements, held before COMMIT
	if err != nil {
		t.Fatal(err)
	}
	defer change.Rollback()
	for _, statement := range []string{"UPDATE users SET password_hash = 'new'", "DELETE FROM sessions"} {
		if _, err := change.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	started := make(chan error, 1)
	in := storetest.SignIn(user, "session")
	go func() { started <- st.StartSession(t.Context(), in) }()
	waitForLock(t, url)
	if err := change.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-started; !errors.Is(err, models.ErrNotFound) {
		t.Errorf("signing in with the password before: %v", err)
	}
}

// waitForLock returns when a transaction waits for another's row.
func waitForLock(t *testing.T, url string) {
	t.Helper()
	db := storetest.DB(t, url)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var waiting int
		err := db.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
		if waiting > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for the row")
		}
	}
}
