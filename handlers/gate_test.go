package handlers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// hasher stands in for argon2: each check waits until the test lets it go on.
type hasher struct {
	mu      sync.Mutex
	checked []attempt // in the order of their turns
	goOn    chan struct{}
}

func newHasher() *hasher { return &hasher{goOn: make(chan struct{})} }

func (h *hasher) check(a attempt, right bool) func(context.Context) (bool, error) {
	return func(context.Context) (bool, error) {
		h.mu.Lock()
		h.checked = append(h.checked, a)
		h.mu.Unlock()
		<-h.goOn
		return right, nil
	}
}

// finish lets one check after the other go on until all attempts have ended.
func (h *hasher) finish(all ...*sync.WaitGroup) {
	for {
		select {
		case h.goOn <- struct{}{}:
			synctest.Wait()
		default: // no check is left
			for _, done := range all {
				done.Wait()
			}
			return
		}
	}
}

// flood starts the attempts one after the other and returns when each of them
// has ended, waits or is at work.
func flood(g *gate, h *hasher, attempts ...attempt) (done *sync.WaitGroup, errs []error) {
	done, errs = new(sync.WaitGroup), make([]error, len(attempts))
	for i, a := range attempts {
		done.Go(func() { _, errs[i] = g.try(context.Background(), a, h.check(a, false)) })
		synctest.Wait()
	}
	return done, errs
}

func many(n int, a func(i int) attempt) (list []attempt) {
	for i := range n {
		list = append(list, a(i))
	}
	return list
}

func person(i int) string { return fmt.Sprintf("person%d@example.com", i) }

// However many attempts one address makes at the same time, exactly as many
// passwords are looked at as the limit says.
func TestParallelAttemptsOfOneAddress(t *testing.T) {
	for name, tt := range map[string]struct {
		email func(i int) string
		want  int
	}{
		"at many people": {person, 60},
		"at one person":  {func(int) string { return person(0) }, 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, h := newGate(newHandClock().now), newHasher()
				refused := 0
				for round := range 20 {
					done, errs := flood(g, h, many(100, func(i int) attempt { return newAttempt(tt.email(100*round+i), "192.0.2.1", "") })...)
					h.finish(done)
					for _, err := range errs {
						if errors.As(err, &tooMany{}) {
							refused++
						} else if err != nil && !errors.Is(err, errBusy) {
							t.Fatal(err)
						}
					}
				}
				if len(h.checked) != tt.want || refused == 0 {
					t.Errorf("%d passwords were looked at, want %d; %d refused", len(h.checked), tt.want, refused)
				}
			})
		})
	}
}

// An attempt whose client hangs up is looked at and counted like any other.
func TestHangingUpIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(newHandClock().now)
		gone, hangUp := context.WithCancel(context.Background())
		hangUp()
		let := 0
		for i := range 100 {
			a := newAttempt(person(i), "192.0.2.1", "")
			_, err := g.try(gone, a, func(ctx context.Context) (bool, error) { let++; return false, ctx.Err() })
			if err != nil && !errors.As(err, &tooMany{}) {
				t.Fatal(err)
			}
		}
		if let != 60 {
			t.Errorf("%d were looked at, want 60", let)
		}
	})
}

// An attempt does not count if its password was right, if its check failed, or
// if its turn did not come.
func TestWhatDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, a := newGate(newHandClock().now), newAttempt(person(0), "192.0.2.1", "")
		away := errors.New("the database is away")
		for range 100 {
			if right, err := g.try(t.Context(), a, func(context.Context) (bool, error) { return true, nil }); !right || err != nil {
				t.Fatalf("the right password: %v, %v", right, err)
			}
			if _, err := g.try(t.Context(), a, func(context.Context) (bool, error) { return false, away }); !errors.Is(err, away) {
				t.Fatalf("a failure: %v", err)
			}
		}
		h := newHasher()
		working, _ := flood(g, h, many(2, func(i int) attempt { return newAttempt(person(i+1), "198.51.100.1", "") })...)
		for range 100 {
			short, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := g.try(short, a, h.check(a, false)); !errors.Is(err, errBusy) {
				t.Fatalf("no turn: %v", err)
			}
			cancel()
		}
		h.finish(working)
		let := 0
		for range 100 {
			_, _ = g.try(t.Context(), a, func(context.Context) (bool, error) { let++; return false, nil })
		}
		if let != 10 {
			t.Errorf("%d tries afterwards, want all 10", let)
		}
	})
}

