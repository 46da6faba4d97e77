package store_test

import (
	"context"
	"testing"
	"time"

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
