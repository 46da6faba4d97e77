package handlers

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turns shares out the few attempts to sign in that may be at work at once.
//
// A known browser goes first. Among the others the wider network (/24, /48) goes
// first that had the fewest turns lately, and inside it the network with the
// fewest attempts before. So many attempts, or many addresses in one network,
// get no more turns than one. All of it is bounded: the attempts of one network,
// the attempts that wait, and the memory.
//
// It is safe for concurrent use.
type turns struct {
	most  int // attempts at work
	now   func() time.Time
	start time.Time

	mu       sync.Mutex
	atWork   int
	known    []*place       // waiting, from known browsers
	others   []*place       // waiting
	networks map[string]int // places by network
	wider    map[string]int // places by wider network
	owes     *sketch        // by wider network, until when its turns count, in nanoseconds after start
}

const (
	mostPlaces  = 16  // of one network or known browser, waiting and at work
	mostWaiting = 128 // of others, and as many from known browsers

	// A turn counts for a minute after those before, and ten turns at most do.
	// With 80 turns a second, a network that comes new goes before 4,800 that
	// try again and again.
	turnCounts = time.Minute
	mostCount  = 10 * turnCounts
)

func newTurns(most int, now func() time.Time) *turns {
	return &turns{most: most, now: now, start: now(), networks: map[string]int{}, wider: map[string]int{}, owes: newSketch()}
}

// place is an attempt that waits for its turn or has it.
type place struct {
	turns  *turns
	try    attempt
	at     cells // of its wider network in owes
	before int   // places that its network had when it joined

	ready chan struct{} // closed when given is known
	given bool          // it has its turn; else it had to make room
}

// join takes a place. It returns nil when there is none.
func (t *turns) join(a attempt) *place {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.device != "" { // counted apart from the network
		a.network, a.wider = "browser of "+a.device, "browser of "+a.device
	}
	p := &place{turns: t, try: a, at: t.owes.find(a.wider), before: t.networks[a.network], ready: make(chan struct{})}
	if p.before >= mostPlaces {
		return nil
	}
	queue := &t.others
	if a.device != "" {
		queue = &t.known
	}
	if len(*queue) >= mostWaiting && (a.device != "" || !t.makeRoom(p)) {
		return nil
	}
	*queue = append(*queue, p)
	t.networks[a.network]++
	t.wider[a.wider]++
	t.share()
	return p
}

// makeRoom ends the waiting of the attempt that has the least right to it, if
// p has a better one: of the wider network with the most places, then of the
// one with the most turns lately.
func (t *turns) makeRoom(p *place) bool {
	now := t.elapsed()
	worse := func(a, b *place, more int) bool {
		x, y := t.wider[a.try.wider], t.wider[b.try.wider]+more
		return x > y || x == y && t.owed(a, now) > t.owed(b, now)
	}
	worst := t.others[0]
	for _, other := range t.others {
		if !worse(worst, other, 0) { // of equals the last one
			worst = other
		}
	}
	if !worse(worst, p, 1) {
		return false
	}
	t.others = slices.DeleteFunc(t.others, func(o *place) bool { return o == worst })
	close(worst.ready)
	return true
}

func (t *turns) elapsed() int64 { return int64(t.now().Sub(t.start)) }

// owed is until when the turns of an attempt's wider network count.
func (t *turns) owed(p *place, now int64) int64 { return max(now, t.owes.get(p.at)) }

// share gives turns to those who are next.
func (t *turns) share() {
	for t.atWork < t.most {
		p := t.next()
		if p == nil {
			return
		}
		t.atWork++
		p.given = true
		close(p.ready)
	}
}

// next takes the attempt out of its queue that is next, or returns nil.
func (t *turns) next() *place {
	if len(t.known) > 0 {
		p := t.known[0]
		t.known = slices.Delete(t.known, 0, 1)
		return p
	}
	if len(t.others) == 0 {
		return nil
	}
	now := t.elapsed()
	first := t.others[0]
	for _, p := range t.others { // of equals the first one
		least, owed := t.owed(first, now), t.owed(p, now)
		if owed < least || owed == least && p.before < first.before {
			first = p
		}
	}
	t.others = slices.DeleteFunc(t.others, func(p *place) bool { return p == first })
	t.owes.raise(first.at, min(t.owed(first, now)+int64(turnCounts), now+int64(mostCount)))
	return first
}

// wait returns true when the attempt has its turn, and false when it had to make
// room for another or ctx ended.
func (p *place) wait(ctx context.Context) bool {
	select {
	case <-p.ready:
		return p.given // written before ready was closed
	case <-ctx.Done():
		return false
	}
}

// leave gives the place back, in whichever state it is.
func (p *place) leave() {
	t := p.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	is := func(other *place) bool { return other == p }
	t.known, t.others = slices.DeleteFunc(t.known, is), slices.DeleteFunc(t.others, is)
	if p.given {
		t.atWork--
	}
	release(t.networks, p.try.network)
	release(t.wider, p.try.wider)
	t.share()
}

func release(places map[string]int, of string) {
	if places[of]--; places[of] == 0 {
		delete(places, of)
	}
}
