package revocation

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// A bearer is what a request shows.
type bearer string

const (
	doomed  bearer = "the revoked key"
	kept    bearer = "a key that is never revoked"
	unknown bearer = "an unknown key"
	nobody  bearer = "no key" // asks /healthz, to learn how busy the machine is
)

// An event is a request and its answer, at times since the driver began, on one monotonic clock.
type event struct {
	replica    int
	bearer     bearer
	sent       time.Duration // just before its first byte was written, but after its connection was made
	received   time.Duration // when the head of the answer had been read, or the failure was seen
	status     int           // 0: no answer
	retryAfter string
	unchecked  bool   // 503 says that the key could not be checked, rather than that its data could not be read
	failure    string // why there was no answer
}

func (e *event) took() time.Duration { return e.received - e.sent }

// A standing says what may be asked of a replica in one record. The zero standing is that of a replica that is there all
// the time.
type standing struct {
	breaks bool // its connections may break
	late   bool // it joined after the revocation, so it accepts nothing
	gone   bool // it ended with the revocation, so it refuses nothing
	cutOff bool // for a while it could not check keys, and has to show that
}

// A record is what happened around one revocation.
type record struct {
	replicas []standing
	asked    time.Duration // when the revocation was first asked for
	// confirmed is when the first byte of the answer that confirms it arrived. The server began to send that a little
	// earlier; no client can know when.
	confirmed time.Duration
	// lost is from when on the revocation may be lost, because a server takes over that may lack it; 0: never.
	lost time.Duration
	// spare is how much later than promised 503 may come in any case, as other tests may run beside this one.
	spare  time.Duration
	events []event
}

// refuses reports whether a request with the revoked key must not be accepted.
func (r *record) refuses(e *event) bool {
	return e.sent > r.confirmed && (r.lost == 0 || e.received < r.lost)
}

// A kind of violation.
type kind string

const (
	acceptedRevoked kind = "a revoked key was accepted"
	acceptedUnknown kind = "an unknown key was accepted"
	refusedWorking  kind = "a working key was refused"
	wrongAnswer     kind = "an answer that no request should get"
	noAnswer        kind = "no answer"
	noRetryAfter    kind = "503 without Retry-After"
	lateUnavailable kind = "503 too late"
	noTraffic       kind = "a replica saw no traffic"
)

const (
	unavailableWithin = 600 * time.Millisecond // for 503
	leastTraffic      = 5                      // requests of each sort that each replica must have answered
)

// A violation is a broken promise.
type violation struct {
	kind kind
	text string
}

// check returns every promise that the record breaks.
func check(r *record) []violation {
	var found []violation
	busy := controls(r)
	for i := range r.events {
		if v, ok := checkEvent(r, &r.events[i], busy); ok {
			found = append(found, v)
		}
	}
	return append(found, checkTraffic(r)...)
}

func checkEvent(r *record, e *event, busy [][]event) (violation, bool) {
	broken := func(k kind) (violation, bool) {
		text := fmt.Sprintf("replica %d, %s: sent at %v, %v after the confirmation, answered %d after %v",
			e.replica, e.bearer, e.sent, e.sent-r.confirmed, e.status, e.took())
		if e.failure != "" {
			text += ": " + e.failure
		}
		return violation{k, text}, true
	}
	switch {
	case e.status == 0:
		if r.replicas[e.replica].breaks {
			return violation{}, false
		}
		return broken(noAnswer)
	case e.bearer == nobody:
		if e.status != http.StatusOK {
			return broken(wrongAnswer)
		}
		return violation{}, false
	case e.status == http.StatusServiceUnavailable:
		if seconds, err := strconv.Atoi(e.retryAfter); err != nil || seconds < 1 {
			return broken(noRetryAfter)
		}
		if e.took() > unavailableWithin+max(slack(e, busy[e.replica]), r.spare) {
			return broken(lateUnavailable)
		}
		return violation{}, false
	}
	switch accepted, refused := e.status == http.StatusOK, e.status == http.StatusUnauthorized; {
	case !accepted && !refused:
		return broken(wrongAnswer)
	case accepted && e.bearer == unknown:
		return broken(acceptedUnknown)
	case accepted && e.bearer == doomed && r.refuses(e):
		return broken(acceptedRevoked)
	case refused && (e.bearer == kept || e.bearer == doomed && e.received < r.asked):
		return broken(refusedWorking)
	}
	return violation{}, false
}

// controls returns the requests without a key of each replica, in the order in which they were sent.
func controls(r *record) [][]event {
	byReplica := make([][]event, len(r.replicas))
	for _, e := range r.events {
		if e.bearer == nobody {
			byReplica[e.replica] = append(byReplica[e.replica], e)
		}
	}
	for _, events := range byReplica {
		slices.SortFunc(events, func(a, b event) int { return int(a.sent - b.sent) })
	}
	return byReplica
}

// slack is how much longer an answer may take because the machine is busy, not because the program is slow: a request that
// needs no database and no key took this long on the same replica at about the same time. Each way that an answer takes
// through the processors can be held up as long: to the program, into it, out of its timer, and back to the client.
func slack(e *event, controls []event) time.Duration {
	const ways, around = 4, time.Second
	var slowest time.Duration
	for i := range controls {
		if c := &controls[i]; c.sent <= e.received+around && c.received >= e.sent-around {
			slowest = max(slowest, c.took())
		}
	}
	return ways * slowest
}

// checkTraffic finds replicas that have not shown what they do, so that a run in which nothing happened proves nothing.
func checkTraffic(r *record) []violation {
	n := len(r.replicas)
	accepted, refused, working, unchecked := make([]int, n), make([]int, n), make([]int, n), make([]int, n)
	for i := range r.events {
		switch e := &r.events[i]; {
		case e.bearer == doomed && e.status == http.StatusOK && e.sent < r.confirmed:
			accepted[e.replica]++
		case e.bearer == doomed && e.status == http.StatusUnauthorized && e.sent > r.confirmed:
			refused[e.replica]++
		case e.bearer == kept && e.status == http.StatusOK && e.sent > r.confirmed:
			working[e.replica]++
		case e.unchecked:
			unchecked[e.replica]++
		}
	}
	var found []violation
	few := func(replica, n int, what string) {
		if n < leastTraffic {
			found = append(found, violation{noTraffic, fmt.Sprintf("replica %d %s %d times, want %d or more", replica, what, n, leastTraffic)})
		}
	}
	for i, s := range r.replicas {
		if !s.late {
			few(i, accepted[i], "accepted the key before it was revoked")
		}
		if !s.gone {
			few(i, refused[i], "refused the revoked key")
			few(i, working[i], "accepted a working key after the revocation")
		}
		if s.cutOff {
			few(i, unchecked[i], "said that a key could not be checked")
		}
	}
	return found
}
