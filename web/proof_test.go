package web

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/store/storetest"
)

func behindProxy(c *Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")}
}

// wantText finds pieces of a page's text in this order, and after a ! what must not be in it.
func (a *answer) wantText(pieces ...string) {
	a.t.Helper()
	text := strings.Join(strings.Fields(a.text()), " ")
	rest := text
	for _, piece := range pieces {
		if unwanted, no := strings.CutPrefix(piece, "!"); no {
			if strings.Contains(text, unwanted) {
				a.t.Errorf("%s says %q:\n%s", a.asked, unwanted, text)
			}
			continue
		}
		_, behind, found := strings.Cut(rest, piece)
		if !found {
			a.t.Errorf("%s does not say %q behind what came before:\n%s", a.asked, piece, text)
			continue
		}
		rest = behind
	}
}

// After a revocation the key's page says since when, what was accepted last, and what was refused since, from where.
func TestProofOfARevocation(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		b, owner := s.owner()
		secret, key := storetest.MustKey(t, s.st, owner)
		page := "/settings/api/keys/" + key.ID
		call := func(from, agent string, status int) {
			t.Helper()
			b.get("/v1/key", "Authorization", "Bearer "+secret.Reveal(), "X-Forwarded-For", from, "User-Agent", agent).want(status)
		}
		call("198.51.100.7", "exporter/1.2", http.StatusOK)
		b.get(page).wantText("!Took effect", "!Refused requests")
		b.post(page+"/revoke", nil).wantRedirect(page)
		k, err := s.st.Key(t.Context(), owner.AccountID, key.ID)
		s.must(err)
		since := k.RevokedAt.Time().Format("Jan 2, 2006, 15:04:05 UTC")
		fresh := b.get(page).want(http.StatusOK)
		fresh.wantText("Revoked", "Took effect "+since+" No replica has accepted it since this was confirmed.", "Last accepted",
			"Refused since No request with it has been refused so far.", "within about ten seconds", "!The last one", "!Refused requests", "Status revoked")
		if want := `<time datetime="` + k.RevokedAt.Time().Format(time.RFC3339) + `"`; !strings.Contains(fresh.body, want) {
			t.Errorf("no %s in the page", want)
		}

		for i := range 41 {
			from, agent := "203.0.113.9", "curl/8.5.0"
			switch {
			case i%10 == 3:
				from, agent = "2001:db8::1:2", "python-requests/2.32"
			case i == 5:
				agent = `<script>alert("x")</script>`
			}
			call(from, agent, http.StatusUnauthorized)
		}
		s.clock.advance(3 * time.Minute)
		call("203.0.113.9", "curl/8.5.0", http.StatusUnauthorized)
		s.clock.advance(3 * time.Minute)
		s.must(s.uses.Close(t.Context()))
		a := b.get(page)
		a.wantText("Took effect "+since, "Last accepted ", " UTC by GET /v1/key from 198.51.100.7, exporter/1.2", "!before the revocation",
			"Refused since 42 requests. The last one 3 minutes ago by GET /v1/key from 203.0.113.9, curl/8.5.0",
			"Refused requests When Address Client Route Times",
			"3 minutes ago first 6 minutes ago 203.0.113.9 curl/8.5.0 GET /v1/key 37",
			"6 minutes ago first 6 minutes ago 2001:db8::1:2 python-requests/2.32 GET /v1/key 4",
			`203.0.113.9 <script>alert("x")</script> GET /v1/key 1`, "!From others")
		if strings.Contains(a.body, "<script>alert") {
			t.Error("a client's name is a script")
		}
		b.get("/settings/api?status=revoked").wantText("6 minutes ago GET /v1/key last refused 3 minutes ago , 42 times, from 203.0.113.9")
		swapped := b.post(page+"/revoke", nil, "HX-Request", "true").want(http.StatusOK)
		swapped.wantText("last refused 3 minutes ago , 42 times, from 203.0.113.9",
			"“"+key.Name+"” is revoked. Requests with it fail. It took effect "+since+". Last accepted: 6 minutes ago, GET /v1/key.")
		stranger, _ := s.owner()
		stranger.get(page).want(http.StatusNotFound)
	}, behindProxy)
}

func TestProofOfAnExpiry(t *testing.T) {
	s := sqliteSite(t, behindProxy)
	b, owner := s.owner()
	_, key := storetest.MustKey(t, s.st, owner)
	page := "/settings/api/keys/" + key.ID
	expired := models.At(s.clock.Now().Add(-48 * time.Hour))
	s.exec("UPDATE api_keys SET created_at = %d, expires_at = %d", expired-1, expired)
	b.get(page).wantText("Expired Took effect "+expired.Time().Format("Jan 2, 2006, 15:04:05 UTC")+" Every replica has refused it since, by the clock of the database.",
		"Last accepted None saved so far", "Refused since No request")
	save := func(outcome models.Outcome, n int) {
		t.Helper()
		use := models.LastUse{KeyID: key.ID, Refused: true, UsedAt: models.At(s.clock.Now()), IP: "192.0.2.1", Route: "GET /v1/key", Outcome: outcome}
		uses := models.Uses{
			Newest: []models.LastUse{use},
			Counts: []models.DailyUse{{KeyID: key.ID, Day: use.UsedAt.Day(), Route: use.Route, Outcome: outcome, Requests: int64(n)}},
		}
		for i := range 25 {
			if i == n || !outcome.Ended() {
				break
			}
			uses.Refusals = append(uses.Refusals, models.RefusalSource{
				KeyID: key.ID, IP: use.IP, UserAgent: fmt.Sprintf("client %02d", i), Route: use.Route, Outcome: outcome,
				FirstAt: use.UsedAt, LastAt: use.UsedAt + models.Instant(i), Requests: 1,
			})
		}
		storetest.MustSaveUse(t, s.st, uses)
	}
	save(models.OutcomeForbidden, 1) // which a key that works is answered
	b.get(page).wantText("Refused since No request", "!refused as expired")
	save(models.OutcomeExpired, 1)
	b.get(page).wantText("Refused since 1 request. The last one just now by GET /v1/key from 192.0.2.1, client 00", "!refused as expired", "!From others")
	b.get("/settings/api?status=expired").wantText("last refused just now , 1 time, from 192.0.2.1")
	save(models.OutcomeExpired, 1999)
	b.get(page).wantText("Refused since 2,000 requests.", "client 24", "client 05", "!client 04",
		"Only the newest 20 sources are kept. From others 1,980 requests were refused.")

	b.post(page+"/revoke", nil).wantRedirect(page)
	b.get(page).wantText("Revoked Took effect", "Refused since No request with it has been refused so far.",
		"Before that, 2,000 requests were refused because it had expired.", "refused as expired")
	save(models.OutcomeRevoked, 2)
	b.get(page).wantText("Refused since 2 requests. The last one just now", "client 01", "Before that, 2,000 requests")
	// A replica's clock may be ahead.
	storetest.MustSaveUse(t, s.st, models.Uses{Newest: []models.LastUse{{KeyID: key.ID, UsedAt: models.At(s.clock.Now().Add(time.Second))}}})
	b.get(page).wantText("Last accepted ", "(before the revocation was confirmed)", "Refused since 2 requests")
}