// order returns in what order the attempts of the wanted were looked at, by
// email, among others.
func order(h *hasher, wanted string) int {
	for i, a := range h.checked {
		if a.email == wanted {
			return i
		}
	}
	return -1
}

// An owner gets a turn soon beside a flood of other attempts.
func TestTurnsAreFair(t *testing.T) {
	const owner = "owner@example.com"
	address := func(i int) attempt { return newAttempt(person(i), "192.0.2.1", "") }
	network := func(i int) attempt { return newAttempt(person(i), fmt.Sprintf("2001:db8:0:%x::1", i), "") }
	world := func(i int) attempt { return newAttempt(person(i), fmt.Sprintf("2001:%x::1", i), "") }
	for name, tt := range map[string]struct {
		flood  []attempt
		owner  attempt
		before int // of the flood, how many are looked at before the owner's
	}{
		"a known browser beside one address":   {many(500, address), newAttempt(owner, "192.0.2.1", "user_1"), 2},
		"a known browser beside one network":   {many(500, network), newAttempt(owner, "2001:db8::1", "user_1"), 2},
		"a known browser beside many networks": {many(500, world), newAttempt(owner, "203.0.113.1", "user_1"), 2},
		"elsewhere beside one address":         {many(500, address), newAttempt(owner, "203.0.113.1", ""), 2},
		"elsewhere beside one network":         {many(500, network), newAttempt(owner, "203.0.113.1", ""), 2},
		// The neighbour shares the turns of the wider network, and is the next in it.
		"in the same wider network": {many(500, address), newAttempt(owner, "192.0.2.2", ""), 2},
		// Each of the many has as good a right, and the first come first.
		"elsewhere beside 100 networks": {many(100, world), newAttempt(owner, "203.0.113.1", ""), 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, h := newGate(newHandClock().now), newHasher()
				done, _ := flood(g, h, tt.flood...)
				ownersDone, errs := flood(g, h, tt.owner)
				h.finish(done, ownersDone)
				if errs[0] != nil {
					t.Fatalf("the owner: %v", errs[0])
				}
				if at := order(h, owner); at < 0 || at > tt.before {
					t.Errorf("%d of the flood were looked at before the owner, want %d", at, tt.before)
				}
			})
		})
	}
}

// Networks that fill every place and try again at once make room for one that
// comes new, and it goes before them.
func TestNewNetworksFindRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, h := newGate(newHandClock().now), newHasher()
		const networks = mostWaiting + 2
		attack := func(i int) attempt { return newAttempt(person(i), fmt.Sprintf("2001:%x::1", i%networks), "") }
		first, _ := flood(g, h, many(networks, attack)...)
		all := []*sync.WaitGroup{first}
		for i := range 2 * networks {
			h.goOn <- struct{}{}
			synctest.Wait()
			again, _ := flood(g, h, attack(networks+i))
			all = append(all, again)
		}
		const owner = "owner@example.com"
		before := len(h.checked)
		done, errs := flood(g, h, newAttempt(owner, "203.0.113.1", ""))
		h.finish(append(all, done)...)
		if errs[0] != nil {
			t.Fatalf("the owner: %v", errs[0])
		}
		if at := order(h, owner); at != before {
			t.Errorf("%d others who had had a turn went before the owner", at-before)
		}
	})
}

// The places are bounded, and given back.
func TestPlacesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, h := newGate(newHandClock().now), newHasher()
		one := many(100, func(i int) attempt { return newAttempt(person(i), "192.0.2.1", "") })
		wide := many(1000, func(i int) attempt { return newAttempt(person(i), fmt.Sprintf("2001:%x::1", i), "") })
		var all []*sync.WaitGroup
		busy := func(what string, attempts []attempt, want int) {
			t.Helper()
			done, errs := flood(g, h, attempts...)
			all = append(all, done)
			n := 0
			for _, err := range errs {
				if errors.Is(err, errBusy) {
					n++
				}
			}
			if n != want {
				t.Errorf("%s: %d were turned away, want %d", what, n, want)
			}
		}
		busy("one address", one, 100-mostPlaces)
		busy("many networks", wide, 1000-mostWaiting)
		if n := len(g.turns.others); n != mostWaiting {
			t.Errorf("%d wait", n)
		}
		h.finish(all...)
		left := g.turns
		if len(left.networks)+len(left.wider)+len(left.known)+len(left.others)+left.atWork != 0 {
			t.Errorf("left behind: %+v", left)
		}
	})
}
