package store_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/store"
	"cicosts/models/store/storetest"
)

func mustNote(t *testing.T, stores ...*store.Store) {
	t.Helper()
	for _, st := range stores {
		var err error
		until(t, "the timeline is recorded", func() bool { err = st.NoteTimeline(t.Context()); return err == nil })
	}
}

func mustFailovers(t *testing.T, st *store.Store, owner models.Visitor) []models.Failover {
	t.Helper()
	list, err := st.Failovers(t.Context(), owner.AccountID)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func failoverEvents(t *testing.T, db *sql.DB, owner models.Visitor) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT count(*) FROM audit_events WHERE action = 'database.failover' AND account_id = $1", owner.AccountID).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func databaseNow(t *testing.T, db *sql.DB) (now models.Instant) {
	t.Helper()
	if err := db.QueryRow("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").Scan((*int64)(&now)); err != nil {
		t.Fatal(err)
	}
	return now
}

// Each account is told once what an asynchronous failover may have lost: from the last row that survived until the last
// replica had moved.
func TestFailoverIsAnnounced(t *testing.T) {
	p := newPair(t)
	first, second := storetest.Open(t, p.url), storetest.Open(t, p.url)
	one, two := storetest.MustOwner(t, first), storetest.MustOwner(t, first)
	mustNote(t, first, second)
	if list := mustFailovers(t, first, one); len(list) != 0 {
		t.Fatalf("before: %v", list)
	}
	p.primary.CaughtUp(t, p.standby)
	p.primary.Stop(t)
	p.standby.Promote(t)
	db := storetest.DB(t, storetest.WithHosts(p.url, p.standby.Host()))
	var survived models.Instant
	if err := db.QueryRow("SELECT last_seen_at FROM timelines WHERE timeline = 1").Scan((*int64)(&survived)); err != nil {
		t.Fatal(err)
	}
	follows(t, first, 2)
	mustNote(t, first, first)
	soon := mustFailovers(t, first, one)
	if len(soon) != 1 || soon[0].LostFrom != survived || soon[0].LostTo <= survived || soon[0].LostTo > databaseNow(t, db) {
		t.Fatalf("after the first replica: %+v, want from %v", soon, survived)
	}
	if err := first.LookAtFailover(t.Context(), storetest.Actor(one), one.AccountID, soon[0].ID); err != nil {
		t.Fatal(err)
	}
	follows(t, second, 2)
	middle := databaseNow(t, db)
	mustNote(t, second, second, first)
	restarted := storetest.Open(t, p.url)
	mustNote(t, restarted)
	for _, owner := range []models.Visitor{one, two} {
		list := mustFailovers(t, restarted, owner)
		if len(list) != 1 || list[0].LostFrom != survived || list[0].LostTo < middle || list[0].LostTo > databaseNow(t, db) {
			t.Errorf("after every replica: %+v", list)
		}
		if n := failoverEvents(t, db, owner); n != 1 {
			t.Errorf("%d events", n)
		}
	}
}

// A replica that was down meanwhile finds the change by itself.
func TestFailoverWhileNobodyRuns(t *testing.T) {
	p := newPair(t)
	before, err := store.Open(t.Context(), store.Config{URL: p.url})
	if err != nil {
		t.Fatal(err)
	}
	owner := storetest.MustOwner(t, before)
	mustNote(t, before)
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	p.primary.CaughtUp(t, p.standby)
	p.primary.Stop(t)
	p.standby.Promote(t)
	after := storetest.Open(t, p.url)
	mustNote(t, after, after)
	if list := mustFailovers(t, after, owner); len(list) != 1 {
		t.Errorf("%v", list)
	}
}

// With synchronous replication nothing that was confirmed is lost, and nobody is alarmed.
func TestSynchronousFailoverIsSilent(t *testing.T) {
	p := newPair(t)
	p.primary.ReceiveWAL(t) // which is no standby
	st := storetest.Open(t, p.url)
	p.synchronize(t, st)
	owner := storetest.MustOwner(t, st)
	mustNote(t, st)
	p.primary.Stop(t)
	p.standby.Promote(t)
	follows(t, st, 2)
	mustNote(t, st, st)
	if list := mustFailovers(t, st, owner); len(list) != 0 {
		t.Errorf("%v", list)
	}
}

// A standby that follows another standby may be promoted too, and lack what was confirmed.
func TestFailoverToACascadedStandbyIsAnnounced(t *testing.T) {
	primary := storetest.NewCluster(t, "full_page_writes=on") // or a standby could not be copied
	url := primary.Postgres(t)
	second := primary.Standby(t)
	third := second.Standby(t)
	st := storetest.Open(t, storetest.WithHosts(url, primary.Host(), second.Host(), third.Host()))
	owner := storetest.MustOwner(t, st)
	primary.CaughtUp(t, third)
	primary.SetStandbys(t, "standby")
	primary.InSync(t)
	until(t, "the store sees it", func() bool {
		names, hosts := st.Standbys()
		return names == "standby" && hosts == 2
	})
	mustNote(t, st)
	primary.CaughtUp(t, third)
	primary.Stop(t)
	third.Promote(t)
	follows(t, st, 2)
	mustNote(t, st)
	if list := mustFailovers(t, st, owner); len(list) != 1 {
		t.Errorf("%v", list)
	}
}

