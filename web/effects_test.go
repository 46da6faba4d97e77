package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"gorm.io/gorm"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

// An endpoint of the test's own changes data with a key, behind the authentication of all others, and takes 0.2 s for it.
const (
	effectRoute = "/v1/effects"
	effectTime  = 200 * time.Millisecond
)

// withEffects is the same server with that endpoint.
func (s *site) withEffects() *site {
	s.t.Helper()
	server, e, err := newServer(s.cfg)
	s.must(err)
	server.addAPI(e, []apiRoute{{http.MethodPost, effectRoute, needs(models.AlertsWrite), false, func(c echo.Context) error {
		err := s.st.ChangeByKey(c.Request().Context(), "testing", c.Get("principal").(models.Principal), models.AlertsWrite, func(tx *gorm.DB, now models.Instant) error {
			if strings.HasPrefix(s.url, "sqlite:") {
				time.Sleep(effectTime)
			} else if err := tx.Exec("SELECT pg_sleep(?)", effectTime.Seconds()).Error; err != nil {
				return err
			}
			return tx.Exec("INSERT INTO effects (at) VALUES (?)", now).Error
		})
		if err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}}})
	h := httptest.NewServer(headAsGet(e))
	s.t.Cleanup(h.Close)
	with := *s
	with.address = h.URL
	return &with
}

func (s *site) effects() int { s.t.Helper(); return len(s.query("SELECT at FROM effects")) }

// However hard a key is used for changes, on whatever replica, revoking it takes less than a second, and once that is
// confirmed no change made with it appears any more.
func TestEffectsEndWithTheRevocation(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		const clients = 32
		s.exec("CREATE TABLE effects (at BIGINT NOT NULL)")
		b, owner := s.owner()
		replicas := []*site{s.withEffects(), s.withEffects()}
		if !strings.HasPrefix(s.url, "sqlite:") {
			replicas[1] = s.replica().withEffects()
		}
		fastest := time.Hour
		for round := 0; round < 3 || round < 10 && fastest >= time.Second; round++ { // more where the machine was busy with something else
			secret, key := storetest.MustKey(t, s.st, owner)
			before := s.effects()
			var hammering sync.WaitGroup
			for i := range clients {
				to := replicas[0].browser() // where the page is, too
				if i%8 == 0 {
					to = replicas[1].browser()
				}
				hammering.Go(func() {
					for {
						a, err := to.trySend("POST", effectRoute, "", "Authorization", "Bearer "+secret.Reveal())
						switch {
						case err != nil:
							t.Error(err)
							return
						case a.status == http.StatusUnauthorized:
							return
						case a.status != http.StatusNoContent && a.status != http.StatusServiceUnavailable:
							t.Errorf("an effect is answered %d %s", a.status, a.body)
							return
						}
					}
				})
			}
			for deadline := time.Now().Add(30 * time.Second); s.effects() < before+8; time.Sleep(10 * time.Millisecond) {
				mustf(t, time.Now().Before(deadline), "no effects")
			}
			start := time.Now()
			for b.post("/settings/api/keys/"+key.ID+"/revoke", nil).status != http.StatusSeeOther { // in doubt where the machine is busy
				mustf(t, time.Since(start) < time.Minute, "the revocation is not confirmed")
			}
			took, confirmed := time.Since(start), s.effects()
			hammering.Wait()
			if after := s.effects(); after != confirmed {
				t.Errorf("%d effects after the confirmation", after-confirmed)
			}
			t.Logf("revoked after %v", took)
			fastest = min(fastest, took)
		}
		if fastest >= time.Second {
			t.Errorf("revoking takes %v", fastest)
		}
	})
}

// Reading with a key, however slow, does not keep people from revoking it.
func TestSlowReadsHoldNoRevocationOff(t *testing.T) {
	s := newSite(t, storetest.Postgres(t))
	s.exec("ALTER TABLE report_costs RENAME TO report_costs_fast")
	s.exec(`CREATE FUNCTION slow() RETURNS SETOF report_costs_fast LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_sleep(0.2); RETURN QUERY SELECT * FROM report_costs_fast; END $$`)
	s.exec("CREATE VIEW report_costs AS SELECT * FROM slow()")
	b, owner := s.owner()
	fastest := time.Hour
	for round := 0; round < 3 || round < 10 && fastest >= time.Second; round++ { // more where the machine was busy with something else
		secret, key := storetest.MustKey(t, s.st, owner)
		var hammering sync.WaitGroup
		for range 32 {
			to := s.browser()
			hammering.Go(func() {
				for {
					a, err := to.trySend("GET", "/v1/costs?start_date=2026-01-01&end_date=2026-01-02", "", "Authorization", "Bearer "+secret.Reveal())
					if err != nil || a.status == http.StatusUnauthorized {
						return
					}
					if a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
						t.Errorf("costs are answered %d %s", a.status, a.body)
						return
					}
				}
			})
		}
		for deadline := time.Now().Add(30 * time.Second); len(s.query("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'")) == 0; time.Sleep(10 * time.Millisecond) {
			mustf(t, time.Now().Before(deadline), "nothing is slow")
		}
		start := time.Now()
		for b.post("/settings/api/keys/"+key.ID+"/revoke", nil).status != http.StatusSeeOther { // in doubt where the machine is busy
			mustf(t, time.Since(start) < time.Minute, "the revocation is not confirmed")
		}
		took := time.Since(start)
		hammering.Wait()
		t.Logf("revoked after %v", took)
		fastest = min(fastest, took)
	}
	if fastest >= time.Second {
		t.Errorf("revoking takes %v", fastest)
	}
}
