package usage

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"cicosts/models"
)

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		r := New(Config{Sink: s})
		time.Sleep(time.Hour) // away from midnight
		var want []models.RefusalSource
		for i := range 30 {
			u := refusal("a", fmt.Sprintf("client %02d", i))
			r.Record(u)
			if i >= 10 {
				want = append(want, sourceOf(&u))
			}
			time.Sleep(time.Microsecond)
		}
		again := refusal("a", "client 15")
		r.Record(again)
		want[5].LastAt, want[5].Requests = again.UsedAt, 2
		expired := refusal("b", "")
		expired.Outcome = models.OutcomeExpired
		r.Record(expired)
		want = append(want, sourceOf(&expired))
		forbidden := refusal("c", "")
		forbidden.Outcome = models.OutcomeForbidden
		r.Record(forbidden) // the key works
		r.Record(use("a"))
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.refusals); diff != "" {
			t.Errorf("sources (-want +got):\n%s", diff)
		}
		if _, total := s.saved(); total != 34 {
			t.Errorf("%d uses counted", total)
		}
	})
}

// Thieves that change their names with each request while the database is down fill no memory: all is counted.
func TestRefusalsInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{fail: errDown}
		r := New(Config{Sink: s, Max: 100, FlushAt: 50})
		const keys, rounds = 8, 600
		start := models.At(time.Now())
		for i := range rounds {
			for k := range keys {
				r.Record(refusal(fmt.Sprint("key ", k), fmt.Sprint("client ", i)))
			}
			time.Sleep(100 * time.Millisecond)
			r.mu.Lock()
			if n := r.pending.size() + r.frozenSize; n > 100 {
				t.Fatalf("%d entries kept, want at most 100", n)
			}
			r.mu.Unlock()
		}
		s.setFailure(nil)
		time.Sleep(11 * time.Second)
		if _, total := s.saved(); total != keys*rounds || r.Dropped() != 0 {
			t.Errorf("%d saved and %d dropped of %d", total, r.Dropped(), keys*rounds)
		}
		if n := len(s.refusals); n < 50 || n > 100 {
			t.Errorf("%d sources", n)
		}
		recent := 0
		for _, source := range s.refusals {
			switch {
			case source.LastAt >= models.At(time.Now().Add(-15*time.Second)):
				recent++
			case source.LastAt > start.Add(time.Second): // else of the batch that was sent first, and is not changed
				t.Errorf("an old source: %+v", source)
			}
		}
		if recent < keys {
			t.Errorf("%d recent sources of %d keys", recent, keys)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
