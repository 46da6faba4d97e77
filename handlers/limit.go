package handlers

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter holds a token bucket for each key, in this process alone: with n replicas a limit is at most n times as wide.
type limiter struct {
	perSecond rate.Limit
	burst     int
	now       func() time.Time

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

// maxBuckets bounds the memory. Full buckets, which limit nothing, are thrown away first.
const maxBuckets = 20_000

func newLimiter(perSecond rate.Limit, burst int, now func() time.Time) *limiter {
	return &limiter{perSecond: perSecond, burst: burst, now: now, buckets: map[string]*rate.Limiter{}}
}

// take takes a token and reports whether there was one, and how long until the next otherwise.
func (l *limiter) take(key string) (ok bool, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.buckets[key]
	if b == nil {
		l.makeRoom(now)
		b = rate.NewLimiter(l.perSecond, l.burst)
		l.buckets[key] = b
	}
	if b.AllowN(now, 1) {
		return true, 0
	}
	return false, l.untilNext(b, now)
}

// has reports whether take would find a token, and how long until it would otherwise.
func (l *limiter) has(key string) (ok bool, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.buckets[key]
	if b == nil || b.TokensAt(now) >= 1 {
		return true, 0
	}
	return false, l.untilNext(b, now)
}

func (l *limiter) untilNext(b *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - b.TokensAt(now)
	return time.Duration(missing / float64(l.perSecond) * float64(time.Second))
}

// full reports whether nothing was taken from the key's bucket lately.
func (l *limiter) full(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	return b == nil || b.TokensAt(l.now()) >= float64(l.burst)
}

// forgive fills the key's bucket again.
func (l *limiter) forgive(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.buckets, key)
}

func (l *limiter) makeRoom(now time.Time) {
	if len(l.buckets) < maxBuckets {
		return
	}
	for key, b := range l.buckets {
		if b.TokensAt(now) >= float64(l.burst) {
			delete(l.buckets, key)
		}
	}
	for key := range l.buckets { // all in use: drop any
		if len(l.buckets) < maxBuckets {
			return
		}
		delete(l.buckets, key)
	}
}

// window lets each key take so many in any span of time, in this process alone like limiter. A bucket of the same size
// would let nearly twice as many through in the first span.
type window struct {
	most int
	span time.Duration
	now  func() time.Time

	mu    sync.Mutex
	taken map[string][]time.Time // within the last span, oldest first
}

func newWindow(most int, span time.Duration, now func() time.Time) *window {
	return &window{most: most, span: span, now: now, taken: map[string][]time.Time{}}
}

// take takes one and reports whether there was one left, and how long until the next otherwise.
func (w *window) take(key string) (ok bool, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	over := func(t time.Time) bool { return now.Sub(t) >= w.span }
	if len(w.taken) >= maxBuckets {
		maps.DeleteFunc(w.taken, func(_ string, taken []time.Time) bool { return over(taken[len(taken)-1]) })
	}
	taken := slices.DeleteFunc(w.taken[key], over)
	if ok = len(taken) < w.most; ok {
		taken = append(taken, now)
	} else {
		wait = w.span - now.Sub(taken[0])
	}
	w.taken[key] = taken
	return ok, wait
}

// loginGuard slows guessing of passwords without letting a stranger lock anybody out: a browser that has signed in as
// the user before is counted apart from everyone else, and even while an address is under attack from everywhere, each
// client address has a try of its own.
type loginGuard struct {
	address *limiter // by client address: 60 failures, then 6 a minute, since many people may share one
	email   *limiter // by e-mail address tried: 30 tries, then 2 a minute
	pair    *limiter // by both: 10 tries, then 1 a minute
	device  *limiter // by user, from browsers known to be the user's: 10 tries, then 1 a minute
}

func newLoginGuard(now func() time.Time) *loginGuard {
	const minute = 60.0
	return &loginGuard{
		address: newLimiter(6/minute, 60, now),
		email:   newLimiter(2/minute, 30, now),
		pair:    newLimiter(1/minute, 10, now),
		device:  newLimiter(1/minute, 10, now),
	}
}

// attempt is one try to sign in.
type attempt struct {
	email, ip   string
	userID      string // "" where the address is unknown
	knownDevice bool
}

// longestEmail is how much of what was typed as an e-mail address is told apart.
const longestEmail = 254

// network is what one client has of addresses: one of IPv4, and a /64 of IPv6, out of which anybody can take as many as
// they like.
func network(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil || addr.Unmap().Is4() {
		return ip
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return ip
	}
	return prefix.String()
}

func (a attempt) pair() string { return a.email + " " + a.ip }

// take reports whether the password may be looked at, or how long to wait.
func (g *loginGuard) take(a attempt) (ok bool, wait time.Duration) {
	if a.knownDevice {
		return g.device.take(a.userID)
	}
	if ok, wait := g.address.has(a.ip); !ok {
		return false, wait
	}
	fresh := g.pair.full(a.pair())
	if ok, wait := g.pair.take(a.pair()); !ok {
		return false, wait
	}
	if ok, wait := g.email.take(a.email); !ok && !fresh {
		return false, wait
	}
	return true, 0
}

// failed counts a wrong password against the client's address.
func (g *loginGuard) failed(a attempt) {
	if !a.knownDevice {
		g.address.take(a.ip)
	}
}

// succeeded forgets the tries that led to the right password.
func (g *loginGuard) succeeded(a attempt) {
	g.pair.forgive(a.pair())
	if a.knownDevice {
		g.device.forgive(a.userID)
	}
}
