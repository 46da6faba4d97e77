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
	storetest.Exec(t, url, "CREATE TABLE probe (n INT)")
	db := storetest.DB(t, url)
	storetest.Exec(t, url, "ALTER SYSTEM SET synchronous_standby_names = 'missing'")
	storetest.Exec(t, url, "SELECT pg_reload_conf()")
	waits := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := db.ExecContext(ctx, "INSERT INTO probe VALUES (1)")
		return err != nil
	}
	for deadline := time.Now().Add(20 * time.Second); !waits(); {
		if time.Now().After(deadline) {
			t.Fatal("no commit waits for the standby")
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := st.MigrationStates(ctx); err != nil {
		t.Errorf("reading the migrations: %v", err)
	}
}
