package web

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

// Whoever sees the list sees what a failover may have lost, until an owner or admin of the account says that they looked.
func TestFailoverNotice(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		admin, v := s.signedIn("Acme", models.RoleAdmin)
		member, _ := s.signedIn("Acme", models.RoleMember)
		stranger, _ := s.owner()
		storetest.MustKey(t, s.st, v)
		const says = "Revocations may have been lost."
		for _, b := range []*browser{admin, member} {
			if strings.Contains(b.get("/settings/api").want(http.StatusOK).text(), says) {
				t.Error("a notice without a failover")
			}
		}
		// 2026-11-23, from 10:00:30 to 10:02:10 UTC
		s.exec("INSERT INTO failovers VALUES ('fail_1', '%s', 1, 2, 1795428030000000, 1795428130000000, 0)", v.AccountID)
		const path = "/settings/api/failovers/fail_1/looked-at"
		for who, b := range map[string]*browser{"admin": admin, "member": member} {
			a := b.get("/settings/api").want(http.StatusOK)
			for _, part := range []string{says, "between Nov 23, 2026, 10:00 UTC and Nov 23, 2026, 10:03 UTC"} {
				if !strings.Contains(a.text(), part) {
					t.Errorf("%s: %q lacks %q", who, a.text(), part)
				}
			}
			if may := strings.Contains(a.body, `action="`+path+`"`); may != (who == "admin") {
				t.Errorf("%s may take it away: %v", who, may)
			}
		}
		if strings.Contains(stranger.get("/settings/api").want(http.StatusOK).text(), says) {
			t.Error("another account is told")
		}
		member.post(path, nil).want(http.StatusForbidden)
		stranger.post(path, nil).want(http.StatusNotFound)
		admin.post("/settings/api/failovers/fail_2/looked-at", nil).want(http.StatusNotFound)
		if got := s.actions("fail_1"); len(got) != 0 {
			t.Errorf("recorded %v", got)
		}
		for range 2 {
			admin.post(path, nil).wantRedirect("/settings/api")
		}
		if strings.Contains(member.get("/settings/api").want(http.StatusOK).text(), says) {
			t.Error("the notice stays")
		}
		if diff := cmp.Diff([]string{"database.failover_looked_at|user|" + v.UserID}, s.actions("fail_1")); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
}
