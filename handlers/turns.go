package handlers

import (
	"context"
	"math"
	"slices"
	"sync"
)

// turns shares out the few attempts to sign in that may be at work at once.
//
// A known browser goes first. Other attempts go by start-time fair queueing:
// each wider network (/24, /48) gets one turn for each turn of another, however
// many attempts it has, and inside it each network likewise. A network that had
// no turn lately goes before those that had one. All of it is bounded: the
// attempts of one network, the attempts that wait, and the memory.
//
// It is safe for concurrent use.
type turns struct {
	most int // attempts at work

	mu       sync.Mutex
	atWork   int
	known    []*place       // waiting, from known browsers
	others   []*place       // waiting
	networks map[string]int // places by network
	wider    map[string]int // places by wider network
	joined   int64

	// In virtual time, which moves by one when each that waits had a turn:
	clock  int64
	latest int64   // the latest that a network may be served next
	served *sketch // by wider network, the earliest that it may be served next
}

const (
	mostPlaces  = 16  // of one network or known browser, waiting and at work
	mostWaiting = 128 // of others, and as many from known browsers
)

func newTurns(most int) *turns {
	return &turns{most: most, networks: map[string]int{}, wider: map[string]int{}, served: newSketch()}
}

// place is an attempt that waits for its turn or has it.
type place struct {
	turns  *turns
	try    attempt
	at     cells // of its wider network in served
	before int   // places that its network had when it joined
	joined int64

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
	t.joined++
	p := &place{
		turns: t, try: a, at: t.served.find(a.wider), before: t.networks[a.network], joined: t.joined, ready: make(chan struct{}),
	}
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
// one that was served most.
func (t *turns) makeRoom(p *place) bool {
	worse := func(a, b *place, more int) bool {
		x, y := t.wider[a.try.wider], t.wider[b.try.wider]+more
		return x > y || x == y && t.start(a) > t.start(b)
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

// start is when an attempt may be served, in virtual time.
func (t *turns) start(p *place) int64 { return max(t.clock, t.served.get(p.at)) }

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
	var first *place
	earliest := int64(math.MaxInt64)
	for _, p := range t.others {
		at := t.start(p)
		if first == nil || at < earliest || at == earliest && p.before < first.before {
			first, earliest = p, at
		}
	}
	if first == nil {
		return nil
	}
	t.others = slices.DeleteFunc(t.others, func(p *place) bool { return p == first })
	t.clock = earliest
	t.latest = max(t.latest, earliest+1)
	t.served.raise(first.at, earliest+1)
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

// leave gives the place back, whatever it has got to.
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
	if t.atWork == 0 { // nobody waits, so nobody is owed a turn
		t.clock = t.latest
	}
}

func release(places map[string]int, of string) {
	if places[of]--; places[of] == 0 {
		delete(places, of)
	}
}
