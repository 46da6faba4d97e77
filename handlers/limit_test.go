package handlers

import (
	"fmt"
	"testing"
	"time"
)

// handClock is a clock that goes on when told to.
type handClock struct{ t time.Time }

func newHandClock() *handClock               { return &handClock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }
func (c *handClock) now() time.Time          { return c.t }
func (c *handClock) advance(d time.Duration) { c.t = c.t.Add(d) }

func TestWindow(t *testing.T) {
	clock := newHandClock()
	w := newWindow(3, time.Minute, clock.now)
	take := func(key string, want bool, wantWait time.Duration) {
		t.Helper()
		if ok, wait := w.take(key); ok != want || wait != wantWait {
			t.Errorf("%v, wait %v; want %v, wait %v", ok, wait, want, wantWait)
		}
	}
	take("a", true, 0)
	clock.advance(20 * time.Second)
	take("a", true, 0)
	take("a", true, 0)
	take("a", false, 40*time.Second)
	take("b", true, 0)
	clock.advance(40*time.Second - 1)
	take("a", false, 1)
	clock.advance(1)
	take("a", true, 0) // the first is a minute ago
	take("a", false, 20*time.Second)
	clock.advance(time.Hour)
	for range 3 {
		take("a", true, 0)
	}
	take("a", false, time.Minute)
}

// In no minute, wherever it begins, are there more than the window allows.
func TestWindowInAnyMinute(t *testing.T) {
	clock := newHandClock()
	w := newWindow(120, time.Minute, clock.now)
	var taken []time.Time
	for range 10_000 {
		if ok, _ := w.take("a"); ok {
			taken = append(taken, clock.now())
		}
		clock.advance(37 * time.Millisecond)
	}
	for i := range taken {
		if i >= 120 && taken[i].Sub(taken[i-120]) < time.Minute {
			t.Fatalf("121 within %v", taken[i].Sub(taken[i-120]))
		}
	}
	if len(taken) < 6*120 {
		t.Errorf("%d in 370 s", len(taken))
	}
}

func TestWindowForgets(t *testing.T) {
	clock := newHandClock()
	w := newWindow(3, time.Minute, clock.now)
	for i := range maxBuckets {
		w.take(fmt.Sprint(i))
	}
	clock.advance(2 * time.Minute)
	w.take("new")
	if len(w.taken) != 1 {
		t.Errorf("%d are kept", len(w.taken))
	}
}

func TestLimiter(t *testing.T) {
	clock := newHandClock()
	l := newLimiter(0.5, 2, clock.now)
	if !l.full("a") {
		t.Error("not full at first")
	}
	for range 2 {
		if ok, _ := l.take("a"); !ok {
			t.Error("refused too early")
		}
	}
	if ok, wait := l.take("a"); ok || wait != 2*time.Second {
		t.Errorf("%v, wait %v", ok, wait)
	}
	if ok, _ := l.take("b"); !ok {
		t.Error("another key is refused")
	}
	clock.advance(2 * time.Second)
	if ok, _ := l.take("a"); !ok {
		t.Error("refused after the wait")
	}
	if l.full("a") {
		t.Error("full after use")
	}
	clock.advance(4 * time.Second)
	if !l.full("a") {
		t.Error("not full again")
	}
	l.take("a")
	l.forgive("a")
	if !l.full("a") {
		t.Error("not full when forgiven")
	}
}

// The memory stays bounded, and who is limited stays so as long as there are others to forget.
func TestLimiterIsBounded(t *testing.T) {
	clock := newHandClock()
	l := newLimiter(1, 1, clock.now)
	for i := range maxBuckets {
		l.take(fmt.Sprint(i))
	}
	clock.advance(time.Second) // all are full again
	l.take("limited")
	if ok, _ := l.take("limited"); ok || len(l.buckets) != 1 {
		t.Errorf("%v, %d buckets", ok, len(l.buckets))
	}
	for i := range maxBuckets + 10 {
		l.take(fmt.Sprint("in use", i))
	}
	if len(l.buckets) > maxBuckets {
		t.Errorf("%d buckets", len(l.buckets))
	}
}

func TestLoginGuard(t *testing.T) {
	count := func(g *loginGuard, n int, a func(i int) attempt) (let int) {
		for i := range n {
			if ok, _ := g.take(a(i)); ok {
				let++
				g.failed(a(i))
			}
		}
		return let
	}
	ip := func(i int) string { return fmt.Sprintf("2001:db8::%x", i) }
	t.Run("one address, one person", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		if n := count(g, 1000, func(int) attempt { return attempt{email: "a", ip: "1"} }); n != 10 {
			t.Errorf("%d let through", n)
		}
	})
	t.Run("one address, many people", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		if n := count(g, 1000, func(i int) attempt { return attempt{email: fmt.Sprint(i), ip: "1"} }); n != 60 {
			t.Errorf("%d let through", n)
		}
	})
	t.Run("one address, many people who are right", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		for i := range 1000 {
			a := attempt{email: fmt.Sprint(i), ip: "1", userID: fmt.Sprint(i)}
			if ok, _ := g.take(a); !ok {
				t.Fatalf("person %d is locked out", i)
			}
			g.succeeded(a)
		}
	})
	t.Run("many addresses, one person", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		if n := count(g, 1000, func(i int) attempt { return attempt{email: "a", ip: ip(i % 100)} }); n > 30+100 {
			t.Errorf("%d let through", n)
		}
		if ok, _ := g.take(attempt{email: "a", ip: "fresh"}); !ok {
			t.Error("the person is locked out at a new address")
		}
	})
	t.Run("a browser that is known", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		count(g, 1000, func(i int) attempt { return attempt{email: "a", ip: ip(i % 100), userID: "u"} })
		known := attempt{email: "a", ip: ip(0), userID: "u", knownDevice: true}
		if n := count(g, 1000, func(int) attempt { return known }); n != 10 {
			t.Errorf("%d let through", n)
		}
		g.succeeded(known)
		if ok, _ := g.take(known); !ok {
			t.Error("not forgiven after a success")
		}
	})
	t.Run("with time", func(t *testing.T) {
		clock := newHandClock()
		g := newLoginGuard(clock.now)
		count(g, 1000, func(int) attempt { return attempt{email: "a", ip: "1"} })
		clock.advance(time.Hour)
		if n := count(g, 1000, func(int) attempt { return attempt{email: "a", ip: "1"} }); n != 10 {
			t.Errorf("%d let through an hour later", n)
		}
	})
}

func TestNetwork(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "::ffff:192.0.2.1", "2001:db8::1": "2001:db8::/64", "2001:db8::ffff:1": "2001:db8::/64",
		"2001:db8:0:1::1": "2001:db8:0:1::/64", "fe80::1%eth0": "fe80::/64", "": "", "x": "x",
	} {
		if got := network(ip); got != want {
			t.Errorf("network(%q) = %q, want %q", ip, got, want)
		}
	}
}
