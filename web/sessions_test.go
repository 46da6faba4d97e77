package web

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

const toLogin = "/login?next=%2Fsettings%2Fapi"

func TestLogout(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, v := s.owner()
		other := s.replica()
		saved, elsewhere := b.on(other), s.browser()
		elsewhere.signIn(v.Email)
		saved.get("/settings/api").want(http.StatusOK)
		b.post("/logout", nil).wantRedirect("/login")
		if cookieNamed(b, "cicosts_session") != "" {
			t.Error("the browser keeps the cookie")
		}
		b.get("/settings/api").wantRedirect(toLogin)
		saved.get("/settings/api").wantRedirect(toLogin)
		saved.on(s).get("/settings/api").wantRedirect(toLogin)
		saved.post("/logout", nil).wantRedirect("/login") // again, and with a dead cookie
		s.browser().post("/logout", nil).wantRedirect("/login")
		elsewhere.get("/settings/api").want(http.StatusOK) // other browsers stay signed in
		if got := s.query("SELECT actor_id FROM audit_events WHERE action = 'session.ended'"); !cmp.Equal(got, []string{v.UserID}) {
			t.Errorf("history: ended by %v", got)
		}
	})
}

// A session ends when nothing was asked for 12 hours, and after 7 days whatever was asked.
func TestSessionEnds(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, v := s.owner()
		s.clock.advance(12*time.Hour - time.Minute)
		b.get("/settings/api").want(http.StatusOK)
		s.clock.advance(12*time.Hour - time.Minute)
		b.on(s.replica()).get("/settings/api").want(http.StatusOK)
		s.clock.advance(12*time.Hour + time.Second)
		b.get("/settings/api").wantRedirect(toLogin)

		s.clock.setAhead(0)
		b = s.browser()
		b.signIn(v.Email)
		for turn := range 21 {
			s.clock.setAhead(time.Duration(turn) * 8 * time.Hour)
			b.get("/settings/api").want(http.StatusOK)
		}
		s.clock.setAhead(7*24*time.Hour - time.Minute)
		b.get("/settings/api").want(http.StatusOK)
		s.clock.setAhead(7*24*time.Hour + time.Second)
		b.get("/settings/api").wantRedirect(toLogin)
		b.get("/settings/api").wantRedirect(toLogin) // asking does not bring it back

		s.browser().signIn(v.Email) // which clears away what is over
		if rows := s.query("SELECT user_id FROM sessions"); len(rows) != 1 {
			t.Errorf("%d sessions are left", len(rows))
		}
	})
}

// What a person may do is looked up for every request, on every replica.
func TestLossOfRightsIsImmediate(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, v := s.owner()
		other := b.on(s.replica())
		_, key := storetest.MustKey(t, s.st, v)
		revoke := "/settings/api/keys/" + key.ID + "/revoke"
		for _, tt := range []struct {
			change, undo string
			status       int
		}{
			{"UPDATE memberships SET role = 'member' WHERE user_id = '%s'", "UPDATE memberships SET role = 'owner' WHERE user_id = '%s'", http.StatusForbidden},
			{"UPDATE memberships SET role = 'viewer' WHERE user_id = '%s'", "UPDATE memberships SET role = 'owner' WHERE user_id = '%s'", http.StatusForbidden},
			{"UPDATE users SET disabled_at = 1 WHERE id = '%s'", "UPDATE users SET disabled_at = 0 WHERE id = '%s'", http.StatusSeeOther},
			{"DELETE FROM sessions WHERE user_id = '%s'", "", http.StatusSeeOther},
		} {
			s.exec(tt.change, v.UserID)
			for _, b := range []*browser{b, other} {
				a := b.post(revoke, nil).want(tt.status)
				if to := a.header.Get("Location"); tt.status == http.StatusSeeOther && !strings.HasPrefix(to, "/login") {
					t.Errorf("after %s: sent to %s", tt.change, to)
				}
			}
			if tt.undo != "" {
				s.exec(tt.undo, v.UserID)
			}
		}
		s.authorizedKeyWorks(t, key.ID)
	})
}

func (s *site) authorizedKeyWorks(t *testing.T, keyID string) {
	t.Helper()
	if got := s.query("SELECT revoked_at FROM api_keys WHERE id = '%s'", keyID); !cmp.Equal(got, []string{"0"}) {
		t.Errorf("the key is revoked at %v", got)
	}
}

// A new password ends every session of its owner, and no other.
func TestNewPasswordEndsSessions(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, v := s.owner()
		second := s.browser()
		second.signIn(v.Email)
		stranger, _ := s.owner()
		hash, err := passwordHash()
		mustBeNil(t, err)
		mustBeNil(t, s.st.SetPassword(t.Context(), models.Operator, v.Email, hash))
		b.get("/settings/api").wantRedirect(toLogin)
		second.get("/settings/api").wantRedirect(toLogin)
		stranger.get("/settings/api").want(http.StatusOK)
	})
}

// The cookie's id is not in the database, the rows' hashes are no ids, and no page or header but Set-Cookie shows either.
func TestSessionIDIsSecret(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	value := cookieNamed(b, "cicosts_session")
	if len(value) < 64 {
		t.Fatalf("cookie of %d bytes", len(value))
	}
	for table, rows := range s.dump() {
		for _, row := range rows {
			if strings.Contains(row, value) {
				t.Errorf("%s holds the cookie", table)
			}
		}
	}
	hash := s.query("SELECT hash FROM sessions")[0]
	if len(hash) != sha256.Size {
		t.Errorf("a hash of %d bytes", len(hash))
	}
	for _, a := range visits(s, b, owner) {
		if strings.Contains(a.body, value) || strings.Contains(strings.Join(a.header.Values("Location"), " "), value) {
			t.Errorf("%s shows the cookie", a.asked)
		}
	}
}
