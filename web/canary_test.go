package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cicosts/models"
	"cicosts/models/keytext"
)

// panicky is a store with a defect in what pages and endpoints ask it last.
type panicky struct{ Store }

func (panicky) CreateKey(context.Context, models.Actor, models.APIKey, models.Expiry) (models.APIKey, error) {
	panic("a defect")
}

func (panicky) DailyCosts(context.Context, string, models.CostFilter) ([]models.DailyCost, error) {
	panic("a defect")
}

func (panicky) StartSession(context.Context, models.SignIn) error { panic("a defect") }

// TestSecretsStayOut sends every kind of secret along every path, good, bad, broken and panicking, and then looks for them
// in all that was logged and stored.
func TestSecretsStayOut(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		broken := s.replica(func(c *Config) { c.Store = panicky{c.Store} })
		secrets := map[string]string{
			"setup token": setupToken, "wrong setup token": "AWRONGTOKENOFTWENTYSIXCHARS", "password": goodPassword, "wrong password": "wrong horse battery staple",
			"unknown key": keytext.Mint(keytext.Live).Reveal(), "broken key": keytext.Mint(keytext.Test).Reveal()[:36] + "x",
		}
		s.mintToken(setupToken)
		b := s.browser()
		b.get("/setup?token=" + secrets["wrong setup token"]).want(http.StatusForbidden)
		b.get("/setup?token=" + setupToken).want(http.StatusOK)
		b.post("/setup", setupForm(secrets["wrong setup token"])).want(http.StatusForbidden)
		b.post("/setup", setupForm(setupToken)).wantRedirect("/settings/api")
		secrets["session"], secrets["device"] = cookieNamed(b, "cicosts_session"), cookieNamed(b, "cicosts_device")
		secrets["key"] = b.createKey(newKeyForm(b, "A key")).revealed().Reveal()
		secrets["second key"] = b.createKey(newKeyForm(b, "Another", "scoped", "1", "permissions", "alerts:read")).revealed().Reveal()
		for _, s := range []*site{s, broken} {
			for _, secret := range secrets {
				spill(s, b.on(s), secret)
			}
			s.browser().post("/login", loginForm("ada@example.com", goodPassword))
			s.browser().post("/login", loginForm("ada@example.com", secrets["wrong password"]))
		}
		form := newKeyForm(b, "Never made")
		b.on(broken).createKey(form).want(http.StatusInternalServerError)
		broken.authorize("GET", "/v1/costs", "Bearer "+secrets["key"]).want(http.StatusInternalServerError)
		s.clock.advance(time.Hour) // all the tries above are limited
		broken.browser().post("/login", loginForm("ada@example.com", goodPassword)).want(http.StatusInternalServerError)
		mustBeNil(t, s.uses.Close(t.Context()))
		mustBeNil(t, broken.uses.Close(t.Context()))
		lookForSecrets(t, s, secrets)

		s.exec("ALTER TABLE audit_events RENAME TO elsewhere")
		s.exec("ALTER TABLE last_uses RENAME TO elsewhere_too")
		for _, secret := range secrets {
			spill(s, b, secret)
		}
		lookForSecrets(t, s, secrets)
		for _, part := range []string{"panic: a defect", "audit_events"} {
			if !strings.Contains(s.log.String(), part) {
				t.Errorf("the log lacks %q: what was to fail did not", part)
			}
		}
	})
}

// spill puts a secret wherever somebody might.
func spill(s *site, b *browser, secret string) {
	s.t.Helper()
	anonymous := s.browser()
	for _, method := range []string{"GET", "POST", "PUT", "OPTIONS"} {
		for _, path := range []string{
			"/v1/", "/v1/key/", "/v1/costs/", "/v1/key?api_key=", "/v1/costs?start_date=", "/v1/costs?repo=", "/", "/settings/api/keys/", "/settings/api/keys/x/", "/setup/",
			"/settings/api?q=", "/settings/api?after=", "/settings/api/new?like=", "/setup?token=", "/login?next=/", "/static/", "/nowhere?access_token=", "/healthz?",
		} {
			path += strings.ReplaceAll(secret, " ", "%20")
			anonymous.send(method, path, "", "Authorization", "Bearer "+secret, "Sec-Fetch-Site", "same-origin")
			b.send(method, path, "secret="+secret, "Referer", "http://cicosts.example/"+secret, "Sec-Fetch-Site", "same-origin", "Content-Type", "application/x-www-form-urlencoded")
		}
	}
	for _, header := range []string{"Basic " + secret, "Token " + secret, secret, "Bearer " + secret + " x", "Bearer " + secret + ", Bearer " + secret} {
		anonymous.get("/v1/key", "Authorization", header)
	}
	anonymous.send(strings.Map(func(r rune) rune {
		if r == ' ' || r == '=' {
			return -1
		}
		return r
	}, secret), "/v1/key", "")
	anonymous.get("/v1/key", "Cookie", "cicosts_session="+secret+"; api_key="+secret, "X-Api-Key", secret, "X-Request-Id", secret, "X-Forwarded-For", secret)
	anonymous.post("/login", loginForm(secret, secret))
	anonymous.post("/login", loginForm("ada@example.com", secret))
	b.createKey(url.Values{"form_token": {secret}, "mode": {secret}, "permissions": {secret}, "scoped": {"1"}, "expires": {secret}})
}