// A row that this process was told is safe, and that is gone, shows that a claim of synchronous replication was wrong.
func TestLostRowShowsALoss(t *testing.T) {
	p := newPair(t)
	st := storetest.Open(t, p.url)
	p.synchronize(t, st)
	owner := storetest.MustOwner(t, st)
	mustNote(t, st)
	p.primary.Stop(t)
	p.standby.Promote(t)
	storetest.Exec(t, storetest.WithHosts(p.url, p.standby.Host()), "UPDATE timelines SET last_seen_at = last_seen_at - 1")
	for now := int64(1); now != 2; now, _ = st.Followed() { // also before it is followed
		_ = st.NoteTimeline(t.Context())
	}
	mustNote(t, st)
	if list := mustFailovers(t, st, owner); len(list) != 1 {
		t.Errorf("%v", list)
	}
}

// leave pretends that the server was on another timeline until some time ago.
func leave(t *testing.T, url string, ago time.Duration, synchronous bool) {
	t.Helper()
	storetest.Exec(t, url, fmt.Sprintf("INSERT INTO timelines SELECT 1, 7, 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - %d, %t",
		ago.Microseconds(), synchronous))
}

// Where no replica was there to see until when replication was synchronous, what an old row says of it is worth nothing: the
// standby that took over may have been away for long, or the data may be of a backup.
func TestOldRowProvesNothing(t *testing.T) {
	for ago, want := range map[time.Duration]int{5 * time.Minute: 1, 0: 0} {
		url := storetest.Postgres(t)
		st := storetest.Open(t, url)
		owner := storetest.MustOwner(t, st)
		leave(t, url, ago, true)
		mustNote(t, st, st)
		if list := mustFailovers(t, st, owner); len(list) != want {
			t.Errorf("%v later: %d notices, want %d", ago, len(list), want)
		}
	}
}

// Accounts are told many at a time, so that there is time enough for all of them.
func TestManyAccountsAreTold(t *testing.T) {
	const accounts = 600
	url := storetest.Postgres(t)
	st := storetest.Open(t, url)
	storetest.Exec(t, url, fmt.Sprintf(`INSERT INTO accounts (id, name, name_folded, plan, created_at)
		SELECT 'acc_' || i, i, i, 'team', 1 FROM generate_series(1, %d) i`, accounts))
	storetest.Exec(t, url, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END $$")
	storetest.Exec(t, url, "CREATE TRIGGER slow BEFORE INSERT ON failovers FOR EACH STATEMENT EXECUTE FUNCTION slow()")
	leave(t, url, 0, false)
	mustNote(t, st)
	var notices, events int
	err := storetest.DB(t, url).QueryRow(`SELECT count(DISTINCT f.account_id), count(DISTINCT e.id) FROM failovers f
		JOIN audit_events e ON e.account_id = f.account_id AND e.target_id = f.id AND e.action = 'database.failover'`).Scan(&notices, &events)
	if err != nil || notices != accounts || events != accounts {
		t.Errorf("%d notices and %d events, %v; want %d of both", notices, events, err, accounts)
	}
}

// However many replicas look however often, the row is written about every ten seconds.
func TestTimelineIsWrittenSeldom(t *testing.T) {
	url := storetest.Postgres(t)
	stores := []*store.Store{storetest.Open(t, url), storetest.Open(t, url), storetest.Open(t, url)}
	db := storetest.DB(t, url)
	version := func() (v string) {
		t.Helper()
		if err := db.QueryRow("SELECT xmin::text || ' ' || ctid::text FROM timelines").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	mustNote(t, stores...)
	start := time.Now()
	first := version()
	mustNote(t, stores...)
	if v := version(); v != first && time.Since(start) < 8*time.Second {
		t.Errorf("written again at once: %s after %s", v, first)
	}
	storetest.Exec(t, url, "UPDATE timelines SET last_seen_at = last_seen_at - 9000000")
	aged := version()
	mustNote(t, stores[0])
	second := version()
	if second == aged {
		t.Error("not written after nine seconds")
	}
	start = time.Now()
	mustNote(t, stores...)
	if v := version(); v != second && time.Since(start) < 8*time.Second {
		t.Errorf("written by each replica: %s after %s", v, second)
	}
}

func TestLookingAtAFailover(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		st := storetest.Open(t, url)
		owner, other := storetest.MustOwner(t, st), storetest.MustOwner(t, st)
		storetest.Exec(t, url, "INSERT INTO failovers VALUES ('fail_1', '"+owner.AccountID+"', 1, 2, 10, 20, 0)")
		if list := mustFailovers(t, st, other); len(list) != 0 {
			t.Errorf("another account sees %v", list)
		}
		look := func(by models.Visitor) error {
			return st.LookAtFailover(t.Context(), storetest.Actor(by), by.AccountID, "fail_1")
		}
		if err := look(other); err != models.ErrNotFound {
			t.Errorf("another account: %v", err)
		}
		if list := mustFailovers(t, st, owner); len(list) != 1 || list[0].LostFrom != 10 || list[0].LostTo != 20 {
			t.Fatalf("%+v", list)
		}
		for range 2 {
			if err := look(owner); err != nil {
				t.Fatal(err)
			}
		}
		if list := mustFailovers(t, st, owner); len(list) != 0 {
			t.Errorf("after looking: %v", list)
		}
		if h, err := st.History(t.Context(), owner.AccountID, "fail_1"); err != nil || len(h) != 1 || h[0].Action != models.ActionLookedAt {
			t.Errorf("history %v, %v", h, err)
		}
	})
}
