package revocation

import (
	"slices"
	"testing"
	"time"
)

// good is a record of two replicas in which no promise is broken: a revocation asked for at 100 ms, confirmed at 110 ms.
func good(change ...event) *record {
	r := &record{replicas: make([]standing, 2), asked: 100 * time.Millisecond, confirmed: 110 * time.Millisecond}
	for i := range r.replicas {
		for n := range leastTraffic {
			at := time.Duration(n) * time.Millisecond
			r.events = append(r.events,
				event{replica: i, bearer: doomed, sent: at, received: at + 1, status: 200},
				event{replica: i, bearer: doomed, sent: r.confirmed + 1 + at, received: r.confirmed + at + 2, status: 401},
				event{replica: i, bearer: kept, sent: r.confirmed + 1 + at, received: r.confirmed + at + 2, status: 200},
				event{replica: i, bearer: unknown, sent: at, received: at + 1, status: 401},
			)
		}
	}
	r.events = append(r.events, change...)
	return r
}

// cutOff is a good record in which the first replica should have answered 503, and did so n times.
func cutOff(n int) *record {
	r := good()
	r.replicas[0].cutOff = true
	for range n {
		r.events = append(r.events, event{bearer: kept, status: 503, retryAfter: "1", unchecked: true})
	}
	return r
}

func TestCheck(t *testing.T) {
	const ms = time.Millisecond
	unavailable := func(b bearer, sent, took time.Duration) event {
		return event{replica: 1, bearer: b, sent: sent, received: sent + took, status: 503, retryAfter: "1", unchecked: true}
	}
	control := func(sent, took time.Duration) event {
		return event{replica: 1, bearer: nobody, sent: sent, received: sent + took, status: 200}
	}
	breaking := good(event{replica: 1, bearer: kept, failure: "reset"})
	breaking.replicas[1].breaks = true
	beside := good(unavailable(kept, 0, 1000*ms), unavailable(kept, 0, 1001*ms))
	beside.spare = 400 * ms
	losing := good(
		event{bearer: doomed, sent: 200 * ms, received: 299 * ms, status: 200},
		event{bearer: doomed, sent: 200 * ms, received: 301 * ms, status: 200},
	)
	losing.lost = 300 * ms
	for _, tt := range []struct {
		name string
		rec  *record
		want []kind
	}{
		{"nothing wrong", good(), nil},
		{"accepted after", good(event{bearer: doomed, sent: 110*ms + 1, received: 112 * ms, status: 200}), []kind{acceptedRevoked}},
		{"accepted long after", good(event{replica: 1, bearer: doomed, sent: time.Hour, received: time.Hour + 1, status: 200}), []kind{acceptedRevoked}},
		{"sent before, answered after", good(event{bearer: doomed, sent: 110 * ms, received: time.Second, status: 200}), nil},
		{"accepted before and after a loss", losing, []kind{acceptedRevoked}},
		{"refused while asked for", good(event{bearer: doomed, sent: 90 * ms, received: 101 * ms, status: 401}), nil},
		{"refused before asked for", good(event{bearer: doomed, sent: 90 * ms, received: 99 * ms, status: 401}), []kind{refusedWorking}},
		{"forbidden after", good(event{bearer: doomed, sent: 200 * ms, received: 201 * ms, status: 403}), []kind{wrongAnswer}},
		{"failed after", good(event{bearer: doomed, sent: 200 * ms, received: 201 * ms, status: 500}), []kind{wrongAnswer}},
		{"kept refused", good(event{bearer: kept, sent: 1, received: 2, status: 401}), []kind{refusedWorking}},
		{"kept failed", good(event{bearer: kept, sent: 1, received: 2, status: 500}), []kind{wrongAnswer}},
		{"unknown accepted", good(event{bearer: unknown, sent: 1, received: 2, status: 200}), []kind{acceptedUnknown}},
		{"no answer", good(event{bearer: doomed, sent: 200 * ms, received: 201 * ms, failure: "EOF"}), []kind{noAnswer}},
		{"no answer where connections break", breaking, nil},
		{"unavailable", good(unavailable(kept, 0, 600*ms), unavailable(doomed, time.Second, 500*ms), unavailable(unknown, 0, 1)), nil},
		{"no Retry-After", good(event{bearer: kept, sent: 1, received: 2, status: 503}), []kind{noRetryAfter}},
		{"Retry-After 0", good(event{bearer: kept, sent: 1, received: 2, status: 503, retryAfter: "0"}), []kind{noRetryAfter}},
		{"unavailable late", good(unavailable(kept, 0, 601*ms)), []kind{lateUnavailable}},
		{"data late", good(event{bearer: kept, received: 601 * ms, status: 503, retryAfter: "1"}), []kind{lateUnavailable}},
		{"late beside other tests", beside, []kind{lateUnavailable}},
		{"late on a busy machine", good(unavailable(kept, 0, 700*ms), control(650*ms, 100*ms)), nil},
		{"later than the machine was busy", good(unavailable(kept, 0, 1001*ms), control(650*ms, 100*ms)), []kind{lateUnavailable}},
		{"late, and busy at another time", good(unavailable(kept, 0, 700*ms), control(2*time.Second, 100*ms)), []kind{lateUnavailable}},
		{"late, and another replica busy", good(unavailable(kept, 0, 700*ms), event{bearer: nobody, sent: 650 * ms, received: 750 * ms, status: 200}), []kind{lateUnavailable}},
		{"healthz fails", good(event{bearer: nobody, sent: 1, received: 2, status: 500}), []kind{wrongAnswer}},
		{"nothing happened", &record{replicas: make([]standing, 1)}, []kind{noTraffic, noTraffic, noTraffic}},
		{"not seen to be cut off", cutOff(0), []kind{noTraffic}},
		{"seen to be cut off", cutOff(leastTraffic), nil},
		{"late and gone replicas", &record{replicas: []standing{{late: true, gone: true}}}, nil},
		{"joined late", &record{replicas: []standing{{late: true}}}, []kind{noTraffic, noTraffic}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []kind
			for _, v := range check(tt.rec) {
				got = append(got, v.kind)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}