func lookForSecrets(t *testing.T, s *site, secrets map[string]string) {
	t.Helper()
	log := s.log.String()
	if strings.Count(log, "\n") < 500 {
		t.Errorf("only %d lines logged", strings.Count(log, "\n"))
	}
	for line := range strings.Lines(log) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Errorf("%v in %s", err, line)
		}
	}
	tables := s.dump()
	for name, secret := range secrets {
		for _, form := range []string{secret, strings.ReplaceAll(secret, " ", "%20"), strings.ReplaceAll(secret, " ", "+")} {
			for line := range strings.Lines(log) {
				if strings.Contains(line, form) {
					t.Errorf("the log has the %s: %s", name, line)
					break
				}
			}
			for table, rows := range tables {
				if strings.Contains(strings.Join(rows, "\n"), form) {
					t.Errorf("%s has the %s", table, name)
				}
			}
		}
	}
}

// Every request leaves one line that says who asked for what, whatever stands in it.
func TestRequestLog(t *testing.T) {
	s := sqliteSite(t)
	b, owner := s.owner()
	key := b.createKey(newKeyForm(b, "A key")).revealed()
	start := len(s.log.String())
	answers := []*answer{
		b.get("/settings/api?q=x"), b.get("/settings/api/keys/key_x"), b.get("/nowhere/%0a{}"), b.send("PUT", "/settings/api/keys/key_x", ""),
		s.authorize("GET", "/v1/key", "Bearer "+key.Reveal()), s.authorize("GET", "/v1/key"), b.get("/healthz", "User-Agent", `a"}`+"\t"),
		b.send("HEAD", "/healthz", ""),
	}
	lines := strings.Split(strings.TrimSpace(s.log.String()[start:]), "\n")
	if len(lines) != len(answers) {
		t.Fatalf("%d lines for %d requests:\n%s", len(lines), len(answers), strings.Join(lines, "\n"))
	}
	keyID := s.query("SELECT id FROM api_keys")[0]
	for i, want := range []string{
		"GET /settings/api 200 " + owner.UserID, "GET /settings/api/keys/:id 404 " + owner.UserID, "GET (none) 404 " + owner.UserID, "PUT /settings/api/keys/:id 405 ",
		"GET /v1/key 200 " + keyID, "GET /v1/key 401 ", "GET /healthz 200 ", "HEAD /healthz 200 ",
	} {
		var r struct {
			Msg, Method, Route, Who, ID, IP string
			Status                          json.Number
		}
		mustBeNil(t, json.Unmarshal([]byte(lines[i]), &r))
		if got := r.Method + " " + r.Route + " " + r.Status.String() + " " + r.Who; got != want || r.Msg != "request" || r.IP != "127.0.0.1" {
			t.Errorf("%s, want %s, in %s", got, want, lines[i])
		}
		if r.ID != answers[i].header.Get("X-Request-Id") {
			t.Errorf("%s: id %q, the answer has %q", want, r.ID, answers[i].header.Get("X-Request-Id"))
		}
	}
}

// A defect costs one request: it is answered like any other failure, and the next is served.
func TestPanic(t *testing.T) {
	s := sqliteSite(t, func(c *Config) { c.Store = panicky{c.Store} })
	v := s.addUser("Acme", models.RoleOwner)
	start := len(s.log.String())
	a := s.browser().post("/login", loginForm(v.Email, goodPassword)).want(http.StatusInternalServerError)
	var line struct{ Level, Msg, Error string }
	mustBeNil(t, json.Unmarshal([]byte(s.log.String()[start:]), &line)) // one alone
	if line.Level != "ERROR" || line.Msg != "request" || !strings.Contains(line.Error, "defect") {
		t.Errorf("the log has %+v", line)
	}
	checkHeaders(t, a, false)
	if len(a.cookies) != 0 || !strings.Contains(a.text(), "Something went wrong") || strings.Contains(a.body, "defect") {
		t.Errorf("cookies %v, %s", a.cookies, a.text())
	}
	s.browser().get("/login").want(http.StatusOK)
}
