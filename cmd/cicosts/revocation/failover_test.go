package revocation

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

// withFailover is a site that knows two servers, a primary and its standby.
func withFailover(t *testing.T, _ *storetest.Cluster) *site {
	s := onOwnServer(t, nil)
	s.standby = s.cluster.Standby(t)
	s.database = storetest.WithHosts(s.database, s.cluster.Host(), s.standby.Host())
	return s
}

// synchronous has the primary confirm nothing that its standby has not.
func synchronous(t *testing.T, _ *storetest.Cluster) *site {
	s := withFailover(t, nil)
	s.cluster.SetStandbys(t, "standby")
	s.cluster.InSync(t) // before the replicas look
	return s
}

// promoted has the standby take over just after the confirmation, from a primary that crashes, or that only falls silent
// and comes back. Nothing is lost, and nobody is alarmed.
func promoted(d *driver, n int) {
	s := d.site
	d.revoke(inTurn(n, 0)...)
	if n%2 == 0 {
		s.cluster.Stop(d.t)
	} else {
		s.cluster.Freeze(d.t)
		defer s.cluster.Thaw(d.t)
	}
	s.standby.Promote(d.t)
	d.awaitWorking()
	if n%2 == 1 {
		s.cluster.Thaw(d.t)
		d.awaitWorking()
	}
	d.awaitTimeline(2)
	if page := s.admin.page(d.t, s.replicas[0], "/settings/api"); lossPattern.MatchString(page) {
		d.t.Error("a loss is announced, where nothing can be lost")
	}
}

var lossPattern = regexp.MustCompile("(Revocations may have been lost)")

// lost has a standby take over that did not get the revocation. The key works again, so that must be said: in the log of
// every replica, in the history and on the page.
func lost(d *driver, n int) {
	s := d.site
	d.awaitTimeline(1)
	s.cluster.CaughtUp(d.t, s.standby)
	standby := storetest.WithHosts(s.database, s.standby.Host())
	storetest.Exec(d.t, standby, "ALTER SYSTEM SET primary_conninfo = ''")
	storetest.Exec(d.t, standby, "SELECT pg_reload_conf()")
	db := storetest.DB(d.t, standby)
	defer db.Close()
	waitFor(d.t, "the standby receives nothing", func() error {
		var receivers int
		err := db.QueryRowContext(d.t.Context(), "SELECT count(*) FROM pg_stat_wal_receiver").Scan(&receivers)
		if err == nil && receivers > 0 {
			err = errors.New("it still does")
		}
		return err
	})
	d.revoke(inTurn(n, 0)...)
	d.awaitAnswers()
	s.cluster.Stop(d.t)
	d.lose()
	s.standby.Promote(d.t)
	d.awaitWorking()
	confirmed := models.At(d.begin.Add(d.rec.confirmed))
	waitFor(d.t, "the loss is announced", func() error {
		var from, to models.Instant
		err := db.QueryRowContext(d.t.Context(), `SELECT f.lost_from, f.lost_to FROM failovers f
			JOIN audit_events e ON e.account_id = f.account_id AND e.target_id = f.id
			WHERE e.action = $1`, string(models.ActionFailover)).Scan((*int64)(&from), (*int64)(&to))
		if err == nil && (confirmed < from || confirmed > to) {
			err = fmt.Errorf("from %v to %v, and the revocation of %v is lost", from.Time(), to.Time(), confirmed.Time())
		}
		return err
	})
	for _, r := range s.replicas {
		s.admin.find(d.t, r, "/settings/api", lossPattern)
		waitFor(d.t, "the replica logs the loss", func() error {
			log, err := os.ReadFile(r.log)
			for _, want := range []string{`"the database's primary has changed"`, `"the database failed over to a server that may lack`} {
				if !bytes.Contains(log, []byte(want)) {
					err = fmt.Errorf("it does not say %s", want)
				}
			}
			return err
		})
	}
	if !d.await("the key works again", func(r *record) bool { return answers(r, doomed, http.StatusOK, r.lost)[0] > 0 }) {
		d.t.Error("the revocation was not lost, so nothing is shown")
	}
}

// lose says that from now on the revocation may be lost.
func (d *driver) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rec.lost = d.now()
}

// awaitWorking waits until each replica has accepted some working keys from now on.
func (d *driver) awaitWorking() {
	d.t.Helper()
	from := d.now()
	d.awaitEach("every replica accepts working keys", func(e *event) bool {
		return e.bearer == kept && e.status == http.StatusOK && e.sent > from
	})
}

// awaitTimeline waits until the replicas have recorded a timeline of the server.
func (d *driver) awaitTimeline(timeline int) {
	d.t.Helper()
	db := storetest.DB(d.t, storetest.WithHosts(d.site.database, d.site.standby.Host()))
	defer db.Close()
	waitFor(d.t, "the timeline is recorded", func() error {
		var at time.Duration
		return db.QueryRowContext(d.t.Context(), "SELECT last_seen_at FROM timelines WHERE timeline = $1", timeline).Scan((*int64)(&at))
	})
}
