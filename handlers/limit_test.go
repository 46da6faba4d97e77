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

// The window forgets who took nothing for two spans, without a look at all.
func TestWindowForgets(t *testing.T) {
	clock := newHandClock()
	w := newWindow(3, time.Minute, clock.now)
	for i := range 1000 {
		w.take(fmt.Sprint(i))
	}
	clock.advance(59 * time.Second)
	for range 3 {
		w.take("late")
	}
	clock.advance(30 * time.Second)
	if ok, _ := w.take("late"); ok {
		t.Error("forgot somebody within the span")
	}
	clock.advance(time.Minute)
	w.take("new")
	if len(w.recent)+len(w.older) > 2 {
		t.Errorf("%d are kept", len(w.recent)+len(w.older))
	}
}

func TestLimiter(t *testing.T) {
	clock := newHandClock()
	l := newLimiter(2*time.Second, 2, clock.now)
	a, b := l.full.find("a"), l.full.find("b")
	if !l.isFull(a) {
		t.Error("not full at first")
	}
	for range 2 {
		if _, ok := l.take(a); !ok {
			t.Error("refused too early")
		}
	}
	if wait, ok := l.take(a); ok || wait != 2*time.Second {
		t.Errorf("%v, wait %v", ok, wait)
	}
	if _, ok := l.take(b); !ok {
		t.Error("another key is refused")
	}
	clock.advance(2 * time.Second)
	if _, ok := l.take(a); !ok {
		t.Error("refused after the wait")
	}
	if l.isFull(a) {
		t.Error("full after use")
	}
	clock.advance(4 * time.Second)
	if !l.isFull(a) {
		t.Error("not full again")
	}
	l.take(a)
	l.giveBack(a)
	if !l.isFull(a) {
		t.Error("not full with what was given back")
	}
	l.take(a)
	l.take(a)
	l.fill(a)
	if !l.isFull(a) {
		t.Error("not full when filled")
	}
}

// A sketch forgets no key, and few keys share every cell with others.
func TestSketch(t *testing.T) {
	s := newSketch()
	const keys = 2400
	for i := range keys {
		s.raise(s.find(fmt.Sprint("busy", i)), int64(i+1))
	}
	for i := range keys {
		if got := s.get(s.find(fmt.Sprint("busy", i))); got < int64(i+1) {
			t.Fatalf("key %d has %d", i, got)
		}
	}
	shared := 0
	for i := range 20_000 {
		if s.get(s.find(fmt.Sprint("new", i))) > 0 {
			shared++
		}
	}
	if shared > 100 { // 7 are expected
		t.Errorf("%d of 20,000 new keys read as busy", shared)
	}
	at := s.find("busy1000")
	if s.lower(at, 5); s.get(at) > 5 {
		t.Errorf("lowered to %d", s.get(at))
	}
}

func TestLoginGuard(t *testing.T) {
	count := func(g *loginGuard, n int, a func(i int) attempt) (let int) {
		for i := range n {
			if _, _, ok := g.take(a(i)); ok {
				let++
			}
		}
		return let
	}
	one := func(int) attempt { return newAttempt("a", "192.0.2.1", "") }
	ip := func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i) }
	t.Run("one address, one person", func(t *testing.T) {
		if n := count(newLoginGuard(newHandClock().now), 1000, one); n != 10 {
			t.Errorf("%d let through", n)
		}
	})
	t.Run("one address, many people", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		if n := count(g, 1000, func(i int) attempt { return newAttempt(fmt.Sprint(i), "192.0.2.1", "") }); n != 60 {
			t.Errorf("%d let through", n)
		}
	})
	t.Run("one address, many people who are right", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		for i := range 1000 {
			c, _, ok := g.take(newAttempt(fmt.Sprint(i), "192.0.2.1", ""))
			if !ok {
				t.Fatalf("person %d is locked out", i)
			}
			g.succeeded(c)
		}
	})
	t.Run("an address without tries reaches nobody's limit", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		count(g, 60, func(i int) attempt { return newAttempt(fmt.Sprint(i), "192.0.2.1", "") })
		count(g, 1000, func(int) attempt { return newAttempt("owner", "192.0.2.1", "") })
		if !g.email.isFull(g.email.full.find("owner")) {
			t.Error("the owner has fewer tries")
		}
	})
	t.Run("many addresses, one person", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		if n := count(g, 1000, func(i int) attempt { return newAttempt("a", ip(i%100), "") }); n > 30+100 {
			t.Errorf("%d let through", n)
		}
		if _, _, ok := g.take(newAttempt("a", "203.0.113.1", "")); !ok {
			t.Error("the person is locked out at a new address")
		}
	})
	t.Run("a browser that is known", func(t *testing.T) {
		g := newLoginGuard(newHandClock().now)
		count(g, 1000, func(i int) attempt { return newAttempt("a", ip(i%100), "") })
		known := newAttempt("a", ip(0), "u")
		if n := count(g, 9, func(int) attempt { return known }); n != 9 {
			t.Errorf("%d let through", n)
		}
		c, _, ok := g.take(known)
		if !ok {
			t.Fatal("refused too early")
		}
		if g.succeeded(c); count(g, 1000, func(int) attempt { return known }) != 10 {
			t.Error("not forgiven after a success")
		}
	})
	t.Run("with time", func(t *testing.T) {
		clock := newHandClock()
		g := newLoginGuard(clock.now)
		count(g, 1000, one)
		clock.advance(time.Hour)
		if n := count(g, 1000, one); n != 10 {
			t.Errorf("%d let through an hour later", n)
		}
	})
}
