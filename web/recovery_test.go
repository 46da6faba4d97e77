package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"cicosts/models/store/storetest"
)

// Reading a page notes that the session is alive, but does not wait for it nor fail without it.
func TestPagesAreReadWhileNothingCanBeWritten(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	s.clock.advance(2 * time.Minute)
	conn, err := storetest.DB(t, s.url).Conn(t.Context())
	mustBeNil(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	mustBeNil(t, err)
	b.get("/settings/api").want(http.StatusOK)
}

// Ready means that keys can be checked, not just that something answers.
func TestReadyLooksKeysUp(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.browser().get("/readyz").want(http.StatusOK)
		s.exec("ALTER TABLE api_keys RENAME TO away")
		s.clock.advance(readyEvery) // until then the last answer counts
		start := len(s.log.String())
		if a := s.browser().get("/readyz").want(http.StatusServiceUnavailable); a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		var line struct{ Level, Msg, Error string }
		mustBeNil(t, json.Unmarshal([]byte(s.log.String()[start:]), &line)) // one alone
		if line.Level != "ERROR" || line.Msg != "request" || !strings.Contains(line.Error, "api_keys") {
			t.Errorf("the log has %+v", line)
		}
	})
}

// A form that has made its key leads to it, even when no more keys may be made just now.
func TestFormSentAgainAtTheLimit(t *testing.T) {
	s := sqliteSite(t)
	b, _ := s.owner()
	form := b.get("/settings/api/new").want(http.StatusOK).hidden()
	form.Set("name", "first")
	form.Set("mode", "live")
	b.post("/settings/api/keys", form).want(http.StatusOK)
	for made := 1; ; made++ {
		if made > 121 {
			t.Fatal("there is no limit")
		}
		next := b.get("/settings/api/new").hidden()
		next.Set("name", "another")
		next.Set("mode", "live")
		if b.post("/settings/api/keys", next).status == http.StatusTooManyRequests {
			break
		}
	}
	b.post("/settings/api/keys", form).want(http.StatusSeeOther)
}
