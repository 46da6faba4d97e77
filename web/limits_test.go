package web

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cicosts/models"
)

// attack tries n passwords from an address, behind a proxy, and returns how many were looked at.
func attack(t *testing.T, s *site, email, address string, n int) (let int) {
	t.Helper()
	b := s.browser()
	for range n {
		a := b.post("/login", loginForm(email, "wrong horse battery staple"), "X-Forwarded-For", address)
		switch a.status {
		case http.StatusUnprocessableEntity:
			let++
		case http.StatusTooManyRequests:
			wait, err := strconv.Atoi(a.header.Get("Retry-After"))
			if err != nil || wait < 1 || wait > 60 {
				t.Fatalf("Retry-After %q", a.header.Get("Retry-After"))
			}
			if got := a.fieldErrors()[""]; !strings.HasPrefix(got, "Too many attempts. Try again in ") {
				t.Fatalf("it says %q", got)
			}
			if got := a.value("email"); got != email {
				t.Fatalf("the form has the address %q", got)
			}
		default:
			t.Fatalf("status %d", a.status)
		}
	}
	return let
}

func TestLoginLimit(t *testing.T) {
	s := sqliteSite(t, trusting("127.0.0.0/8"))
	v := s.addUser("Acme", models.RoleOwner)
	owner := s.browser()
	owner.signIn(v.Email)
	owner.post("/logout", nil)
	before := s.query("SELECT id FROM audit_events")

	if let := attack(t, s, v.Email, "203.0.113.66", 1000); let > 12 {
		t.Errorf("%d of 1,000 tries were let through", let)
	}
	if n := len(s.query("SELECT id FROM audit_events")) - len(before); n > 12 {
		t.Errorf("the attack left %d lines in the history", n)
	}
	// Even the right password does not help the attacker's address now,
	s.browser().post("/login", loginForm(v.Email, goodPassword), "X-Forwarded-For", "203.0.113.66").want(http.StatusTooManyRequests)
	// but the owner comes in from a browser that has been used before, even behind the attacker's address,
	owner.post("/login", loginForm(v.Email, goodPassword), "X-Forwarded-For", "203.0.113.66").wantRedirect("/settings/api")
	// and from another address with a new browser.
	s.browser().post("/login", loginForm(v.Email, goodPassword), "X-Forwarded-For", "198.51.100.7").wantRedirect("/settings/api")
	// Later the attacker's address may try again.
	s.clock.advance(2 * time.Minute)
	s.browser().post("/login", loginForm(v.Email, goodPassword), "X-Forwarded-For", "203.0.113.66").wantRedirect("/settings/api")
}

// A thousand addresses against one person are slowed down too, and do not lock the person out.
func TestLoginLimitAgainstManyAddresses(t *testing.T) {
	s := sqliteSite(t, trusting("127.0.0.0/8"))
	v := s.addUser("Acme", models.RoleOwner)
	for i := range 40 {
		attack(t, s, v.Email, "203.0.113."+strconv.Itoa(i), 2)
	}
	if let := attack(t, s, v.Email, "203.0.113.200", 10); let != 1 {
		t.Errorf("one more address had %d tries, want 1", let)
	}
	s.browser().post("/login", loginForm(v.Email, goodPassword), "X-Forwarded-For", "198.51.100.7").wantRedirect("/settings/api")
}

// One address that tries a password on many people is slowed down, whether they exist or not.
func TestLoginLimitAgainstManyPeople(t *testing.T) {
	s := sqliteSite(t, trusting("127.0.0.0/8"))
	let := 0
	for i := range 80 {
		let += attack(t, s, "person"+strconv.Itoa(i)+"@example.org", "203.0.113.66", 1)
	}
	if let > 62 {
		t.Errorf("%d of 80 people could be tried", let)
	}
	v := s.addUser("Acme", models.RoleOwner)
	s.browser().post("/login", loginForm(v.Email, goodPassword), "X-Forwarded-For", "198.51.100.7").wantRedirect("/settings/api")
}

// The limit on a browser that is known counts for its owner alone: a copy of it is no way around the limits.
func TestLoginLimitOfAKnownBrowser(t *testing.T) {
	s := sqliteSite(t, trusting("127.0.0.0/8"))
	v, other := s.addUser("Acme", models.RoleOwner), s.addUser("Acme", models.RoleOwner)
	b := s.browser()
	b.signIn(v.Email)
	b.post("/logout", nil)
	let := map[string]int{}
	for _, email := range []string{v.Email, other.Email} {
		for range 40 {
			if b.post("/login", loginForm(email, "wrong horse battery staple")).status == http.StatusUnprocessableEntity {
				let[email]++
			}
		}
	}
	if let[v.Email] > 11 || let[other.Email] > 11 {
		t.Errorf("let through: %v", let)
	}
}

// asked counts the questions that signing in asks the database.
type asked struct {
	Store
	n atomic.Int64
}

func (a *asked) UserByEmail(ctx context.Context, email string) (models.User, error) {
	a.n.Add(1)
	return a.Store.UserByEmail(ctx, email)
}

// Attempts over the limit cost no statement, even when they come all at once
// and their clients hang up.
func TestRefusedAttemptsAskNothing(t *testing.T) {
	questions := &asked{}
	s := sqliteSite(t, func(c *Config) {
		questions.Store = c.Store
		c.Store = questions
		now := time.Now()
		c.Now = func() time.Time { return now } // no try comes back
	})
	for round := range 25 {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				ctx, hangUp := context.WithCancel(t.Context())
				form := loginForm(fmt.Sprintf("person%d-%d@example.org", round, i), "wrong horse battery staple")
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.address+"/login", strings.NewReader(form.Encode()))
				if err != nil {
					t.Error(err)
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if i%2 == 0 {
					go hangUp()
				}
				if res, err := http.DefaultClient.Do(req); err == nil {
					res.Body.Close()
				}
				hangUp()
			})
		}
		all.Wait()
	}
	for i := range 60 { // what is left, if any
		s.browser().post("/login", loginForm(fmt.Sprint(i, "@example.org"), goodPassword))
	}
	if n := questions.n.Load(); n != 60 {
		t.Errorf("%d questions, want 60", n)
	}
	s.browser().post("/login", loginForm("else@example.org", goodPassword)).want(http.StatusTooManyRequests)
}
