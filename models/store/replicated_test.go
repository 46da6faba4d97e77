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

// Somebody has to see to the missing standby, so people can sign in.
func TestSignInWithoutTheStandby(t *testing.T) {
	cluster := storetest.NewCluster(t)
	st := storetest.Open(t, cluster.Postgres(t))
	user := storetest.MustOwner(t, st)
	cluster.SetStandbys(t, "missing")
	cluster.CommitsWait(t)
	hash := models.HashToken("session")
	if err := st.StartSession(t.Context(), user.UserID, hash, nil, storetest.Actor(user), "agent"); err != nil {
		t.Fatal(err)
	}
	if v, err := st.Visitor(t.Context(), hash); err != nil || v.UserID != user.UserID {
		t.Errorf("%+v, %v", v, err)
	}
}
