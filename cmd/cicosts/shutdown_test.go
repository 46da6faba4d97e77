package main

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"cicosts/models/store/storetest"
)

// A revocation in doubt costs no counts when the program is told to stop.
func TestShutdownWithARevocationInDoubt(t *testing.T) {
	cluster := storetest.NewCluster(t)
	db := cluster.Postgres(t)
	r := startServing(t, map[string]string{"CICOSTS_DATABASE_URL": db, "CICOSTS_SECRET": testSecret, "CICOSTS_METRICS_ADDR": "127.0.0.1:0"})
	admin := newPerson(t, r.base)
	admin.setUp(r.setup)
	key := admin.generate(url.Values{"name": {"used"}, "mode": {"live"}})
	admin.generate(url.Values{"name": {"in doubt"}, "mode": {"live"}})
	id := admin.newestKey()
	cluster.SetStandbys(t, "missing")
	cluster.CommitsWait(t)
	metrics := metricsOf(t, r)
	leave := admin.begin("/settings/api/keys/" + id + "/revoke")
	waitUntil(t, "the revocation waits for the standby", func() bool {
		return count(t, db, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'") > 0
	})
	leave() // so that its try, which has just begun, outlasts the shutdown
	metrics.want(map[string]float64{"cicosts_revocations_in_doubt": 1})
	const uses = 6
	for range uses {
		if status, _ := answered(t, r.base+"/v1/costs", key); status != http.StatusOK {
			t.Fatalf("a key is answered %d", status)
		}
	}
	r.shutDown(t) // wants exit code 0
	if saved := count(t, db, "SELECT coalesce(sum(requests), 0) FROM daily_uses"); saved != uses {
		t.Errorf("%d of %d uses are saved", saved, uses)
	}
}

// begin posts an empty form and returns what gives up waiting for the answer.
func (p *person) begin(path string) (leave func()) {
	ctx, cancel := context.WithCancel(p.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+path, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	left := make(chan struct{})
	go func() {
		defer close(left)
		if resp, err := p.client.Do(req); err == nil {
			resp.Body.Close()
			p.t.Errorf("%s is answered %d", path, resp.StatusCode)
		}
	}()
	return func() { cancel(); <-left }
}

// count asks the database for one number.
func count(t *testing.T, db, query string) (n int) {
	t.Helper()
	d := storetest.DB(t, db)
	defer d.Close()
	if err := d.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Notice ends some ticks after a probe was told, or after more when none is.
func TestNotice(t *testing.T) {
	for _, tt := range []struct {
		name         string
		probed, told bool
		ticks        int
	}{
		{"nobody probes", false, false, 0},
		{"a probe is told", true, true, turnTicks},
		{"no probe comes", true, false, noticeTicks + turnTicks},
	} {
		synctest.Test(t, func(t *testing.T) {
			var told chan struct{}
			if tt.probed {
				told = make(chan struct{})
			}
			if tt.told {
				close(told)
			}
			ticks, ended := make(chan time.Time), make(chan struct{})
			go func() {
				defer close(ended)
				giveNotice(told, ticks)
			}()
			for n := 0; ; n++ {
				synctest.Wait() // it waits for something, or has ended
				select {
				case <-ended:
					if n != tt.ticks {
						t.Errorf("%s: notice ends after %d ticks, want %d", tt.name, n, tt.ticks)
					}
					return
				default:
					ticks <- time.Time{}
				}
			}
		})
	}
}
