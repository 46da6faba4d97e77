package handlers

import (
	"sync"
	"time"

	"cicosts/models"
)

// attempt is one try to sign in.
type attempt struct {
	email   string // folded
	network string // see models.Network
	wider   string // see models.WiderNetwork
	device  string // the user's id if the browser is known to be the user's, else ""
}

// longestEmail is how much of the typed e-mail address tells attempts apart.
const longestEmail = 254

// newAttempt describes a try with a folded e-mail address from a client's
// address. Device is "" for a browser that is not known to be the user's.
func newAttempt(email, ip, device string) attempt {
	return attempt{email: email, network: models.Network(ip), wider: models.WiderNetwork(ip), device: device}
}

// loginGuard limits the guessing of passwords. Attempts from a browser that the
// user has signed in with before are counted apart, so strangers cannot lock the
// user out there. While a person is under attack from everywhere,
// each network still has one try of its own. It is safe for concurrent use.
type loginGuard struct {
	mu      sync.Mutex
	address *limiter // by network: 60 tries, then 6 a minute, because many people may share one
	email   *limiter // by e-mail address tried: 30 tries, then 2 a minute
	pair    *limiter // by both: 10 tries, then 1 a minute
	device  *limiter // by user, from browsers known to be the user's: 10 tries, then 1 a minute
}

func newLoginGuard(now func() time.Time) *loginGuard {
	return &loginGuard{
		address: newLimiter(time.Minute/6, 60, now),
		email:   newLimiter(time.Minute/2, 30, now),
		pair:    newLimiter(time.Minute, 10, now),
		device:  newLimiter(time.Minute, 10, now),
	}
}

// counted is what an attempt took of the limits.
type counted struct {
	tokens []token
	last   token // of the narrowest limit, which a success fills again
}

type token struct {
	of *limiter
	at cells
}

// take counts an attempt before anything is looked at, so that attempts at the
// same time cannot share a token. It returns false, and how long to wait, when
// the attempt may not go ahead; that attempt is not counted. An address without
// a token of its own reaches no other limit.
func (g *loginGuard) take(a attempt) (c counted, wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.device != "" {
		wait, ok = c.take(g.device, a.device)
		return c, wait, ok
	}
	if wait, ok = c.take(g.address, a.network); !ok {
		return c, wait, false
	}
	pair := a.email + " " + a.network
	first := g.pair.isFull(g.pair.full.find(pair))
	if wait, ok = c.take(g.email, a.email); !ok && !first {
		c.giveBack()
		return c, wait, false
	}
	if wait, ok = c.take(g.pair, pair); !ok {
		c.giveBack()
		return c, wait, false
	}
	return c, 0, true
}

func (c *counted) take(l *limiter, key string) (wait time.Duration, ok bool) {
	t := token{l, l.full.find(key)}
	if wait, ok = l.take(t.at); ok {
		c.tokens, c.last = append(c.tokens, t), t
	}
	return wait, ok
}

func (c *counted) giveBack() {
	for _, t := range c.tokens {
		t.of.giveBack(t.at)
	}
}

// refund takes an attempt back whose password was not looked at.
func (g *loginGuard) refund(c counted) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.giveBack()
}

// succeeded takes back an attempt with the right password, and forgets the
// tries that led to it.
func (g *loginGuard) succeeded(c counted) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.giveBack()
	c.last.of.fill(c.last.at)
}
