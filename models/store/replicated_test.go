package store_test

import (
	"context"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

// While a synchronous standby is missing every commit hangs. Reading the migrations, with which key list and key revoke
// begin, is none.
func TestMigrationStatesWithoutTheStandby(t *testing.T) {
	cluster := storetest.NewCluster(t)
	url := cluster.Postgres(t)
	st := storetest.Open(t, url)
	if err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	cluster.SetStandbys(t, "missing")
	cluster.CommitsWait(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := st.MigrationStates(ctx); err != nil {
		t.Errorf("reading the migrations: %v", err)
	}
}

// While a synchronous standby is missing, changes that confirm nothing do not
// wait for it: people sign in and out, wrong passwords are refused, and sessions
// are kept alive. A revocation waits.
func TestWhatDoesNotWaitForTheStandby(t *testing.T) {
	cluster := storetest.NewCluster(t)
	st := storetest.Open(t, cluster.Postgres(t))
	user := storetest.MustOwner(t, st)
	_, key := storetest.MustKey(t, st, user)
	cluster.SetStandbys(t, "missing")
	cluster.CommitsWait(t)
	revoked := make(chan error, 1)
	go func() {
		_, err := st.RevokeKey(t.Context(), storetest.Actor(user), user.AccountID, key.ID)
		revoked <- err
	}()
	in := storetest.SignIn(user, "session")
	if err := st.StartSession(t.Context(), in); err != nil {
		t.Errorf("signing in: %v", err)
	}
	if err := st.KeepSession(t.Context(), in.Hash); err != nil {
		t.Errorf("keeping a session alive: %v", err)
	}
	if err := st.RecordRefusedSignIn(t.Context(), storetest.Actor(user)); err != nil {
		t.Errorf("a wrong password: %v", err)
	}
	if v, err := st.Visitor(t.Context(), in.Hash); err != nil || v.UserID != user.UserID {
		t.Errorf("%+v, %v", v, err)
	}
	if err := st.EndSession(t.Context(), in.Hash, "192.0.2.1"); err != nil {
		t.Errorf("signing out: %v", err)
	}
	if err := <-revoked; models.CodeOf(err) != models.CodeUnavailable {
		t.Errorf("a revocation was confirmed without the standby: %v", err)
	}
}
